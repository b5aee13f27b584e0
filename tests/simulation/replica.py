"""One machine: a disk, a clock, and (while it has power) the real core running on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import Protocol

from crdtdb.causal import NOTHING, Dot, VersionVector
from crdtdb.damage import Replacement
from crdtdb.engine import Engine
from crdtdb.errors import CrdtdbError, NoSpace, PeerError, StorageFailed
from crdtdb.joining import Part, Records
from crdtdb.reclaim import Walk
from crdtdb.replication import Phase, Replication, Send, Sender
from crdtdb.store.base import Table
from crdtdb.store.memory import MemoryStore
from crdtdb.transaction import Committed, Transaction, Update
from oracle.checks import Violation, elements_held
from oracle.events import Held
from simulation.clock import Clock
from simulation.disk import Disk

__all__ = ["Machine", "Watcher", "is_displaced"]


class Watcher(Protocol):
    """Who is told what a machine's engine did, as soon as it has done it."""

    def incarnated(self, machine: Machine, incarnation: int) -> None:
        """It took a new identity."""

    def committed(
        self,
        machine: Machine,
        past: VersionVector,
        transactions: Sequence[Transaction],
        committed: Committed,
        held: Held,
    ) -> None:
        """It carried out local transactions; it had seen `past` before.

        `held`: the elements, deleted ones among them, of the lists that they name.
        """

    def voided(self, voided: Mapping[bytes, Collection[Dot]]) -> None:
        """It let removals come to nothing at objects with these prefixes."""

    def merged(self, machine: Machine, addresses: Sequence[bytes], *, ahead: bool = False) -> None:
        """It took in records of these addresses, worked out ahead or not."""

    def joined_part(self, machine: Machine) -> None:
        """It joined a part of a pull."""

    def mended(
        self, machine: Machine, damaged: Collection[bytes], addresses: Sequence[bytes]
    ) -> None:
        """It took in such records, and those that were damaged are mended."""

    def reclaimed(
        self, machine: Machine, stable: VersionVector, count: int, *, deletes: bool
    ) -> None:
        """It reclaimed so many records, with deletes or not, below what it takes for stable."""


class WatchedEngine(Engine):
    """The real engine, which says what it did."""

    def __init__(self, machine: Machine, random: Random, watcher: Watcher) -> None:
        super().__init__(machine.disk, machine.clock, random.getrandbits)
        self._machine = machine
        self._watcher = watcher
        #: Has a part of a pull been joined?
        self._has_parts = False

    def take_incarnation(self) -> int:
        incarnation = self._machine.latest = super().take_incarnation()
        self._watcher.incarnated(self._machine, incarnation)
        return incarnation

    def commit(self, transactions: Sequence[Transaction]) -> Committed:
        past, held = self.state.seen, self._held(transactions)
        committed = super().commit(transactions)
        self._watcher.committed(self._machine, past, transactions, committed, held)
        return committed

    def note_voided(self, voided: Mapping[bytes, Collection[Dot]]) -> None:
        super().note_voided(voided)
        self._watcher.voided(voided)

    def _held(self, transactions: Sequence[Transaction]) -> Held:
        """The elements, deleted ones among them, of the lists that are about to be written to."""
        updates = (one for transaction in transactions for one in transaction.updates)
        names = {one.name for one in updates if isinstance(one, Update)}
        with self.store.snapshot() as snapshot:
            return {n: elements_held(snapshot, n) for n in names if n.type in ("list", "map")}

    def merge(
        self,
        records: Iterable[tuple[bytes, bytes]],
        seen: VersionVector,
        time: int,
        *,
        served: bool = False,
        rows: Mapping[bytes, bytes | None] = MappingProxyType({}),
        whole: VersionVector = NOTHING,
    ) -> bool:
        records = list(records)
        begins = not self.state.served or self._has_parts
        self._has_parts = False
        refused = super().merge(records, seen, time, served=served, rows=rows, whole=whole)
        with self.store.snapshot() as snapshot:  # what came before is looked at from now on, too
            copied = [at for at, _ in snapshot.scan(Table.RECORDS)] if begins else []
        self._watcher.merged(self._machine, [*copied, *(at for at, _ in records)])
        return refused

    def merge_part(
        self,
        part: Part,
        seen: VersionVector,
        time: int,
        *,
        rows: Mapping[bytes, bytes | None],
        whole: VersionVector = NOTHING,
    ) -> None:
        super().merge_part(part, seen, time, rows=rows, whole=whole)
        self._has_parts = True
        self._watcher.joined_part(self._machine)

    def merge_ahead(
        self,
        again: Callable[[Collection[bytes]], Records],
        seen: VersionVector,
        time: int,
        *,
        rows: Mapping[bytes, bytes | None] = MappingProxyType({}),
    ) -> bool:
        addresses = list(self.ahead.addresses) if self.ahead is not None else []
        refused = super().merge_ahead(again, seen, time, rows=rows)
        self._watcher.merged(self._machine, addresses, ahead=True)
        return refused

    def replace_damaged(
        self,
        replacement: Replacement,
        records: Iterable[tuple[bytes, bytes]],
        seen: VersionVector,
        time: int,
        *,
        rows: Mapping[bytes, bytes | None] = MappingProxyType({}),
    ) -> bool:
        records = list(records)
        refused = super().replace_damaged(replacement, records, seen, time, rows=rows)
        merged = [at for at, _ in (*replacement.held, *records)]
        self._watcher.mended(self._machine, replacement.damaged, merged)
        return refused

    def reclaim(self, walk: Walk, entries: int) -> None:
        before = self.reclaimed
        super().reclaim(walk, entries)
        if self.reclaimed.records > before.records:
            count = self.reclaimed.records - before.records
            deletes = self.reclaimed.vector != before.vector
            self._watcher.reclaimed(self._machine, walk.stable, count, deletes=deletes)


class Machine:
    """A named place in the cluster. Its endpoint is its name, unless nobody can reach it."""

    def __init__(
        self,
        name: str,
        *,
        reachable: bool,
        peers: tuple[str, ...],
        clock: Clock,
        random: Random,
        watcher: Watcher,
        send: Callable[[str, Sender, Send], None],
        surface: MemoryStore | None = None,
    ) -> None:
        """`surface`: what is on its disk already."""
        self.name = name
        #: What it calls itself, when it starts; two may have been given one name.
        self.called = name
        self.endpoint = name if reachable else ""
        self.disk = Disk(name.encode(), surface)
        self.clock = clock
        self.started_ms = 0
        #: Was there another live machine of its name and URL?
        self.was_namesake = False
        #: Counts the starts, so that what was meant for an earlier one can tell.
        self.life = 0
        #: The last incarnation that it took; 0: only the one that it found on its disk.
        self.latest = 0
        #: The endpoints that it is configured with, when it starts.
        self.peers = peers
        self._random = random
        self._watcher = watcher
        self._send = send
        self._engine: WatchedEngine | None = None
        self._replication: Replication | None = None

    # -- power ----------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        return self._engine is not None

    def power_on(self, now_ms: int) -> int:
        """Start the core on what is on the disk; returns the number of this life."""
        self.started_ms = now_ms
        self.life += 1
        self._engine = WatchedEngine(self, self._random, self._watcher)
        self._replication = Replication(
            self._engine,
            name=self.called,
            endpoint=self.endpoint,
            peers=self.peers,
            random=self._random,
        )
        self._engine.replicas = self._members
        try:
            self._post(self._replication.start(now_ms))
        except (NoSpace, StorageFailed) as error:
            self._excuse(error)
            self.power_off()
        return self.life

    def _members(self) -> dict[int, str]:
        return {member.incarnation: member.name for member in self.replication.members.values()}

    def power_off(self) -> None:
        """Lose everything that is not on the disk."""
        self._engine = self._replication = None

    # -- what runs on it ------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        assert self._engine is not None, "the machine is down"
        return self._engine

    @property
    def replication(self) -> Replication:
        assert self._replication is not None, "the machine is down"
        return self._replication

    @property
    def seen(self) -> VersionVector:
        """What the core says it has seen."""
        return self.engine.state.seen

    @property
    def serves(self) -> bool:
        """Does it answer users?"""
        return self.is_up and self.replication.phase in (Phase.SERVING, Phase.CATCHING_UP)

    @property
    def is_partial(self) -> bool:
        """Does it show a part of a pull of which it has yet to join the rest?"""
        return self.is_up and self.replication.is_partial

    @property
    def is_evicted(self) -> bool:
        """Was it told that it is out of the cluster?"""
        return self.is_up and self.replication.phase is Phase.EVICTED

    @property
    def held_pushes(self) -> int:
        """Pushes that came too early and wait."""
        return len(self.replication._early)

    def write(self, transactions: Sequence[Transaction]) -> Committed | None:
        """A local write, as the server does it; its pushes go out. None: the disk refused it."""
        try:
            self._post(self.replication.before_write())
            committed = self.engine.commit(transactions)
        except (NoSpace, StorageFailed) as error:
            self._excuse(error)
            return None
        if committed.push is not None:
            self._post(self.replication.committed(committed.push))
        return committed

    def evict(self, name: str) -> None:
        """An operator, here, takes another machine out of the cluster."""
        self._do(lambda: self.replication.evict(name))

    def knock(self, endpoint: str) -> None:
        """An operator, here, names the endpoint of a machine that is new."""
        self._do(lambda: self.replication.knock(endpoint))

    def rejoin(self) -> None:
        """An operator, here, takes this machine back into the cluster."""
        self._do(self.replication.rejoin)

    def tick(self, now_ms: int) -> None:
        """Let time pass."""
        self._do(lambda: self.replication.tick(now_ms))

    def receive(
        self,
        sender: Sender,
        frame: bytes,
        now_ms: int,
        *,
        via: str = "",
        flipped: bool = False,
        displaced: bool = False,
        damaged: bool = False,
    ) -> None:
        """Take in a frame, which answers what was sent to the endpoint `via` (if not empty).

        Machines are honest: only a frame of which a bit flipped may be refused; or one whose sender
        is not where it says, for somebody else is there, so that it is `displaced`; or what it has
        copied from a `damaged` disk as it stood there.
        """
        try:
            self._do(lambda: self.replication.step(sender, frame, now_ms, via))
        except PeerError as error:
            if {"identity-conflict": displaced, "bad-record": damaged}.get(error.reason):
                return
            if not self.disk.crashed and not flipped:
                raise Violation(
                    "refusal", f"a frame of {sender.name} ({error.reason}): {error}"
                ) from error
        else:
            if flipped:
                raise Violation("damage", f"{self.name} took in a frame with a flipped bit")

    def _do(self, what: Callable[[], list[Send]]) -> None:
        """Something that may write; as in a server, the disk may refuse it."""
        try:
            self._post(what())
        except (NoSpace, StorageFailed) as error:
            self._excuse(error)

    def _excuse(self, error: CrdtdbError) -> None:
        """Only a disk that is full, or damaged, may refuse something."""
        if not (self.disk.is_full or self.disk.flipped):
            raise error

    def probe(self, endpoint: str) -> None:
        """Try an endpoint that did not answer for a while."""
        self._post([Send(endpoint, self.replication.probe())])

    def _post(self, sends: Sequence[Send]) -> None:
        if not self.disk.crashed:
            for send in sends:
                self._send(self.name, self.replication.me, send)


def is_displaced(machines: Mapping[str, Machine], sender: Sender) -> bool:
    """Is nobody, or somebody else, where a sender says that it is? Or before it was put back."""
    there = machines.get(sender.endpoint)
    return not (
        there is not None
        and there.is_up
        and there.replication.incarnation == sender.incarnation
        and there.latest in (0, sender.incarnation)
    )
