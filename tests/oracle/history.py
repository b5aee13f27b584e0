"""What happened: the events of one run, and which of them a replica can see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from crdtdb.causal import VersionVector
from oracle import rights
from oracle.events import ElementId, Event, EventId, Object, Scope, Shown, covers
from oracle.requests import Request
from oracle.specification import is_refused, show

__all__ = ["History", "named_by_incarnation", "numbers_of"]

#: An event that has not happened, after all that have.
_LAST: Final[EventId] = (1 << 64, 0)
_LATEST: Final = 1 << 64


def named_by_incarnation(
    operation: Mapping[str, Any], members: Mapping[str, int]
) -> Mapping[str, Any]:
    """An operation that says which incarnation it is for, not which name."""
    return {**operation, "to": members.get(operation["to"], 0)} if "to" in operation else operation


#: Types of which an operation may be refused for what is there.
_REFUSING: Final = frozenset({"list", "map", "text"})


def numbers_of(operation: Mapping[str, Any]) -> range:
    """The numbers of the elements that an insert brings, if it is one."""
    if operation["op"] == "update" and operation.get("do", {}).get("type") == "list":
        operation = operation["do"]
    if operation["op"] != "insert":
        return range(0)
    count = len(operation.get("values", "1"))
    return range(1, count + 1) if count > 1 else range(1)


class History:
    """All events about some objects, in an order that respects causality."""

    def __init__(self, names: Iterable[Object]) -> None:
        self._ids: list[EventId] = []
        self._events: dict[Object, list[Event]] = {name: [] for name in names}

    def add(
        self,
        event_id: EventId,
        target: Object | Scope,
        operation: Mapping[str, Any],
        context: VersionVector | None,
        *,
        past: frozenset[EventId],
        time: int,
        let_go: frozenset[ElementId] = frozenset(),
    ) -> None:
        """Note an operation; `context` is its read context, if it had one.

        `let_go` are the elements of the list that the issuer's replica does not have any more.
        """
        observed = past if context is None else frozenset(filter(context.covers, past))
        has_context = context is not None
        event = Event(event_id, target, operation, past, observed, time, let_go, has_context)
        self._ids.append(event_id)
        for name, events in self._events.items():
            if covers(target, name):
                events.append(event)

    def after(
        self,
        target: Object,
        operation: Mapping[str, Any],
        context: VersionVector | None,
        *,
        past: frozenset[EventId],
    ) -> Shown:
        """What a reader would see of an object after one more operation, that comes last."""
        observed = past if context is None else frozenset(filter(context.covers, past))
        has_context = context is not None
        event = Event(_LAST, target, operation, past, observed, _LATEST, has_context=has_context)
        visible = (event for event in self._events[target] if event.id in past)
        return show(target, [*visible, event])

    def refusal(
        self,
        requests: Iterable[Request],
        who: int,
        members: Mapping[str, int],
        visible: frozenset[EventId],
    ) -> str | None:
        """Why the specification refuses a transaction of a replica; None: it does not."""
        later: dict[Object, list[Event]] = {}
        past = set(visible)
        for number, (target, asked, context) in enumerate(requests, 1):
            event_id = (who, (1 << 64) + number)
            for name in [n for n in self._events if n[1] in _REFUSING and covers(target, n)]:
                events = [e for e in self._events[name] if e.id in visible]
                events += later.get(name, [])
                before = frozenset(past)
                observed = before if context is None else frozenset(filter(context.covers, before))
                has_context = context is not None
                event = Event(
                    event_id, target, asked, before, observed, _LATEST, has_context=has_context
                )
                if is_refused(name[1], event, events):
                    return "invalid-operation"
                later.setdefault(name, []).append(event)
                past.add(event_id)
            bounded = [n for n in self._events if n[1] == "bcounter" and covers(target, n)]
            for name in bounded:
                events = [e for e in self._events[name] if e.id in visible and e.target == name]
                events += later.get(name, [])
                if isinstance(target, Scope):
                    if events:
                        return "invalid-operation"
                    continue
                operation = named_by_incarnation(asked, members)
                if slug := rights.refusal(operation, who, members.values(), events):
                    return slug
                if not rights.changes_nothing(operation, events):
                    before = frozenset(past)
                    event = Event(event_id, target, operation, before, before, _LATEST)
                    later.setdefault(name, []).append(event)
                    past.add(event_id)
        return None

    def check_bounds(self, name: Object, visible: frozenset[EventId]) -> None:
        """Raise Violation if a bounded counter is beyond its bounds where this is visible."""
        events = [e for e in self._events[name] if e.id in visible and e.target == name]
        rights.check_bounds(name, events)

    def elements(self, name: Object, visible: frozenset[EventId]) -> frozenset[ElementId]:
        """All elements that these events have put into a list, or into those in a map."""
        return frozenset(
            (*event.id, number)
            for event in self._events[name]
            if event.id in visible
            for number in numbers_of(event.operation)
        )

    def visible(self, seen: VersionVector) -> frozenset[EventId]:
        """The events that a replica which has seen `seen` can see."""
        return frozenset(filter(seen.covers, self._ids))

    def show(self, name: Object, visible: frozenset[EventId]) -> Shown:
        """What the specification says a reader sees of an object."""
        return show(name, (event for event in self._events[name] if event.id in visible))
