"""Replicas in one process, on a network of which every byte is counted.

The replicas are the real core; the network does what links between servers do: what waits for a
link goes as one request, one request at a time, and what answers it comes back the same way. Time
is virtual and every choice comes from a seed, so counts are the same in every run. Nothing is
compressed and nothing is lost, but what is sent where no link leads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Final

from crdtdb.causal import VersionVector
from crdtdb.engine import Engine, Entropy
from crdtdb.replication import Phase, Replication, Send, Sender
from crdtdb.replication.members import SYSTEM_PREFIX
from crdtdb.replication.messages import Page, Push, read_frame
from crdtdb.store.base import Store
from crdtdb.transaction import Committed, Transaction, Update

__all__ = ["BEGIN_MS", "Network", "NotConverged", "Replica", "Traffic", "paged_bytes"]

#: What every wall clock shows at the beginning, in milliseconds since 1970.
BEGIN_MS: Final = 1_700_000_000_000
#: How often a server lets time pass for its replica.
_TICK_MS: Final = 100
#: The same while it joins what it has pulled.
_JOINING_MS: Final = 1
#: One way, from one replica to another.
_DELAY_MS: Final = (5, 40)
#: In a body, each frame follows its length (`crdtdb_server.peers.envelope`).
_LENGTH_BYTES: Final = 4


def paged_bytes(records: Sequence[tuple[bytes, bytes]]) -> int:
    """What these records take in a page, where what all addresses begin with is said once."""
    page = Page(0, 0, 0, 0, list(records), None).stemmed()
    return len(page.stem) + sum(len(at) + len(data) for at, data in page.records)


class NotConverged(Exception):
    """Replicas did not become equal in time."""


class Traffic:
    """What has gone over all links."""

    def __init__(self) -> None:
        self.requests = 0
        self.request_bytes = 0
        self.answer_bytes = 0
        #: The greatest body of each.
        self.largest_request = 0
        self.largest_answer = 0
        #: How many messages of each kind.
        self.messages: Counter[str] = Counter()
        #: Users' records (those about members are the system's own), and their bytes in pages.
        self.records = 0
        self.record_bytes = 0

    @property
    def body_bytes(self) -> int:
        """Bytes of all bodies."""
        return self.request_bytes + self.answer_bytes


class Replica:
    """One replica, and the links on which it asks others."""

    def __init__(
        self,
        name: str,
        store: Store,
        network: Network,
        peers: Sequence[str],
        random: Random,
        entropy: Entropy | None = None,
    ) -> None:
        """`entropy` stands in for random numbers, for a replica that is to get certain ones."""
        self.name = name
        #: Over how many links each record came that is not from here.
        self.hops: dict[bytes, int] = {}
        self.engine = Engine(store, network.wall_ms, entropy or random.getrandbits)
        self.replication = Replication(
            self.engine, name=name, endpoint=name, peers=tuple(peers), random=random
        )
        self._network = network

    @property
    def seen(self) -> VersionVector:
        return self.engine.state.seen

    def write(self, *updates: Update, push: bool = True) -> Committed:
        """One transaction; without `push`, nobody is told."""
        committed = self.engine.commit([Transaction(updates)])
        for outcome in committed.outcomes:
            if outcome.error is not None:
                raise outcome.error
        if push and committed.push is not None:
            self._network.send(self.name, self.replication.committed(committed.push))
        return committed


class Network:
    """All replicas, their links, and the time."""

    def __init__(self, random: Random) -> None:
        self.now_ms = 0
        self.replicas: dict[str, Replica] = {}
        self.traffic = Traffic()
        self._random = random
        self._links: dict[tuple[str, str], _Link] = {}
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()

    def wall_ms(self) -> int:
        """Milliseconds since 1970, on every machine."""
        return BEGIN_MS + self.now_ms

    # -- replicas -------------------------------------------------------------------------------

    def add(
        self, name: str, store: Store, peers: Sequence[str], entropy: Entropy | None = None
    ) -> Replica:
        """Start a replica; it reaches, and is reached by, its peers."""
        random = Random(self._random.getrandbits(64))
        replica = self.replicas[name] = Replica(name, store, self, peers, random, entropy)
        for peer in peers:
            for way in ((name, peer), (peer, name)):
                self._links.setdefault(way, _Link(self, *way))
        self.send(name, replica.replication.start(self.now_ms))
        self.after(self._random.randrange(_TICK_MS), partial(self._tick, replica))
        return replica

    def separate(self) -> None:
        """From now on, no link leads anywhere."""
        self._links.clear()

    def connect(self, one: str, other: str) -> None:
        """A link between two."""
        for way in ((one, other), (other, one)):
            self._links.setdefault(way, _Link(self, *way))

    @property
    def is_level(self) -> bool:
        """Have all replicas seen the same?"""
        first, *others = self.replicas.values()
        return all(other.seen == first.seen for other in others)

    @property
    def is_formed(self) -> bool:
        """Do all replicas serve, and know each other as members?"""
        return all(
            replica.replication.phase is Phase.SERVING
            and len(replica.replication.members) == len(self.replicas)
            for replica in self.replicas.values()
        )

    def _tick(self, replica: Replica) -> None:
        # As a server does: what is being joined goes on at once.
        pause_ms = _JOINING_MS if replica.replication.is_joining else _TICK_MS
        self.after(pause_ms, partial(self._tick, replica))
        self.send(replica.name, replica.replication.tick(self.now_ms))

    # -- time -----------------------------------------------------------------------------------

    def after(self, delay_ms: int, event: Callable[[], None]) -> None:
        """Let something happen `delay_ms` from now."""
        heappush(self._heap, (self.now_ms + delay_ms, next(self._order), event))

    def run_until(self, time_ms: int) -> None:
        """Let happen everything up to a time; then it is that time."""
        while self._heap and self._heap[0][0] <= time_ms:
            self.now_ms, _, event = heappop(self._heap)
            event()
        self.now_ms = time_ms

    def run_while(self, waits: Callable[[], bool], within_ms: int, step_ms: int = 10) -> int:
        """Let time pass while something does not hold yet; how long that took, in milliseconds.

        Raises NotConverged if it does not in time.
        """
        begin_ms = self.now_ms
        while waits():
            if self.now_ms - begin_ms >= within_ms:
                raise NotConverged(f"replicas are not equal after {within_ms / 1_000:g} s")
            self.run_until(self.now_ms + step_ms)
        return self.now_ms - begin_ms

    # -- messages -------------------------------------------------------------------------------

    def send(self, origin: str, sends: Iterable[Send]) -> None:
        """Put frames on their way, where a link leads."""
        for send in sends:
            link = self._links.get((origin, send.endpoint))
            if link is not None:
                link.send(send.frame)

    def delay_ms(self) -> int:
        """How long the next body is under way."""
        return self._random.randint(*_DELAY_MS)

    def carry(self, origin: str, target: str, frames: list[bytes]) -> int:
        """Note what goes from one replica to another; returns the bytes of the body."""
        for frame in frames:
            message = read_frame(frame)
            self.traffic.messages[type(message).__name__] += 1
            if isinstance(message, Push | Page):
                self._note_records(origin, target, message.records)
        return sum(_LENGTH_BYTES + len(frame) for frame in frames)

    def _note_records(self, origin: str, target: str, records: list[tuple[bytes, bytes]]) -> None:
        came, come = self.replicas[origin].hops, self.replicas[target].hops
        of_users = [(at, data) for at, data in records if not at.startswith(SYSTEM_PREFIX)]
        self.traffic.records += len(of_users)
        self.traffic.record_bytes += paged_bytes(of_users)
        for at, _ in of_users:
            come.setdefault(at, came.get(at, 0) + 1)


class _Link:
    """The way on which one replica asks another: one request at a time."""

    def __init__(self, network: Network, origin: str, target: str) -> None:
        self._network = network
        self._origin = origin
        self._target = target
        self._waiting: list[bytes] = []
        self._is_busy = False

    def send(self, frame: bytes) -> None:
        """Send a frame, with all that wait, as soon as the link is free."""
        self._waiting.append(frame)
        if not self._is_busy:
            self._is_busy = True
            self._network.after(0, self._request)

    def _request(self) -> None:
        network, frames = self._network, self._waiting
        if not frames:
            self._is_busy = False
            return
        self._waiting = []
        size = network.carry(self._origin, self._target, frames)
        traffic = network.traffic
        traffic.requests += 1
        traffic.request_bytes += size
        traffic.largest_request = max(traffic.largest_request, size)
        me = network.replicas[self._origin].replication.me
        network.after(network.delay_ms(), partial(self._arrive, me, frames))

    def _arrive(self, sender: Sender, frames: list[bytes]) -> None:
        network = self._network
        target = network.replicas[self._target]
        sends = [
            send
            for frame in frames
            for send in target.replication.step(sender, frame, network.now_ms)
        ]
        answers = [send.frame for send in sends if send.endpoint == sender.address]
        network.send(self._target, [send for send in sends if send.endpoint != sender.address])
        size = network.carry(self._target, self._origin, answers)
        network.traffic.answer_bytes += size
        network.traffic.largest_answer = max(network.traffic.largest_answer, size)
        me = target.replication.me
        network.after(network.delay_ms(), partial(self._return, me, answers))

    def _return(self, sender: Sender, answers: list[bytes]) -> None:
        network = self._network
        origin = network.replicas[self._origin]
        for answer in answers:
            sends = origin.replication.step(sender, answer, network.now_ms, self._target)
            network.send(self._origin, sends)
        self._request()
