"""Repair: finding out by digests what was missed, and fetching it by pulls.

A digest is a fingerprint of the VV. Equal: done, in one exchange of a few bytes. Not equal: both
say what they have seen, and whoever lacks something pulls, one pull at a time.
"""

from __future__ import annotations

from typing import Final

from crdtdb import codec
from crdtdb.errors import CrdtdbError, PeerError, StorageFailed
from crdtdb.replication.cluster import Cluster, Send
from crdtdb.replication.cursors import START, Cursor
from crdtdb.replication.donor import read_page
from crdtdb.replication.members import adding
from crdtdb.replication.messages import (
    Digest,
    Gone,
    Page,
    Pull,
    Refused,
    Same,
    Summary,
    read_vector,
    write_frame,
)
from crdtdb.replication.peers import Peer
from crdtdb.replication.pull import PullSession

__all__ = ["Repair"]

#: Mean time between digests, and to how many peers each time.
DIGEST_INTERVAL_MS: Final = 1_000
DIGEST_FANOUT: Final = 2
#: While there is always news, reports of members go with it this often: they may be many, and only
#: reclaiming waits for them.
REPORTS_INTERVAL_MS: Final = 5_000
#: There is news to relay: tell the others so soon that what follows at once goes with it.
RELAY_DELAY_MS: Final = 20
#: What was pulled could not be merged here: wait before it is fetched again, ever longer.
FAILED_WAIT_MS: Final = 1_000
FAILED_WAIT_MOST_MS: Final = 60_000


class Repair:
    """Digests, summaries and the pull under way."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.pull: PullSession | None = None
        #: Peers that had more than this replica while a pull was under way.
        self._wanted: dict[int, None] = {}
        self._digest_ms = 0
        self._relay_ms: int | None = None

    def start(self) -> None:
        """The first digests are due after one interval."""
        self._digest_ms = self._cluster.now_ms + self._cluster.jittered(DIGEST_INTERVAL_MS)

    def stop(self) -> None:
        """Give up the pull under way, and all that were to follow."""
        self.pull = None
        self._wanted.clear()

    def relay_soon(self) -> None:
        """Compare with everybody in a moment."""
        self._relay_ms = self._cluster.now_ms + RELAY_DELAY_MS

    def tick(self) -> list[Send]:
        """Send the digests that are due; give up a donor that keeps silent."""
        now_ms = self._cluster.now_ms
        sends: list[Send] = []
        if self.pull is not None and self.pull.is_stalled(now_ms):
            self.pull = None
            sends = self._next_pull()
        if self._relay_ms is not None and now_ms >= self._relay_ms:
            self._relay_ms = None
            return sends + self._digests(len(self._cluster.peers))
        if now_ms >= self._digest_ms:
            self._digest_ms = now_ms + self._cluster.jittered(DIGEST_INTERVAL_MS)
            return sends + self._digests(DIGEST_FANOUT)
        return sends

    # -- digests --------------------------------------------------------------------------------

    def digest(self) -> bytes:
        """The frame that asks: have we seen the same?"""
        cluster = self._cluster
        seen = codec.fingerprint(cluster.seen.flat())
        return write_frame(Digest(seen, cluster.reports_mark(), cluster.engine.time_now()))

    def _digests(self, fanout: int) -> list[Send]:
        cluster = self._cluster
        wheres = (peer.where for peer in cluster.peers.values())
        endpoints = [where for where in wheres if not where.startswith("~")]
        chosen = cluster.random.sample(endpoints, min(fanout, len(endpoints)))
        return [Send(endpoint, self.digest()) for endpoint in chosen]

    def on_digest(self, peer: Peer, message: Digest) -> list[Send]:
        cluster = self._cluster
        cluster.note_time(peer, message.time)
        mark = codec.fingerprint(cluster.seen.flat())
        if message.seen != mark:
            return cluster.answer(peer, self._summary(peer, answer=True))
        cluster.note_seen(peer, cluster.seen)
        if message.reports != cluster.reports_mark():
            return cluster.answer(peer, self._summary(peer, answer=True, only_reports_differ=True))
        engine = cluster.engine
        same = Same(mark, engine.time_now(), engine.epochs.latest, engine.state.sequence)
        return cluster.answer(peer, same)

    def on_same(self, peer: Peer, message: Same) -> list[Send]:
        cluster = self._cluster
        cluster.note_time(peer, message.time)
        if message.seen == codec.fingerprint(cluster.seen.flat()):
            # All up to there is here: the next pull need not look at it again.
            cursor = Cursor(message.epoch, message.sequence)
            cluster.cursors.now[peer.sender.incarnation] = cursor
            cluster.note_seen(peer, cluster.seen)
        return []

    def _summary(self, peer: Peer, *, answer: bool, only_reports_differ: bool = False) -> Summary:
        """What was seen here; with what members reported, if that is due or all that is new."""
        cluster = self._cluster
        last_ms, now_ms = peer.reported_ms, cluster.now_ms
        reports: dict[int, list[int]] = {}
        if only_reports_differ or last_ms is None or now_ms - last_ms >= REPORTS_INTERVAL_MS:
            peer.reported_ms = now_ms
            reports = cluster.report_table()
        return Summary(cluster.seen.flat(), cluster.engine.time_now(), reports, answer)

    def on_summary(self, peer: Peer, message: Summary) -> list[Send]:
        cluster = self._cluster
        theirs = read_vector(message.seen)
        reports = {member: read_vector(flat) for member, flat in message.reports.items()}
        cluster.note_time(peer, message.time)
        for member, reported in reports.items():
            if member == cluster.incarnation or member not in cluster.members:
                continue  # it counts for nothing here, and anybody can make up as many as he likes
            if cluster.seen.includes(reported):
                cluster.note_report(member, reported)
        own = cluster.incarnation
        lost = theirs.get(own) > cluster.seen.get(own)
        sends = cluster.take_new_incarnation() if lost else []
        cluster.note_seen(peer, theirs)
        if message.answer:
            level = theirs == cluster.seen
            sends += cluster.answer(
                peer, self._summary(peer, answer=False, only_reports_differ=level)
            )
        return sends if cluster.seen.includes(theirs) else sends + self._want(peer)

    # -- pulling --------------------------------------------------------------------------------

    def _want(self, peer: Peer) -> list[Send]:
        if self._cluster.now_ms < peer.not_before_ms:
            return []
        if self.pull is None:
            return self.pull_from(peer)
        if self.pull.donor.incarnation != peer.sender.incarnation:
            self._wanted[peer.sender.incarnation] = None
        return []

    def pull_from(self, peer: Peer) -> list[Send]:
        """Begin a pull; there must be none under way."""
        cluster = self._cluster
        assert self.pull is None, "pulls are serialised"
        self._wanted.pop(peer.sender.incarnation, None)
        number = cluster.random.getrandbits(32)
        cursor = cluster.cursors.of(peer.sender.incarnation)
        self.pull = PullSession(number, peer.sender, cursor, cluster.seen, cluster.now_ms)
        return cluster.answer(peer, self.pull.request())

    def on_gone(self, peer: Peer, message: Gone) -> list[Send]:
        """The donor has reclaimed deletes that were not seen here: pull everything it has."""
        cluster, pull = self._cluster, self.pull
        if (
            pull is None
            or pull.donor.incarnation != peer.sender.incarnation
            or not pull.asked(message.session)
        ):
            return []
        number, whole = cluster.random.getrandbits(32), read_vector(message.reclaimed)
        self.pull = PullSession(number, peer.sender, START, cluster.seen, cluster.now_ms, whole)
        return cluster.answer(peer, self.pull.request())

    def _next_pull(self) -> list[Send]:
        """Turn to the next peer that had more, if it still has."""
        cluster = self._cluster
        while self._wanted:
            incarnation = next(iter(self._wanted))
            del self._wanted[incarnation]
            peer = cluster.peers.get(incarnation)
            if peer is not None and not cluster.seen.includes(peer.seen):
                return self.pull_from(peer)
        return []

    def on_page(self, peer: Peer, message: Page) -> list[Send]:
        """Stage a page; with the claim, take in all of them."""
        cluster, pull = self._cluster, self.pull
        if pull is None or pull.donor.incarnation != peer.sender.incarnation:
            return []
        try:
            if not pull.take(message, cluster.now_ms):
                return []
        except PeerError:
            self._give_up(peer)
            raise
        if message.claim is None:
            return cluster.answer(peer, pull.request())
        self.pull = None
        claimed = read_vector(message.claim.seen)
        try:
            sends = cluster.merge(
                pull.records,
                claimed,
                message.claim.time,
                first_state=True,
                read=(peer.sender.incarnation, pull.cursor),
                whole=pull.whole,
            )
        except CrdtdbError:
            self._give_up(peer)
            raise
        peer.wait_ms = 0
        cluster.note_seen(peer, claimed)
        if pull.size:
            self.relay_soon()
        return sends + self._next_pull()

    def _give_up(self, peer: Peer) -> None:
        """What a donor sent cannot be taken in: leave it alone for a while, ever longer."""
        self.pull = None
        peer.wait_ms = min(max(2 * peer.wait_ms, FAILED_WAIT_MS), FAILED_WAIT_MOST_MS)
        peer.not_before_ms = self._cluster.now_ms + self._cluster.jittered(peer.wait_ms)

    def on_refused(self, peer: Peer) -> list[Send]:
        """The donor cannot serve: turn to another."""
        if self.pull is not None and self.pull.donor.incarnation == peer.sender.incarnation:
            self.pull = None
            return self._next_pull()
        return []

    def on_lost(self, endpoint: str) -> list[Send]:
        """The donor cannot be reached: do not wait for it."""
        if self.pull is not None and self.pull.donor.endpoint == endpoint:
            self.pull = None
            return self._next_pull()
        return []

    # -- giving ---------------------------------------------------------------------------------

    def on_pull(self, peer: Peer, message: Pull) -> list[Send]:
        """Serve a page. A stranger becomes a member first, so that reclaiming waits for it."""
        cluster = self._cluster
        theirs = read_vector(message.seen)
        sends: list[Send] = []
        if peer.sender.incarnation not in cluster.members:
            sends = cluster.commit(adding(peer.sender))
        cluster.note_seen(peer, theirs)
        try:
            page = read_page(cluster.engine, message, theirs)
        except StorageFailed:
            return sends + cluster.answer(peer, Refused("damaged"))
        return sends + cluster.answer(peer, page)
