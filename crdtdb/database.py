"""`Database`: one replica as an object; the public door of the core, also for embedding.

    >>> with Database.in_memory(replica="laptop") as db:    # or Database.open("data")
    ...     db.counter("shop", "views").increment(5).value
    5

It puts the engine, a store, a wall clock and randomness together: this is the only module of the
core that may look at either. A write has been fsynced when its method returns. Threads may share
a database; writes take turns.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from os import PathLike
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.answers import LEFT_OUT, Event, Given, Plain, Read, Written
from crdtdb.causal import VersionVector
from crdtdb.changes import Scope
from crdtdb.cursor import write_cursor
from crdtdb.engine import Engine, Entropy, WallClock
from crdtdb.errors import BadRequest, BadToken, Field, joined
from crdtdb.explain import explain
from crdtdb.following import Following
from crdtdb.handles import Handles, Updates
from crdtdb.head import Head
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.names import readable_name
from crdtdb.operations import read_operation, type_named
from crdtdb.query import WHOLE, Query, check_key_start, encode_bound, only_member
from crdtdb.reading import Digest, PageQuery, Reading
from crdtdb.replication.members import read_members
from crdtdb.store.base import Store, Table
from crdtdb.store.memory import MemoryStore
from crdtdb.token import TokenKind, read_token, write_token
from crdtdb.transaction import Committed, Erase, Result, Transaction, Update

__all__ = ["Collected", "Database", "check_name", "summary", "too_many"]

_NAME_ROW = b"replica"


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


@lru_cache(maxsize=8)
def _read_context(cluster: str, seen: VersionVector) -> str:
    """The `seen` of a read. Many reads share the state of the one before."""
    return write_token(TokenKind.READ, cluster, seen)


class Database(Handles):
    """One replica of a cluster, open in this process."""

    def __init__(
        self,
        store: Store,
        *,
        replica: str | None = None,
        region: str | None = None,
        cluster: str = "crdtdb",
        clock: WallClock = _wall_clock_ms,
        entropy: Entropy = secrets.randbits,
    ) -> None:
        self.cluster = cluster
        self.region = region
        self.clock = clock
        self.engine = Engine(store, clock, entropy)
        self._store = store
        self._writing = Lock()
        self._following = Following(self.engine, cluster)
        self.replica = self._named(replica, entropy)

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        replica: str | None = None,
        region: str | None = None,
        cluster: str = "crdtdb",
    ) -> Self:
        """Open a replica in a directory, or begin one there.

        Raises DirectoryInUse, NewerFormat or DamagedStore, with the files as they were.
        """
        from crdtdb.store.lmdb import LmdbStore

        store = LmdbStore.open(Path(path))
        try:
            return cls(store, replica=replica, region=region, cluster=cluster)
        except BaseException:
            store.close()
            raise

    @classmethod
    def in_memory(cls, *, replica: str | None = None, cluster: str = "crdtdb") -> Self:
        """A replica that is gone when the process ends: for trying things and for tests."""
        return cls(MemoryStore(), replica=replica, cluster=cluster)

    def close(self) -> None:
        """Release the directory, and end the iterators over changes. Idempotent."""
        self._following.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _named(self, replica: str | None, entropy: Entropy) -> str:
        """The given name, else the one kept in the store, else a new readable one."""
        with self._store.snapshot() as snapshot:
            kept = snapshot.get(Table.META, _NAME_ROW)
        if kept is not None and replica in (None, kept.decode()):
            return kept.decode()
        name = replica or readable_name(entropy)
        self._store.commit({Table.META: {_NAME_ROW: name.encode()}})
        return name

    # -- reading --------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """One consistent state, for as long as the block lasts. Keep it short."""
        with self._store.snapshot() as snapshot:
            yield Reading(snapshot)

    def read(
        self,
        name: ObjectName,
        *,
        limit: int = LIMITS.page_items_default,
        after: str | None = None,
        from_: Given = LEFT_OUT,
        to: Given = LEFT_OUT,
        reverse: bool = False,
    ) -> Read[Any]:
        """Read an object: its value, or a page of its members with `from_` ≤ member < `to`."""
        check_name(name)
        query = Query(limit, after, _bound(from_, "from"), _bound(to, "to"), reverse)
        with self.reading() as reading:
            return self.answer(reading, name, query)

    def read_together(self, names: Sequence[ObjectName]) -> list[Read[Any]]:
        """Read objects as of one snapshot: of collections, the first page.

        >>> db = Database.in_memory()
        >>> views, cart = db.counter("shop", "views"), db.set("shop", "cart:42")
        >>> _ = views.increment(), cart.add("apple")
        >>> [read.value for read in db.read_together([views.name, cart.name])]
        [1, ['apple']]
        """
        if not 1 <= len(names) <= LIMITS.transaction_operations:
            raise too_many(len(names))
        for name in names:
            check_name(name)
        with self.reading() as reading:
            return [self.answer(reading, name) for name in names]

    def answer(
        self, reading: Reading, name: ObjectName, query: Query = WHOLE, head: Head | None = None
    ) -> Read[Any]:
        """Read an object, whose name has been checked, as of a reading.

        Its head may be at hand already.
        """
        kind = type_named(name.type)
        head = head or reading.head(name.prefix)
        seen = None
        if kind.removable:
            seen = _read_context(self.cluster, reading.seen)
        also = () if head.exists else tuple(reading.also(name))
        if not kind.collection:
            value = reading.value(name, head)
            return Read(value, head.exists, seen, self.replica, also=also)
        identity = query.identity(name)
        page = reading.page(name, head, query.page(identity))
        following = None if page.position is None else write_cursor(identity, page.position)
        return Read(
            page.items, head.exists, seen, self.replica, size=head.size, next=following, also=also
        )

    def contains(self, name: ObjectName, value: JsonValue) -> bool:
        """Is the value a member of the collection?"""
        check_name(name)
        encode_bound(value, "member")
        with self.reading() as reading:
            return reading.contains(name, value)

    def digest(self) -> Digest:
        """A hash over everything users see: equal exactly when two replicas show the same."""
        with self.reading() as reading:
            return reading.digest()

    def explain(self, name: ObjectName, member: Given = LEFT_OUT) -> dict[str, Any]:
        """Why an object, or one member of it, reads as it does: a JSON document.

        It shows dots, writers and times, what wins, what loses, what was cut. O(page).
        """
        check_name(name)
        query = PageQuery()
        if member is not LEFT_OUT:
            query = only_member(encode_bound(member, "member"))
        with self.reading() as reading:
            return self.explanation(reading, name, query)

    def explanation(self, reading: Reading, name: ObjectName, query: PageQuery) -> dict[str, Any]:
        """Explain a part of an object, whose name has been checked, as of a reading."""
        names = {member.incarnation: member.name for member in read_members(reading).values()}
        names[self.engine.state.incarnation] = self.replica
        return explain(reading, name, names, query)

    # -- what there is --------------------------------------------------------------------------

    def buckets(self) -> Iterator[str]:
        """The buckets in which something exists."""
        after, more = None, True
        while more:
            with self.reading() as reading:
                buckets, more = reading.buckets(after, LIMITS.page_items)
            yield from buckets
            after = buckets[-1] if buckets else None

    def types(self, bucket: str) -> list[str]:
        """The types under which something exists in a bucket."""
        address.check_bucket(bucket)
        with self.reading() as reading:
            return reading.types(bucket)

    def objects(
        self, bucket: str, type_name: str, prefix: str = ""
    ) -> Iterator[tuple[ObjectName, Read[Any]]]:
        """The objects of a type whose keys begin with `prefix`: of collections, the first page."""
        address.check_bucket(bucket)
        type_named(type_name)
        check_key_start(prefix)
        after, more = None, True
        while more:
            with self.reading() as reading:
                keys, more = reading.keys(
                    bucket, type_name, prefix, after, LIMITS.page_items_default
                )
                names = [ObjectName(bucket, type_name, key) for key in keys]
                reads = [self.answer(reading, name) for name in names]
            yield from zip(names, reads, strict=True)
            after = keys[-1] if keys else None

    def changes(
        self,
        bucket: str | None = None,
        type_name: str | None = None,
        key: str | None = None,
        *,
        since: str | None = None,
        include_value: bool = False,
        follow: bool = True,
    ) -> Iterator[Event]:
        """What changes, from the start or after the cursor `since` (`"now"`: from here on).

        One event per changed record with its latest state; at least once, never a gap. It waits
        for more, until the database is closed; with `follow=False` it ends at the present.

            >>> db = Database.in_memory()
            >>> _ = db.set("shop", "cart:42").add("apple")
            >>> _ = db.counter("shop", "views").increment(3)
            >>> for event in db.changes("shop", include_value=True, follow=False):
            ...     print(event.name.key, event.member, event.value)
            cart:42 apple …
            views … 3
        """
        return self._following.events(
            Scope(bucket, type_name, key), since, include_value=include_value, follow=follow
        )

    # -- writing --------------------------------------------------------------------------------

    def commit(self, transactions: Sequence[Transaction]) -> Committed:
        """Carry out transactions, in one durable commit."""
        with self._writing:
            return self.engine.commit(transactions)

    def update(self, name: ObjectName, operations: list[Plain]) -> Written:
        """Carry out operations on one object, all or none."""
        results = self._carry_out([self.parse_update(name, plain) for plain in operations])
        return summary(results)

    def parse_update(self, name: ObjectName, plain: Any, field: str = "") -> Update:
        """What a caller typed, checked. Raises problems that name the field (below `field`)."""
        check_name(name)
        operation = read_operation(name.type, plain, field)
        token: str | None = getattr(operation, "seen", None)
        if token is None:
            return Update(name, operation, None)
        try:
            return Update(name, operation, self.read_context(token))
        except BadToken as error:
            raise error.below(joined(field, "seen")) from error

    def read_context(self, token: str) -> VersionVector:
        """What a `seen` stands for. Raises BadToken."""
        return read_token(TokenKind.READ, self.cluster, token)

    @contextmanager
    def transaction(self) -> Iterator[Collected]:
        """Collect writes in the block; they take effect together when it ends without an error.

        Afterwards `results` says what each of them did.

            >>> db = Database.in_memory()
            >>> with db.transaction() as tx:
            ...     tx.counter("shop", "sold").increment()
            ...     tx.set("shop", "buyers").add("ann")
            >>> [written.changed for written in tx.results]
            [True, True]
        """
        collected = Collected(self.parse_update)
        yield collected
        if collected.updates:
            collected.results = [summary([result]) for result in self._carry_out(collected.updates)]

    def erase(self, prefix: bytes) -> Result:
        """Remove every object below an address prefix (`crdtdb.address.bucket_prefix`, …)."""
        return self._carry_out([Erase(prefix)])[0]

    def _carry_out(self, updates: Sequence[Update | Erase]) -> tuple[Result, ...]:
        if len(updates) > LIMITS.transaction_operations:
            raise too_many(len(updates))
        (outcome,) = self.commit([Transaction(tuple(updates))]).outcomes
        if outcome.error is not None:
            raise outcome.error
        return outcome.results


class Collected(Updates[None]):
    """The writes of a transaction that is still being put together."""

    def __init__(self, parse: Callable[[ObjectName, Plain], Update]) -> None:
        self._parse = parse
        self.updates: list[Update | Erase] = []
        #: What each of them did, in order, once the block has ended.
        self.results: list[Written] = []

    def _send(self, name: ObjectName, operations: list[Plain]) -> None:
        self.updates += [self._parse(name, plain) for plain in operations]


def _bound(value: Given, field: str) -> bytes | None:
    return None if value is LEFT_OUT else encode_bound(value, field)


def summary(results: Sequence[Result]) -> Written:
    """What several operations on one object did, in one answer."""
    last = results[-1]
    return Written(any(result.changed for result in results), last.value, last.size)


def too_many(count: int) -> BadRequest:
    """The problem of a transaction with too many operations."""
    limit = LIMITS.transaction_operations
    return BadRequest(
        f"{count} operations in one transaction; give 1 to {limit}",
        Field("updates", "wrong number of operations", limit),
    )


def check_name(name: ObjectName) -> None:
    """Refuse what a user may not address. Raises BadRequest or UnknownType."""
    address.check_bucket(name.bucket)
    type_named(name.type)
    address.check_key(name.key)
