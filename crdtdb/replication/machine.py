"""The replication state machine of one replica.

`step(sender, frame, now_ms)` takes a frame in, `tick(now_ms)` lets time pass, `committed(push)`
spreads a local commit; each returns the frames to send. Everything merged is durable when the
call returns. `now_ms` is any clock that does not go back.

A local commit is *pushed* at once. Whatever a push missed is found by *digests* (a few bytes to a
random peer, now and then) and fetched by a *pull*. Any connected graph converges: what was pulled
is relayed, because it is in this replica's own sequence.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from random import Random
from typing import Final, NamedTuple

import msgspec

from crdtdb import codec, hlc
from crdtdb.causal import VersionVector
from crdtdb.engine import Engine
from crdtdb.errors import PeerError, Problem
from crdtdb.reading import Reading
from crdtdb.replication import messages
from crdtdb.replication.donor import read_page
from crdtdb.replication.early import EarlyPushes, fits
from crdtdb.replication.members import Member, adding, read_members, replacing, touches_members
from crdtdb.replication.messages import (
    Digest,
    Hello,
    Message,
    Page,
    Pull,
    Received,
    Refused,
    Same,
    Sender,
    Summary,
    Welcome,
    read_frame,
    read_vector,
    write_frame,
)
from crdtdb.replication.peers import Contact, Peer
from crdtdb.replication.pull import PullSession
from crdtdb.replication.stability import Reports
from crdtdb.transaction import Push, Transaction

__all__ = ["Phase", "Replication", "Send"]

#: Mean time between digests, and to how many peers each time.
DIGEST_INTERVAL_MS: Final = 1_000
DIGEST_FANOUT: Final = 2
#: A pull brought news: tell the others so soon that what follows at once goes with it.
RELAY_DELAY_MS: Final = 20
HELLO_INTERVAL_MS: Final = 500
#: A fresh replica serves its empty state when nobody has answered for so long …
ALONE_AFTER_MS: Final = 3_000
#: … or when all who did are fresh too, so long after the first of them.
FRESH_GRACE_MS: Final = 300
#: Operations are folded in portions, so that a replica is never busy with that for long.
FOLD_ENTRIES: Final = 2_000


class Phase(Enum):
    """How far a replica is with its first state."""

    #: Never held a full state; serves nothing.
    BOOTSTRAPPING = "bootstrapping"
    SERVING = "serving"
    #: Serving, and taking in what it missed.
    CATCHING_UP = "catching_up"


class Send(NamedTuple):
    """A frame for an endpoint (or, starting with ~, for whoever just asked)."""

    endpoint: str
    frame: bytes


class Replication:
    """One replica's side of the conversation with all others."""

    def __init__(
        self,
        engine: Engine,
        *,
        name: str,
        region: str = "",
        cluster: str = "crdtdb",
        endpoint: str = "",
        peers: tuple[str, ...] = (),
        random: Random,
    ) -> None:
        """`endpoint` is where others reach this replica; `peers` are endpoints to knock at."""
        self._engine = engine
        self._random = random
        self._me = Sender(cluster, 0, name, region, endpoint, False)
        self._contacts = {peer: Contact(peer) for peer in peers if peer != endpoint}
        self._peers: dict[int, Peer] = {}
        self._members: dict[int, Member] = {}
        self._reports = Reports()
        self._early = EarlyPushes()
        self._pull: PullSession | None = None
        #: Peers that had more than this replica when a pull was under way.
        self._wanted: dict[int, None] = {}
        self._settled = False
        self._started_ms = self._digest_ms = self._now_ms = 0
        self._first_fresh_ms: int | None = None
        self._relay_ms: int | None = None
        self._fold_from = 0
        self._folded_up_to = VersionVector()
        #: What was refused, by reason; and times refused for being too far ahead.
        self.refusals: Counter[str] = Counter()

    # -- beginning ------------------------------------------------------------------------------

    def start(self, now_ms: int) -> list[Send]:
        """Take up the conversation; call once, before anything else."""
        self._started_ms = self._now_ms = now_ms
        self._digest_ms = now_ms + self._jittered(DIGEST_INTERVAL_MS)
        known = self._engine.state.incarnation != 0
        if not known:
            self._engine.take_incarnation()
            self._settled = True
        self._refresh_members()
        if known:
            self._settle_if_confirmed()
        if not self._contacts and not self._engine.state.served:
            return self._serve_empty()
        if known and not self._settled:
            for member in self._members.values():
                if member.endpoint and member.incarnation != self.incarnation:
                    self._contacts.setdefault(member.endpoint, Contact(member.endpoint))
        return self._say_hello(now_ms)

    @property
    def incarnation(self) -> int:
        return self._engine.state.incarnation

    @property
    def me(self) -> Sender:
        """What the transport says about this replica with every exchange."""
        state = self._engine.state
        return msgspec.structs.replace(
            self._me, incarnation=state.incarnation, fresh=not state.served
        )

    @property
    def phase(self) -> Phase:
        if not self._engine.state.served:
            return Phase.BOOTSTRAPPING
        return Phase.SERVING if self._pull is None else Phase.CATCHING_UP

    @property
    def settled(self) -> bool:
        """Is it certain that this incarnation's next dot was never issued before?"""
        return self._settled

    def before_write(self) -> list[Send]:
        """To be called before the first local write: an unproven identity is replaced.

        An incarnation goes on only if every member has said that it knows no more of its dots
        (DESIGN F11); whoever cannot wait for that gets a new one.
        """
        return [] if self._settled else self._take_new_incarnation()

    def _take_new_incarnation(self) -> list[Send]:
        old = self.incarnation
        self._engine.take_incarnation()
        self._settled = True
        return self._commit(replacing(old, self.me))

    def _say_hello(self, now_ms: int) -> list[Send]:
        sends = []
        for contact in self._contacts.values():
            if not contact.welcomed and contact.hello_ms <= now_ms:
                contact.hello_ms = now_ms + self._jittered(HELLO_INTERVAL_MS)
                sends.append(Send(contact.endpoint, self._hello_frame()))
        return sends

    def _hello_frame(self) -> bytes:
        return write_frame(Hello(self._engine.state.seen.get(self.incarnation)))

    def _serve_empty(self) -> list[Send]:
        self._engine.mark_served()
        self._relay_ms = self._now_ms + RELAY_DELAY_MS
        return self._commit(adding(self.me))

    def _commit(self, transaction: Transaction) -> list[Send]:
        sends = self.before_write()
        committed = self._engine.commit([transaction])
        (outcome,) = committed.outcomes
        if outcome.error is not None:
            raise outcome.error
        return sends if committed.push is None else sends + self.committed(committed.push)

    def _refresh_members(self) -> None:
        with self._engine.store.snapshot() as snapshot:
            self._members = read_members(Reading(snapshot))

    # -- local commits --------------------------------------------------------------------------

    def committed(self, push: Push) -> list[Send]:
        """Spread a local commit to every member that can be reached. It is durable already."""
        message = messages.Push(
            push.origin, push.first, push.last, push.deps.flat(), push.time, list(push.records)
        )
        if touches_members(push.records):
            self._refresh_members()
        frame = write_frame(message)
        endpoints = {member.endpoint for member in self._members.values()}
        return [Send(endpoint, frame) for endpoint in sorted(endpoints - {"", self._me.endpoint})]

    # -- time -----------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> list[Send]:
        """Let time pass. Cheap when nothing is due."""
        self._now_ms = now_ms
        sends = self._say_hello(now_ms)
        if not self._engine.state.served:
            return sends + self._begin_when_fresh(now_ms)
        if self._pull is not None and self._pull.is_stalled(now_ms):
            self._pull = None
            sends += self._next_pull()
        if self._relay_ms is not None and now_ms >= self._relay_ms:
            self._relay_ms = None
            sends += self._digests(len(self._peers))
        for address in self._early.overdue(now_ms):
            sends.append(Send(address, self._digest_frame()))
        if now_ms >= self._digest_ms:
            self._digest_ms = now_ms + self._jittered(DIGEST_INTERVAL_MS)
            sends += self._digests(DIGEST_FANOUT)
        self._fold()
        return sends

    def _begin_when_fresh(self, now_ms: int) -> list[Send]:
        """A fresh replica: copy from somebody who has a state, else serve the empty one."""
        if self._pull is not None:
            if not self._pull.is_stalled(now_ms):
                return []
            self._pull = None
        answered = [c for c in self._contacts.values() if c.welcomed]
        donors = [c for c in answered if not c.fresh]
        if donors:
            chosen = donors[self._random.randrange(len(donors))]
            assert chosen.incarnation is not None
            return self._start_pull(self._peers[chosen.incarnation])
        if answered:
            if self._first_fresh_ms is None:
                self._first_fresh_ms = now_ms
            all_answered = len(answered) == len(self._contacts)
            if not all_answered and now_ms - self._first_fresh_ms < FRESH_GRACE_MS:
                return []
            return self._serve_empty()
        return self._serve_empty() if now_ms - self._started_ms >= ALONE_AFTER_MS else []

    def probe(self) -> bytes:
        """The frame to try an endpoint with that did not answer: compare at once, or say hello."""
        if self._engine.state.served:
            return self._digest_frame()
        return self._hello_frame()

    @property
    def staged_records(self) -> int:
        """Records of the pull under way that wait for its claim."""
        return 0 if self._pull is None else len(self._pull.records)

    def _digests(self, fanout: int) -> list[Send]:
        endpoints = [p.sender.endpoint for p in self._peers.values() if p.sender.endpoint]
        chosen = self._random.sample(endpoints, min(fanout, len(endpoints)))
        return [Send(endpoint, self._digest_frame()) for endpoint in chosen]

    def _digest_frame(self) -> bytes:
        state = self._engine.state
        seen = codec.fingerprint(state.seen.flat())
        return write_frame(Digest(seen, self._reports_mark(), self._time()))

    def _reports_mark(self) -> int:
        return codec.fingerprint(self._report_table())

    def _report_table(self) -> dict[int, list[int]]:
        return self._reports.table(self._members, self.incarnation, self._engine.state.seen)

    def _time(self) -> int:
        """This replica's time, for others to see its clock by; not a stamp of any operation."""
        return self._engine.time_now()

    def _jittered(self, mean_ms: int) -> int:
        return round(mean_ms * self._random.uniform(0.75, 1.25))

    # -- frames ---------------------------------------------------------------------------------

    def step(self, sender: Sender, frame: bytes, now_ms: int) -> list[Send]:
        """Take in one frame. Raises PeerError, with nothing changed, for what must be refused."""
        self._now_ms = now_ms
        try:
            self._check(sender)
            peer = self._meet(sender, now_ms)
            return self._take(peer, read_frame(frame))
        except PeerError as error:
            self.refusals[error.reason] += 1
            if known := self._peers.get(sender.incarnation):
                known.refusals[error.reason] = known.refusals.get(error.reason, 0) + 1
            raise

    def _check(self, sender: Sender) -> None:
        if sender.cluster != self._me.cluster:
            raise PeerError(
                "wrong-cluster",
                f"{sender.name!r} belongs to cluster {sender.cluster!r}, "
                f"this replica to {self._me.cluster!r}",
            )
        if sender.incarnation == self.incarnation:
            raise PeerError("self", f"{sender.name!r} is this replica itself")

    def _meet(self, sender: Sender, now_ms: int) -> Peer:
        """Note who speaks. An endpoint belongs to who spoke from it last."""
        peer = self._peers.get(sender.incarnation)
        if peer is None:
            gone = [
                incarnation
                for incarnation, other in self._peers.items()
                if sender.endpoint and other.sender.endpoint == sender.endpoint
            ]
            for incarnation in gone:
                del self._peers[incarnation]
            peer = self._peers[sender.incarnation] = Peer(sender)
        peer.sender = sender
        peer.last_contact_ms = now_ms
        contact = self._contacts.get(sender.endpoint)
        if contact is not None:
            contact.incarnation = sender.incarnation
            contact.fresh = sender.fresh
        return peer

    def _take(self, peer: Peer, message: Message) -> list[Send]:
        match message:
            case Hello():
                return self._on_hello(peer, message)
            case Welcome():
                return self._on_welcome(peer, message)
            case _ if not self._engine.state.served and not isinstance(message, Page | Refused):
                return self._answer(peer, Refused("bootstrapping"))
            case Digest():
                return self._on_digest(peer, message)
            case Same():
                return self._on_same(peer, message)
            case Summary():
                return self._on_summary(peer, message)
            case Pull():
                return self._on_pull(peer, message)
            case Page():
                return self._on_page(peer, message)
            case messages.Push():
                return self._on_push(peer, message)
            case Received():
                return self._on_received(peer, message)
            case Refused():
                return self._on_refused(peer)

    def _answer(self, peer: Peer, message: Message) -> list[Send]:
        return [Send(peer.sender.address, write_frame(message))]

    # -- hello ----------------------------------------------------------------------------------

    def _on_hello(self, peer: Peer, message: Hello) -> list[Send]:
        known = self._engine.state.seen.get(peer.sender.incarnation)
        sends = self._answer(peer, Welcome(known))
        if not self._settled and not peer.confirmed:
            sends.append(Send(peer.sender.address, self._hello_frame()))
        if peer.sender.endpoint and peer.sender.endpoint != self._me.endpoint:
            self._contacts.setdefault(
                peer.sender.endpoint,
                Contact(peer.sender.endpoint, peer.sender.incarnation, fresh=peer.sender.fresh),
            )
        return sends

    def _on_welcome(self, peer: Peer, message: Welcome) -> list[Send]:
        contact = self._contacts.get(peer.sender.endpoint)
        if contact is not None:
            contact.welcomed = True
        if not self._settled:
            if message.known > self._engine.state.seen.get(self.incarnation):
                return self._take_new_incarnation()
            peer.confirmed = True
            self._settle_if_confirmed()
        if self._engine.state.served:
            return self._answer_digest(peer)
        return self._begin_when_fresh(self._now_ms)

    def _answer_digest(self, peer: Peer) -> list[Send]:
        return [Send(peer.sender.address, self._digest_frame())]

    def _settle_if_confirmed(self) -> None:
        self._settled = all(
            member == self.incarnation
            or ((peer := self._peers.get(member)) is not None and peer.confirmed)
            for member in self._members
        )

    # -- digests --------------------------------------------------------------------------------

    def _on_digest(self, peer: Peer, message: Digest) -> list[Send]:
        self._note_time(peer, message.time)
        state = self._engine.state
        mark = codec.fingerprint(state.seen.flat())
        if message.seen != mark:
            return self._answer(peer, self._summary(answer=True))
        self._note_seen(peer, state.seen)
        if message.reports != self._reports_mark():
            return self._answer(peer, self._summary(answer=True))
        return self._answer(peer, Same(mark, self._time(), state.store_id, state.sequence))

    def _on_same(self, peer: Peer, message: Same) -> list[Send]:
        self._note_time(peer, message.time)
        seen = self._engine.state.seen
        if message.seen == codec.fingerprint(seen.flat()):
            # All up to there is here: the next pull need not look at it again.
            peer.cursor = (message.store_id, message.sequence)
            self._note_seen(peer, seen)
        return []

    def _summary(self, *, answer: bool) -> Summary:
        seen = self._engine.state.seen.flat()
        return Summary(seen, self._time(), self._report_table(), answer)

    def _on_summary(self, peer: Peer, message: Summary) -> list[Send]:
        self._note_time(peer, message.time)
        theirs = read_vector(message.seen)
        reports = {member: read_vector(flat) for member, flat in message.reports.items()}
        seen = self._engine.state.seen
        for member, reported in reports.items():
            if member != self.incarnation and seen.includes(reported):
                self._reports.take(member, reported, seen)
        self._note_seen(peer, theirs)
        sends = self._answer(peer, self._summary(answer=False)) if message.answer else []
        if not seen.includes(theirs):
            sends += self._want(peer)
        return sends

    def _note_time(self, peer: Peer, time: int) -> None:
        peer.clock_offset_ms = hlc.milliseconds(time) - self._engine.now_ms()

    def _note_seen(self, peer: Peer, theirs: VersionVector) -> None:
        """A peer says what it has seen: that is its report, and shows whether it is level."""
        seen = self._engine.state.seen
        peer.seen = peer.seen.join(theirs)
        self._reports.take(peer.sender.incarnation, theirs, seen)
        if seen.includes(theirs):
            peer.level_ms = self._now_ms

    # -- pulls ----------------------------------------------------------------------------------

    def _want(self, peer: Peer) -> list[Send]:
        if self._pull is None:
            return self._start_pull(peer)
        if self._pull.donor.incarnation != peer.sender.incarnation:
            self._wanted[peer.sender.incarnation] = None
        return []

    def _start_pull(self, peer: Peer) -> list[Send]:
        self._wanted.pop(peer.sender.incarnation, None)
        number = self._random.getrandbits(32)
        seen = self._engine.state.seen
        self._pull = PullSession(number, peer.sender, *peer.cursor, seen, self._now_ms)
        return self._answer(peer, self._pull.request())

    def _next_pull(self) -> list[Send]:
        """Turn to the next peer that had more, if it still has."""
        seen = self._engine.state.seen
        while self._wanted:
            incarnation = next(iter(self._wanted))
            del self._wanted[incarnation]
            peer = self._peers.get(incarnation)
            if peer is not None and not seen.includes(peer.seen):
                return self._start_pull(peer)
        return []

    def _on_pull(self, peer: Peer, message: Pull) -> list[Send]:
        theirs = read_vector(message.seen)
        sends: list[Send] = []
        if peer.sender.incarnation not in self._members:
            sends = self._commit(adding(peer.sender))
        self._note_seen(peer, theirs)
        store_id = self._engine.state.store_id
        try:
            page = read_page(self._engine.store, message, theirs, store_id)
        except Problem:
            return sends + self._answer(peer, Refused("damaged"))
        return sends + self._answer(peer, page)

    def _on_page(self, peer: Peer, message: Page) -> list[Send]:
        pull = self._pull
        if pull is None or pull.donor.incarnation != peer.sender.incarnation:
            return []
        if not pull.take(message, self._now_ms):
            return []
        if message.claim is None:
            return self._answer(peer, pull.request())
        self._pull = None
        claimed = read_vector(message.claim.seen)
        self._merge(pull.records, claimed, message.claim.time, first_state=True)
        peer.cursor = pull.cursor
        self._note_seen(peer, claimed)
        if pull.records:
            self._relay_ms = self._now_ms + RELAY_DELAY_MS
        return self._after_merge() + self._next_pull()

    def _on_refused(self, peer: Peer) -> list[Send]:
        if self._pull is not None and self._pull.donor.incarnation == peer.sender.incarnation:
            self._pull = None
            return self._next_pull()
        return []

    # -- pushes ---------------------------------------------------------------------------------

    def _on_push(self, peer: Peer, message: messages.Push) -> list[Send]:
        if not 1 <= message.first <= message.last:
            raise PeerError("bad-frame", "a push covers no operations")
        if message.origin != peer.sender.incarnation:
            raise PeerError("forged-origin", "a replica pushes only its own operations")
        seen = self._engine.state.seen
        if message.last > seen.get(message.origin):
            if fits(message, seen):
                self._apply_push(message)
            else:
                self._early.hold(message, peer.sender.address, self._now_ms)
        sends = self._after_merge()
        counter = self._engine.state.seen.get(message.origin)
        return sends + self._answer(peer, Received(message.origin, counter))

    def _apply_push(self, push: messages.Push) -> None:
        deps = read_vector(push.deps)
        past = deps.with_dot((push.origin, push.first - 1)) if push.first > 1 else deps
        seen = deps.with_dot((push.origin, push.last))
        self._merge(push.records, seen, push.time, past=past)

    def _on_received(self, peer: Peer, message: Received) -> list[Send]:
        """The peer has so much of an origin, and (pushes are causal) all that came before it."""
        if message.origin == self.incarnation and message.counter:
            own = self._engine.state.seen.get(self.incarnation)
            counter = min(own, message.counter)
            peer.seen = peer.seen.with_dot((message.origin, counter))
        return []

    # -- taking in ------------------------------------------------------------------------------

    def _merge(
        self,
        records: list[tuple[bytes, bytes]],
        seen: VersionVector,
        time: int,
        *,
        past: VersionVector | None = None,
        first_state: bool = False,
    ) -> None:
        past = VersionVector() if past is None else past
        if self._engine.merge(records, seen, time, past=past, served=first_state):
            self.refusals["clock-ahead"] += 1
        if touches_members(records):
            self._refresh_members()

    def _after_merge(self) -> list[Send]:
        """More has been seen: what was early may fit now, what was reported may count."""
        while push := self._early.next_fitting(self._engine.state.seen):
            try:
                self._apply_push(push)
            except PeerError as error:
                self.refusals[error.reason] += 1
        self._reports.advance(self._engine.state.seen)
        if self.incarnation in self._members or not self._engine.state.served:
            return []
        return self._commit(adding(self.me))

    # -- stability ------------------------------------------------------------------------------

    def stable(self) -> VersionVector:
        """What every member has seen, as far as this replica can tell."""
        return self._reports.stable(self._members, self.incarnation, self._engine.state.seen)

    def blocking(self) -> dict[int, int]:
        """Members that keep operations from being stable: incarnation → operations it lacks."""
        seen = self._engine.state.seen
        return self._reports.blocking(self._members, self.incarnation, seen)

    def _fold(self) -> None:
        """Fold stable operations of op-based objects into their bases, a portion at a time."""
        stable = self.stable()
        if self._fold_from == 0:
            if stable == self._folded_up_to:
                return
            self._folded_up_to = stable
        self._fold_from = self._engine.fold(self._folded_up_to, self._fold_from, FOLD_ENTRIES)

    # -- looking --------------------------------------------------------------------------------

    @property
    def members(self) -> dict[int, Member]:
        """The members, by incarnation."""
        return self._members

    @property
    def peers(self) -> dict[int, Peer]:
        """What is known of each replica that has been heard."""
        return self._peers

    @property
    def endpoints(self) -> list[str]:
        """Every endpoint worth knocking at."""
        known = {member.endpoint for member in self._members.values()} | set(self._contacts)
        return sorted(known - {"", self._me.endpoint})
