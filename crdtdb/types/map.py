"""`map`: fields with a value of another type each, nested to a depth of 16.

A field is a path, a list of strings; what lies there is a *leaf*, an object of another type but for
its address. Every leaf is records of its own, so an update reads and writes what it would in an
object of the leaf's type, whatever the size of the map:

    LEAF | field path, as an encoded list | type of the leaf | 00 | tail of its record there

- **Order.** Encoded lists are in order, what is below a field begins like it, and types follow in
  the order of the catalogue: a page is one scan, and a field, a subtree or a leaf one range.
- **Delegation.** The leaf's type gets the operation and a view narrowed to the leaf (`_LeafView`);
  its changes come back with the leaf in front of their tails. It does not know where it is.
- **Op-based leaves** have a log each: base and operations at such tails, a materialised value under
  what these start with, and a cut there (`kinds.Log`). All of it is kept as that of an op-based
  object is; only the head is the map's.
- **Size and digest** are those of the records that show something: a leaf that is one value, or
  op-based, counts as one, a collection as many as it has members. `at` says for a tail whose type
  decides.
- **Removing** a field takes out exactly what was observed, at it and below it: dots by the record
  algebra, leaf by leaf and under one dot, so a remove that comes before what it removed is no less
  of one; running totals by baselines, as their type resets them. Of a counter, a replica's
  steps go if the read context shows the last of them; else they all stay. An op-based leaf is cut
  (a text edited) under the same dot: operations that the remover had not seen stay. It cannot be
  split at an earlier read, for its base does not tell what was there then; so where one is shown, a
  removal takes no read context. No cut applies to a map as a whole: it could not take totals out,
  and clearing the other leaves alone would show half a removal. The price: a removal costs
  O(records below), at most 100,000 (413 beyond).
- A leaf of a type that only a newer version knows is kept and relayed; users do not see it.

Leaves are of every type but `bcounter`, which nothing may remove. A map in a map is a longer path.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from typing import Annotated, Any, Final, NamedTuple

from msgspec import Meta, structs

from crdtdb import address
from crdtdb.causal import Dot
from crdtdb.datatype import (
    NO_PAYLOAD,
    Change,
    Cut,
    DataType,
    Delete,
    DocumentType,
    Edit,
    Logged,
    NestedType,
    Operation,
    OperationType,
    ReadContext,
    Restored,
    Stamp,
    StateType,
    View,
    below_a_leaf,
)
from crdtdb.errors import BadRequest, Field, InvalidOperation, TooLarge, shortened
from crdtdb.expiry import Expire, Persist
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.record import Live

__all__ = ["TYPE"]

_NAME: Final = "map"
_Path = Annotated[list[str], Meta(min_length=1, max_length=LIMITS.map_depth)]
_LEAF_OPERATION: Final = {
    "type": "object",
    "description": "An operation of a leaf: its `type`, `op`, and what that takes",
    "properties": {"type": {"type": "string"}, "op": {"type": "string"}},
    "required": ["type", "op"],
}


class _Inner(NamedTuple):
    """An operation on a leaf, and the leaf's type."""

    type: str
    operation: Operation
    #: It writes a leaf that was there: so it may be below another, as it came to be.
    is_restored: bool = False


class Update(Operation, tag="update", frozen=True):
    """Carry out an operation (`do`) on the leaf of a certain type at a field."""

    field: _Path
    do: Annotated[Any, Meta(extra_json_schema=_LEAF_OPERATION)]

    def completed(self, read: Callable[[str, Any, str], Operation]) -> Operation:
        address.check_path(self.field, "field")
        if not isinstance(self.do, dict) or not isinstance(self.do.get("type"), str):
            raise BadRequest(
                '`do` is an operation of a leaf, such as {"type": "counter", "op": "increment"}',
                Field("do.type", "missing or not a string"),
            )
        rest = dict(self.do)
        type_name = rest.pop("type")
        kind = _types().get(type_name)
        if kind is not None and not _can_be_leaf(kind):
            raise _no_leaf(type_name)
        operation = read(type_name, rest, "do")
        if isinstance(operation, Expire | Persist):
            raise InvalidOperation(
                "a field has no deadline of its own; give the whole map one",
                Field("do.op", "not for a field"),
            )
        return structs.replace(self, do=_Inner(type_name, operation))

    def restoring(self) -> Operation:
        return structs.replace(self, do=self.inner._replace(is_restored=True))

    @property
    def inner(self) -> _Inner:
        """What to do, read."""
        assert isinstance(self.do, _Inner)
        return self.do

    @property
    def may_begin(self) -> bool:
        """May a leaf come to be by it, which must not be below another then?"""
        return not (self.inner.is_restored or isinstance(self.inner.operation, Delete))

    @property
    def seen(self) -> ReadContext:
        """The read context of what is done, if that takes one. Raises AttributeError."""
        context: ReadContext = self.inner.operation.seen  # type: ignore[attr-defined]
        return context

    @property
    def repeatable(self) -> bool:
        return self.inner.operation.repeatable

    @property
    def wide(self) -> bool:
        inner = self.inner.operation
        return inner.wide or isinstance(inner, Delete)


class Remove(Operation, tag="remove", frozen=True):
    """Remove what is at a field and below, as far as it was observed; at most 100,000 records."""

    field: _Path
    seen: ReadContext = None

    def completed(self, read: Callable[[str, Any, str], Operation]) -> Operation:
        address.check_path(self.field, "field")
        return self

    @property
    def repeatable(self) -> bool:
        return self.seen is not None

    @property
    def wide(self) -> bool:
        return True


class NestedMap(NestedType):
    name = _NAME
    summary = "Fields, nested, each with a value of another type."
    operations = (Update, Remove)
    payload = None  # none of its own

    # -- writing --------------------------------------------------------------------------------

    def mutate(
        self, operation: Operation, view: View, stamp: Stamp
    ) -> Iterator[Change | Cut | Logged]:
        if isinstance(operation, Update):
            type_name, inner, _ = operation.inner
            if operation.may_begin:
                _check_reachable(view, operation.field)
            kind, stem = _types()[type_name], address.leaf(operation.field, type_name)
            if isinstance(kind, OperationType):
                return _logged(view, kind, stem, inner, stamp)
            assert isinstance(kind, StateType)
            leaf = _LeafView(view, stem, kind)
            if isinstance(inner, Delete):
                return leaf.removed(stamp)
            return leaf.placed(kind.mutate(inner, leaf, stamp))
        assert isinstance(operation, Remove)
        return _removed(view, stamp, address.leaves_below(operation.field))

    def edit_in(self, operation: Operation) -> Edit | None:
        if isinstance(operation, Update):
            type_name, inner, _ = operation.inner
            kind = _types()[type_name]
            if isinstance(kind, DocumentType):
                return Edit(address.leaf(operation.field, type_name), kind, inner)
        return None

    def check_edits(self, operations: Sequence[Operation], view: View) -> None:
        edits = [operation for operation in operations if isinstance(operation, Update)]
        if view.has_context:
            raise _indivisible(edits[0].inner.type, "do.seen")
        if any(edit.may_begin for edit in edits):
            _check_reachable(view, edits[0].field)

    def delete(self, view: View, stamp: Stamp) -> Iterator[Change | Cut | Logged]:
        return _removed(view.whole(), stamp, address.LEAF)

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        """Each leaf is written by operations of its type."""
        for leaf in value if isinstance(value, list) else [value]:
            match leaf:
                case {"field": list(path), "type": str(type_name), "value": inner, **rest} if (
                    not rest
                ):
                    kind = _types().get(type_name)
                    if kind is None or not _can_be_leaf(kind):
                        raise _no_leaf(type_name, "value")
                    for plain, seen in kind.restore(inner):
                        do = {"type": type_name, **plain}
                        yield Restored({"op": "update", "field": path, "do": do}, seen)
                case _:
                    raise BadRequest(
                        '`value` is a list of {"field","type","value"}',
                        Field("value", "not a list of leaves"),
                    )

    # -- whose records these are ----------------------------------------------------------------

    def places(self, tail: bytes) -> bool:
        if not tail.startswith(address.LEAF):
            return False
        leaf = address.leaf_of(tail)
        kind = _types().get(leaf.type)
        return kind is None or (_can_be_leaf(kind) and kind.places(leaf.tail))

    def holds(self, kind: DataType) -> bool:
        return _can_be_leaf(kind)

    def at(self, tail: bytes) -> StateType | None:
        kind = _types().get(address.leaf_of(tail).type)
        return kind if isinstance(kind, StateType) else None


class _LeafView:
    """What the type of a leaf may look at: that leaf, as if it were an object."""

    def __init__(self, view: View, stem: bytes, kind: StateType) -> None:
        self._view = view
        self._stem = stem
        self._kind = kind

    def live(self, tail: bytes) -> Live:
        return self._view.live(self._stem + tail)

    def stored(self, tail: bytes) -> Live:
        return self._view.stored(self._stem + tail)

    def whole(self) -> View:
        """Removing a leaf removes what is there now, like any operation but on the whole map."""
        return self

    def size(self) -> int:
        """Counted, up to more than any operation of a leaf takes."""
        alive = (1 for _, live in self.members() if self._kind.alive(live))
        return sum(islice(alive, LIMITS.delete_objects + 1))

    def members(self, stem: bytes = address.MEMBER) -> Iterator[tuple[bytes, Live]]:
        for tail, live in self._view.members(self._stem + stem):
            yield tail[len(self._stem) :], live

    def observed(self, live: Live) -> Collection[Dot]:
        return self._view.observed(live)

    def replicas(self) -> Mapping[int, str]:
        return self._view.replicas()

    def folded(self, stem: bytes, kind: OperationType) -> Any:
        return self._view.folded(self._stem + stem, kind)

    @property
    def has_context(self) -> bool:
        return self._view.has_context

    def placed(self, changes: Iterator[Change | Cut | Logged]) -> Iterator[Change]:
        """The changes of the leaf as changes of the map."""
        for change in changes:
            assert not isinstance(change, Logged), "a leaf has no leaves"
            if isinstance(change, Cut):
                yield from self._cleared()
            else:
                yield change._replace(tail=self._stem + change.tail)

    def removed(self, stamp: Stamp) -> Iterator[Change]:
        """What removing the leaf changes."""
        return self.placed(self._kind.delete(self, stamp))

    def _cleared(self) -> Iterator[Change]:
        """What a cut would take out, record by record."""
        for tail, live in _bounded(self._view, self._stem):
            if observed := self._view.observed(live):
                yield Change(tail, observed)


def _check_reachable(view: View, path: Sequence[str]) -> None:
    """Refuse a new field below a leaf. Where both are there, written at once, both go on.

    A scan for each name above; O(records of leaves there that show nothing).
    """
    for length in range(1, len(path)):
        type_name = _shown_type(view, address.leaves_at(path[:length]))
        if type_name and not _shown_type(view, address.leaves_below(path)):
            raise below_a_leaf(path[:length], type_name)


def _shown_type(view: View, stem: bytes) -> str | None:
    """The type of the first leaf of these that shows something."""
    for start, records in groupby(view.members(stem), key=lambda entry: _leaf_start(entry[0])):
        tail, live = next(records)
        type_name = address.leaf_of(tail).type
        kind = _types().get(type_name)
        if isinstance(kind, OperationType):
            folded = view.folded(start, kind)
            shows = folded is not None and kind.size(folded) > 0
        else:
            lives = chain((live,), (live for _, live in records))
            shows = isinstance(kind, StateType) and any(map(kind.alive, lives))
        if shows:
            return type_name
    return None


def _removed(view: View, stamp: Stamp, stem: bytes) -> Iterator[Change | Logged]:
    """Take out what was observed of all leaves below."""
    for start, records in groupby(_bounded(view, stem), key=lambda entry: _leaf_start(entry[0])):
        kind = _types().get(address.leaf_of(next(records)[0]).type)
        if isinstance(kind, OperationType):
            yield from _log_removed(view, kind, start, stamp)
        elif isinstance(kind, StateType):
            yield from _LeafView(view, start, kind).removed(stamp)


def _logged(
    view: View, kind: OperationType, stem: bytes, operation: Operation, stamp: Stamp
) -> Iterator[Logged]:
    """What an operation on an op-based leaf adds to its log. Raises a CallerError."""
    if view.has_context:
        raise _indivisible(kind.name, "do.seen")
    folded = view.folded(stem, kind)
    in_force = folded is not None
    payload = kind.decided(operation, folded if in_force else kind.empty(), stamp.dot[0])
    if payload is not NO_PAYLOAD and (in_force or not isinstance(payload, Cut)):
        yield Logged(stem, payload)


def _log_removed(view: View, kind: OperationType, stem: bytes, stamp: Stamp) -> Iterator[Logged]:
    """Take out all of an op-based leaf. Raises InvalidOperation for a part of what is shown."""
    if not view.has_context:
        return _logged(view, kind, stem, Delete(), stamp)
    folded = view.folded(stem, kind)
    if folded is not None and kind.size(folded):
        raise _indivisible(kind.name, "seen")
    return iter(())


def _leaf_start(tail: bytes) -> bytes:
    """What the tails of all records of the same leaf start with."""
    return tail[: len(tail) - len(address.leaf_of(tail).tail)]


def _bounded(view: View, stem: bytes) -> list[tuple[bytes, Live]]:
    """The records below. Raises TooLarge for more than one operation may take out."""
    limit = LIMITS.delete_objects
    records = list(islice(view.members(stem), limit + 1))
    if len(records) > limit:
        raise TooLarge(
            f"more than {limit} records lie below, and each is removed by itself; remove some of "
            "the fields first",
            Field("field", "takes out too many records", limit),
        )
    return records


def _types() -> Mapping[str, Any]:
    """The catalogue, which this type is a part of."""
    from crdtdb.types import CATALOGUE

    return CATALOGUE


def _can_be_leaf(kind: DataType | None) -> bool:
    """Is it a type, one that something may remove, and no map?"""
    return kind is not None and kind.deletable and not isinstance(kind, NestedType)


def _indivisible(type_name: str, field: str) -> InvalidOperation:
    return InvalidOperation(
        f"a {type_name} cannot be split at an earlier read; leave `seen` out, or remove what else "
        "is there by itself",
        Field(field, f"not for a {type_name}"),
    )


def _no_leaf(type_name: str, field: str = "do.type") -> InvalidOperation:
    known = ", ".join(name for name, kind in _types().items() if _can_be_leaf(kind))
    advice = "give the whole path in `field`" if type_name == _NAME else "keep it as an object"
    return InvalidOperation(
        f"a {shortened(type_name)} cannot be a leaf of a map, {advice}; leaves are {known}",
        Field(field, "not a type of leaves", known),
    )


TYPE = NestedMap()
