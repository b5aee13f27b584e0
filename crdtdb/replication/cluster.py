"""The cluster as one replica sees it: itself, the members, and the replicas it has heard.

The parts of the machine share this. Everything that becomes durable on the way does so through
the engine; the only state here is what a replica learns again after a restart.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Final, NamedTuple

import msgspec

from crdtdb import hlc
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.damage import Replacement
from crdtdb.engine import Engine
from crdtdb.errors import PeerError
from crdtdb.floors import write_floored
from crdtdb.joining import Records
from crdtdb.limits import LIMITS
from crdtdb.reading import Reading
from crdtdb.replication import messages
from crdtdb.replication.bases import Bases
from crdtdb.replication.copying import Copying
from crdtdb.replication.counting import Counting
from crdtdb.replication.cursors import Cursor, Cursors
from crdtdb.replication.departures import read_departures
from crdtdb.replication.evictions import (
    Eviction,
    Stake,
    evicting,
    read_evictions,
    read_told,
    rejoined_rows,
    told_rows,
)
from crdtdb.replication.laid import Laid, read_floors
from crdtdb.replication.members import (
    Member,
    adding,
    predecessors,
    read_members,
    touches_members,
    unreadable,
)
from crdtdb.replication.messages import Message, Sender, read_vector, write_frame
from crdtdb.replication.peers import Contact, Peer
from crdtdb.replication.staging import Staging
from crdtdb.replication.twins import Twins
from crdtdb.transaction import Push, Transaction

__all__ = ["STRANGERS", "Cluster", "Send"]

#: What a peer sent could not be taken in: wait before it is asked again, ever longer.
FAILED_WAIT_MS: Final = 1_000
FAILED_WAIT_MOST_MS: Final = 60_000
#: Replicas that are remembered without being members.
STRANGERS: Final = 256
#: Who rejoins gives nothing before it has pulled, but for no longer than that: the others may all
#: have been evicted, too.
REJOIN_PATIENCE_MS: Final = 5_000
#: Who has nobody to ask who it is listens for so long: a link tries a silent endpoint more often.
LISTEN_MS: Final = 2_500


class Send(NamedTuple):
    """A frame for an endpoint (or, starting with ~, for whoever just asked)."""

    endpoint: str
    frame: bytes


class Cluster:
    """Who is there, and who this replica is among them."""

    def __init__(self, engine: Engine, me: Sender, peers: tuple[str, ...], random: Random) -> None:
        self.engine = engine
        self.random = random
        #: The time of the call under way, and of the start, on the caller's monotonic clock.
        self.now_ms = self.started_ms = 0
        #: Where to knock: configured peers, and members' and callers' endpoints.
        self.contacts = {peer: Contact(peer) for peer in peers if peer != me.endpoint}
        self._configured = frozenset(self.contacts)
        #: Replicas that were heard, by incarnation.
        self.peers: dict[int, Peer] = {}
        self.members: dict[int, Member] = {}
        self.evictions: dict[int, Eviction] = {}
        #: Whose reports count, and what is stable by them.
        self.counting = Counting(engine)
        #: What vectors are told against.
        self.bases = Bases()
        #: The floors that the cluster has agreed on, by mark.
        self.laid: dict[int, Laid] = {}
        #: The pages of the pull under way, or of the last one that was interrupted.
        self.staging = Staging(engine)
        #: What has been copied of a donor, as long as that is no state.
        self.copying = Copying(engine)
        with engine.store.snapshot() as snapshot:
            self.cursors = Cursors(snapshot)
            #: The incarnation that others said is evicted; until there is a pull under a later one.
            self._told = read_told(snapshot)
        #: When this replica started, or rejoined.
        self._began_ms: int | None = None
        #: What was refused, by reason; and times that were too far ahead.
        self.refusals: Counter[str] = Counter()
        #: Damaged records that a peer has mended since the start.
        self.mended = 0
        #: Is it certain that this incarnation's next dot was never issued before?
        self.settled = False
        #: The incarnation that was taken last since the start: nobody can know more of it.
        self.taken: int | None = None
        self.twins = Twins()
        #: Was a push kept from somebody who has to be told of it by a digest?
        self.withheld = False
        #: What has been pulled, with all that it continues: a push from here continues that.
        self._pulled = NOTHING
        #: Peers that are not known to have it.
        self._behind: set[int] = set()
        self._me = me

    # -- this replica ---------------------------------------------------------------------------

    @property
    def incarnation(self) -> int:
        return self.engine.state.incarnation

    @property
    def seen(self) -> VersionVector:
        return self.engine.state.seen

    @property
    def served(self) -> bool:
        return self.engine.state.served

    @property
    def is_partial(self) -> bool:
        """Does this replica show a part of a pull whose other parts it has yet to join?"""
        return self.served and self.staging.is_partial

    @property
    def is_busy_merging(self) -> bool:
        """Is a pull being joined, so that nothing else must be merged before that is through?"""
        return self.is_partial or self.engine.ahead is not None

    @property
    def me(self) -> Sender:
        """What the transport says about this replica with every exchange."""
        return msgspec.structs.replace(
            self._me, incarnation=self.incarnation, fresh=not self.served
        )

    def take_new_incarnation(self) -> list[Send]:
        """Go on under a new identity, which takes the old one's place among the members."""
        self.taken = self.engine.take_incarnation()
        self.settled = True
        return self.correct_membership()

    def correct_membership(self) -> list[Send]:
        """Be a member, as what this replica is called now, the only one of this name and endpoint.

        Looked at again whenever members changed, so a crash between taking an identity and
        announcing it leaves nobody behind who would block reclaiming for ever.
        """
        if self.is_evicted or not (self.served and self.settled):
            return []
        gone = predecessors(self.members.values(), self.me)
        me = self.me
        said = self.members.get(self.incarnation)
        is_said = said == Member(self.incarnation, me.name, me.region, me.endpoint)
        if (is_said and not gone) or said == unreadable(self.incarnation):
            return []  # what is damaged cannot be written to, and is mended first
        return self.commit(adding(me, *gone))

    def settle_if_confirmed(self) -> None:
        """The identity goes on once everybody has said that they know no more of its dots.

        Everybody is each member and each configured peer: a directory that was rolled back may not
        know yet who is a member, so who confirms names those of whom it may not have heard, and
        they are asked, too, until all is here that was seen there. Earlier incarnations of this
        very replica are not asked, nor those of one that has confirmed: nobody speaks for them.

        If nobody is left to ask, somebody may know this replica all the same, who joined after the
        state to which its disk was put back: it listens for a moment (`listens`).
        """
        confirming = [peer.sender for peer in self.peers.values() if peer.confirmed]
        confirmed = {self.incarnation, *(sender.incarnation for sender in confirming)}
        for sender in (self.me, *confirming):
            confirmed.update(predecessors(self.members.values(), sender))
        # Of whom something has been seen here it is known whether they are members, or no more.
        named = {
            incarnation
            for peer in self.peers.values()
            if peer.level_ms is None
            for incarnation in peer.named
            if not self.seen.get(incarnation)
        }
        configured = self._configured - self.vacated()
        asked = (self.contacts.get(endpoint) for endpoint in configured)
        self.settled = (
            self.members.keys() | named - self.evictions.keys() <= confirmed
            and all(contact.welcomed for contact in asked if contact)
            and not self.listens
        )

    @property
    def listens(self) -> bool:
        """Has it nobody to ask who it is, so that it waits for whoever might know? Not for long."""
        if self.settled or self.now_ms - self.started_ms >= LISTEN_MS:
            return False
        own = {self.incarnation, *predecessors(self.members.values(), self.me)}
        return self.members.keys() <= own and not (self._configured & self.contacts.keys())

    # -- writing --------------------------------------------------------------------------------

    def commit(self, transaction: Transaction) -> list[Send]:
        """Commit something of the system's own, and push it."""
        sends = [] if self.settled else self.take_new_incarnation()
        committed = self.engine.commit([transaction])
        (outcome,) = committed.outcomes
        if outcome.error is not None:
            raise outcome.error
        return sends if committed.push is None else sends + self.push(committed.push)

    def push(self, push: Push) -> list[Send]:
        """Spread a durable local commit to every member that can be reached.

        Who is not known to have what was pulled here could not take it in before that has come, and
        would pull it along: it gets a digest instead, with the next tick.
        """
        if touches_members(push.records):
            self.refresh_members()
        if self.withholds or self.is_partial:
            return []  # it may hold dots that nobody who takes it in has seen: it is pulled later
        endpoints = {
            peer.where
            if (peer := self.peers.get(member.incarnation)) and not member.endpoint
            else member.endpoint
            for member in self.members.values()
        }
        endpoints -= {"", self._me.endpoint}
        if not endpoints:
            return []
        message = messages.Push(
            push.origin,
            push.first,
            push.last,
            write_floored(push.deps),
            push.time,
            list(push.records),
        )
        frame = write_frame(message)
        behind = {peer.where for i in self._behind if (peer := self.peers.get(i))}
        self.withheld |= not endpoints.isdisjoint(behind)
        return [Send(endpoint, frame) for endpoint in sorted(endpoints - behind)]

    def merge(
        self,
        records: Records | None,
        seen: VersionVector,
        time: int,
        *,
        first_state: bool = False,
        read: tuple[int, Cursor] | None = None,
        whole: VersionVector = NOTHING,
        replacement: Replacement | None = None,
    ) -> list[Send]:
        """Take in records that bring this replica to `seen` (see `Engine.merge`).

        None: those that are staged, and worked out ahead.
        `read` says of which donor they are, and how far its sequence has been read with them;
        `replacement`, what it holds in the places of damaged records.
        If the sender knows more of this replica's dots than it does itself, they were lost here:
        the identity must not go on.
        """
        lost = seen.get(self.incarnation) > self.seen.get(self.incarnation)
        sends = self.take_new_incarnation() if lost else []
        cursors = self.cursors.now if read is None else self.cursors.now | dict([read])
        rows = self.cursors.rows(cursors)
        if read is not None:
            rows |= self.staging.leaving() | self.copying.leaving()
        has_rejoined = read is not None and self._told not in (None, self.incarnation)
        if has_rejoined:
            rows |= rejoined_rows()
        if records is None:
            again = self.staging.of_objects
            refused = self.engine.merge_ahead(again, seen, time, rows=rows)
        elif replacement is not None:
            refused = self.engine.replace_damaged(replacement, records, seen, time, rows=rows)
            self.mended += len(replacement.damaged)
        else:
            refused = self.engine.merge(
                records, seen, time, served=first_state, rows=rows, whole=whole
            )
        if refused:
            self.refusals["clock-ahead"] += 1
        if self.engine.voided > self.refusals["removal-voided"]:
            self.refusals["removal-voided"] = self.engine.voided
        self.cursors.keep(cursors)
        is_copy = read is not None and self.copying.is_begun
        is_all_new = self.staging.is_joined or replacement is not None or is_copy
        if has_rejoined:
            self._told = None
        if read is not None:
            self.staging.left()
            self.copying.left()
        if records is None or is_all_new or touches_members(records):
            self.refresh_members()
        if is_copy or (read is not None and (records is None or records)):
            self._pulled = self._pulled.join(seen)
            self._behind = {
                i for i, peer in self.peers.items() if not peer.seen.includes(self._pulled)
            }
        self.counting.advance()
        return sends

    def refresh_members(self) -> None:
        """Read the members again, because something was written about them.

        Who was evicted meanwhile is asked until it answers, and so is told: two may have evicted
        each other.
        """
        known = self.evictions.keys() if self.members else None
        with self.engine.store.snapshot() as snapshot:
            reading = Reading(snapshot)
            members, self.evictions = read_members(reading), read_evictions(reading)
            self.members = {i: member for i, member in members.items() if i not in self.evictions}
            self.counting.refresh(self.members, read_departures(snapshot, self.members))
            self.laid = read_floors(reading, self.laid)
        self.engine.floors.update((mark, laid.floor) for mark, laid in self.laid.items())
        for incarnation in self.evictions.keys() & self.peers.keys():
            del self.peers[incarnation]
        if not (self._me.endpoint and self.settled):
            self._knock_at_members()
        if known is not None:
            news = {self.evictions[i].endpoint for i in self.evictions.keys() - known}
            for endpoint in news & self.vacated() - {"", self._me.endpoint}:
                if endpoint in self.contacts or len(self.contacts) < STRANGERS:
                    self.contacts[endpoint] = Contact(endpoint)

    def _knock_at_members(self) -> None:
        """Nobody can ask this replica anything: it makes the acquaintance of all who join.

        And whoever starts again, of all whom it has not met: it goes on once every member has
        spoken to it. Somebody else may have answered at the endpoint before, under an incarnation
        that is evicted since, say.
        """
        for member in self.members.values():
            if member.incarnation == self.incarnation or member.incarnation in self.peers:
                continue
            if member.endpoint in ("", self._me.endpoint):
                continue
            contact = self.contacts.get(member.endpoint)
            if contact is None or contact.incarnation != member.incarnation:
                self.contacts[member.endpoint] = Contact(member.endpoint)

    def leave_alone(self, peer: Peer) -> int:
        """What a peer sent cannot be taken in: ask it no more for a while, ever longer; until when.

        Not for longer than a minute.
        """
        peer.wait_ms = min(max(2 * peer.wait_ms, FAILED_WAIT_MS), FAILED_WAIT_MOST_MS)
        peer.not_before_ms = self.now_ms + self.jittered(peer.wait_ms)
        return peer.not_before_ms

    # -- eviction -------------------------------------------------------------------------------

    @property
    def is_evicted(self) -> bool:
        """Was this replica, under this incarnation, taken out of the cluster?"""
        return self.incarnation == self._told or self.incarnation in self.evictions

    @property
    def withholds(self) -> bool:
        """Has it rejoined, and not yet pulled what the others have folded and let go without it?

        What it did when it was out already is to be fitted to that first (`Draft.join_whole`).
        """
        if self._told is None or self._told == self.incarnation:
            return False
        if self._began_ms is None:
            self._began_ms = self.now_ms
        return self.now_ms - self._began_ms < REJOIN_PATIENCE_MS

    def rejoin(self) -> list[Send]:
        """Go on under a new identity, after an eviction."""
        self.note_evicted(self.incarnation)
        if self._told != self.incarnation:
            self._keep_told(self.incarnation)
        self._began_ms = self.now_ms
        return self.take_new_incarnation()

    def note_evicted(self, incarnation: int) -> None:
        """Another replica says who was evicted. If it is this one, that is kept over restarts.

        A late frame may be about an earlier incarnation, which is nothing to this one.
        """
        if incarnation == self.incarnation and not self.is_evicted:
            self._keep_told(incarnation)

    def _keep_told(self, incarnation: int) -> None:
        self.engine.merge([], NOTHING, 0, rows=told_rows(incarnation))
        self._told = incarnation

    def stake(self, name: str) -> Stake:
        """What the eviction of all members of a name would change. O(members × entries)."""
        gone = {i: member for i, member in self.members.items() if member.name == name}
        left = self.members.keys() - gone.keys()
        blocking = self.counting.blocking(left)
        stable = NOTHING if self.unmet() else self.counting.stable(left)
        elsewhere, theirs = self.seen, NOTHING
        contacts: list[int] = []
        for incarnation, peer in self.peers.items():
            if incarnation in gone:
                theirs = theirs.join(peer.seen)
                contacts.append(peer.last_contact_ms)
            else:
                elsewhere = elsewhere.join(peer.seen)
        known_ms = self.counting.reported_ms
        reported = [at_ms for i in gone if (at_ms := known_ms.get(i)) is not None]
        return Stake(
            tuple(gone.values()),
            self.stable().missing(stable),
            tuple(self.members[i] for i in blocking),
            elsewhere.missing(theirs),
            max(contacts, default=None),
            max(reported, default=None),
        )

    def evict(self, members: tuple[Member, ...]) -> list[Send]:
        """Take members out of the cluster, for good."""
        return self.commit(evicting(members, self._me.name, self.engine.now_ms()))

    def namesakes(self) -> dict[str, str]:
        """The endpoints of members that share a name, and what to do about it. O(members)."""
        endpoints: dict[str, set[str]] = {}
        for member in self.members.values():
            endpoints.setdefault(member.name, set()).add(member.endpoint)
        return {
            endpoint: (
                f"several members are called {name!r}: at {', '.join(sorted(same - {''}))}; give "
                "each a name of its own, or if only one is left, evict the name at another "
                "replica and let it rejoin"
            )
            for name, same in endpoints.items()
            if len(same - {""}) > 1
            for endpoint in same - {""}
        }

    def vacated(self) -> set[str]:
        """Endpoints where nobody is expected any more."""
        members = {member.endpoint for member in self.members.values()}
        return {eviction.endpoint for eviction in self.evictions.values()} - members

    # -- what was fetched -----------------------------------------------------------------------

    def fetched(self) -> VersionVector:
        """What was seen here, with all that was copied or pulled and waits for a claim."""
        return self.seen.join(self.copying.needs).join(self.staging.needs)

    def remembered(self, incarnation: int) -> VersionVector:
        """What a replica must have seen: it reported that, or gave what needs it.

        If it was put back since, what it gave must not become a state with what it has now.
        """
        result = self.counting.reports.told(incarnation)
        for source in (self.copying, self.staging):
            if source.donor is not None and source.donor.incarnation == incarnation:
                result = result.join(source.needs)
        return result

    # -- vectors on the wire --------------------------------------------------------------------

    def read_vector(self, flat: list[int]) -> VersionVector:
        """A version vector from a peer. Raises PeerError."""
        return read_vector(flat, self.engine.floors)

    def can_read(self, flat: list[int]) -> bool:
        """Is the floor of this vector known? Who rests on one that is not has seen more.

        Raises PeerError for what is no vector on any floor.
        """
        if not len(flat) % 2 or flat[0] in self.engine.floors:
            return True
        read_vector(flat[1:])
        return False

    # -- others ---------------------------------------------------------------------------------

    def check(self, sender: Sender) -> None:
        """Raises PeerError for a stranger or this replica itself."""
        if sender.cluster != self._me.cluster:
            raise PeerError(
                "wrong-cluster",
                f"{sender.name!r} belongs to cluster {sender.cluster!r}, "
                f"this replica to {self._me.cluster!r}",
            )
        if sender.incarnation == self.incarnation:
            raise PeerError("self", f"{sender.name!r} is this replica itself")

    def meet(self, sender: Sender, via: str) -> Peer:
        """Note who speaks, in answer to what was sent to the endpoint `via` (if not empty).

        Raises PeerError for a twin of another replica.
        """
        peer = self.peers.get(sender.incarnation)
        if peer is None:
            self.twins.check(sender, via, self.now_ms)
            self._forget_predecessors(sender)
            self._forget_strangers()
            peer = self.peers[sender.incarnation] = Peer(sender)
        peer.sender = sender
        peer.via = via or peer.via
        peer.last_contact_ms = self.now_ms
        if via and via == sender.endpoint:
            self.twins.answered(sender, self.now_ms)
        for contact in self.contacts_of(peer):
            if contact.incarnation != sender.incarnation:
                contact.welcomed, contact.hello_ms = False, 0  # somebody else: ask again
            contact.incarnation = sender.incarnation
            contact.fresh = sender.fresh
        return peer

    def note_answer(self, sender: Sender, via: str) -> None:
        """Somebody who is evicted speaks: it is told, and need not be asked any more."""
        for contact in self.contacts_of(Peer(sender, via)):
            contact.welcomed = True

    def contacts_of(self, peer: Peer) -> list[Contact]:
        """The endpoints at which this peer is known: where it says it is, and where it answered."""
        known = {peer.sender.endpoint, peer.via}
        return [contact for endpoint, contact in self.contacts.items() if endpoint in known]

    def forget(self, endpoint: str) -> None:
        """An endpoint turned out to be this replica itself."""
        self.contacts.pop(endpoint, None)

    def _forget_predecessors(self, sender: Sender) -> None:
        """An endpoint belongs to who spoke from it last."""
        gone = [
            incarnation
            for incarnation, other in self.peers.items()
            if sender.endpoint and other.sender.endpoint == sender.endpoint
        ]
        for incarnation in gone:
            del self.peers[incarnation]
            self.twins.displace(incarnation, sender)
            self.cursors.inherit(sender.incarnation, incarnation, keep=incarnation in self.members)

    def _forget_strangers(self) -> None:
        """Anybody can say that he is yet another replica: of those, the silent ones give way."""
        strangers = self.peers.keys() - self.members.keys()
        while len(strangers) >= STRANGERS:
            silent = min(strangers, key=lambda i: self.peers[i].last_contact_ms)
            strangers.remove(silent)
            del self.peers[silent]
            self.cursors.now.pop(silent, None)

    def answer(self, peer: Peer, message: Message) -> list[Send]:
        """A message for the peer that just spoke."""
        return [Send(peer.where, write_frame(message))]

    def note_seen(self, peer: Peer, theirs: VersionVector) -> None:
        """A peer says what it has seen: its report, and whether this replica is level with it."""
        peer.seen = peer.seen.join(theirs)
        if peer.seen.includes(self._pulled):
            self._behind.discard(peer.sender.incarnation)
        self.counting.note(peer.sender.incarnation, theirs, self.now_ms)
        if self.seen.includes(theirs):
            peer.level_ms = self.now_ms

    def note_time(self, peer: Peer, time: int) -> None:
        """A peer says what time it has."""
        peer.clock_offset_ms = hlc.milliseconds(time) - self.engine.now_ms()

    def note_level(self, peer: Peer, time: int) -> None:
        """A peer had this time, and had seen exactly what was seen here."""
        peer.level_time_ms = max(peer.level_time_ms, hlc.milliseconds(time))

    def passed_ms(self) -> int:
        """Deadlines up to here have come at every member, and all they did before is here.

        Less what a clock may go back by: a member that starts again does not know what it told.
        A member that does not talk to this replica itself keeps it at 0.
        """
        if self.unmet():
            return 0
        times = [hlc.milliseconds(self.engine.time_now())]
        for member in self.counting.who():
            if member != self.incarnation:
                peer = self.peers.get(member)
                times.append(0 if peer is None else peer.level_time_ms)
        return max(0, min(times) - LIMITS.max_drift_ms)

    # -- together -------------------------------------------------------------------------------

    def unmet(self) -> list[str]:
        """Configured peers that are no members yet, as far as is known here."""
        endpoints = {member.endpoint for member in self.members.values()}
        return sorted(
            endpoint
            for endpoint in self._configured - endpoints - self.vacated()
            if (contact := self.contacts.get(endpoint)) and contact.incarnation not in self.members
        )

    def stable(self) -> VersionVector:
        """What every member has seen, as far as this replica can tell.

        Nothing, while a configured peer has not been met: it may belong to a cluster that has a
        history of its own, and what was reclaimed before the two meet could not be joined.
        """
        return NOTHING if self.unmet() else self.counting.stable()

    def jittered(self, mean_ms: int) -> int:
        """An interval around a mean, so that replicas do not fall into step."""
        return round(mean_ms * self.random.uniform(0.75, 1.25))
