"""The replication state machine of one replica.

`step(sender, frame, now_ms)` takes a frame in, `tick(now_ms)` lets time pass, `committed(push)`
spreads a local commit; each returns the frames to send. Everything merged is durable when the
call returns. `now_ms` is any clock that does not go back.

A local commit is *pushed* at once. Whatever a push missed is found by *digests* (a few bytes to a
random peer, now and then) and fetched by a *pull*. Any connected graph converges: what was pulled
is relayed, because it is in this replica's own sequence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from random import Random

from crdtdb import address
from crdtdb.causal import VersionVector
from crdtdb.engine import Engine
from crdtdb.errors import PeerError
from crdtdb.replication import messages
from crdtdb.replication.chores import Chores
from crdtdb.replication.cluster import Cluster, Send
from crdtdb.replication.early import EarlyPushes, fits
from crdtdb.replication.evictions import Eviction, Stake
from crdtdb.replication.flooring import Flooring
from crdtdb.replication.greeting import Greeting
from crdtdb.replication.losses import Losses
from crdtdb.replication.members import Member
from crdtdb.replication.mending import Mending
from crdtdb.replication.messages import (
    Acquainted,
    Copied,
    Copy,
    Digest,
    Evicted,
    Gone,
    Hello,
    Mend,
    Mended,
    Message,
    News,
    Page,
    Pull,
    Received,
    Refused,
    Remembered,
    Same,
    Sender,
    Summary,
    Talk,
    Welcome,
    read_frame,
    write_frame,
)
from crdtdb.replication.newcomer import Newcomer
from crdtdb.replication.peers import Peer
from crdtdb.replication.pull import Progress
from crdtdb.replication.reclaiming import Reclaiming
from crdtdb.replication.repair import Repair
from crdtdb.replication.sharing import Sharing
from crdtdb.replication.summaries import Summaries
from crdtdb.transaction import Push

__all__ = ["Phase", "Replication"]


class Phase(Enum):
    """How far a replica is with its state."""

    #: Never held a full state; serves nothing.
    BOOTSTRAPPING = "bootstrapping"
    SERVING = "serving"
    #: Serving, and taking in what it missed.
    CATCHING_UP = "catching_up"
    #: Taken out of the cluster: shows what it has, takes in nothing.
    EVICTED = "evicted"


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
        me = Sender(cluster, 0, name, region, endpoint, False)
        self._engine = engine
        self._cluster = Cluster(engine, me, peers, random)
        #: What is done with every tick: whether some of it fails, and who is told.
        self.chores = Chores(self._cluster)
        self._greeting = Greeting(self._cluster)
        self._summaries = Summaries(self._cluster)
        self._repair = Repair(self._cluster, self._summaries)
        self._newcomer = Newcomer(self._cluster, self._repair)
        self._early = EarlyPushes()
        self._reclaiming = Reclaiming(self._cluster)
        self._mending = Mending(self._cluster)
        #: What is damaged and waits for a peer, and accepting its loss.
        self.losses = Losses(self._cluster, self._mending)
        self._sharing = Sharing(self._cluster)
        self._flooring = Flooring(self._cluster)

    # -- looking --------------------------------------------------------------------------------

    @property
    def me(self) -> Sender:
        """What the transport says about this replica with every exchange."""
        return self._cluster.me

    @property
    def incarnation(self) -> int:
        return self._cluster.incarnation

    @property
    def phase(self) -> Phase:
        if self._cluster.is_evicted:
            return Phase.EVICTED
        if not self._cluster.served:
            return Phase.BOOTSTRAPPING
        return Phase.SERVING if self._repair.pull is None else Phase.CATCHING_UP

    @property
    def is_evicted(self) -> bool:
        """Was this replica told that it was taken out of the cluster?"""
        return self._cluster.is_evicted

    @property
    def settled(self) -> bool:
        """Is it certain that this incarnation's next dot was never issued before?"""
        return self._cluster.settled

    @property
    def listens(self) -> bool:
        """Has it nobody to ask for that, so that it waits for whoever might know? Not for long."""
        return self._cluster.listens

    @property
    def members(self) -> Mapping[int, Member]:
        """The members, by incarnation."""
        return self._cluster.members

    @property
    def peers(self) -> Mapping[int, Peer]:
        """What is known of each replica that has been heard, by incarnation."""
        return self._cluster.peers

    @property
    def refusals(self) -> Mapping[str, int]:
        """What was refused, by reason."""
        return self._cluster.refusals

    def failing(self) -> dict[str, str]:
        """Endpoints of replicas whose data could not be taken in when that was tried, and why."""
        return {
            peer.sender.endpoint: f"what {peer.sender.name!r} has cannot be taken in: {peer.failed}"
            for peer in self._cluster.peers.values()
            if peer.failed is not None and peer.sender.endpoint
        }

    def twins(self) -> dict[str, str]:
        """Endpoints that two live replicas claim, and what to do about it."""
        return self._cluster.twins.refused(self._cluster.now_ms)

    @property
    def progress(self) -> Progress | None:
        """How far a copy or pull under way has come; None: there is none, or not a page of it."""
        if self._newcomer.progress is not None:
            return self._newcomer.progress
        return None if self._repair.pull is None else self._cluster.staging.progress

    @property
    def is_joining(self) -> bool:
        """Is there a part of a pull to be joined with the next tick? That takes long."""
        return self._repair.is_joining

    @property
    def is_partial(self) -> bool:
        """Does this replica show a part of a pull whose other parts it has yet to join?"""
        return self._cluster.is_partial

    def namesakes(self) -> dict[str, str]:
        """The endpoints of members that share a name, and what to do about it."""
        return self._cluster.namesakes()

    @property
    def pulls_from(self) -> str | None:
        """The endpoint of the donor of the pull under way."""
        return (
            self._newcomer.donor if self._repair.pull is None else self._repair.pull.donor.endpoint
        )

    def stable(self) -> VersionVector:
        """What every member has seen, as far as this replica can tell."""
        return self._cluster.stable()

    def blocking(self) -> dict[int, int]:
        """Members that keep operations from being stable: incarnation → operations it lacks."""
        return self._cluster.counting.blocking()

    def reported_ms(self, member: int) -> int | None:
        """When a member last reported more than before; None: not since this replica started."""
        return self._cluster.counting.reported_ms.get(member)

    @property
    def waiting(self) -> tuple[int, int]:
        """Records, and their bytes, that would go if they were stable; as last looked at."""
        return self._reclaiming.waiting

    @property
    def evictions(self) -> Mapping[int, Eviction]:
        """Who was taken out of the cluster, by incarnation."""
        return self._cluster.evictions

    @property
    def damaged(self) -> Collection[bytes]:
        """Addresses of records that are damaged and wait for a peer to mend them."""
        return self._engine.damaged.keys()

    @property
    def mending(self) -> Mending:
        """The look for damage, what it found, and what has been mended."""
        return self._mending

    def unmet(self) -> list[str]:
        """Configured peers that are no members yet; they too keep operations from being stable."""
        return self._cluster.unmet()

    # -- what happens ---------------------------------------------------------------------------

    def start(self, now_ms: int) -> list[Send]:
        """Take up the conversation; call once, before anything else."""
        self._cluster.now_ms = now_ms
        self._mending.start()
        sends = self._greeting.start()
        self._summaries.start()
        sends += self._repair.start() + self._newcomer.start()
        return sends if self._cluster.served else sends + self._begin()

    def before_write(self) -> list[Send]:
        """To be called before the first local write: an unproven identity is replaced.

        An incarnation goes on only if every member has said that it knows no more of its dots, and
        of what it had seen; whoever cannot wait for that gets a new one.
        """
        if self._cluster.settled or self._cluster.is_evicted:
            return []
        return self._cluster.take_new_incarnation()

    def committed(self, push: Push) -> list[Send]:
        """Spread a local commit to every member that can be reached. It is durable already."""
        return self._cluster.push(push)

    def unreachable(self, endpoint: str) -> list[Send]:
        """Frames for an endpoint were lost. A pull from there turns to another donor at once."""
        self._newcomer.on_lost(endpoint)
        return self._repair.on_lost(endpoint)

    def probe(self) -> bytes:
        """The frame to try an endpoint with that did not answer."""
        return self._summaries.digest() if self._cluster.served else self._greeting.frame()

    def tick(self, now_ms: int) -> list[Send]:
        """Let time pass. Cheap when nothing is due."""
        self._cluster.now_ms = now_ms
        if self._cluster.is_evicted:
            return []
        do = self.chores.do
        sends = self._greeting.knock()
        if not self._cluster.served:
            return sends + do("bootstrap", self._begin)
        sends += [Send(whom, self._summaries.digest()) for whom in self._early.overdue(now_ms)]
        sends += do("repair", lambda: self._repair.tick() + self._summaries.tick())
        if not self._cluster.settled:
            self._cluster.settle_if_confirmed()
        sends += do("membership", self._after_merge)
        if self._cluster.is_busy_merging:
            return sends
        sends += do("mending", self._mending.tick)
        sends += do("reclaiming", self._reclaiming.tick)
        sends += do("sharing", self._sharing.tick)
        sends += do("flooring", self._flooring.tick)
        return sends

    def knock(self, endpoint: str) -> list[Send]:
        """Make the acquaintance of a replica that shall become a member, until it answers.

        It does, when it pulls; the cluster waits for it from then on. Raises Overloaded while too
        many have not answered.
        """
        return self._greeting.knock_at(endpoint)

    def stake(self, name: str) -> Stake:
        """What the eviction of all members of a name would change. O(members × entries)."""
        return self._cluster.stake(name)

    def evict(self, name: str) -> list[Send]:
        """Take all members of a name out of the cluster, for good; durable when this returns.

        They keep nothing from being stable any more, and every replica that has heard of it
        refuses what they send. Not for this replica itself.
        """
        return self._cluster.evict(self._cluster.stake(name).members)

    def rejoin(self) -> list[Send]:
        """Go on under a new identity after an eviction, as a newcomer that has some data.

        What only this replica has, others pull from it. It pulls what it lacks; all that the donor
        holds if that reclaimed deletes meanwhile, and then drops whatever the donor has seen and
        does not hold.
        """
        if not self._cluster.is_evicted:
            return []
        return self._cluster.rejoin() + self._greeting.start_over()

    def forget(self, endpoint: str) -> None:
        """A configured endpoint is this replica itself."""
        self._cluster.forget(endpoint)

    def is_heavy(self, frame: bytes) -> bool:
        """May taking in this frame take long, however small it is?

        A page is read from the disk and, at the claim, all of them are merged; what a cut removes
        is not in it. Held pushes may become deliverable all at once.
        """
        try:
            message = read_frame(frame)
        except PeerError:
            return False
        match message:
            case Pull() | Page() | Mend() | Mended() | Copy() | Copied():
                return True
            case messages.Push():
                return len(self._early) > 0 or any(address.is_cut(at) for at, _ in message.records)
            case _:
                return False

    def step(self, sender: Sender, frame: bytes, now_ms: int, via: str = "") -> list[Send]:
        """Take in one frame, in answer to what was sent to the endpoint `via` (if not empty).

        Frames of one exchange come with the same `now_ms`, and an endpoint is asked one thing at a
        time: what it answers next was asked after this.

        Raises PeerError, with nothing changed, for what must be refused.
        """
        self._cluster.now_ms = now_ms
        try:
            message = read_frame(frame)
            self._cluster.check(sender)
            if isinstance(message, Evicted):
                return self._on_evicted(message)
            if self._cluster.is_evicted or sender.incarnation in self._cluster.evictions:
                return self._fence(sender, message, via)
            peer = self._cluster.meet(sender, via)
            sends = self._take(peer, message)
            if not isinstance(message, Hello | Welcome | Remembered | Acquainted):
                sends += self._greeting.ask(peer)
            return sends
        except PeerError as error:
            self._cluster.refusals[error.reason] += 1
            raise

    # -- inside ---------------------------------------------------------------------------------

    def _begin(self) -> list[Send]:
        """A fresh replica: copy from somebody who has a state, else serve the empty one."""
        pull = self._repair.pull
        sends = self._repair.carry_on()
        if pull is not None and pull.is_claimed:
            return sends
        if pull is not None:
            if not pull.is_stalled(self._cluster.now_ms):
                return []
            self._repair.pull = None
        if self._newcomer.waits:
            return []
        if donor := self._greeting.donor(self._newcomer.silent):
            return self._newcomer.begin(donor)
        if self._greeting.may_serve_empty() and self._newcomer.may_serve_empty():
            self._summaries.relay_soon()
            return self._greeting.serve_empty()
        return []

    def _take(self, peer: Peer, message: Talk) -> list[Send]:
        match message:
            case Hello():
                return self._greeting.on_hello(peer, self._early.last(peer.sender.incarnation))
            case Welcome() | Remembered() | Acquainted():
                return self._greeting.on_welcome(peer, message) + self._after_welcome(peer)
            case Page():
                return self._repair.on_page(peer, message) + self._after_merge()
            case Refused(reason):
                self._newcomer.on_refused(peer)
                return self._repair.on_refused(peer, reason)
            case Gone():
                self._newcomer.on_gone(peer, message)
                return self._repair.on_gone(peer, message)
            case Copied():
                return self._newcomer.on_copied(peer, message)
            case _ if not self._cluster.served:
                return self._cluster.answer(peer, Refused("bootstrapping"))
            case Digest():
                return self._summaries.on_digest(peer, message)
            case Same():
                return self._summaries.on_same(peer, message)
            case Summary():
                sends, has_more = self._summaries.on_summary(peer, message)
                return sends + self._repair.want(peer) if has_more else sends
            case News():
                sends, has_more = self._summaries.on_news(peer, message)
                return sends + self._repair.want(peer) if has_more else sends
            case Pull():
                return self._repair.on_pull(peer, message)
            case Copy():
                return self._newcomer.on_copy(peer, message)
            case messages.Push():
                return self._on_push(peer, message)
            case Mend():
                return self._mending.on_mend(peer, message)
            case Mended():
                if self._cluster.is_partial:
                    return []
                takes = self._repair if self._repair.awaits(message.session) else self._mending
                return takes.on_mended(peer, message) + self._after_merge()
            case Received():
                return self._on_received(peer, message)

    def _on_evicted(self, message: Evicted) -> list[Send]:
        """Never answered, and heard from whomever: two replicas may have evicted each other."""
        self._cluster.note_evicted(message.incarnation)
        if self._cluster.is_evicted:
            self._repair.stop()
        return []

    def _fence(self, sender: Sender, message: Talk, via: str) -> list[Send]:
        """Take nothing in, because one of the two is evicted, and say so."""
        self._cluster.refusals["evicted"] += 1
        if not self._cluster.is_evicted:
            self._cluster.note_answer(sender, via)
            answer: Message = Evicted(sender.incarnation)
        elif isinstance(message, Refused):
            return []
        else:
            answer = Refused("evicted")
        return [Send(via or sender.address, write_frame(answer))]

    def _after_welcome(self, peer: Peer) -> list[Send]:
        if self._cluster.served:
            return [Send(peer.where, self._summaries.digest())]
        return self._begin()

    def _on_push(self, peer: Peer, message: messages.Push) -> list[Send]:
        if not 1 <= message.first <= message.last:
            raise PeerError("bad-frame", "a push covers no operations")
        if message.origin != peer.sender.incarnation:
            raise PeerError("forged-origin", "a replica pushes only its own operations")
        if any(address.is_base(at) for at, _ in message.records):
            # Adopted, it would stand for the operations of others, and take theirs out.
            raise PeerError("forged-base", "what is folded is no operation, and is never pushed")
        sends: list[Send] = []
        if message.last > self._cluster.seen.get(message.origin) and not self._cluster.is_partial:
            departed = message.origin in self._cluster.counting.departures
            if departed or not self._cluster.can_read(message.deps):
                # It may be a late one. Who is there after all is a member again, after a pull.
                sends += self._cluster.answer(peer, self._summaries.question())
            elif not self._cluster.is_busy_merging and fits(
                message, self._cluster.seen, self._engine.floors
            ):
                sends += self._apply(message)
            else:
                self._early.hold(message, peer.where, self._cluster.now_ms)
        sends += self._after_merge()
        counter = self._cluster.seen.get(message.origin)
        return sends + self._cluster.answer(peer, Received(message.origin, counter))

    def _apply(self, push: messages.Push) -> list[Send]:
        seen = self._cluster.read_vector(push.deps).with_dot((push.origin, push.last))
        return self._cluster.merge(push.records, seen, push.time)

    def _on_received(self, peer: Peer, message: Received) -> list[Send]:
        own = self._cluster.incarnation
        if message.origin == own and message.counter:
            counter = min(self._cluster.seen.get(own), message.counter)
            peer.seen = peer.seen.with_dot((own, counter))
        return []

    def _after_merge(self) -> list[Send]:
        """More has been seen: what came too early may fit now."""
        sends: list[Send] = []
        while not self._cluster.is_busy_merging and (
            push := self._early.next_fitting(self._cluster.seen, self._engine.floors)
        ):
            if push.origin in self._cluster.counting.departures:
                continue
            try:
                sends += self._apply(push)
            except PeerError as error:
                self._cluster.refusals[error.reason] += 1
        return sends + self._cluster.correct_membership()
