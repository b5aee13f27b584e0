"""What a bounded counter must refuse, and must never show, from the causal history alone.

Rights are counted from events: what a replica added, took away, gave and was given, as far as that
is visible. It says the same of refusals as `specification` says of values, and shares no code with
what it judges. Events of transfers name the incarnation they go to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from oracle.checks import Violation
from oracle.events import Event, EventId, Object

__all__ = ["changes_nothing", "check_bounds", "refusal"]

_SIGNS: Final = {"increment": 1, "decrement": -1}


def _creations(events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event.operation["op"] == "create"]


def _standing(events: Iterable[Event]) -> list[Event]:
    """The creations that no other one has seen."""
    creations = _creations(events)
    seen = frozenset[EventId]().union(*(creation.past for creation in creations))
    return [creation for creation in creations if creation.id not in seen]


def _most(creation: Event) -> int | None:
    most: int | None = creation.operation.get("max")
    return most


def _is_conflicting(events: list[Event]) -> bool:
    standing = _standing(events)
    return len(standing) > 1 and any(_most(creation) is not None for creation in standing)


def _bounds(events: list[Event]) -> tuple[int, int | None]:
    standing = _standing(events)
    least = max(creation.operation.get("min", 0) for creation in _creations(events))
    return least, _most(standing[0]) if len(standing) == 1 else None


def _signed(event: Event) -> int:
    return _SIGNS.get(event.operation["op"], 0) * int(event.operation.get("by", 1))


def _value(events: list[Event]) -> int:
    return _bounds(events)[0] + sum(map(_signed, events))


def _moved(events: Iterable[Event], who: int, rights: str) -> int:
    """What transfers brought, less what they took away."""
    moved = 0
    for event in events:
        operation = event.operation
        if operation["op"] == "transfer" and operation.get("rights", "decrement") == rights:
            moved += operation["amount"] * ((operation["to"] == who) - (event.id[0] == who))
    return moved


def _held(events: list[Event], who: int, rights: str) -> int:
    if rights == "decrement":
        made = sum(_signed(event) for event in events if event.id[0] == who)
        return made + _moved(events, who, rights)
    (creation,) = _standing(events)
    most = _most(creation)
    assert most is not None
    under = [event for event in events if _is_under(event, creation, events)]
    used = sum(_signed(event) for event in under if event.id[0] == who)
    room = 0
    if creation.id[0] == who:
        before = [event for event in events if event.id in creation.past]
        start = _value(before) if before else int(creation.operation.get("min", 0))
        room = most - start
    return room - used + _moved(under, who, rights)


def _is_under(event: Event, creation: Event, events: list[Event]) -> bool:
    """Was it the one creation that stood, where the event was issued?"""
    return _standing(e for e in events if e.id in event.past) == [creation]


def changes_nothing(operation: Mapping[str, Any], events: list[Event]) -> bool:
    """Is it the creation of what has been created so?"""
    return operation["op"] == "create" and bool(events) and not _is_conflicting(events)


def refusal(
    operation: Mapping[str, Any], who: int, members: Iterable[int], events: list[Event]
) -> str | None:
    """Why a replica that sees these events refuses an operation; None: it carries it out."""
    if operation["op"] == "create":
        return _refused_creation(operation, events) if events else None
    if not events:
        return "invalid-operation"
    least, most = _bounds(events)
    by, rights = int(operation.get("by", 1)), "decrement"
    match operation["op"]:
        case "increment":
            rights = "increment"
        case "decrement":
            if _value(events) - by < least:
                return "out-of-bounds"
        case _:
            by, rights = operation["amount"], operation.get("rights", "decrement")
            if operation["to"] == who or operation["to"] not in members:
                return "invalid-operation"
    if rights == "increment":
        if _is_conflicting(events):
            return "conflicting-bounds"
        if most is None:
            return "invalid-operation" if operation["op"] == "transfer" else None
        if operation["op"] == "increment" and _value(events) + by > most:
            return "out-of-bounds"
    return "no-rights" if _held(events, who, rights) < by else None


def _refused_creation(operation: Mapping[str, Any], events: list[Event]) -> str | None:
    least, most = operation.get("min", 0), operation.get("max")
    if not _is_conflicting(events):
        return None if (least, most) == _bounds(events) else "conflicting-bounds"
    is_below = most is not None and most < _value(events)
    return "out-of-bounds" if least != _bounds(events)[0] or is_below else None


def check_bounds(name: Object, events: list[Event]) -> None:
    """Raise Violation if a bounded counter of which these events are visible is out of bounds.

    `max` holds where there was one creation.
    """
    if name[1] != "bcounter" or not events:
        return
    creations = _creations(events)
    if not creations:
        raise Violation("bounds", f"{name} counts, but nobody created it: {events}")
    least, most = _bounds(events)
    value = _value(events)
    if value < least or (len(creations) == 1 and most is not None and value > most):
        raise Violation("bounds", f"{name} is {value}, not within {least} and {most}")
