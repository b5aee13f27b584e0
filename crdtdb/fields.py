"""Reading a map: its leaves in pages, as one nested value, or one field.

A leaf is read from its records by its own type. Pages are of records, so a collection with many
members goes on in the next page, under the same field; an op-based leaf is one, and read whole. A
field that holds several types shows the
one first in the catalogue; what lies below a field counts as a map there.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.answers import FieldRead
from crdtdb.datatype import (
    CollectionType,
    NestedType,
    OperationType,
    ScalarType,
    StateType,
    below_a_leaf,
)
from crdtdb.errors import Field, TooLarge
from crdtdb.head import Head
from crdtdb.jsonvalue import JsonValue
from crdtdb.kinds import in_force, log_in
from crdtdb.limits import LIMITS
from crdtdb.operations import type_named
from crdtdb.reading import PageQuery, Reading
from crdtdb.record import Live

__all__ = [
    "Leaf",
    "LeafPage",
    "at_field",
    "check_reachable",
    "documents",
    "nested",
    "read_leaves",
]


class Leaf(NamedTuple):
    """What a page has of one leaf: its value; of a collection, the members on the page."""

    path: tuple[str, ...]
    type: str
    value: JsonValue


class LeafPage(NamedTuple):
    """Leaves, and the position that the page ends at, when there are more."""

    leaves: list[Leaf]
    position: bytes | None
    #: The field of the first leaf of the next page.
    next_path: tuple[str, ...] = ()


class _Alive(NamedTuple):
    """A record that shows something, or all of an op-based leaf."""

    #: Where a page goes on that ends with it.
    tail: bytes
    leaf: address.Leaf
    kind: StateType | OperationType
    live: Live
    #: The materialised value of an op-based leaf.
    folded: Any = None

    @property
    def size_bytes(self) -> int:
        held: Any = [*self.live.values()]
        if isinstance(self.kind, OperationType):
            held = self.kind.dump(self.folded)
        return len(self.tail) + len(codec.pack(held))


def read_leaves(
    reading: Reading, name: ObjectName, query: PageQuery, *, exported: bool = False
) -> LeafPage:
    """The leaves of a range, `query.limit` records at most, as users or as imports read them.

    A page also ends with the record that makes it longer than a request may be. O(page + dead
    records between).
    """
    page: list[_Alive] = []
    head = reading.head(name.prefix)
    if not head.exists:
        return LeafPage([], None)
    room = LIMITS.body_bytes
    for alive in _alive(reading, name, query, head):
        if len(page) == query.limit or room < 0:
            return LeafPage(_leaves(page, exported), page[-1].tail, alive.leaf.path)
        page.append(alive)
        room -= alive.size_bytes
    return LeafPage(_leaves(page, exported), None)


def documents(leaves: list[Leaf]) -> list[JsonValue]:
    """Leaves as a page shows them: one entry per field, further types under `others`."""
    return [
        {"field": list(path), **_document({leaf.type: leaf.value for leaf in same})}
        for path, same in groupby(leaves, key=lambda leaf: leaf.path)
    ]


def nested(reading: Reading, name: ObjectName, page: LeafPage, above: int = 0) -> JsonValue:
    """The leaves of a page as one nested value, without the first `above` names of each field.

    Pages fit together: merged, they are the whole. A few lookups besides the page.
    """
    shown: dict[str, Any] = {}
    by_path = {
        path: {leaf.type: leaf.value for leaf in same}
        for path, same in groupby(page.leaves, key=lambda leaf: leaf.path)
    }
    paths = list(by_path)
    hidden = _hiding(reading, name, paths[0], above) if paths else ()
    for i, path in enumerate(paths):
        if hidden and path[: len(hidden)] == hidden:
            continue
        types = by_path[path]
        first = min(types) if i else _first_type(reading, name, path) or min(types)
        following = paths[i + 1] if i + 1 < len(paths) else page.next_path
        if following == path:  # it goes on in the next page
            following = _next_path(reading, name, path)
        has_below = len(following) > len(path) and following[: len(path)] == path
        if has_below and first > name.type:
            continue
        if has_below:
            hidden = path
        if first in types:
            _put(shown, path[above:], types[first])
    return shown


def at_field(reading: Reading, name: ObjectName, path: tuple[str, ...]) -> FieldRead:
    """One field. O(log n), and what its value is long. Raises TooLarge beyond one page."""
    start = address.leaves_at(path)
    leaves = _all(reading, name, start)
    types = {leaf.type: leaf.value for leaf in leaves}
    if not types or min(types) > name.type:
        below = _all(reading, name, address.leaves_below(path), address.after(start))
        if below:
            types[name.type] = nested(reading, name, LeafPage(below, None), len(path))
    if not types:
        check_reachable(reading, name, path)
        return FieldRead(path, None, None, {})
    first = min(types)
    return FieldRead(path, first, types.pop(first), dict(sorted(types.items())))


def check_reachable(reading: Reading, name: ObjectName, path: tuple[str, ...]) -> None:
    """Refuse a field where nothing is and nothing can be, below a leaf. Raises InvalidOperation."""
    for length in range(1, len(path)):
        if type_name := _first_type(reading, name, path[:length]):
            raise below_a_leaf(path[:length], type_name)


def _all(
    reading: Reading,
    name: ObjectName,
    stem: bytes,
    start: bytes | None = None,
) -> list[Leaf]:
    query = PageQuery(LIMITS.page_items, start=(start or stem)[1:], end=_end(stem))
    page = read_leaves(reading, name, query)
    if page.position is not None:
        raise TooLarge(
            f"more than {LIMITS.page_items} members or fields are there; read them in pages, by "
            "`prefix`",
            Field("field", "holds too much for one answer", LIMITS.page_items),
        )
    return page.leaves


def _end(stem: bytes) -> bytes:
    end = address.after(stem)
    assert end is not None
    return end[1:]


def _alive(reading: Reading, name: ObjectName, query: PageQuery, head: Head) -> Iterator[_Alive]:
    """The records in a range that show something, in order; each op-based leaf once."""
    map_type = type_named(name.type)
    assert isinstance(map_type, NestedType)
    prefix = name.prefix
    rest: PageQuery | None = query
    while rest is not None:
        records, rest = reading.records(name, rest), None
        for tail, record in records:
            if (log := log_in(prefix, tail)) is not None:
                end = _behind(log.prefix[len(prefix) :], reverse=query.reverse)
                folded = reading.folded(log)
                if folded is not None and log.kind is not None:
                    yield _Alive(end, address.leaf_of(tail), log.kind, {}, folded)
                rest = query._replace(after=end)
                break
            kind = map_type.at(tail)
            live = in_force(map_type, tail, record.live, head.cut)
            if live and kind is not None and kind.alive(live):
                yield _Alive(tail, address.leaf_of(tail), kind, live)


def _behind(stem: bytes, *, reverse: bool) -> bytes:
    """A tail between the records that start so and what is read next."""
    return stem if reverse else stem + b"\xff"


def _leaves(page: list[_Alive], exported: bool) -> list[Leaf]:
    leaves: list[Leaf] = []
    for _, same in groupby(page, key=lambda alive: (alive.leaf.path, alive.leaf.type)):
        records = list(same)
        _, leaf, kind, live, folded = records[0]
        value: JsonValue
        if isinstance(kind, OperationType):
            value = kind.value(folded)
            if exported and kind.collection:
                assert isinstance(value, list)
                value = kind.exported_items(value)
        elif isinstance(kind, CollectionType):
            value = kind.entries(
                [alive.leaf.tail for alive in records], [alive.live for alive in records]
            )
        else:
            assert isinstance(kind, ScalarType)
            value = kind.exported(live) if exported else kind.value(live)
        leaves.append(Leaf(leaf.path, leaf.type, value))
    return leaves


def _document(types: dict[str, JsonValue]) -> dict[str, Any]:
    first, *others = types
    document: dict[str, Any] = {"type": first, "value": types[first]}
    if others:
        document["others"] = {other: types[other] for other in others}
    return document


def _first_type(reading: Reading, name: ObjectName, path: tuple[str, ...]) -> str | None:
    """The type that a field shows, of leaves at it."""
    stem = address.leaves_at(path)
    query = PageQuery(1, start=stem[1:], end=_end(stem))
    found = next(_alive(reading, name, query, reading.head(name.prefix)), None)
    return None if found is None else found.leaf.type


def _next_path(reading: Reading, name: ObjectName, path: tuple[str, ...]) -> tuple[str, ...]:
    """The first field that comes after one, if it is below it; empty: none is."""
    start = _end(address.leaves_at(path))
    query = PageQuery(1, start=start, end=_end(address.leaves_below(path)))
    found = next(_alive(reading, name, query, reading.head(name.prefix)), None)
    return () if found is None else found.leaf.path


def _hiding(
    reading: Reading, name: ObjectName, path: tuple[str, ...], above: int
) -> tuple[str, ...]:
    """The field above, whose leaf is shown in place of what is below it; empty: there is none."""
    for length in range(above + 1, len(path)):
        first = _first_type(reading, name, path[:length])
        if first is not None and first < name.type:
            return path[:length]
    return ()


def _put(shown: dict[str, Any], path: tuple[str, ...], value: JsonValue) -> None:
    *above, last = path
    for part in above:
        shown = shown.setdefault(part, {})
    shown[last] = value
