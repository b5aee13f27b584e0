"""A replica to drive by hand, and the two ways in which state travels.

The real engine on a store in memory; its clock is a number. `receive` takes in a push if a peer
would, `pull` brings all that is missing in one go: what the replication does with messages and
pages, without them. Stories, laws and random executions are told with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import count, permutations
from typing import Any, Final, NamedTuple

from crdtdb import codec
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.datatype import NestedType
from crdtdb.engine import Engine, Entropy
from crdtdb.jsonvalue import JsonValue
from crdtdb.operations import read_operation, type_named
from crdtdb.reading import Digest, PageQuery, Reading
from crdtdb.reclaim import Walk
from crdtdb.record import Record
from crdtdb.replication import early, messages
from crdtdb.rows import read_record
from crdtdb.store.base import Table
from crdtdb.store.memory import MemoryStore
from crdtdb.transaction import CleanUp, Committed, Erase, Push, Result, Transaction, Update
from maps import all_leaves, show_map
from oracle.checks import elements_held
from oracle.events import ElementId, Shown

__all__ = ["START_MS", "Replica", "Staged", "acquaint", "exchange", "missing", "update"]

START_MS: Final = 1_700_000_000_000
#: Small, so that every collection takes several pages.
_PAGE: Final = 2


def update(name: ObjectName, plain: dict[str, Any], seen: VersionVector | None = None) -> Update:
    """One operation on one object, from what a user writes."""
    return Update(name, read_operation(name.type, plain), seen)


def missing(store: MemoryStore, seen: VersionVector) -> list[tuple[bytes, bytes]]:
    """What a pull by somebody who has seen `seen` brings: records in the donor's sequence."""
    found: list[tuple[bytes, bytes]] = []
    with store.snapshot() as snapshot:
        for _, at in snapshot.scan(Table.SEQUENCE):
            row = snapshot.get(Table.RECORDS, at)
            assert row is not None, "the sequence names a record that is not there"
            data = codec.row_record(at, row)
            if not seen.includes(codec.decode_record(at, data).context):
                found.append((at, data))
    return found


class Staged(NamedTuple):
    """The pages of a pull, and what the donor claims with the last of them."""

    records: list[tuple[bytes, bytes]]
    seen: VersionVector
    time: int


class Replica:
    """One replica of a cluster; `number` tells it from the others."""

    def __init__(
        self, number: int, *, entropy: Entropy | None = None, now_ms: int = START_MS
    ) -> None:
        distinct = count(number << 32)
        self.number = number
        self.now_ms = now_ms
        #: How often another replica's clock was too far ahead.
        self.times_refused = 0
        self.store = MemoryStore(f"replica {number}".encode())
        self._entropy = entropy or (lambda bits: next(distinct))
        #: The members, as far as this replica knows.
        self.members = [self]
        self.reopen()

    def reopen(self, location: bytes | None = None) -> None:
        """Stop and start again, from what a crash leaves; at another location if one is given."""
        self.store = self.store.copy(location)
        self.engine = Engine(self.store, lambda: self.now_ms, self._entropy)
        self.engine.replicas = lambda: {
            incarnation: member.name
            for member in self.members
            if (incarnation := member.engine.state.incarnation)
        }

    @property
    def name(self) -> str:
        """What the others call it."""
        return chr(ord("a") + self.number % 26)

    @property
    def seen(self) -> VersionVector:
        """Everything this replica has taken in; as a read context, what a read here shows."""
        return self.engine.state.seen

    # -- writing --------------------------------------------------------------------------------

    def commit(self, *updates: Update | Erase) -> Committed:
        """One transaction. Raises its problem if it is refused."""
        committed = self.engine.commit([Transaction(updates)])
        error = committed.outcomes[0].error
        if error is not None:
            raise error
        return committed

    def do(
        self,
        type_name: str,
        op: str,
        *,
        key: str = "k",
        seen: VersionVector | None = None,
        **arguments: Any,
    ) -> Result:
        """One operation on the object `key` of that type."""
        name = ObjectName("shop", type_name, key)
        committed = self.commit(update(name, {"op": op, **arguments}, seen))
        return committed.outcomes[0].results[0]

    # -- reading --------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """One consistent state."""
        with self.store.snapshot() as snapshot:
            yield Reading(snapshot, lambda: self.now_ms)

    def value(self, type_name: str, key: str = "k") -> Any:
        """What a read of the object `key` of that type shows."""
        name = ObjectName("shop", type_name, key)
        with self.reading() as reading:
            if isinstance(type_named(type_name), NestedType):
                return all_leaves(reading, name, _PAGE)
            if type_named(type_name).collection:
                return _all_members(reading, name)
            return reading.value(name, reading.head(name.prefix))

    def exists(self, type_name: str, key: str = "k") -> bool:
        """Does that object exist?"""
        with self.reading() as reading:
            return reading.head(ObjectName("shop", type_name, key).prefix).exists

    def show(self, name: ObjectName) -> Shown:
        """All that a read shows of an object, in the specification's terms."""
        with self.reading() as reading:
            head = reading.head(name.prefix)
            if isinstance(type_named(name.type), NestedType):
                return show_map(reading, name, _PAGE)
            if type_named(name.type).collection:
                members = _all_members(reading, name)
                return Shown.members(members)._replace(exists=head.exists, size=head.size)
            value = reading.value(name, head)
            size = len(value) if type_named(name.type).sized and isinstance(value, str) else None
            return Shown.value(value, head.exists)._replace(size=size)

    def elements(self, name: ObjectName) -> frozenset[ElementId]:
        """All elements that are stored of a list, or of those in a map, deleted ones among them."""
        with self.store.snapshot() as snapshot:
            return elements_held(snapshot, name)

    def record(self, at: bytes) -> Record:
        """What is stored at an address."""
        with self.store.snapshot() as snapshot:
            return read_record(snapshot, at)[0]

    def rows(self) -> dict[Table, dict[bytes, bytes]]:
        """Every row of the store."""
        with self.store.snapshot() as snapshot:
            return {table: dict(snapshot.scan(table)) for table in Table}

    def digest(self) -> Digest:
        """Equal exactly when two replicas show the same."""
        with self.reading() as reading:
            return reading.digest()

    # -- replicating ----------------------------------------------------------------------------

    def receive(self, push: Push) -> bool:
        """Take in a push if it continues exactly where this replica stands."""
        deps = push.deps
        message = messages.Push(
            push.origin, push.first, push.last, deps.flat(), push.time, list(push.records)
        )
        if not early.fits(message, self.seen, self.engine.floors):
            return False
        seen = deps.with_dot((push.origin, push.last))
        self.merge(push.records, seen, push.time)
        return True

    def pull(self, donor: Replica) -> int:
        """Take in all that the donor has and this replica lacks; returns how many records."""
        staged = self.stage(donor)
        self.claim(staged)
        return len(staged.records)

    def reclaim(self, stable: VersionVector | None = None, entries: int = 1_000) -> int:
        """Reclaim what is stable, all that was seen if nothing is said; how many records went?"""
        before = self.engine.reclaimed.records
        walk = Walk(self.seen if stable is None else stable)
        while not walk.done:
            self.engine.reclaim(walk, entries)
        return self.engine.reclaimed.records - before

    def clean_up(
        self,
        stable: VersionVector | None = None,
        passed_ms: int = 0,
        evicted: Collection[int] = (),
    ) -> int:
        """Take out of force what is stable and idle; by how many operations?"""
        return len(self.take_out_idle(stable, passed_ms, evicted))

    def take_out_idle(
        self,
        stable: VersionVector | None = None,
        passed_ms: int = 0,
        evicted: Collection[int] = (),
    ) -> list[tuple[CleanUp, Result]]:
        """The same; by which operations, and what did each do?"""
        walk = Walk(self.seen if stable is None else stable, evicted=evicted, passed_ms=passed_ms)
        while not walk.done:
            self.engine.reclaim(walk, 1_000)
        if not walk.idle:
            return []
        committed = self.engine.commit([Transaction(tuple(walk.idle))])
        return list(zip(walk.idle, committed.outcomes[0].results, strict=True))

    def stage(self, donor: Replica) -> Staged:
        """Ask for all that this replica lacks now."""
        records = missing(donor.store, self.seen)
        return Staged(records, donor.seen, donor.engine.state.time)

    def claim(self, staged: Staged) -> None:
        """Take in what was asked for; some of it may have come otherwise meanwhile."""
        self.merge(*staged)

    def merge(self, records: Iterable[tuple[bytes, bytes]], seen: VersionVector, time: int) -> None:
        """Take in records from somebody who has seen `seen`."""
        self.times_refused += self.engine.merge(records, seen, time)


def acquaint(*replicas: Replica) -> None:
    """Make them members of one cluster, who know each other's names."""
    for replica in replicas:
        replica.members = list(replicas)


def exchange(*replicas: Replica) -> None:
    """Everybody pulls from everybody; then all show the same."""
    for _ in range(2):
        for replica, donor in permutations(replicas, 2):
            replica.pull(donor)
    assert len({replica.digest() for replica in replicas}) == 1
    assert len({replica.seen for replica in replicas}) == 1


def _all_members(reading: Reading, name: ObjectName) -> list[JsonValue]:
    """Page after page."""
    head = reading.head(name.prefix)
    page = reading.page(name, head, PageQuery(_PAGE))
    members = page.items
    while page.position is not None:
        page = reading.page(name, head, PageQuery(_PAGE, page.position))
        members = members + page.items
    return members
