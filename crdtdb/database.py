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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import count
from os import PathLike
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self, TypeAlias

import msgspec

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.answers import (
    LEFT_OUT,
    Conflict,
    Enrolled,
    Event,
    FieldRead,
    Given,
    Imported,
    Lost,
    Order,
    Plain,
    Read,
    Standing,
    Written,
)
from crdtdb.causal import VersionVector, format_incarnation
from crdtdb.changes import Scope
from crdtdb.conflicts import Noted
from crdtdb.cursor import read_cursor, write_cursor
from crdtdb.datatype import NestedType, StateType
from crdtdb.engine import Engine, Entropy, WallClock
from crdtdb.errors import BadToken, Problem, StartError, joined
from crdtdb.explain import explain
from crdtdb.exporting import Export
from crdtdb.fields import at_field, check_reachable, documents, nested, read_leaves
from crdtdb.following import Following
from crdtdb.handles import Handles
from crdtdb.head import Head
from crdtdb.importing import Import, Portions
from crdtdb.jsonvalue import JsonValue, normalise
from crdtdb.limits import LIMITS
from crdtdb.names import readable_name
from crdtdb.operations import check_name, read_operation, too_many, type_named
from crdtdb.query import (
    WHOLE,
    Query,
    below,
    check_has_fields,
    check_is_document,
    check_key_start,
    check_members,
    check_order,
    check_path,
    encode_bound,
    only_member,
)
from crdtdb.rankings import Rankings
from crdtdb.reading import Digest, PageQuery, Reading, ShortReading
from crdtdb.replication.members import read_members
from crdtdb.store.base import Store, Table
from crdtdb.store.memory import MemoryStore
from crdtdb.token import TokenKind, read_token, write_token
from crdtdb.transaction import Erase, Outcome, Result, Transaction, Update
from crdtdb.writes import Updates

__all__ = ["Collected", "Database", "summary"]

_NAME_ROW = b"replica"
_NAME_VERSION = 1
_name_decoder = msgspec.msgpack.Decoder(str)

#: Hands transactions to whoever carries them out, and gives a way to wait for what became of them.
Submit: TypeAlias = Callable[[Sequence[Transaction]], Callable[[], tuple[Outcome, ...] | None]]


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
        self._submit: Submit | None = None
        self._stop: Callable[[], None] | None = None
        self._following = Following(self.engine, cluster)
        self._rankings = Rankings()
        #: Numbers of editors; after a restart others than before, most likely.
        self._editors = count(entropy(16))
        self.replica = self._named(replica, entropy)
        self.engine.replicas = self._members

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
        from crdtdb.store.logged import LoggedStore

        store = LoggedStore.open(Path(path))
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
        """End what serves it, end the iterators over changes, release the directory. Idempotent."""
        if self._stop is not None:
            self._stop()
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
            row = snapshot.get(Table.META, _NAME_ROW)
        kept = None if row is None else self._kept_name(row)
        if kept is not None and replica in (None, kept):
            return kept
        name = replica or readable_name(entropy)
        self._store.commit({Table.META: {_NAME_ROW: codec.pack_whole(_NAME_VERSION, name)}})
        return name

    def _kept_name(self, row: bytes) -> str | None:
        """The name in a row; if that is damaged, the one by which the others know this replica.

        Rows of the first stores are the name and nothing else.
        """
        try:
            if row[:1] >= b" ":
                return row.decode()
            name: str = codec.unpack_whole(_NAME_VERSION, row, _name_decoder)
        except ValueError:
            with self.reading() as reading:
                me = read_members(reading).get(self.engine.state.incarnation)
            return None if me is None else me.name or None
        return name

    # -- reading --------------------------------------------------------------------------------

    def reading(self) -> ShortReading:
        """One consistent state, for as long as the block lasts. Keep it short."""
        return ShortReading(self._store, self.clock)

    def read(
        self,
        name: ObjectName,
        *,
        limit: int = LIMITS.page_items_default,
        after: str | None = None,
        from_: Given = LEFT_OUT,
        to: Given = LEFT_OUT,
        reverse: bool = False,
        order: Order = "member",
        prefix: Sequence[str] | None = None,
    ) -> Read[Any]:
        """Read an object: its value, or a page of its members with `from_` ≤ member < `to`.

        With an `order` other than that of members, the bounds are scores or ranks. Of a map it is
        a page of its nested value, or of the leaves at the field `prefix` and below.
        """
        check_name(name)
        check_order(name.type, order)
        start, end = _bound(from_, "from", order), _bound(to, "to", order)
        path = None
        if prefix is not None:
            check_has_fields(name.type, "prefix")
            path = check_path(list(prefix), "prefix", 0)
        if start is not None or end is not None or reverse:
            check_members(name.type, "from" if start else "to" if end else "reverse")
        query = Query(limit, after, start, end, reverse, order, path)
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
        expires_at_ms = head.expires_at_ms if head.exists else None
        if not kind.collection:
            value = reading.value(name, head)
            return Read(
                value, head.exists, seen, self.replica, also=also, expires_at_ms=expires_at_ms
            )
        identity = query.identity(name)
        if isinstance(kind, NestedType):
            leaves = read_leaves(reading, name, query.page(identity))
            if query.prefix and not leaves.leaves:
                check_reachable(reading, name, query.prefix)
            items: Any = (
                nested(reading, name, leaves) if query.prefix is None else documents(leaves.leaves)
            )
            position = leaves.position
            following = None if position is None else write_cursor(identity, position)
            return Read(
                items,
                head.exists,
                seen,
                self.replica,
                size=head.size,
                next=following,
                also=also,
                expires_at_ms=expires_at_ms,
            )
        page = (
            reading.page(name, head, query.page(identity))
            if query.order == "member"
            else self._rankings.page(reading, name, head, query, query.position(identity))
        )
        following = None if page.position is None else write_cursor(identity, page.position)
        return Read(
            page.items,
            head.exists,
            seen,
            self.replica,
            size=head.size,
            next=following,
            also=also,
            expires_at_ms=expires_at_ms,
        )

    def contains(self, name: ObjectName, value: JsonValue) -> bool:
        """Is the value a member of the collection?"""
        check_name(name)
        member = encode_bound(value, "member")
        with self.reading() as reading:
            return reading.contains(name, member)

    def field(self, name: ObjectName, path: Sequence[str]) -> FieldRead:
        """One field of a map: a leaf, or all that is below it if that is not more than a page."""
        check_name(name)
        check_has_fields(name.type, "field")
        checked = check_path(list(path), "field")
        with self.reading() as reading:
            return self.field_in(reading, name, checked)

    def field_in(self, reading: Reading, name: ObjectName, path: tuple[str, ...]) -> FieldRead:
        """The same as of a reading; name and path have been checked."""
        found = at_field(reading, name, path)
        return replace(found, seen=_read_context(self.cluster, reading.seen))

    def difference(self, name: ObjectName, since: bytes = b"") -> bytes:
        """What somebody lacks of a text who has got as far as a Yjs state vector: an update."""
        check_name(name)
        check_is_document(name.type, "format")
        with self.reading() as reading:
            return reading.difference(name, since)

    def enrol(self, name: ObjectName, since: bytes = b"") -> Enrolled:
        """What an editor needs to take part in a text here: a client id, and what it lacks."""
        check_name(name)
        check_is_document(name.type, "format")
        with self._writing:
            if self._submit is None and not self.engine.state.incarnation:
                self.engine.take_incarnation()
        with self.reading() as reading:
            return self.enrol_in(reading, name, since)

    def enrol_in(self, reading: Reading, name: ObjectName, since: bytes) -> Enrolled:
        """The same as of a reading; the name has been checked."""
        editor = reading.editor(name, self.engine.state.incarnation, next(self._editors))
        return Enrolled(editor, reading.difference(name, since))

    def standing(self, name: ObjectName, member: JsonValue) -> Standing | None:
        """Score and rank of a member of a sorted set; None if it is none."""
        check_name(name)
        check_order(name.type, "rank", "member")
        encode_bound(member, "member")
        with self.reading() as reading:
            return self.standing_in(reading, name, member)

    def standing_in(self, reading: Reading, name: ObjectName, member: JsonValue) -> Standing | None:
        """The same as of a reading; name and member have been checked."""
        return self._rankings.standing(reading, name, normalise(member))

    def is_ranked(self, name: ObjectName) -> bool:
        """Would reading the sorted set by score or rank, now, take no time?"""
        return self._rankings.are_near(name, self.engine.state.sequence)

    def rank(self, name: ObjectName) -> None:
        """Rank the members of a sorted set, for whoever reads it next by score or rank.

        O(n log n), where `is_ranked` says that it is needed. Raises TooLarge.
        """
        with self.reading() as reading:
            self._rankings.prepare(reading, name)

    def digest(self) -> Digest:
        """A hash over everything users see: equal exactly when two replicas show the same."""
        with self.engine.digests.view() as view:
            return view.digest()

    def explain(
        self, name: ObjectName, member: Given = LEFT_OUT, field: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Why an object, one member, or one field of it, reads as it does: a JSON document.

        It shows dots, writers and times, what wins, what loses, what was cut. O(page).
        """
        check_name(name)
        query = PageQuery()
        if member is not LEFT_OUT:
            check_members(name.type, "member")
            query = only_member(encode_bound(member, "member"))
        if field is not None:
            check_has_fields(name.type, "field")
            query = below(check_path(list(field), "field"))
        with self.reading() as reading:
            return self.explanation(reading, name, query)

    def explanation(self, reading: Reading, name: ObjectName, query: PageQuery) -> dict[str, Any]:
        """Explain a part of an object, whose name has been checked, as of a reading."""
        return explain(reading, name, self._replicas(reading), query)

    def _replicas(self, reading: Reading) -> dict[int, str]:
        """The names of replicas by incarnation, as far as they are known."""
        names = {member.incarnation: member.name for member in read_members(reading).values()}
        names[self.engine.state.incarnation] = self.replica
        return names

    def _members(self) -> Mapping[int, str]:
        with self.reading() as reading:
            return self._replicas(reading)

    def conflicts(
        self, bucket: str | None = None, type_name: str | None = None, key: str | None = None
    ) -> Iterator[Conflict]:
        """Values that lost to a concurrent one, as this replica saw it happen: the latest first.

        Each value is told once, when it began to lose; the journal is bounded, and forgets the
        oldest. To get a value back, write it again.

            >>> db = Database.in_memory()
            >>> _ = db.register("shop", "title").set("Sale")
            >>> for conflict in db.conflicts("shop"):
            ...     title = conflict.lost[0].value
            ...     _ = db.register("shop", conflict.name.key).set(title)
        """
        scope = Scope(bucket, type_name, key)
        after, more = None, True
        while more:
            with self.reading() as reading:
                page, after = self.conflict_page(reading, scope, after, LIMITS.page_items)
            yield from page
            more = after is not None

    def conflict_page(
        self, reading: Reading, scope: Scope, after: str | None, limit: int
    ) -> tuple[list[Conflict], str | None]:
        """Some conflicts, the latest first, and the cursor after them if there are more.

        A cursor is of this replica only, for the journal is. Raises BadRequest for another.
        """
        _check_scope(scope)
        journal = f"conflicts {self.engine.state.store_id} {'/'.join(name or '' for name in scope)}"
        position = None if after is None else read_cursor(journal, after)
        page = reading.losses(scope.admits, position, limit)
        names = self._replicas(reading)
        following = None if page.position is None else write_cursor(journal, page.position)
        return [_told(noted, names) for noted in page.items], following

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

    def now(self) -> str:
        """The cursor of the present: what changes from here on comes after it.

        Unlike `since="now"` it stays the same moment, however often following is interrupted.
        """
        return self._following.present()

    def export(self, bucket: str | None = None, prefix: str = "") -> Iterator[bytes]:
        """Objects as lines of JSON, `{"bucket","type","key","value"}`, as much as there is.

        All, or those of a bucket, or those whose keys begin with `prefix`. What exists all the
        while is in it, each member once; an object's line shows one state of it.

            >>> db = Database.in_memory()
            >>> _ = db.set("shop", "cart:42").add("apple", "pear")
            >>> list(db.export("shop"))
            [b'{"bucket":"shop","type":"set","key":"cart:42","value":["apple","pear"]}\\n']
        """
        export = Export(bucket, prefix)
        more = True
        while more:
            with self.reading() as reading:
                lines = export.part(reading)
            for line in lines:
                yield line + b"\n"
            more = export.next is not None

    # -- writing --------------------------------------------------------------------------------

    def commit(self, transactions: Sequence[Transaction]) -> tuple[Outcome, ...]:
        """Carry out transactions, in one durable commit; says what became of each."""
        while True:
            with self._writing:
                if self._submit is None:
                    return self.engine.commit(transactions).outcomes
                result = self._submit(transactions)
            outcomes = result()
            if outcomes is not None:
                return outcomes

    def hand_over(self, submit: Submit, stop: Callable[[], None]) -> None:
        """Let a server, of which this database is now a part, carry out the commits.

        `submit` hands it transactions, and what that returns waits for what became of them: None if
        the server did not take them and has ended. `close` calls `stop` first. Raises StartError if
        another server has it.
        """
        with self._writing:
            if self._submit is not None:
                raise StartError("this database is being served already")
            self._submit, self._stop = submit, stop

    def take_back(self) -> None:
        """Carry out the commits here again."""
        with self._writing:
            self._submit = self._stop = None

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
        return read_token(TokenKind.READ, self.cluster, token, self.engine.floors)

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

    def import_(
        self,
        lines: Iterable[bytes | str],
        *,
        key: str | None = None,
        progress: Callable[[Imported], object] | None = None,
    ) -> Imported:
        """Write the values of lines of JSON, as `export` gives them, as new operations.

        They add to what is there: counters count on, sets grow, registers are set anew. A thousand
        lines are a commit, after which `progress` is told how far it is. A wrong line is reported
        by its number and the others go on. Under a `key` (random text) each line is written once:
        an import that was stopped can be run again from the start, at this replica, for 24 hours.

            >>> with Database.in_memory() as here, Database.in_memory() as there:
            ...     _ = here.counter("shop", "views").increment(5)
            ...     there.import_(here.export()).written, there.counter("shop", "views").get().value
            ({'counter': 1}, 5)

        Raises, with how far it came, when this replica cannot write.
        """
        under_way = Import(key)
        portions = Portions()

        def commit() -> None:
            portion = under_way.read(portions.take())
            outcomes: tuple[Outcome, ...] = ()
            try:
                if portion.transactions:
                    outcomes = self.commit(portion.transactions)
            except Problem as error:
                raise under_way.stopped(error) from error
            under_way.settle(portion, outcomes)
            if progress is not None:
                progress(under_way.done)

        for line in lines:
            if portions.add(line):
                commit()
        commit()
        return under_way.done

    def erase(self, prefix: bytes) -> Result:
        """Remove every object below an address prefix (`crdtdb.address.bucket_prefix`, …)."""
        return self._carry_out([Erase(prefix)])[0]

    def _carry_out(self, updates: Sequence[Update | Erase]) -> tuple[Result, ...]:
        if len(updates) > LIMITS.transaction_operations:
            raise too_many(len(updates))
        (outcome,) = self.commit([Transaction(tuple(updates))])
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


def _bound(value: Given, field: str, order: Order) -> bytes | None:
    return None if value is LEFT_OUT else encode_bound(value, field, order)


def summary(results: Sequence[Result]) -> Written:
    """What several operations on one object did, in one answer."""
    last = results[-1]
    return Written(any(result.changed for result in results), last.value, last.size)


def _check_scope(scope: Scope) -> None:
    """Refuse names that no object has. Raises BadRequest or UnknownType."""
    if scope.bucket is not None:
        address.check_bucket(scope.bucket)
    if scope.type is not None:
        type_named(scope.type)
    if scope.key is not None:
        address.check_key(scope.key)


def _told(noted: Noted, names: Mapping[int, str]) -> Conflict:
    """A conflict as users read of it."""
    prefix, tail = address.split_object(noted.loss.at)
    name = address.name_of(prefix)
    kind = type_named(name.type)
    own = kind.at(tail) if isinstance(kind, StateType) else None
    assert own is not None
    describe = own.describe
    lost: list[Lost] = []
    for (incarnation, _), payload in noted.loss.lost:
        written = describe(payload)
        replica = names.get(incarnation) or format_incarnation(incarnation)
        lost.append(Lost(written["value"], replica, written["at_ms"]))
    field = address.leaf_of(tail).path if tail.startswith(address.LEAF) else None
    return Conflict(name, noted.at_ms, describe(noted.loss.kept[1])["value"], tuple(lost), field)
