"""Repair: fetching what was missed by pulls, one at a time.

A pull of some hundred records or more is worked out ahead, a part with each tick, and joined in one
commit: local writes go on in between, and nothing else is merged.

**A large pull is joined in parts**, one with each tick. A replica that serves meanwhile is
*partial*: it holds records that its VV does not cover. So it merges nothing else, gives nothing to
others and does not say where its sequence stands; local writes go on, and travel by later pulls.
"""

from __future__ import annotations

from contextlib import suppress

from msgspec import structs

from crdtdb import codec
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.errors import CrdtdbError, NoSpace, PeerError, StorageFailed
from crdtdb.joining import Records, Spoiled, decoded
from crdtdb.oplog import SEPARATE_HISTORIES
from crdtdb.replication import bases
from crdtdb.replication.bases import UNKNOWN_BASE
from crdtdb.replication.cluster import Cluster, Send
from crdtdb.replication.cursors import START
from crdtdb.replication.donor import read_page
from crdtdb.replication.members import adding
from crdtdb.replication.messages import (
    Claim,
    Gone,
    Mended,
    Page,
    Pull,
    Refused,
    Sender,
    read_vector,
    write_frame,
)
from crdtdb.replication.peers import Peer
from crdtdb.replication.pull import PullSession
from crdtdb.replication.replacing import Replacing
from crdtdb.replication.staging import (
    ONE_COMMIT_BYTES,
    ONE_COMMIT_RECORDS,
    PART_RECORDS,
    SHORT_PART_RECORDS,
)
from crdtdb.replication.summaries import Summaries

__all__ = ["Repair"]


class Repair:
    """The pull under way, and those that follow."""

    def __init__(self, cluster: Cluster, summaries: Summaries) -> None:
        self._cluster = cluster
        self._summaries = summaries
        self.pull: PullSession | None = None
        self._replacing = Replacing(cluster)
        #: Peers that had more than this replica while a pull was under way.
        self._wanted: dict[int, None] = {}
        #: Up to where the parts of a pull were tried; None: all of them.
        self._tried_to: bytes | None = b""
        self._join_not_before_ms = 0
        #: A donor of which everything is to be taken over: its incarnation.
        self._apart: int | None = None
        #: When a pull was last under way.
        self._pulled_ms = 0

    def start(self) -> list[Send]:
        """Go on with the pull that was under way."""
        cluster = self._cluster
        self.pull = cluster.staging.session(cluster.now_ms)
        if self.pull is None or self.pull.is_claimed or cluster.is_evicted:
            return []
        return [Send(self.pull.donor.address, write_frame(self.pull.request()))]

    def stop(self) -> None:
        """Give up the pull under way, unless it is begun, and all that were to follow."""
        if not self._cluster.staging.is_begun:
            self.pull = None
            self._cluster.engine.ahead = None
        self._wanted.clear()

    @property
    def is_joining(self) -> bool:
        """Has `carry_on` a part of a pull to join?"""
        return (
            self.pull is not None
            and self.pull.is_claimed
            and not self._replacing.awaits(self.pull.number)
            and self._cluster.now_ms >= self._join_not_before_ms
        )

    def tick(self) -> list[Send]:
        """Go on with what was begun; give up a donor that keeps silent."""
        sends = self.carry_on()
        if self.pull is not None and self.pull.is_stalled(self._cluster.now_ms):
            self.pull = None
            sends += self._next_pull()
        return sends

    # -- pulling --------------------------------------------------------------------------------

    def want(self, peer: Peer) -> list[Send]:
        """A peer has more: pull it, now or after the pull under way."""
        if self._cluster.now_ms < peer.not_before_ms:
            return []
        if self.pull is None:
            return self.pull_from(peer)
        if self.pull.donor.incarnation != peer.sender.incarnation:
            self._wanted[peer.sender.incarnation] = None
        return []

    def pull_from(self, peer: Peer) -> list[Send]:
        """Begin a pull, or go on with the last one from there; there must be none under way."""
        cluster, staging = self._cluster, self._cluster.staging
        assert self.pull is None, "pulls are serialised"
        if not staging.is_served_by(peer.seen):
            return []
        self._replacing.begin()
        self._wanted.pop(peer.sender.incarnation, None)
        if staging.donor is not None and staging.donor.incarnation == peer.sender.incarnation:
            self.pull = staging.session(cluster.now_ms)
            assert self.pull is not None, "a donor has a session"
            self.pull.donor = peer.sender
            return cluster.answer(peer, self.pull.request())
        number = cluster.random.getrandbits(32)
        copying = cluster.copying
        if copying.is_begun:
            staging.add_to(copying.needs, copying.logs)
            cursor, whole = copying.cursor, copying.whole
        else:
            staging.discard()
            staging.add_to(NOTHING, 0)
            cursor, whole = cluster.cursors.of(peer.sender.incarnation), NOTHING
            if self._apart == peer.sender.incarnation:
                self._apart = None
                cursor, whole = START, VersionVector.up_to(peer.sender.incarnation, 1)
        seen = self._told(peer)
        self.pull = PullSession(number, peer.sender, cursor, seen, cluster.now_ms, whole)
        return cluster.answer(peer, self._first_request(self.pull))

    def _first_request(self, pull: PullSession) -> Pull:
        """In few words. What follows is said whole: bases come and go while a pull lasts."""
        request = pull.request()
        seen = self._cluster.bases.asking(pull.donor.incarnation, request.seen)
        return structs.replace(request, seen=seen)

    def on_gone(self, peer: Peer, message: Gone) -> list[Send]:
        """What is staged is worth nothing: begin anew, at the start of the donor's sequence.

        The donor has reclaimed deletes that were not seen here: pull everything it has. Or it was
        put back, and what was read of it is not in its past any more.
        """
        cluster, pull = self._cluster, self.pull
        if pull is None or not self._fetches_from(peer) or not pull.asked(message.session):
            return []
        if cluster.copying.is_begun:
            self.spoil_copy(read_vector(message.reclaimed))
            return []
        cluster.staging.discard()
        number, reclaimed = cluster.random.getrandbits(32), read_vector(message.reclaimed)
        is_put_back = pull.seen.join(pull.whole).includes(reclaimed)
        seen = self._told(peer)
        whole = pull.whole
        # What was missed may have come otherwise since the pull began.
        if not is_put_back and (len(whole) or not seen.includes(reclaimed)):
            whole = reclaimed
        self.pull = PullSession(number, peer.sender, START, seen, cluster.now_ms, whole)
        return cluster.answer(peer, self.pull.request())

    def _told(self, peer: Peer) -> VersionVector:
        """What a donor is told that was seen here.

        Who rests on a floor that is not known here may know none of those that are: two clusters
        that were apart have each laid their own.
        """
        seen = self._cluster.seen
        return seen.resting_on(NOTHING.floor) if peer.unread else seen

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
        """Stage a page. With the claim, take in all of them, or begin to."""
        cluster, pull, staging = self._cluster, self.pull, self._cluster.staging
        if pull is None or not self._fetches_from(peer):
            return []
        try:
            if not pull.expects(message):
                return []
            if message.claim is not None:
                message = self._said_whole(pull, message, message.claim)
            is_staged = (
                staging.donor is not None
                or bool(cluster.engine.damaged)
                or cluster.copying.is_begun  # which the donor must have seen, too
                or cluster.is_partial  # the same
            )
            if message.claim is None or is_staged:
                staging.add(pull, message)
            pull.advance(message, cluster.now_ms)
            if message.claim is None:
                return cluster.answer(peer, pull.request())
            if not is_staged:
                return self._take_in(pull, message.records, message.claim)
            pull.is_claimed = True
            return self._join()
        except Spoiled as error:
            self._give_up(peer, error)
            return []
        except CrdtdbError as error:
            if self._are_apart(error):
                return self._pull_whole(peer)
            self._give_up(peer, error)
            raise

    def _said_whole(self, pull: PullSession, page: Page, claim: Claim) -> Page:
        """A page whose claim rests on nothing, so that it can be kept. Raises PeerError."""
        asked = pull.request().seen
        try:
            flat = bases.whole(claim.seen, {codec.fingerprint(asked): asked})
        except bases.UnknownBase as error:
            raise PeerError("bad-vector", "a claim is told against what was not asked") from error
        seen = self._cluster.read_vector(flat).flat()
        return structs.replace(page, claim=structs.replace(claim, seen=seen))

    def carry_on(self) -> list[Send]:
        """Do what was begun: join the next part of a pull, let go what is not needed any more."""
        cluster, pull, staging = self._cluster, self.pull, self._cluster.staging
        if pull is None or not pull.is_claimed:
            if pull is not None:
                self._pulled_ms = cluster.now_ms
            elif staging.donor is not None and self._is_level(staging.donor):
                with suppress(NoSpace, StorageFailed):
                    staging.discard()  # all of it has come otherwise
            if not staging.is_clear and staging.donor is None:
                with suppress(NoSpace, StorageFailed):
                    staging.sweep()
            return []
        if cluster.now_ms < self._join_not_before_ms or cluster.engine.store.is_congested:
            return []  # a store that is behind with its own work is not given more
        peer = cluster.peers.get(pull.donor.incarnation) or Peer(pull.donor)
        try:
            return self._join()
        except CrdtdbError as error:
            if self._are_apart(error):
                return self._pull_whole(peer)
            if isinstance(error, PeerError):
                cluster.refusals[error.reason] += 1
            self._give_up(peer, error)
            return []

    def _join(self) -> list[Send]:
        """Join what is staged, or the next part of it; at the end, what was claimed takes effect.

        All is tried before the first part of it shows, for what is begun cannot be refused.
        """
        cluster, pull = self._cluster, self.pull
        staging, engine = cluster.staging, cluster.engine
        assert pull is not None
        claim = staging.claim
        if staging.is_joined:
            return self._take_in(pull, [], claim)
        if not staging.is_begun:
            sends = self._replacing.ask(pull, claim)
            if sends is not None:
                return sends
        most = ONE_COMMIT_RECORDS if self._cluster.served else PART_RECORDS
        fits = staging.records <= most and staging.size_bytes <= ONE_COMMIT_BYTES
        if fits and not staging.is_begun:
            if self._is_worth_working_ahead(pull):
                if staging.is_worked_out:
                    return self._take_in(pull, None, claim)
                if staging.work_ahead():
                    return []
            records = staging.everything()
            try:
                return self._take_in(pull, records, claim)
            except PeerError:
                decoded(records)  # it was not the peer if they are damaged
                raise
        if not staging.is_begun and self._cluster.served and self._tried_to is not None:
            part = staging.next_part(self._tried_to)
            try:
                engine.try_part(part, read_vector(claim.seen), whole=self._whole(pull))
            except StorageFailed:
                if self._replacing.replacement is None:
                    raise  # else it is what shall be replaced that keeps it from being tried
            self._tried_to = part.span.end
        elif not staging.is_begun and self._replacing.replacement is not None:
            staging.replace(self._replacing.replacement)
            cluster.mended += len(self._replacing.replacement.damaged)
        else:
            staging.join(staging.next_part(), whole=self._whole(pull))
            self._tried_to = b""
        return []

    def _is_worth_working_ahead(self, pull: PullSession) -> bool:
        """Would others wait too long for one commit of all that is staged?"""
        return (
            self._cluster.served
            and self._cluster.staging.records > SHORT_PART_RECORDS
            and self._replacing.replacement is None
            and not len(self._whole(pull))
        )

    def _whole(self, pull: PullSession) -> VersionVector:
        """What the donor has reclaimed, if what a pull brings is all that it holds."""
        return NOTHING if self._cluster.copying.is_begun else pull.whole

    def _take_in(self, pull: PullSession, records: Records | None, claim: Claim) -> list[Send]:
        """Take in records, after which this replica has seen what the donor claims.

        None: those that were worked out ahead.
        """
        cluster, staging = self._cluster, self._cluster.staging
        donor = pull.donor.incarnation
        claimed = read_vector(claim.seen)
        brings = records is None or bool(records) or staging.is_joined or cluster.copying.is_begun
        sends = cluster.merge(
            records,
            claimed,
            claim.time,
            first_state=True,
            read=(donor, pull.cursor),
            whole=NOTHING if staging.is_joined else self._whole(pull),
            replacement=None if staging.is_joined else self._replacing.replacement,
        )
        self.pull = None
        self._replacing.begin()
        if peer := cluster.peers.get(donor):
            peer.wait_ms, peer.failed = 0, None
            cluster.note_seen(peer, claimed)
        if brings:
            self._summaries.relay_soon()
        return sends + self._next_pull()

    def _are_apart(self, error: CrdtdbError) -> bool:
        """Have both sides folded operations of one log, and neither all that the other has?

        So it may be where this replica, or the donor, was put back to an earlier state: what one
        has folded the other may hold as operations, and what is folded cannot be taken apart.
        """
        pull, cluster = self.pull, self._cluster
        return (
            isinstance(error, PeerError)
            and error.reason == SEPARATE_HISTORIES
            and pull is not None
            and not len(pull.whole)
            and not cluster.copying.is_begun
            and not cluster.staging.is_begun
        )

    def _pull_whole(self, peer: Peer) -> list[Send]:
        """Take over the logs of the donor instead, with what it lacks on top.

        If it has not seen all that was folded here, that is refused, and nothing can be done.
        """
        self.pull, self._apart, self._tried_to = None, peer.sender.incarnation, b""
        self._replacing.begin()
        with suppress(NoSpace, StorageFailed):
            self._cluster.staging.discard()
        return self.want(peer)

    def _give_up(self, peer: Peer, error: CrdtdbError) -> None:
        """What a donor sent cannot be taken in: leave it alone for a while, ever longer.

        What is staged is not needed then; but a pull that is joined in part is finished, later.
        What is damaged on this replica's own disk is pulled again, and is nobody's fault.
        """
        cluster = self._cluster
        self._tried_to = b""
        if isinstance(error, Spoiled):
            cluster.refusals["staging-damaged"] += 1
            until_ms = cluster.now_ms
        else:
            until_ms = cluster.leave_alone(peer)
            peer.failed = str(error)
        if cluster.copying.is_begun:
            if not isinstance(error, NoSpace):
                self.spoil_copy()
            return
        if cluster.staging.is_begun:
            if isinstance(error, Spoiled):
                with suppress(NoSpace, StorageFailed):  # then it is tried again
                    cluster.staging.give_up()
                    self.pull = None
            self._join_not_before_ms = until_ms
            return
        self.pull = None
        self._replacing.begin()
        with suppress(NoSpace, StorageFailed):
            cluster.staging.discard()

    def spoil_copy(self, whole: VersionVector = NOTHING) -> None:
        """Nothing of what was copied and pulled becomes a state. The next copy has `whole`."""
        self.pull = None
        self._replacing.begin()
        self._cluster.staging.left()
        self._cluster.copying.spoil(whole)

    def _is_level(self, donor: Sender) -> bool:
        """Since the last pull, has all been here that its donor had, and is no copy under way?

        Or that anybody had who was heard, if the donor is no member any more.
        """
        cluster, since_ms = self._cluster, self._pulled_ms
        is_gone = donor.incarnation not in cluster.members
        level = [
            peer.level_ms is not None and peer.level_ms > since_ms
            for incarnation, peer in cluster.peers.items()
            if incarnation == donor.incarnation or is_gone
            if peer.last_contact_ms > since_ms
        ]
        return bool(level) and all(level) and not cluster.copying.is_begun

    def _fetches_from(self, peer: Peer) -> bool:
        """Is this the donor of the pull under way, and not all there?"""
        pull = self.pull
        return (
            pull is not None
            and not pull.is_claimed
            and pull.donor.incarnation == peer.sender.incarnation
        )

    def on_mended(self, peer: Peer, message: Mended) -> list[Send]:
        """The donor says what it holds where records are damaged: now all is there."""
        pull, staging = self.pull, self._cluster.staging
        if pull is None or pull.donor.incarnation != peer.sender.incarnation:
            return []
        try:
            if not message.claim.seen:  # it is damaged itself, and claims nothing
                self._cluster.mended += self._cluster.engine.put_back(message.held)
                self._replacing.without(message.held)
                return self._join()
            staging.add(pull, self._replacing.take(pull, message))
            return self._join()
        except Spoiled as error:
            self._give_up(peer, error)
            return []
        except CrdtdbError as error:
            self._give_up(peer, error)
            raise

    def awaits(self, session: int) -> bool:
        """Has a pull asked for what mends damaged records, under this number?"""
        return self._replacing.awaits(session)

    def on_refused(self, peer: Peer, reason: str) -> list[Send]:
        """The donor cannot serve: turn to another."""
        pull = self.pull
        if pull is not None and pull.is_claimed and self._replacing.awaits(pull.number):
            if pull.donor.incarnation != peer.sender.incarnation:
                return []
            if not self._replacing.refused(reason):
                return self.carry_on()
            pull.is_claimed = False
            return self._cluster.answer(peer, pull.request())
        if pull is not None and self._fetches_from(peer):
            self._cluster.bases.forget(peer.sender.incarnation)
            if reason == UNKNOWN_BASE:
                return self._cluster.answer(peer, pull.request())
            self.pull = None
            return self._next_pull()
        return []

    def on_lost(self, endpoint: str) -> list[Send]:
        """The donor cannot be reached: do not wait for it."""
        pull = self.pull
        if pull is not None and not pull.is_claimed and pull.donor.endpoint == endpoint:
            self.pull = None
            return self._next_pull()
        return []

    # -- giving ---------------------------------------------------------------------------------

    def on_pull(self, peer: Peer, message: Pull) -> list[Send]:
        """Serve a page. A stranger becomes a member first, so that reclaiming waits for it."""
        cluster = self._cluster
        try:
            told = cluster.bases.reading(peer.sender.incarnation, message.seen)
        except bases.UnknownBase:
            return cluster.answer(peer, Refused(UNKNOWN_BASE))
        peer.unread = not cluster.can_read(told)
        if peer.unread:
            return self.want(peer) + cluster.answer(peer, Refused("behind"))
        theirs = cluster.read_vector(told)
        cluster.bases.heard(peer.sender.incarnation, told)
        sends: list[Send] = []
        if peer.sender.incarnation not in cluster.members:
            sends = cluster.commit(adding(peer.sender))
        cluster.note_seen(peer, theirs)
        if cluster.withholds:
            return sends + cluster.answer(peer, Refused("rejoining"))
        if cluster.is_partial:
            return sends + cluster.answer(peer, Refused("partial"))
        try:
            page = read_page(cluster.engine, message, theirs)
        except StorageFailed:
            return sends + cluster.answer(peer, Refused("damaged"))
        if isinstance(page, Page) and page.claim is not None:
            claim = structs.replace(page.claim, seen=bases.tell(page.claim.seen, told))
            page = structs.replace(page, claim=claim)
        return sends + cluster.answer(peer, page)
