"""What every operation means: the value of an object, from the causal history alone.

The specification knows events, not records: an event is one operation with the set of events that
were visible where it was issued. Given a set of visible events it says what a reader sees. It
shares no code with what it judges (only the equality and order of JSON values), it is written for
reading rather than for speed, and it is one for all types: what all types have in common (deleting,
clearing, erasing) is said once, what remains of each type is a few lines.

    An event is *undone* when a visible removal has observed it.
    A removal observes what was visible where it was issued, or, given a read context, what that
    read showed of it.

Counters need no more than this: the value is the sum of the steps that nothing has undone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from crdtdb.jsonvalue import JsonValue, encode, normalise

__all__ = ["SPECIFICATIONS", "Event", "EventId", "Object", "Scope", "Shown", "covers", "show"]

#: (who, how many-th of theirs).
EventId: TypeAlias = tuple[int, int]
#: (bucket, type, key).
Object: TypeAlias = tuple[str, str, str]


class Scope(NamedTuple):
    """What an erase covers: a bucket, a type in it, or the keys of that type with one beginning."""

    bucket: str
    type: str | None = None
    key_start: str = ""


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


class Shown(NamedTuple):
    """What a reader sees of one object."""

    #: JSON text, so that 1, 1.0 and true are told apart.
    text: str
    exists: bool
    #: The number of members, of a collection.
    size: int | None

    @classmethod
    def value(cls, value: JsonValue, exists: bool) -> Shown:
        """An object that reads as one value."""
        return cls(json.dumps(value, sort_keys=True), exists, None)

    @classmethod
    def members(cls, members: list[JsonValue]) -> Shown:
        """A collection; it exists while it has members."""
        return cls(json.dumps(members, sort_keys=True), bool(members), len(members))


#: Operations that undo everything they observed of an object, whatever its type.
_WIPES: Final = frozenset({"delete", "clear", "reset", "erase"})


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


def show(name: Object, visible: Iterable[Event]) -> Shown:
    """What a reader sees of the object when exactly these events are visible."""
    events = [event for event in visible if covers(event.target, name)]
    wipes = [event for event in events if event.operation["op"] in _WIPES]
    rest = [event for event in events if event.operation["op"] not in _WIPES]
    return SPECIFICATIONS[name[1]](_not_observed(rest, wipes))


def _not_observed(events: Iterable[Event], removals: Collection[Event]) -> list[Event]:
    return [e for e in events if not any(e.id in removal.observed for removal in removals)]


def _named(events: Iterable[Event], op: str) -> list[Event]:
    return [event for event in events if event.operation["op"] == op]


# -- the types: given the events that no delete, clear, reset or erase has undone -----------------


def _counter(steps: list[Event]) -> Shown:
    """The sum of all steps."""
    signs = {"increment": 1, "decrement": -1}
    total = sum(signs[e.operation["op"]] * int(e.operation.get("by", 1)) for e in steps)
    return Shown.value(total, bool(steps))


def _register(writes: list[Event]) -> Shown:
    """Of the writes that no other write has seen, the latest."""
    seen = frozenset[EventId]().union(*(write.past for write in writes))
    unseen = [write for write in writes if write.id not in seen]
    if not unseen:
        return Shown.value(None, False)
    latest = max(unseen, key=lambda write: (write.time, write.id))
    return Shown.value(normalise(latest.operation["value"]), True)


def _mvregister(writes: list[Event]) -> Shown:
    """All writes that no other write has observed: each value once, in order."""
    values = _distinct(write.operation["value"] for write in _not_observed(writes, writes))
    return Shown.value(values, bool(values))


def _flag(switches: list[Event]) -> Shown:
    """On when some enable was observed by no disable."""
    enables, disables = _named(switches, "enable"), _named(switches, "disable")
    on = bool(_not_observed(enables, disables))
    return Shown.value(on, on)


def _dwflag(switches: list[Event]) -> Shown:
    """On when some enable was observed by no disable, and every disable was seen by an enable."""
    enables, disables = _named(switches, "enable"), _named(switches, "disable")
    overruled = frozenset[EventId]().union(*(enable.past for enable in enables))
    standing = [disable for disable in disables if disable.id not in overruled]
    on = bool(_not_observed(enables, disables)) and not standing
    return Shown.value(on, on)


def _set(changes: list[Event]) -> Shown:
    """Those members of which some add was observed by no remove."""
    adds, removes = _named(changes, "add"), _named(changes, "remove")
    present: list[JsonValue] = []
    for add in adds:
        for member in _members(add):
            against = [r for r in removes if encode(member) in map(encode, _members(r))]
            if _not_observed([add], against):
                present.append(member)
    return Shown.members(_distinct(present))


def _members(event: Event) -> list[JsonValue]:
    """The members that an add or remove names."""
    operation = event.operation
    named = operation["values"] if "values" in operation else [operation["value"]]
    return [normalise(member) for member in named]


def _distinct(values: Iterable[JsonValue]) -> list[JsonValue]:
    """Equal values once, in the order of JSON values."""
    by_order = {encode(value): value for value in map(normalise, values)}
    return [by_order[order] for order in sorted(by_order)]


SPECIFICATIONS: Final[Mapping[str, Callable[[list[Event]], Shown]]] = {
    "counter": _counter,
    "dwflag": _dwflag,
    "flag": _flag,
    "gcounter": _counter,
    "gset": _set,
    "mvregister": _mvregister,
    "opcounter": _counter,
    "register": _register,
    "set": _set,
}
