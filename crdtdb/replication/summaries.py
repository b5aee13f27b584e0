"""Digests and summaries: finding out, in a few bytes, who has missed something.

A digest is a fingerprint of the VV. Equal: done, in one exchange. Not equal: both say what they
have seen, and whoever lacks something pulls (`repair`). Who knows that there is news says so at
once, in few words (`bases`), and is answered likewise.
"""

from __future__ import annotations

from typing import Final

from crdtdb import codec
from crdtdb.causal import VersionVector
from crdtdb.floors import write_floored
from crdtdb.replication.bases import UnknownBase
from crdtdb.replication.cluster import Cluster, Send
from crdtdb.replication.cursors import Cursor
from crdtdb.replication.messages import Digest, News, Same, Summary, write_frame
from crdtdb.replication.peers import Peer

__all__ = ["DIGEST_INTERVAL_MS", "Summaries"]

#: Mean time between digests, and to how many peers each time.
DIGEST_INTERVAL_MS: Final = 1_000
DIGEST_FANOUT: Final = 2
#: While there is always news, reports of members go with it this often: they may be many, and only
#: reclaiming waits for them.
REPORTS_INTERVAL_MS: Final = 10_000
#: There is news to relay: ask who may lack it so soon that what follows at once goes with it.
RELAY_DELAY_MS: Final = 20


class Summaries:
    """Asks others what they have seen, and says what was seen here."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._digest_ms = 0
        self._relay_ms: int | None = None

    def start(self) -> None:
        """The first digests are due after one interval."""
        cluster = self._cluster
        self._digest_ms = cluster.now_ms + cluster.jittered(DIGEST_INTERVAL_MS)

    def relay_soon(self) -> None:
        """Compare with everybody in a moment."""
        self._relay_ms = self._cluster.now_ms + RELAY_DELAY_MS

    def tick(self) -> list[Send]:
        """The digests that are due."""
        now_ms = self._cluster.now_ms
        relays = self._relay_ms is not None and now_ms >= self._relay_ms
        if relays or self._cluster.withheld:
            self._relay_ms, self._cluster.withheld = None, False
            return self._relay()
        if now_ms >= self._digest_ms:
            self._digest_ms = now_ms + self._cluster.jittered(DIGEST_INTERVAL_MS)
            return self._digests()
        return []

    # -- asking ---------------------------------------------------------------------------------

    def digest(self) -> bytes:
        """The frame that asks: have we seen the same?"""
        return write_frame(self.question())

    def question(self) -> Digest:
        """The message that asks it."""
        cluster = self._cluster
        seen = codec.fingerprint(cluster.seen.flat())
        return Digest(seen, cluster.counting.mark(), cluster.engine.time_now())

    def _digests(self) -> list[Send]:
        """Ask some peers, whichever; tell those that are not known to have all that is here.

        Who was put back has less than is known of it: only a digest finds out what it reports.
        """
        cluster = self._cluster
        peers = [peer for peer in cluster.peers.values() if _reached(peer)]
        return [
            Send(peer.where, self.digest() if self._has_all(peer) else self._news(peer))
            for peer in cluster.random.sample(peers, min(DIGEST_FANOUT, len(peers)))
        ]

    def _relay(self) -> list[Send]:
        """Tell every peer that is not known to have all that is here."""
        cluster = self._cluster
        return [
            Send(peer.where, self._news(peer))
            for peer in cluster.peers.values()
            if _reached(peer) and not self._has_all(peer)
        ]

    def _has_all(self, peer: Peer) -> bool:
        """Is a peer known to have all that is here?"""
        return peer.seen.includes(self._cluster.seen)

    def _news(self, peer: Peer) -> bytes:
        """The frame that tells a peer what was seen here, and asks the same."""
        cluster = self._cluster
        told = cluster.bases.asking(peer.sender.incarnation, write_floored(cluster.seen))
        return write_frame(News(told, cluster.engine.time_now(), answer=True))

    def on_digest(self, peer: Peer, message: Digest) -> list[Send]:
        cluster = self._cluster
        cluster.note_time(peer, message.time)
        mark = codec.fingerprint(cluster.seen.flat())
        if message.seen != mark or cluster.is_partial:
            return cluster.answer(peer, self._summary(peer, answer=True))
        cluster.note_seen(peer, cluster.seen)
        cluster.note_level(peer, message.time)
        if message.reports != cluster.counting.mark():
            return cluster.answer(peer, self._summary(peer, answer=True, only_reports_differ=True))
        return cluster.answer(peer, self._same())

    def _same(self) -> Same:
        engine = self._cluster.engine
        mark = codec.fingerprint(self._cluster.seen.flat())
        return Same(mark, engine.time_now(), engine.epochs.latest, engine.state.sequence)

    def on_same(self, peer: Peer, message: Same) -> list[Send]:
        cluster = self._cluster
        cluster.note_time(peer, message.time)
        if message.seen == codec.fingerprint(cluster.seen.flat()):
            # All up to there is here: the next pull need not look at it again.
            cursor = Cursor(message.epoch, message.sequence)
            cluster.cursors.now[peer.sender.incarnation] = cursor
            cluster.note_seen(peer, cluster.seen)
            cluster.note_level(peer, message.time)
        return []

    def _summary(self, peer: Peer, *, answer: bool, only_reports_differ: bool = False) -> Summary:
        """What was seen here; with what members reported, if that is due or all that is new."""
        cluster = self._cluster
        reports: dict[int, list[int]] = {}
        if only_reports_differ or self._are_reports_due(peer):
            peer.reported_ms = cluster.now_ms
            reports = cluster.counting.table()
        return Summary(write_floored(cluster.seen), cluster.engine.time_now(), reports, answer)

    def _are_reports_due(self, peer: Peer) -> bool:
        last_ms = peer.reported_ms
        return last_ms is None or self._cluster.now_ms - last_ms >= REPORTS_INTERVAL_MS

    def on_summary(self, peer: Peer, message: Summary) -> tuple[list[Send], bool]:
        """Take note of what a peer has seen; has it more than this replica?"""
        cluster = self._cluster
        theirs = self._read(peer, message.seen)
        if theirs is None:
            return [], True
        reports = {
            member: cluster.read_vector(flat)
            for member, flat in message.reports.items()
            if cluster.can_read(flat)
        }
        cluster.note_time(peer, message.time)
        counting = cluster.counting.who()
        for member, reported in reports.items():
            if member == cluster.incarnation or member not in counting:
                continue  # it counts for nothing here, and anybody can make up as many as he likes
            if cluster.seen.includes(reported):
                cluster.counting.note(member, reported, cluster.now_ms)
        sends = self._note(peer, theirs)
        if message.answer:
            level = theirs == cluster.seen
            sends += cluster.answer(
                peer, self._summary(peer, answer=False, only_reports_differ=level)
            )
        return sends, not cluster.seen.includes(theirs)

    def on_news(self, peer: Peer, message: News) -> tuple[list[Send], bool]:
        """As `on_summary`; the answer is told against what the peer has just told."""
        cluster, bases, sender = self._cluster, self._cluster.bases, peer.sender.incarnation
        try:
            flat = bases.reading(sender, message.seen)
        except UnknownBase:  # this replica has started anew, or they have not talked for long
            bases.forget(sender)
            return cluster.answer(peer, self._summary(peer, answer=True)), False
        theirs = self._read(peer, flat)
        if message.time:
            cluster.note_time(peer, message.time)
        if theirs is None:
            if not message.answer:
                return [], True
            return cluster.answer(peer, self._summary(peer, answer=False)), True
        sends = self._note(peer, theirs)
        if message.answer:
            bases.heard(sender, flat)
            sends += cluster.answer(peer, self._answer(peer, theirs, message.time))
        return sends, not cluster.seen.includes(theirs)

    def _answer(self, peer: Peer, theirs: VersionVector, time: int) -> Same | Summary | News:
        """What a peer that has told its news is told in return."""
        cluster = self._cluster
        if theirs == cluster.seen and not cluster.is_partial:
            cluster.note_level(peer, time)
            return self._same()
        if self._are_reports_due(peer):
            return self._summary(peer, answer=False)
        told = cluster.bases.telling(peer.sender.incarnation, write_floored(cluster.seen))
        return News(told, 0, answer=False)

    def _read(self, peer: Peer, flat: list[int]) -> VersionVector | None:
        """What a peer says to have seen; None if it rests on a floor that is not known here."""
        peer.unread = not self._cluster.can_read(flat)
        return None if peer.unread else self._cluster.read_vector(flat)

    def _note(self, peer: Peer, theirs: VersionVector) -> list[Send]:
        """A peer has seen so much; if that is more of this replica than it has, it was put back."""
        cluster = self._cluster
        own = cluster.incarnation
        lost = theirs.get(own) > cluster.seen.get(own)
        sends = cluster.take_new_incarnation() if lost else []
        cluster.note_seen(peer, theirs)
        return sends


def _reached(peer: Peer) -> str:
    """Where a peer can be asked; empty if only answers reach it."""
    return "" if peer.where.startswith("~") else peer.where
