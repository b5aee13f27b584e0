"""What happened: the events of one run, and which of them a replica can see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from crdtdb.causal import VersionVector
from oracle.specification import Event, EventId, Object, Scope, Shown, covers, show

__all__ = ["History"]

#: An event that has not happened, after all that have.
_LAST: Final[EventId] = (1 << 64, 0)
_LATEST: Final = 1 << 64


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
        event = Event(_LAST, target, operation, past, observed, _LATEST)
        visible = (event for event in self._events[target] if event.id in past)
        return show(target, [*visible, event])

    def visible(self, seen: VersionVector) -> frozenset[EventId]:
        """The events that a replica which has seen `seen` can see."""
        return frozenset(filter(seen.covers, self._ids))

    def show(self, name: Object, visible: frozenset[EventId]) -> Shown:
        """What the specification says a reader sees of an object."""
        return show(name, (event for event in self._events[name] if event.id in visible))
