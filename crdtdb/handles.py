"""Typed handles on objects: what Python callers hold, the same at every door.

A handle knows an object's name and turns method calls into plain operations; a *door* carries
them out: embedded (`crdtdb.Database`) or over HTTP (`crdtdb_client.Client`). Every method is a
verb; `in`, `len` and iteration are sugar.

    >>> from crdtdb import Database
    >>> db = Database.in_memory()
    >>> cart = db.set("shop", "cart:42")
    >>> cart.add("pear", "apple", True)
    Written(changed=True, value=None, size=3, acked=None)
    >>> list(cart), "pear" in cart, 1 in cart
    ([True, 'apple', 'pear'], True, False)

What can be written is in `writes`; here is what can be read besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

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
    Written,
)
from crdtdb.door import Door
from crdtdb.jsonbytes import encode
from crdtdb.jsonvalue import JsonValue, normalise
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

__all__ = ["Handles", "Plain", "Read", "Written"]

V = TypeVar("V")


class Value(Writes[Written], Generic[V]):
    """An object that reads as one value."""

    def __init__(self, door: Door, name: ObjectName) -> None:
        super().__init__(door.update, name)
        self._door = door

    def get(self) -> Read[V]:
        """Read the value."""
        return self._door.read(self.name)

    def explain(self) -> dict[str, Any]:
        """Why it reads as it does: dots, writers, times, what wins and what loses."""
        return self._door.explain(self.name)


class Members(Writes[Written], Generic[V]):
    """An object that reads as members, in pages and in the order of JSON values."""

    def __init__(self, door: Door, name: ObjectName) -> None:
        super().__init__(door.update, name)
        self._door = door

    def get(self) -> Read[list[V]]:
        """Read the first page."""
        return self._door.read(self.name)

    def page(
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

            >>> from crdtdb import Database
            >>> numbers = Database.in_memory().set("shop", "numbers")
            >>> _ = numbers.add(1, 2, 3, 10, "ten")
            >>> numbers.page(limit=2, from_=2).value
            [2, 3]
            >>> numbers.page(to=10, reverse=True).value
            [3, 2, 1]
        """
        return self._door.read(
            self.name, limit=limit, after=after, from_=from_, to=to, reverse=reverse
        )

    def contains(self, value: JsonValue) -> bool:
        """Is the value a member? The cost does not depend on the size."""
        return self._door.contains(self.name, value)

    def size(self) -> int:
        """The number of members. The cost does not depend on it."""
        return self._door.read(self.name, limit=1).size or 0

    def explain(self, member: Given = LEFT_OUT) -> dict[str, Any]:
        """Why one member, or the first page of them, reads as it does."""
        return self._door.explain(self.name, member)

    def __contains__(self, value: JsonValue) -> bool:
        return self.contains(value)

    def __len__(self) -> int:
        return self.size()

    def __iter__(self) -> Iterator[V]:
        page = self.page(limit=LIMITS.page_items)
        yield from page.value
        while page.next is not None:
            page = self.page(page.next, LIMITS.page_items)
            yield from page.value


class GrowingCounter(Value[int], GrowingCounterWrites[Written]):
    """A handle on a `gcounter`."""


class Counter(Value[int], CounterWrites[Written]):
    """A handle on a `counter` or `opcounter`."""


class BoundedCounter(Value[int], BoundedCounterWrites[Written]):
    """A handle on a `bcounter`."""

    def rights(self) -> Rights:
        """The bounds, and who may still do how much, as far as the replica asked knows.

        >>> from crdtdb import Database
        >>> stock = Database.in_memory(replica="eu-1").bcounter("shop", "stock")
        >>> _ = stock.create(max=10), stock.increment(4)
        >>> [(held.replica, held.decrement, held.increment) for held in stock.rights().held]
        [('eu-1', 4, 6)]
        """
        return Rights.of(self.explain())


class Register(Value[JsonValue], RegisterWrites[Written]):
    """A handle on a `register`."""


class MultiValue(Value[list[JsonValue]], MultiValueWrites[Written]):
    """A handle on an `mvregister`."""


class Flag(Value[bool], FlagWrites[Written]):
    """A handle on a `flag` or `dwflag`."""


class GrowingSet(Members[JsonValue], GrowingSetWrites[Written]):
    """A handle on a `gset`."""


class Set(Members[JsonValue], SetWrites[Written]):
    """A handle on a `set` or `rwset`."""


class Extreme(Value[JsonValue], RegisterWrites[Written]):
    """A handle on a `max` or `min`."""


class Sketch(Value[int], SketchWrites[Written]):
    """A handle on an `hll`."""


class SortedSet(Members[dict[str, Any]], SortedSetWrites[Written]):
    """A handle on a `zset`: its entries are {"member", "score"}, read in the order of either.

    >>> from crdtdb import Database
    >>> scores = Database.in_memory().zset("game", "scores")
    >>> _ = scores.add("ann", 10), scores.add("bo", 7.5), scores.increment("bo", 4)
    >>> scores.score("bo"), scores.rank("bo"), "cy" in scores
    (11.5, 1, False)
    >>> scores.page(order="rank", reverse=True, limit=1).value
    [{'member': 'bo', 'score': 11.5, 'rank': 1}]
    """

    def page(
        self,
        after: str | None = None,
        limit: int = LIMITS.page_items_default,
        *,
        from_: Given = LEFT_OUT,
        to: Given = LEFT_OUT,
        reverse: bool = False,
        order: Order = "member",
    ) -> Read[list[dict[str, Any]]]:
        """Read the page after `after` (the `next` of the page before, of the same query).

        A page has 1 to 1,000 entries, those with `from_` ≤ member, score or rank < `to`. Ranks
        count from 0, the least score; with `reverse` a page begins at its greatest end. By member
        it takes nothing but the page; by score or rank the first who asks has all members ranked,
        in memory. Through a listing by score each member whose score stays the same appears once.
        """
        return self._door.read(
            self.name,
            limit=limit,
            after=after,
            from_=from_,
            to=to,
            reverse=reverse,
            order=order,
        )

    def score(self, member: JsonValue) -> int | float | None:
        """The score of a member, None if it is none. The cost does not depend on the size."""
        return score_in(self.page(from_=member, limit=1), member)

    def rank(self, member: JsonValue) -> int | None:
        """How many members come before it, by score and among equal ones by member."""
        standing = self._door.standing(self.name, member)
        return None if standing is None else standing.rank

    def contains(self, value: JsonValue) -> bool:
        """Is the value a member? The cost does not depend on the size."""
        return self.score(value) is not None


class Map(Value[dict[str, Any]], MapWrites[Written]):
    """A handle on a `map`: a field is a list of names, a leaf is of any other type but `bcounter`.

    >>> from crdtdb import Database
    >>> cart = Database.in_memory().map("shop", "cart:42")
    >>> _ = cart.update(["items", "apple"], {"type": "counter", "op": "increment", "by": 3})
    >>> _ = cart.update(["tags"], {"type": "set", "op": "add", "values": ["gift", "fast"]})
    >>> cart.get().value
    {'items': {'apple': 3}, 'tags': ['fast', 'gift']}
    >>> cart.field(["items", "apple"]).value
    3
    >>> cart.page(["items"]).value
    [{'field': ['items', 'apple'], 'type': 'counter', 'value': 3}]
    >>> cart.remove(["items"]).size, cart.field(["items", "apple"]).type
    (2, None)
    """

    def field(self, field: Sequence[str]) -> FieldRead:
        """One field: a leaf, or what is below it. The cost does not depend on the map's size."""
        return self._door.field(self.name, field)

    def page(
        self,
        prefix: Sequence[str] = (),
        after: str | None = None,
        limit: int = LIMITS.page_items_default,
    ) -> Read[list[dict[str, Any]]]:
        """Read the leaves at a field and below, in order: {"field", "type", "value"}.

        A page has 1 to 1,000 values or members; a collection may go on in the next, after `after`
        (the `next` of the page before, of the same query).
        """
        return self._door.read(self.name, prefix=prefix, after=after, limit=limit)

    def size(self) -> int:
        """The number of values and members of all leaves. The cost does not depend on it."""
        return self._door.read(self.name, limit=1).size or 0

    def explain(self, field: Sequence[str] | None = None) -> dict[str, Any]:
        """Why a field and what is below it, or the first page, reads as it does."""
        return self._door.explain(self.name, field=field)


def score_in(page: Read[list[dict[str, Any]]], member: JsonValue) -> int | float | None:
    """The score of a member in a page that begins there, if it is one."""
    wanted = encode(normalise(member))
    scores = (one["score"] for one in page.value if encode(normalise(one["member"])) == wanted)
    return next(scores, None)


class List(Members[dict[str, Any]], ListWrites[Written]):
    """A handle on a `list`: its entries are {"id", "value"}, in the order users gave them.

    >>> from crdtdb import Database
    >>> todo = Database.in_memory().list("home", "todo")
    >>> _ = todo.append("wash", "dry"), todo.insert(1, "rinse")
    >>> rinse = todo.page(from_=1, limit=1).value[0]["id"]
    >>> _ = todo.insert_after(rinse, "spin"), todo.remove_at(0)
    >>> [entry["value"] for entry in todo]
    ['rinse', 'spin', 'dry']
    """

    def page(
        self,
        after: str | None = None,
        limit: int = LIMITS.page_items_default,
        *,
        from_: Given = LEFT_OUT,
        to: Given = LEFT_OUT,
        reverse: bool = False,
    ) -> Read[list[dict[str, Any]]]:
        """Read the page after `after` (the `next` of the page before, of the same query).

        A page has 1 to 1,000 entries, those with `from_` ≤ position < `to`. What is there during
        the whole listing appears exactly once, whatever comes in or goes meanwhile.
        """
        return super().page(after, limit, from_=from_, to=to, reverse=reverse)

    def contains(self, value: JsonValue) -> bool:
        """Is there an element with this value? O(size)."""
        return super().contains(value)


class Text(Value[str], TextWrites[Written]):
    """A handle on a `text`.

    >>> from crdtdb import Database
    >>> note = Database.in_memory().text("home", "note")
    >>> note.append("buy pears").size
    9
    >>> _ = note.remove(4, 5), note.insert(4, "apples")
    >>> note.get().value
    'buy apples'
    """

    def difference(self, since: bytes = b"") -> bytes:
        """What a Yjs document lacks that has this state vector (empty: all): an update for it.

        The document has the text under the name `text`.
        """
        return self._door.difference(self.name, since)

    def enrol(self, since: bytes = b"") -> Enrolled:
        """Get an editor a client id to type under, and what it lacks (as `difference`).

        Edits under that id are taken in at this replica only: an editor that goes elsewhere is
        enrolled there, too. Under any other id, what is new is refused, for nobody could tell
        apart what two replicas take in under one.

            >>> from crdtdb import Database
            >>> from pycrdt import Doc, Text
            >>> note = Database.in_memory().text("home", "note")
            >>> enrolled = note.enrol()
            >>> editor = Doc(client_id=enrolled.client)
            >>> editor.apply_update(enrolled.update)
            >>> editor.get("text", type=Text).insert(0, "buy pears")
            >>> note.update(editor.get_update()).changed, note.get().value
            (True, 'buy pears')
        """
        return self._door.enrol(self.name, since)


class Handles:
    """The handles of a synchronous door; mixed into it."""

    def counter(self: Door, bucket: str, key: str) -> Counter:
        return Counter(self, ObjectName(bucket, "counter", key))

    def bcounter(self: Door, bucket: str, key: str) -> BoundedCounter:
        return BoundedCounter(self, ObjectName(bucket, "bcounter", key))

    def gcounter(self: Door, bucket: str, key: str) -> GrowingCounter:
        return GrowingCounter(self, ObjectName(bucket, "gcounter", key))

    def opcounter(self: Door, bucket: str, key: str) -> Counter:
        return Counter(self, ObjectName(bucket, "opcounter", key))

    def register(self: Door, bucket: str, key: str) -> Register:
        return Register(self, ObjectName(bucket, "register", key))

    def mvregister(self: Door, bucket: str, key: str) -> MultiValue:
        return MultiValue(self, ObjectName(bucket, "mvregister", key))

    def flag(self: Door, bucket: str, key: str) -> Flag:
        return Flag(self, ObjectName(bucket, "flag", key))

    def dwflag(self: Door, bucket: str, key: str) -> Flag:
        return Flag(self, ObjectName(bucket, "dwflag", key))

    def set(self: Door, bucket: str, key: str) -> Set:
        return Set(self, ObjectName(bucket, "set", key))

    def gset(self: Door, bucket: str, key: str) -> GrowingSet:
        return GrowingSet(self, ObjectName(bucket, "gset", key))

    def rwset(self: Door, bucket: str, key: str) -> Set:
        return Set(self, ObjectName(bucket, "rwset", key))

    def map(self: Door, bucket: str, key: str) -> Map:
        return Map(self, ObjectName(bucket, "map", key))

    def max(self: Door, bucket: str, key: str) -> Extreme:
        return Extreme(self, ObjectName(bucket, "max", key))

    def min(self: Door, bucket: str, key: str) -> Extreme:
        return Extreme(self, ObjectName(bucket, "min", key))

    def hll(self: Door, bucket: str, key: str) -> Sketch:
        return Sketch(self, ObjectName(bucket, "hll", key))

    def zset(self: Door, bucket: str, key: str) -> SortedSet:
        return SortedSet(self, ObjectName(bucket, "zset", key))

    def list(self: Door, bucket: str, key: str) -> List:
        return List(self, ObjectName(bucket, "list", key))

    def text(self: Door, bucket: str, key: str) -> Text:
        return Text(self, ObjectName(bucket, "text", key))
