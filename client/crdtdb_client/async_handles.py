"""The handles of `AsyncClient`: the methods of `crdtdb.handles`, to be awaited.

What can be written is defined once, in `crdtdb.writes`; here those operations are bound to a door
that answers later. `in` and `len` cannot wait, so there are only `contains()` and `size()`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from crdtdb.address import ObjectName
from crdtdb.answers import (
    LEFT_OUT,
    Enrolled,
    FieldRead,
    Given,
    Order,
    Plain,
    Read,
    Rights,
    Standing,
    Written,
)
from crdtdb.handles import score_in
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.writes import (
    BoundedCounterWrites,
    CounterWrites,
    FlagWrites,
    GrowingCounterWrites,
    GrowingSetWrites,
    ListWrites,
    MapWrites,
    MultiValueWrites,
    RegisterWrites,
    SetWrites,
    SketchWrites,
    SortedSetWrites,
    TextWrites,
    Writes,
)

__all__ = [
    "AsyncBoundedCounter",
    "AsyncCounter",
    "AsyncExtreme",
    "AsyncFlag",
    "AsyncGrowingCounter",
    "AsyncGrowingSet",
    "AsyncHandles",
    "AsyncList",
    "AsyncMap",
    "AsyncMembers",
    "AsyncMultiValue",
    "AsyncRegister",
    "AsyncSet",
    "AsyncSketch",
    "AsyncSortedSet",
    "AsyncText",
    "AsyncValue",
]

V = TypeVar("V")

_Later: TypeAlias = Coroutine[Any, Any, Written]


class AsyncDoor(Protocol):
    """What `crdtdb.door.Door` is, asynchronously."""

    async def read(
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
    ) -> Read[Any]: ...

    async def field(self, name: ObjectName, path: Sequence[str]) -> FieldRead: ...

    async def contains(self, name: ObjectName, value: JsonValue) -> bool: ...

    async def difference(self, name: ObjectName, since: bytes = b"") -> bytes: ...

    async def enrol(self, name: ObjectName, since: bytes = b"") -> Enrolled: ...

    async def standing(self, name: ObjectName, member: JsonValue) -> Standing | None: ...

    async def explain(
        self, name: ObjectName, member: Given = LEFT_OUT, field: Sequence[str] | None = None
    ) -> dict[str, Any]: ...

    async def update(self, name: ObjectName, operations: list[Plain]) -> Written: ...


class AsyncValue(Writes[_Later], Generic[V]):
    """An object that reads as one value."""

    def __init__(self, door: AsyncDoor, name: ObjectName) -> None:
        super().__init__(door.update, name)
        self._door = door

    async def get(self) -> Read[V]:
        """Read the value."""
        return await self._door.read(self.name)

    async def explain(self) -> dict[str, Any]:
        """Why it reads as it does: dots, writers, times, what wins and what loses."""
        return await self._door.explain(self.name)


class AsyncMembers(Writes[_Later], Generic[V]):
    """An object that reads as members, in pages and in the order of JSON values."""

    def __init__(self, door: AsyncDoor, name: ObjectName) -> None:
        super().__init__(door.update, name)
        self._door = door

    async def get(self) -> Read[list[V]]:
        """Read the first page."""
        return await self._door.read(self.name)

    async def page(
        self,
        after: str | None = None,
        limit: int = LIMITS.page_items_default,
        *,
        from_: Given = LEFT_OUT,
        to: Given = LEFT_OUT,
        reverse: bool = False,
    ) -> Read[list[V]]:
        """Read the page after `after` (the `next` of the page before, of the same query).

        A page has 1 to 1,000 members, those with `from_` ≤ member < `to`.
        """
        return await self._door.read(
            self.name, limit=limit, after=after, from_=from_, to=to, reverse=reverse
        )

    async def contains(self, value: JsonValue) -> bool:
        """Is the value a member? The cost does not depend on the size."""
        return await self._door.contains(self.name, value)

    async def size(self) -> int:
        """The number of members. The cost does not depend on it."""
        return (await self._door.read(self.name, limit=1)).size or 0

    async def explain(self, member: Given = LEFT_OUT) -> dict[str, Any]:
        """Why one member, or the first page of them, reads as it does."""
        return await self._door.explain(self.name, member)

    async def __aiter__(self) -> AsyncIterator[V]:
        page = await self.page(limit=LIMITS.page_items)
        for member in page.value:
            yield member
        while page.next is not None:
            page = await self.page(page.next, LIMITS.page_items)
            for member in page.value:
                yield member


class AsyncGrowingCounter(AsyncValue[int], GrowingCounterWrites[_Later]):
    """A handle on a `gcounter`."""


class AsyncCounter(AsyncValue[int], CounterWrites[_Later]):
    """A handle on a `counter` or `opcounter`."""


class AsyncBoundedCounter(AsyncValue[int], BoundedCounterWrites[_Later]):
    """A handle on a `bcounter`."""

    async def rights(self) -> Rights:
        """The bounds, and who may still do how much, as far as the replica asked knows."""
        return Rights.of(await self.explain())


class AsyncRegister(AsyncValue[JsonValue], RegisterWrites[_Later]):
    """A handle on a `register`."""


class AsyncMultiValue(AsyncValue[list[JsonValue]], MultiValueWrites[_Later]):
    """A handle on an `mvregister`."""


class AsyncFlag(AsyncValue[bool], FlagWrites[_Later]):
    """A handle on a `flag` or `dwflag`."""


class AsyncGrowingSet(AsyncMembers[JsonValue], GrowingSetWrites[_Later]):
    """A handle on a `gset`."""


class AsyncSet(AsyncMembers[JsonValue], SetWrites[_Later]):
    """A handle on a `set` or `rwset`."""


class AsyncExtreme(AsyncValue[JsonValue], RegisterWrites[_Later]):
    """A handle on a `max` or `min`."""


class AsyncSketch(AsyncValue[int], SketchWrites[_Later]):
    """A handle on an `hll`."""


class AsyncSortedSet(AsyncMembers[dict[str, Any]], SortedSetWrites[_Later]):
    """A handle on a `zset`: its entries are {"member", "score"}, read in the order of either."""

    async def page(
        self,
        after: str | None = None,
        limit: int = LIMITS.page_items_default,
        *,
        from_: Given = LEFT_OUT,
        to: Given = LEFT_OUT,
        reverse: bool = False,
        order: Order = "member",
    ) -> Read[list[dict[str, Any]]]:
        """Read the page after `after`; see `crdtdb.handles.SortedSet.page`."""
        return await self._door.read(
            self.name,
            limit=limit,
            after=after,
            from_=from_,
            to=to,
            reverse=reverse,
            order=order,
        )

    async def score(self, member: JsonValue) -> int | float | None:
        """The score of a member, None if it is none. The cost does not depend on the size."""
        return score_in(await self.page(from_=member, limit=1), member)

    async def rank(self, member: JsonValue) -> int | None:
        """How many members come before it, by score and among equal ones by member."""
        standing = await self._door.standing(self.name, member)
        return None if standing is None else standing.rank

    async def contains(self, value: JsonValue) -> bool:
        """Is the value a member? The cost does not depend on the size."""
        return await self.score(value) is not None


class AsyncList(AsyncMembers[dict[str, Any]], ListWrites[_Later]):
    """A handle on a `list`: its entries are {"id", "value"}, in the order users gave them."""

    async def page(
        self,
        after: str | None = None,
        limit: int = LIMITS.page_items_default,
        *,
        from_: Given = LEFT_OUT,
        to: Given = LEFT_OUT,
        reverse: bool = False,
    ) -> Read[list[dict[str, Any]]]:
        """Read the page after `after`; see `crdtdb.handles.List.page`."""
        return await super().page(after, limit, from_=from_, to=to, reverse=reverse)

    async def contains(self, value: JsonValue) -> bool:
        """Is there an element with this value? O(size)."""
        return await super().contains(value)


class AsyncText(AsyncValue[str], TextWrites[_Later]):
    """A handle on a `text`."""

    async def difference(self, since: bytes = b"") -> bytes:
        """What a Yjs document with this state vector lacks; see `crdtdb.handles.Text`."""
        return await self._door.difference(self.name, since)

    async def enrol(self, since: bytes = b"") -> Enrolled:
        """Get an editor a client id, and what it lacks; see `crdtdb.handles.Text.enrol`."""
        return await self._door.enrol(self.name, since)


class AsyncMap(AsyncValue[dict[str, Any]], MapWrites[_Later]):
    """A handle on a `map`: a field is a list of names, a leaf of any other type but `bcounter`."""

    async def field(self, field: Sequence[str]) -> FieldRead:
        """One field: a leaf, or what is below it. The cost does not depend on the map's size."""
        return await self._door.field(self.name, field)

    async def page(
        self,
        prefix: Sequence[str] = (),
        after: str | None = None,
        limit: int = LIMITS.page_items_default,
    ) -> Read[list[dict[str, Any]]]:
        """Read the leaves at a field and below, in order; see `crdtdb.handles.Map.page`."""
        return await self._door.read(self.name, prefix=prefix, after=after, limit=limit)

    async def size(self) -> int:
        """The number of values and members of all leaves. The cost does not depend on it."""
        return (await self._door.read(self.name, limit=1)).size or 0

    async def explain(self, field: Sequence[str] | None = None) -> dict[str, Any]:
        """Why a field and what is below it, or the first page, reads as it does."""
        return await self._door.explain(self.name, field=field)


class AsyncHandles:
    """The handles of an asynchronous door; mixed into it."""

    def counter(self: AsyncDoor, bucket: str, key: str) -> AsyncCounter:
        return AsyncCounter(self, ObjectName(bucket, "counter", key))

    def bcounter(self: AsyncDoor, bucket: str, key: str) -> AsyncBoundedCounter:
        return AsyncBoundedCounter(self, ObjectName(bucket, "bcounter", key))

    def gcounter(self: AsyncDoor, bucket: str, key: str) -> AsyncGrowingCounter:
        return AsyncGrowingCounter(self, ObjectName(bucket, "gcounter", key))

    def opcounter(self: AsyncDoor, bucket: str, key: str) -> AsyncCounter:
        return AsyncCounter(self, ObjectName(bucket, "opcounter", key))

    def register(self: AsyncDoor, bucket: str, key: str) -> AsyncRegister:
        return AsyncRegister(self, ObjectName(bucket, "register", key))

    def mvregister(self: AsyncDoor, bucket: str, key: str) -> AsyncMultiValue:
        return AsyncMultiValue(self, ObjectName(bucket, "mvregister", key))

    def flag(self: AsyncDoor, bucket: str, key: str) -> AsyncFlag:
        return AsyncFlag(self, ObjectName(bucket, "flag", key))

    def dwflag(self: AsyncDoor, bucket: str, key: str) -> AsyncFlag:
        return AsyncFlag(self, ObjectName(bucket, "dwflag", key))

    def set(self: AsyncDoor, bucket: str, key: str) -> AsyncSet:
        return AsyncSet(self, ObjectName(bucket, "set", key))

    def gset(self: AsyncDoor, bucket: str, key: str) -> AsyncGrowingSet:
        return AsyncGrowingSet(self, ObjectName(bucket, "gset", key))

    def rwset(self: AsyncDoor, bucket: str, key: str) -> AsyncSet:
        return AsyncSet(self, ObjectName(bucket, "rwset", key))

    def map(self: AsyncDoor, bucket: str, key: str) -> AsyncMap:
        return AsyncMap(self, ObjectName(bucket, "map", key))

    def max(self: AsyncDoor, bucket: str, key: str) -> AsyncExtreme:
        return AsyncExtreme(self, ObjectName(bucket, "max", key))

    def min(self: AsyncDoor, bucket: str, key: str) -> AsyncExtreme:
        return AsyncExtreme(self, ObjectName(bucket, "min", key))

    def hll(self: AsyncDoor, bucket: str, key: str) -> AsyncSketch:
        return AsyncSketch(self, ObjectName(bucket, "hll", key))

    def zset(self: AsyncDoor, bucket: str, key: str) -> AsyncSortedSet:
        return AsyncSortedSet(self, ObjectName(bucket, "zset", key))

    def list(self: AsyncDoor, bucket: str, key: str) -> AsyncList:
        return AsyncList(self, ObjectName(bucket, "list", key))

    def text(self: AsyncDoor, bucket: str, key: str) -> AsyncText:
        return AsyncText(self, ObjectName(bucket, "text", key))
