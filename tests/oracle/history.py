"""What happened: the events of one run, and which of them a replica can see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from crdtdb.causal import VersionVector
from oracle.specification import Event, EventId, Object, Scope, Shown, covers, show

__all__ = ["History"]


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
    ) -> None:
        """Note an operation; `context` is its read context, if it had one."""
        observed = past if context is None else frozenset(filter(context.covers, past))
        event = Event(event_id, target, operation, past, observed, time)
        self._ids.append(event_id)
        for name, events in self._events.items():
            if covers(target, name):
                events.append(event)

    def visible(self, seen: VersionVector) -> frozenset[EventId]:
        """The events that a replica which has seen `seen` can see."""
        return frozenset(filter(seen.covers, self._ids))

    def show(self, name: Object, visible: frozenset[EventId]) -> Shown:
        """What the specification says a reader sees of an object."""
        return show(name, (event for event in self._events[name] if event.id in visible))
