"""What a replica shows, each answer as of one snapshot.

`Database` adds the writing. Whoever has a `Reading` already (the server, for what belongs to one
request) asks by the methods that take it, with names that have been checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import count
from typing import Any

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.answers import (
    LEFT_OUT,
    Conflict,
    Enrolled,
    FieldRead,
    Given,
    Lost,
    Order,
    Read,
    Standing,
)
from crdtdb.causal import VersionVector, format_incarnation
from crdtdb.changes import Scope
from crdtdb.conflicts import Noted
from crdtdb.cursor import read_cursor, write_cursor
from crdtdb.datatype import NestedType, StateType
from crdtdb.engine import Engine, WallClock
from crdtdb.explain import explain
from crdtdb.exporting import Export
from crdtdb.fields import at_field, check_reachable, documents, nested, read_leaves
from crdtdb.handles import Handles
from crdtdb.head import Head
from crdtdb.jsonvalue import JsonValue, normalise
from crdtdb.limits import LIMITS
from crdtdb.operations import check_name, too_many, type_named
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
from crdtdb.token import TokenKind, write_token

__all__ = ["Reads"]


@lru_cache(maxsize=8)
def _read_context(cluster: str, seen: VersionVector) -> str:
    """The `seen` of a read. Many reads share the state of the one before."""
    return write_token(TokenKind.READ, cluster, seen)


class Reads(Handles):
    """The reading half of a `Database`."""

    def __init__(self, engine: Engine, *, cluster: str, clock: WallClock, editors: int) -> None:
        """Editors of texts are numbered from `editors` on."""
        self.engine = engine
        self.cluster = cluster
        self.clock = clock
        #: The name of this replica.
        self.replica = ""
        self._store = engine.store
        self._rankings = Rankings()
        self._editors = count(editors)

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


def _bound(value: Given, field: str, order: Order) -> bytes | None:
    return None if value is LEFT_OUT else encode_bound(value, field, order)


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
