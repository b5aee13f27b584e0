"""What can be written, as methods: one class per type, each method a plain operation.

They are generic in what they return: a door answers with `Written`, a transaction that only
collects returns None, an asynchronous door (`crdtdb_client.AsyncClient`) an awaitable. Every method
is a verb.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from crdtdb.address import ObjectName
from crdtdb.answers import LEFT_OUT, Given, Plain
from crdtdb.jsonvalue import JsonValue

__all__ = [
    "BoundedCounterWrites",
    "CounterWrites",
    "FlagWrites",
    "GrowingCounterWrites",
    "GrowingSetWrites",
    "ListWrites",
    "MapWrites",
    "MultiValueWrites",
    "RegisterWrites",
    "SetWrites",
    "SketchWrites",
    "SortedSetWrites",
    "TextWrites",
    "Updates",
    "Writes",
]

R = TypeVar("R")


class Writes(Generic[R]):
    """What can be done to an object of any type."""

    def __init__(self, update: Callable[[ObjectName, list[Plain]], R], name: ObjectName) -> None:
        self._update = update
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name.bucket}/{self.name.type}/{self.name.key}>"

    def _do(self, op: str, **fields: Any) -> R:
        given = {field: value for field, value in fields.items() if value is not LEFT_OUT}
        return self._update(self.name, [{"op": op, **given}])

    def delete(self, *, seen: str | None = None) -> R:
        """Remove the whole object: as far as this replica has seen it, or as a read showed it.

        A counter shows no read context; deleting one is resetting it.
        """
        return self._do("delete", seen=_given(seen))

    def expire(self, *, in_ms: int | None = None, at_ms: int | None = None) -> R:
        """Let the object end `in_ms` from now, or `at_ms` since 1970: give one of them.

        Of deadlines given at the same time the later counts. What is not there gets none.
        """
        fields = {"in_ms": in_ms, "at_ms": at_ms}
        return self._do("expire", **{k: v for k, v in fields.items() if v is not None})

    def persist(self) -> R:
        """Take the object's deadline away; wins over one given at the same time."""
        return self._do("persist")


def _given(seen: str | None) -> Given:
    return LEFT_OUT if seen is None else seen


class GrowingCounterWrites(Writes[R]):
    def increment(self, by: int = 1) -> R:
        """Add `by` (1 to 2^53 - 1)."""
        return self._do("increment", by=by)


class CounterWrites(GrowingCounterWrites[R]):
    def decrement(self, by: int = 1) -> R:
        """Take away `by` (1 to 2^53 - 1)."""
        return self._do("decrement", by=by)

    def reset(self) -> R:
        """Back to zero: removes exactly the steps this replica has seen."""
        return self._do("reset")


class BoundedCounterWrites(Writes[R]):
    def create(self, min: int = 0, max: int | None = None) -> R:
        """Bring it into being at `min`; again to choose between bounds that conflict."""
        return self._do("create", min=min, max=max)

    def increment(self, by: int = 1) -> R:
        """Add `by` (1 to 2^53 - 1); refused beyond `max`, or beyond the rights held here."""
        return self._do("increment", by=by)

    def decrement(self, by: int = 1) -> R:
        """Take away `by` (1 to 2^53 - 1); refused below `min`, or beyond the rights held here."""
        return self._do("decrement", by=by)

    def transfer(
        self, to: str, amount: int, *, rights: Literal["decrement", "increment"] = "decrement"
    ) -> R:
        """Give rights that this replica holds to the member of that name (or incarnation)."""
        return self._do("transfer", to=to, amount=amount, rights=rights)

    def delete(self, *, seen: str | None = None) -> R:
        """Refused: rights to it may be in use elsewhere."""
        return super().delete(seen=seen)


class RegisterWrites(Writes[R]):
    def set(self, value: JsonValue) -> R:
        """Replace the value; of a `max` or `min`, if it is further out."""
        return self._do("set", value=value)


class MultiValueWrites(Writes[R]):
    def set(self, value: JsonValue, *, seen: str | None = None) -> R:
        """Replace the values this replica holds, or those that a read showed."""
        return self._do("set", value=value, seen=_given(seen))


class FlagWrites(Writes[R]):
    def enable(self) -> R:
        """Set the flag."""
        return self._do("enable")

    def disable(self, *, seen: str | None = None) -> R:
        """Clear the flag, as far as it was observed."""
        return self._do("disable", seen=_given(seen))


class GrowingSetWrites(Writes[R]):
    def add(self, *values: JsonValue) -> R:
        """Put members in."""
        return self._do("add", values=list(values))


class SetWrites(GrowingSetWrites[R]):
    def remove(self, *values: JsonValue, seen: str | None = None) -> R:
        """Take members out, as far as they were observed."""
        return self._do("remove", values=list(values), seen=_given(seen))

    def clear(self, *, seen: str | None = None) -> R:
        """Take all observed members out."""
        return self._do("clear", seen=_given(seen))


class SketchWrites(Writes[R]):
    def add(self, *values: JsonValue) -> R:
        """Take values in."""
        return self._do("add", values=list(values))

    def merge(self, sketch: str) -> R:
        """Take in all that a sketch has, as an export gave it."""
        return self._do("merge", sketch=sketch)


class SortedSetWrites(Writes[R]):
    def add(self, member: JsonValue, score: int | float) -> R:
        """Put a member in with this score, or set its score."""
        return self._do("add", member=member, score=score)

    def increment(self, member: JsonValue, by: int | float = 1) -> R:
        """Add `by` to the score of a member; it becomes one if it was not."""
        return self._do("increment", member=member, by=by)

    def remove(self, member: JsonValue, *, seen: str | None = None) -> R:
        """Take a member out, as far as it was observed.

        By an older read (`seen`), the increments of a replica that has made others since stay.
        """
        return self._do("remove", member=member, seen=_given(seen))

    def clear(self, *, seen: str | None = None) -> R:
        """Take all observed members out."""
        return self._do("clear", seen=_given(seen))


class ListWrites(Writes[R]):
    def append(self, *values: JsonValue) -> R:
        """Put values in at the end."""
        return self._do("insert", values=list(values))

    def insert(self, index: int, *values: JsonValue) -> R:
        """Put values in at a position, counted from 0."""
        return self._do("insert", index=index, values=list(values))

    def insert_after(self, element: str, *values: JsonValue) -> R:
        """Put values in behind the element with that id."""
        return self._do("insert", after=element, values=list(values))

    def insert_before(self, element: str, *values: JsonValue) -> R:
        """Put values in before the element with that id."""
        return self._do("insert", before=element, values=list(values))

    def remove(self, *elements: str) -> R:
        """Delete the elements with these ids."""
        return self._do("delete", ids=list(elements))

    def remove_at(self, index: int, count: int = 1) -> R:
        """Delete so many elements from a position on."""
        return self._do("delete", index=index, count=count)


class TextWrites(Writes[R]):
    def append(self, text: str) -> R:
        """Put text in at the end."""
        return self._do("insert", text=text)

    def insert(self, index: int, text: str) -> R:
        """Put text in at a position; positions count code points, from 0."""
        return self._do("insert", index=index, text=text)

    def remove(self, index: int, length: int = 1) -> R:
        """Delete so many code points from a position on."""
        return self._do("delete", index=index, length=length)

    def update(self, yjs: bytes) -> R:
        """Take in what a Yjs editor changed: an update (version 1) of its document."""
        return self._do("update", yjs=b2a_base64(yjs, newline=False).decode())


#: Operations on one object; by another name, because a handle is called `list`.
_Operations: TypeAlias = list[Plain]


class MapWrites(Writes[R]):
    def update(self, field: Sequence[str], do: Plain) -> R:
        """Carry out `do`, an operation of a leaf such as {"type": "counter", "op": "increment"}."""
        return self._do("update", field=list(field), do=do)

    def remove(self, field: Sequence[str], *, seen: str | None = None) -> R:
        """Remove what is at a field and below it, as far as it was observed.

        By an older read (`seen`), the steps of a replica that has counted on since stay. An
        op-based leaf cannot be split at a read: where one is, leave `seen` out.
        """
        return self._do("remove", field=list(field), seen=_given(seen))


class Updates(Generic[R]):
    """Where writes are addressed: a bucket, a key, and by the method's name the type."""

    def _send(self, name: ObjectName, operations: _Operations) -> R:
        raise NotImplementedError

    def counter(self, bucket: str, key: str) -> CounterWrites[R]:
        return CounterWrites(self._send, ObjectName(bucket, "counter", key))

    def bcounter(self, bucket: str, key: str) -> BoundedCounterWrites[R]:
        return BoundedCounterWrites(self._send, ObjectName(bucket, "bcounter", key))

    def gcounter(self, bucket: str, key: str) -> GrowingCounterWrites[R]:
        return GrowingCounterWrites(self._send, ObjectName(bucket, "gcounter", key))

    def opcounter(self, bucket: str, key: str) -> CounterWrites[R]:
        return CounterWrites(self._send, ObjectName(bucket, "opcounter", key))

    def register(self, bucket: str, key: str) -> RegisterWrites[R]:
        return RegisterWrites(self._send, ObjectName(bucket, "register", key))

    def mvregister(self, bucket: str, key: str) -> MultiValueWrites[R]:
        return MultiValueWrites(self._send, ObjectName(bucket, "mvregister", key))

    def flag(self, bucket: str, key: str) -> FlagWrites[R]:
        return FlagWrites(self._send, ObjectName(bucket, "flag", key))

    def dwflag(self, bucket: str, key: str) -> FlagWrites[R]:
        return FlagWrites(self._send, ObjectName(bucket, "dwflag", key))

    def set(self, bucket: str, key: str) -> SetWrites[R]:
        return SetWrites(self._send, ObjectName(bucket, "set", key))

    def gset(self, bucket: str, key: str) -> GrowingSetWrites[R]:
        return GrowingSetWrites(self._send, ObjectName(bucket, "gset", key))

    def rwset(self, bucket: str, key: str) -> SetWrites[R]:
        return SetWrites(self._send, ObjectName(bucket, "rwset", key))

    def map(self, bucket: str, key: str) -> MapWrites[R]:
        return MapWrites(self._send, ObjectName(bucket, "map", key))

    def max(self, bucket: str, key: str) -> RegisterWrites[R]:
        return RegisterWrites(self._send, ObjectName(bucket, "max", key))

    def min(self, bucket: str, key: str) -> RegisterWrites[R]:
        return RegisterWrites(self._send, ObjectName(bucket, "min", key))

    def hll(self, bucket: str, key: str) -> SketchWrites[R]:
        return SketchWrites(self._send, ObjectName(bucket, "hll", key))

    def zset(self, bucket: str, key: str) -> SortedSetWrites[R]:
        return SortedSetWrites(self._send, ObjectName(bucket, "zset", key))

    def list(self, bucket: str, key: str) -> ListWrites[R]:
        return ListWrites(self._send, ObjectName(bucket, "list", key))

    def text(self, bucket: str, key: str) -> TextWrites[R]:
        return TextWrites(self._send, ObjectName(bucket, "text", key))
