"""`list`: elements in an order of the users' making; concurrent inserts never mix (`_fugue.py`).

Elements are named by ids, which stay the same for good, or by positions, which the replica that is
asked turns into ids: an operation that travels says below which element others go, or which go.

The materialised value is kept in memory, in runs, and a commit adds its operations to what is
stored (`materialised`): O(1) store calls and, on average, a small multiple of the operation's bytes
and a 1,024th of the list's. A write and a page each look at the runs: O(runs), which `LIMITS`
bounds. The base is written whole whenever reclaiming finds more that is stable. A deleted element
stays, as part of a run without values, until everybody has seen it deleted, and as long as
elements that are shown hang below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from crdtdb import codec, jsonbytes, jsonvalue
from crdtdb.causal import Dot, VersionVector, format_dot
from crdtdb.datatype import Cut, Delete, Operation, Restored, SequenceType
from crdtdb.errors import (
    BadRequest,
    CursorExpired,
    Field,
    Gone,
    InvalidOperation,
    TooLarge,
    shortened,
)
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.record import Payload
from crdtdb.types._fugue import Element, Elements, Place
from crdtdb.types._members import ONE_OR_SEVERAL, Several, named
from crdtdb.types._runs import LEFT, ElementId, Generation, Row, ids_from
from crdtdb.types._stored import check_stored, stored

__all__ = ["TYPE"]

_Index = Annotated[int, Meta(ge=0, le=LIMITS.step)]
_Count = Annotated[int, Meta(ge=1, le=LIMITS.operation_values)]
_Id = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}:[1-9][0-9]{0,18}(\.[1-9][0-9]{0,3})?\Z")]
_Ids = Annotated[list[_Id], Meta(min_length=1, max_length=LIMITS.operation_values)]
_PLACES: Final = ("after", "before", "index")


class Insert(Operation, tag="insert", frozen=True):
    """Put elements in after or before another one or at a position; else at the end."""

    value: Any = UNSET
    values: Several = UNSET
    after: _Id | UnsetType = UNSET
    before: _Id | UnsetType = UNSET
    index: _Index | UnsetType = UNSET

    rule = ONE_OR_SEVERAL


class Remove(Delete, tag="delete", frozen=True):
    """Delete elements by their ids, or so many from a position on; else the whole object."""

    ids: _Ids | UnsetType = UNSET
    index: _Index | UnsetType = UNSET
    count: _Count | UnsetType = UNSET

    @property
    def whole(self) -> bool:
        return self.ids is UNSET and self.index is UNSET and self.count is UNSET


class List(SequenceType):
    name = "list"
    summary = "Values in an order of their own; concurrent inserts at one place never mix."
    operations = (Insert, Remove)
    stepwise = True
    #: Either elements and their place, or the ranges of ids that are deleted.
    payload = tuple[
        ElementId | None,
        bool,
        Generation,
        list[bytes],
        list[tuple[ElementId, Annotated[int, Meta(ge=1)]]],
    ]
    folded = list[Row]

    # -- writing --------------------------------------------------------------------------------

    def prepare(self, operation: Operation, folded: Any) -> Payload | Cut:
        assert isinstance(folded, Elements)
        if isinstance(operation, Insert):
            values = [stored(value, field) for field, value in _named(operation)]
            _check_room(folded, values)
            place = folded.place(_index(operation, folded))
            return *place, values, []
        assert isinstance(operation, Remove)
        ids = _to_remove(operation, folded)
        return Cut() if ids is None else (None, True, 0, [], _ranges(ids))

    def empty(self) -> Elements:
        return Elements.load(())

    def apply(self, folded: Any, dot: Dot, payload: Payload) -> Elements:
        assert isinstance(folded, Elements)
        parent, side, generation, values, ranges = payload
        if values:
            first = 0 if len(values) == 1 else 1
            above = None if parent is None else (parent[0], parent[1], parent[2])
            return folded.inserted((*dot, first), Place(above, side, generation), values)
        deleted = folded
        for (incarnation, counter, number), count in ranges:
            deleted = deleted.deleted((incarnation, counter, number), count)
        return deleted

    def replayed(self, folded: Any, steps: Iterable[tuple[Dot, Payload]]) -> Elements:
        """Elements are looked for where they were when the steps began, or were put by one."""
        assert isinstance(folded, Elements)
        elements, run_of, put = folded, folded.index(), dict[Dot, int]()
        for dot, payload in steps:
            parent, _, _, _, ranges = payload
            named = ranges[0][0] if ranges else parent
            if named is not None:
                one = named[0], named[1], named[2]
                run = put.get(one[:2], run_of(one))
                if run is not None:
                    elements.aim(run)
            elements = self.apply(elements, dot, payload)
            put[dot] = elements.aimed_at
        return elements

    def settled(self, folded: Any, later: Iterable[Payload]) -> Elements:
        assert isinstance(folded, Elements)
        parents = (payload[0] for payload in later)
        return folded.settled((p[0], p[1], p[2]) for p in parents if p is not None)

    def is_bare(self, folded: Any) -> bool:
        return not self.dump(folded)

    # -- reading --------------------------------------------------------------------------------

    def size(self, folded: Any) -> int:
        assert isinstance(folded, Elements)
        return folded.size

    def shown(self, folded: Any) -> list[tuple[ElementId, list[bytes]]]:
        assert isinstance(folded, Elements)
        return folded.shown_rows()

    def value(self, folded: Any) -> JsonValue:
        assert isinstance(folded, Elements)
        return [_entry(element) for element in folded.shown()]

    def page(
        self,
        folded: Any,
        limit: int,
        after: bytes | None,
        start: int | None,
        end: int | None,
        *,
        reverse: bool,
    ) -> tuple[list[JsonValue], bytes | None]:
        assert isinstance(folded, Elements)
        first = 0 if start is None else start
        last = folded.size if end is None else min(end, folded.size)
        if after is not None:
            found = folded.position(_behind(after))
            if found is None:
                raise CursorExpired(
                    "the element where the page before ended has been deleted everywhere; read "
                    "from the start, or from a position (`from`)",
                    Field("after", "gone"),
                )
            position, is_shown = found
            if reverse:
                last = min(last, position)
            else:
                first = max(first, position + is_shown)
        has_more = last - first > limit
        if reverse:
            elements = list(folded.shown(max(first, last - limit), last))[::-1]
        else:
            elements = list(folded.shown(first, min(last, first + limit)))
        behind = codec.pack(elements[-1].id) if has_more else None
        return [_entry(element) for element in elements], behind

    def contains(self, folded: Any, value: JsonValue) -> bool:
        assert isinstance(folded, Elements)
        wanted = jsonbytes.encode(value)
        return any(jsonbytes.encode(jsonvalue.load(e.value)) == wanted for e in folded.shown())

    def describe(self, payload: Payload) -> dict[str, Any]:
        parent, side, _, values, ranges = payload
        if values:
            told: dict[str, Any] = {"below": None if parent is None else _text(tuple(parent))}
            told["side"] = "right" if side else "left"
            return told | {"values": [jsonvalue.load(value) for value in values]}
        return {"deleted": [_text(one) for first, n in ranges for one in ids_from(first, n)]}

    # -- export, admission, storage ---------------------------------------------------------------

    def exported_items(self, items: list[JsonValue]) -> list[JsonValue]:
        """The values alone: what is written again has ids of its own."""
        return [item["value"] for item in items if isinstance(item, dict)]

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        if not isinstance(value, list):
            raise BadRequest("`value` is a list of values", Field("value", "not a list"))
        for start in range(0, len(value), LIMITS.operation_values):
            several = value[start : start + LIMITS.operation_values]
            yield Restored({"op": "insert", "values": several})

    def check(self, dot: Dot, payload: Payload) -> None:
        super().check(dot, payload)
        parent, side, generation, values, ranges = payload
        if bool(values) == bool(ranges):
            raise ValueError("an operation of a list either inserts or deletes")
        if max(len(values), sum(count for _, count in ranges)) > LIMITS.operation_values:
            raise ValueError("an operation of a list is too large")
        if parent is not None and parent[0] == dot[0] and parent[1] >= dot[1]:
            raise ValueError("an element hangs below one that came no earlier")
        if generation and (side == LEFT or ranges):
            raise ValueError("a generation is of elements on the right")
        for value in values:
            check_stored(value)

    def check_base(self, stored: Any, context: VersionVector) -> None:
        super().check_base(stored, context)
        if not stored:
            raise ValueError("a base without elements is none")
        for (incarnation, counter, number), _, _, _, held in stored:
            if isinstance(held, int):
                continue
            last = counter if number else counter + len(held) - 1
            if not held or not context.covers((incarnation, last)):
                raise ValueError("a base holds elements of operations that it does not include")
            for value in held:
                check_stored(value)
        self.load(stored).check()

    def load(self, stored: Any) -> Elements:
        return Elements.load(stored)

    def dump(self, folded: Any) -> list[Row]:
        assert isinstance(folded, Elements)
        return folded.dump()


_decode_id = msgspec.msgpack.Decoder(ElementId).decode


def _behind(position: bytes) -> ElementId:
    """The element where a page ended."""
    try:
        incarnation, counter, number = _decode_id(position)
    except msgspec.MsgspecError as error:
        raise BadRequest(
            "`after` is no `next` of this list", Field("after", "not of this list")
        ) from error
    return incarnation, counter, number


def _entry(element: Element) -> JsonValue:
    return {"id": _text(element.id), "value": jsonvalue.load(element.value)}


def _text(one: ElementId) -> str:
    incarnation, counter, number = one
    return format_dot((incarnation, counter)) + (f".{number}" if number else "")


def _read(text: str) -> ElementId:
    incarnation, _, rest = text.partition(":")
    counter, _, number = rest.partition(".")
    return int(incarnation, 16), int(counter), int(number or 0)


def _named(insert: Insert) -> Iterator[tuple[str, Any]]:
    given = [name for name in _PLACES if getattr(insert, name) is not UNSET]
    if len(given) > 1:
        raise BadRequest(
            "say once where: `after` or `before` an element, or at an `index`",
            Field(given[1], f"given together with `{given[0]}`"),
        )
    return named(insert.value, insert.values)


def _check_room(elements: Elements, values: list[bytes]) -> None:
    if elements.size + len(values) > LIMITS.list_elements:
        raise TooLarge(
            f"the list has {elements.size} elements, and {LIMITS.list_elements} at most; delete "
            "some, or begin another one",
            Field("values", "too many elements", LIMITS.list_elements),
        )
    if elements.size_bytes + sum(map(len, values)) > LIMITS.list_bytes:
        raise TooLarge(
            f"the values of the list have {elements.size_bytes} bytes as JSON, and "
            f"{LIMITS.list_bytes} at most; delete some, or begin another one",
            Field("values", "too many bytes", LIMITS.list_bytes),
        )


def _index(insert: Insert, elements: Elements) -> int:
    """The position at which elements go in. Raises Gone or InvalidOperation."""
    if not isinstance(insert.after, UnsetType):
        return _position(elements, insert.after, "after") + 1
    if not isinstance(insert.before, UnsetType):
        return _position(elements, insert.before, "before")
    if isinstance(insert.index, UnsetType):
        return elements.size
    if insert.index > elements.size:
        raise InvalidOperation(
            f"the list has {elements.size} elements here; insert at 0 to {elements.size}, or leave "
            "`index` out for the end",
            Field("index", "beyond the end", elements.size),
        )
    return insert.index


def _position(elements: Elements, text: str, field: str) -> int:
    found = elements.position(_read(text))
    if found is None or not found[1]:
        raise Gone(
            f"element {shortened(text)} is not in the list here: it was deleted, or has not "
            "arrived yet; read the list, and name an element that is there, or an `index`",
            Field(field, "no such element"),
        )
    return found[0]


def _to_remove(remove: Remove, elements: Elements) -> list[ElementId] | None:
    """The elements to delete; None: the whole object. Raises a CallerError."""
    if not isinstance(remove.ids, UnsetType):
        if remove.index is not UNSET or remove.count is not UNSET:
            extra = "index" if remove.index is not UNSET else "count"
            raise BadRequest(
                "name elements by `ids`, or by `index` and `count`",
                Field(extra, "given together with `ids`"),
            )
        for i, text in enumerate(remove.ids):
            _position(elements, text, f"ids[{i}]")
        return [_read(text) for text in dict.fromkeys(remove.ids)]
    if isinstance(remove.index, UnsetType):
        if remove.count is not UNSET:
            raise BadRequest(
                "`count` elements from which `index` on?", Field("index", "missing beside `count`")
            )
        return None
    count = 1 if isinstance(remove.count, UnsetType) else remove.count
    if remove.index + count > elements.size:
        raise InvalidOperation(
            f"the list has {elements.size} elements here, fewer than `index` and `count` ask for",
            Field(
                "index" if remove.index >= elements.size else "count",
                "beyond the end",
                max(0, elements.size - (remove.index if remove.index < elements.size else 1)),
            ),
        )
    return [element.id for element in elements.shown(remove.index, remove.index + count)]


def _ranges(ids: list[ElementId]) -> list[tuple[ElementId, int]]:
    ranges: list[tuple[ElementId, int]] = []
    for one in ids:
        if ranges:
            first, count = ranges[-1]
            *_, following = ids_from(first, count + 1)
            if one == following:
                ranges[-1] = first, count + 1
                continue
        ranges.append((one, 1))
    return ranges


TYPE = List()
