"""A newcomer: how a replica that holds nothing gets its first state from a donor.

It copies the donor's rows in the order of their addresses, page by page, and then pulls what has
changed since the first page was read. Who holds something already pulls (`repair`), and joins.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from crdtdb.errors import NoSpace, PeerError, StorageFailed
from crdtdb.replication.cluster import Cluster, Send
from crdtdb.replication.donor import read_copy
from crdtdb.replication.members import adding
from crdtdb.replication.messages import (
    Copied,
    Copy,
    Gone,
    Refused,
    Sender,
    read_vector,
    write_frame,
)
from crdtdb.replication.peers import Peer
from crdtdb.replication.pull import PULL_PATIENCE_MS, Progress
from crdtdb.replication.repair import Repair

__all__ = ["Newcomer"]

#: A donor that has kept silent so often is given up, if there is another, with all that it sent.
_SILENCES: Final = 4


class Newcomer:
    """Drives `Copying`; and the side that gives."""

    def __init__(self, cluster: Cluster, repair: Repair) -> None:
        self._cluster = cluster
        self._repair = repair
        #: Who was asked for the next page, under which number, and when it was last heard.
        self._asked: tuple[Sender, int] | None = None
        self._heard_ms = 0
        #: How often the donor of a copy was asked for the same page and kept silent.
        self._silences = 0

    @property
    def progress(self) -> Progress | None:
        """How far a copy has come that is not complete; None: there is none."""
        copying = self._cluster.copying
        return None if copying.is_complete else copying.progress

    @property
    def donor(self) -> str | None:
        """The endpoint of the donor that was asked; None: nobody was."""
        return None if self._asked is None else self._asked[0].address

    @property
    def silent(self) -> int | None:
        """The incarnation of a donor that is given up; None: there is none."""
        donor = self._cluster.copying.donor
        return None if donor is None or self._silences < _SILENCES else donor.incarnation

    def start(self) -> list[Send]:
        """Go on with a copy that was under way."""
        copying = self._cluster.copying
        if copying.is_begun and not self._cluster.staging.is_clear:
            self._repair.spoil_copy()  # what is known of the pull that ends it is damaged
        if copying.donor is None or self._repair.pull is not None or self._cluster.is_evicted:
            return []
        if copying.is_complete:
            return self._repair.pull_from(Peer(copying.donor))
        return self._ask(copying.donor)

    @property
    def waits(self) -> bool:
        """Is a page on its way, as far as is known?"""
        if self._asked is not None and self._cluster.now_ms - self._heard_ms > PULL_PATIENCE_MS:
            self._asked = None
            self._silences += 1
        return self._asked is not None

    def begin(self, donor: Peer) -> list[Send]:
        """Copy from a donor, go on with that, or pull what has changed since."""
        cluster, copying = self._cluster, self._cluster.copying
        if cluster.now_ms < donor.not_before_ms:
            return []
        if len(cluster.seen):
            return self._repair.pull_from(donor)
        if copying.donor is not None and copying.donor.incarnation != donor.sender.incarnation:
            is_there = copying.donor.incarnation in cluster.peers  # and not somebody else by now
            if is_there and 0 < self._silences < _SILENCES and not copying.is_complete:
                return self._ask(copying.donor)  # it may be slow, and much has come from there
            self._repair.spoil_copy()
        if not self.clear():
            return []
        if copying.is_complete:
            return self._repair.pull_from(donor)
        return self._ask(donor.sender)

    def clear(self) -> bool:
        """Let go what nobody goes on with, some rows at a time; is nothing of that left?"""
        if self._cluster.copying.is_spoilt:
            with suppress(NoSpace, StorageFailed):
                self._cluster.copying.sweep()
        return not self._cluster.copying.is_spoilt and self._cluster.staging.is_clear

    def may_serve_empty(self) -> bool:
        """Is there nothing that would show? What was copied of somebody who is gone is let go."""
        if self._cluster.copying.is_begun:
            self._repair.spoil_copy()
        return self.clear()

    def _ask(self, donor: Sender) -> list[Send]:
        request = self._cluster.copying.request(self._cluster.random.getrandbits(32))
        self._asked, self._heard_ms = (donor, request.session), self._cluster.now_ms
        return [Send(donor.address, write_frame(request))]

    def _awaits(self, peer: Peer, session: int) -> bool:
        asked = self._asked
        return asked is not None and (asked[0].incarnation, asked[1]) == (
            peer.sender.incarnation,
            session,
        )

    def on_copied(self, peer: Peer, message: Copied) -> list[Send]:
        """Take over a page, and ask for the next."""
        copying = self._cluster.copying
        if not self._awaits(peer, message.session):
            return []
        if message.after != copying.request(message.session).after:
            return []
        try:
            copying.add(peer.sender, message)
        except PeerError:
            self._asked = None
            self._cluster.leave_alone(peer)
            self._repair.spoil_copy()
            raise
        self._asked, self._silences = None, 0
        if copying.is_complete:
            return self._repair.pull_from(peer)
        return self._ask(peer.sender)

    def on_gone(self, peer: Peer, message: Gone) -> None:
        """The donor has let deletes go meanwhile: it is copied anew."""
        if self._awaits(peer, message.session):
            self._asked = None
            self._repair.spoil_copy(read_vector(message.reclaimed))

    def on_refused(self, peer: Peer) -> None:
        """The donor cannot serve: turn to another, or ask again."""
        if self._asked is not None and self._asked[0].incarnation == peer.sender.incarnation:
            self._asked = None

    def on_lost(self, endpoint: str) -> None:
        """The donor cannot be reached: do not wait for it."""
        if self._asked is not None and self._asked[0].endpoint == endpoint:
            self._asked, self._silences = None, 0

    # -- giving ---------------------------------------------------------------------------------

    def on_copy(self, peer: Peer, message: Copy) -> list[Send]:
        """Serve a page. The newcomer becomes a member first, so that reclaiming waits for it."""
        cluster = self._cluster
        sends: list[Send] = []
        if peer.sender.incarnation not in cluster.members:
            sends = cluster.commit(adding(peer.sender))
        if cluster.withholds:
            return sends + cluster.answer(peer, Refused("rejoining"))
        if cluster.is_partial:
            return sends + cluster.answer(peer, Refused("partial"))
        try:
            page = read_copy(cluster.engine, message)
        except StorageFailed:
            return sends + cluster.answer(peer, Refused("damaged"))
        return sends + cluster.answer(peer, page)
