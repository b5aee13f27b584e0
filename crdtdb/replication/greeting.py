"""The beginning of a conversation: is my identity good, and where is my first state?

A replica that comes back asks every member whether it knows operations that this directory does
not: then dots were lost (a restore, a rollback, a copy) and the identity must not go on. A fresh
replica copies from somebody who has a state. When everybody who answers is fresh too, or nobody
answers, its own empty state is a consistent one and it serves that.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from crdtdb import address
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.errors import Overloaded, StorageFailed
from crdtdb.replication.cluster import Cluster, Send
from crdtdb.replication.members import member_object
from crdtdb.replication.messages import (
    Acquainted,
    Hello,
    Remembered,
    Welcome,
    read_vector,
    write_frame,
)
from crdtdb.replication.peers import Contact, Peer
from crdtdb.rows import read_record

__all__ = ["Greeting"]

HELLO_INTERVAL_MS: Final = 500
#: A fresh replica serves its empty state when nobody has answered for so long …
ALONE_AFTER_MS: Final = 3_000
#: … or when all who did are fresh too, so long after the first of them.
FRESH_GRACE_MS: Final = 300
#: Endpoints that have not answered; beyond that no more are tried at the same time.
_KNOCKS: Final = 32


class Greeting:
    """Says hello until everybody has answered."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._started_ms = 0
        self._first_fresh_ms: int | None = None

    def start(self) -> list[Send]:
        """Take or confirm an identity, and knock at every endpoint."""
        cluster = self._cluster
        self._started_ms = cluster.started_ms = cluster.now_ms
        cluster.refresh_members()
        cluster.cursors.forget_others(cluster.members)
        if cluster.incarnation == 0:
            self._become_somebody()
        else:
            cluster.settle_if_confirmed()
            if not cluster.settled:
                self._knock_at_members()
        return [] if cluster.is_evicted else self.knock()

    def start_over(self) -> list[Send]:
        """Knock at every endpoint again, as somebody new."""
        self._started_ms, self._first_fresh_ms = self._cluster.now_ms, None
        self._knock_at_members()
        for contact in self._cluster.contacts.values():
            contact.welcomed, contact.hello_ms = False, 0
        return self.knock()

    def knock_at(self, endpoint: str) -> list[Send]:
        """Knock at one more endpoint. Raises Overloaded while too many have not answered."""
        contacts = self._cluster.contacts
        if endpoint != self._cluster.me.endpoint and endpoint not in contacts:
            if not self._may_knock():
                raise Overloaded(f"{_KNOCKS} URLs have not answered yet; see the log for why")
            contacts[endpoint] = Contact(endpoint)
        return self.knock()

    def _may_knock(self) -> bool:
        """Is there room for one more endpoint that may never answer?"""
        contacts, vacated = self._cluster.contacts, self._cluster.vacated()
        silent = (url for url, contact in contacts.items() if not contact.welcomed)
        return sum(url not in vacated for url in silent) < _KNOCKS

    def _become_somebody(self) -> None:
        """Nobody can know of dots that were never issued: the first identity is a good one."""
        self._cluster.engine.take_incarnation()
        self._cluster.settled = True

    def _knock_at_members(self) -> None:
        for member in self._cluster.members.values():
            if member.endpoint and member.incarnation != self._cluster.incarnation:
                self._cluster.contacts.setdefault(member.endpoint, Contact(member.endpoint))

    def frame(self) -> bytes:
        """Hello."""
        return write_frame(Hello(self._cluster.seen.get(self._cluster.incarnation)))

    def knock(self) -> list[Send]:
        """Say hello, again, wherever nobody has answered yet."""
        cluster = self._cluster
        sends = []
        for contact in cluster.contacts.values():
            if not contact.welcomed and contact.hello_ms <= cluster.now_ms:
                contact.hello_ms = cluster.now_ms + cluster.jittered(HELLO_INTERVAL_MS)
                sends.append(Send(contact.endpoint, self.frame()))
        return sends

    def ask(self, peer: Peer) -> list[Send]:
        """Say hello to whoever speaks, while it has not confirmed this replica's identity."""
        if self._cluster.settled or peer.confirmed:
            return []
        return [Send(peer.where, self.frame())]

    def on_hello(self, peer: Peer, held: int) -> list[Send]:
        """Tell a replica how much of it is known here, with the pushes that are `held` back.

        And with what has been copied or pulled, but is not seen yet. If it was put back to before
        members were made, nobody whom it knows to ask may know what it gave to those.
        """
        cluster = self._cluster
        known = max(cluster.fetched().get(peer.sender.incarnation), held)
        remembered = cluster.remembered(peer.sender.incarnation)
        reported = remembered.flat()
        welcome: Welcome | Remembered | Acquainted
        if members := self._unheard_of(peer, remembered):
            welcome = Acquainted(known, reported, members)
        else:
            welcome = Remembered(known, reported) if reported else Welcome(known)
        sends = cluster.answer(peer, welcome) + self.ask(peer)
        endpoint = peer.sender.endpoint
        if endpoint and endpoint != cluster.me.endpoint:
            contact = Contact(endpoint, peer.sender.incarnation, fresh=peer.sender.fresh)
            if self._may_knock():
                cluster.contacts.setdefault(endpoint, contact)
        return sends

    def _unheard_of(self, peer: Peer, remembered: VersionVector) -> list[int]:
        """Members that a peer is not known to have heard of. O(members)."""
        cluster = self._cluster
        others = cluster.members.keys() - {cluster.incarnation, peer.sender.incarnation}
        found = []
        with cluster.engine.store.snapshot() as snapshot:
            for member in sorted(others):
                at = address.own(member_object(member))
                with suppress(StorageFailed):
                    if remembered.includes(read_record(snapshot, at)[0].context):
                        continue
                found.append(member)
        return found

    def on_welcome(self, peer: Peer, message: Welcome | Remembered | Acquainted) -> list[Send]:
        """Go on as who this replica is, unless its disk went back.

        It may have lost operations of its own, whose dots it would give out again; or others' that
        it had reported, so that they count as seen here, and may be reclaimed: what is written
        without having seen them must not continue what was written before.
        """
        cluster = self._cluster
        reported = NOTHING if isinstance(message, Welcome) else read_vector(message.reported)
        for contact in cluster.contacts_of(peer):
            contact.welcomed = True
        # Nobody knows more of one that was taken since the start: this is about the one before.
        is_late = cluster.taken == cluster.incarnation
        lost = message.known > cluster.seen.get(cluster.incarnation)
        if not is_late and (lost or not cluster.seen.includes(reported)):
            return cluster.take_new_incarnation()
        if cluster.settled:
            return []
        peer.confirmed = True
        if isinstance(message, Acquainted):
            peer.named = frozenset(message.members)
        cluster.settle_if_confirmed()
        return []

    # -- the first state ------------------------------------------------------------------------

    def donor(self, silent: int | None) -> Peer | None:
        """Somebody who has a state to copy, if one has answered; rather not who keeps silent."""
        cluster = self._cluster
        donors = [
            peer
            for contact in cluster.contacts.values()
            if contact.welcomed
            and not contact.fresh
            and contact.incarnation is not None
            and (peer := cluster.peers.get(contact.incarnation))
        ]
        donors = [peer for peer in donors if peer.sender.incarnation != silent] or donors
        return donors[cluster.random.randrange(len(donors))] if donors else None

    def may_serve_empty(self) -> bool:
        """Is nobody there who could have a state?"""
        cluster = self._cluster
        answered = [contact for contact in cluster.contacts.values() if contact.welcomed]
        if len(answered) == len(cluster.contacts):
            return True
        if not answered:
            return cluster.now_ms - self._started_ms >= ALONE_AFTER_MS
        if self._first_fresh_ms is None:
            self._first_fresh_ms = cluster.now_ms
        return cluster.now_ms - self._first_fresh_ms >= FRESH_GRACE_MS

    def serve_empty(self) -> list[Send]:
        """Begin with the empty state, as a member."""
        self._cluster.engine.mark_served()
        return self._cluster.correct_membership()
