"""What happened, and what a reader sees of it: the words in which the specification speaks.

An event is one operation with the set of events that were visible where it was issued. Here is also
what may be asked of events, whatever their type.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from crdtdb.jsonbytes import encode
from crdtdb.jsonvalue import JsonValue, normalise

__all__ = [
    "WIPES",
    "ElementId",
    "Event",
    "EventId",
    "Held",
    "Missed",
    "Object",
    "Path",
    "Scope",
    "Shown",
    "covers",
    "distinct",
    "in_order",
    "members_of",
    "named",
    "not_observed",
]

#: (who, how many-th of theirs).
EventId: TypeAlias = tuple[int, int]
#: Of a list: the event that put it in, and the how many-th of that it is (0: the only one).
ElementId: TypeAlias = tuple[int, int, int]
#: (bucket, type, key).
Object: TypeAlias = tuple[str, str, str]
#: Elements of lists, by the object that they belong to.
Held: TypeAlias = Mapping[Object, frozenset[ElementId]]
#: A field of a map.
Path: TypeAlias = tuple[str, ...]

#: Operations that undo everything they observed of an object, whatever its type.
WIPES: Final = frozenset({"delete", "clear", "reset", "erase"})


class Scope(NamedTuple):
    """What an erase covers: a bucket, a type in it, or the keys of that type with one beginning."""

    bucket: str
    type: str | None = None
    key_start: str = ""


class Missed(NamedTuple):
    """A mark that was taken out for idle, where the issuer of an event was no member, and apart.

    What it wrote at that place counts as after the mark.
    """

    mark: EventId
    #: Of a map: the field and type of the leaf.
    leaf: tuple[Path, str] | None
    #: Of a set: the member, in the order of JSON values. Else nothing.
    member: bytes = b""


class Event(NamedTuple):
    """One operation that took effect somewhere."""

    id: EventId
    target: Object | Scope
    #: As users write it, `{"op": …}`; of an erase, `{"op": "erase"}`.
    operation: Mapping[str, Any]
    #: The events visible where and when it was issued.
    past: frozenset[EventId]
    #: Those that it may remove: all of `past`, or what its read context shows of it.
    observed: frozenset[EventId]
    #: When, by the issuer's hybrid logical clock. Decides between concurrent register writes.
    time: int
    #: Elements of a list that the issuer had let go, so that nothing could be put beside them.
    let_go: frozenset[ElementId] = frozenset()
    #: Did it name what it may remove, by a read context?
    has_context: bool = False
    #: What was over then, for a deadline had come. It is not in `past`; but where something was
    #: taken out of a text, its place stays.
    over: frozenset[EventId] = frozenset()
    missed: frozenset[Missed] = frozenset()


class Shown(NamedTuple):
    """What a reader sees of one object."""

    #: JSON text, so that 1, 1.0 and true are told apart.
    text: str
    exists: bool
    #: The number of members, of a collection.
    size: int | None
    #: Of a map: each leaf by itself, as JSON text.
    leaves: str = ""

    @classmethod
    def value(cls, value: JsonValue, exists: bool) -> Shown:
        """An object that reads as one value."""
        return cls(json.dumps(value, sort_keys=True), exists, None)

    @classmethod
    def members(cls, members: list[JsonValue]) -> Shown:
        """A collection; it exists while it has members."""
        return cls(json.dumps(members, sort_keys=True), bool(members), len(members))


def covers(target: Object | Scope, name: Object) -> bool:
    """Is this object the target, or within it?"""
    if not isinstance(target, Scope):
        return target == name
    bucket, type_name, key = name
    return (
        target.bucket == bucket
        and target.type in (None, type_name)
        and key.startswith(target.key_start)
    )


def not_observed(events: Iterable[Event], removals: Collection[Event]) -> list[Event]:
    return [e for e in events if not any(e.id in removal.observed for removal in removals)]


def in_order(events: Collection[Event]) -> list[Event]:
    """Each after all that its issuer had seen.

    Whatever happened before an event has fewer of these events in its past. (`past` itself is no
    measure: an erase has other objects in it, too.)
    """
    all_ids = {event.id for event in events}
    return sorted(events, key=lambda event: len(all_ids & (event.past | event.over)))


def named(events: Iterable[Event], op: str) -> list[Event]:
    return [event for event in events if event.operation["op"] == op]


def members_of(event: Event) -> list[JsonValue]:
    """The members that an add or remove names."""
    operation = event.operation
    values = operation["values"] if "values" in operation else [operation["value"]]
    return [normalise(member) for member in values]


def distinct(values: Iterable[JsonValue]) -> list[JsonValue]:
    """Equal values once, in the order of JSON values."""
    by_order = {encode(value): value for value in map(normalise, values)}
    return [by_order[order] for order in sorted(by_order)]
