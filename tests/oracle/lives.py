"""Until when an object is there: its value from the causal history, the deadlines and a clock.

Said once more, sharing no code with what it judges. An event is anything that happened to one
object; each has a time, and knows which events came before it.

- A deadline counts until another one, a removal of the object, or whatever empties it, has seen it.
- Whoever finds the object after its deadline begins a new *life*: what came before is over. Unless
  a deadline counts that is later than that one, and belongs to a series begun before it.
- What happens in a life concerns nothing that was over when it happened, but `delete` and `clear`
  concern everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from oracle.specification import Event, EventId, Object, Shown, show

__all__ = ["Lives"]

_WIPES: Final = frozenset({"delete", "clear", "reset"})
_DEADLINES: Final = frozenset({"expire", "persist"})
_FOR_EVER: Final = 1 << 64


class _Told(NamedTuple):
    event: Event
    #: The deadline after which it began a new life; None: it did not.
    after: int | None
    #: What was over when it happened.
    over: frozenset[EventId]
    #: Of a deadline: when it is, and when its series began.
    deadline: int
    since: int
    #: Does it leave nothing?
    empties: bool


class Lives:
    """Everything that happened to one object."""

    def __init__(self, name: Object) -> None:
        self._name = name
        self._told: dict[EventId, _Told] = {}

    def add(self, event: Event, now_ms: int) -> None:
        """One more event; all that it has seen are there."""
        past = self._among(event.past)
        counting, over = self._counting(past), self._over(past)
        series = [one for one in counting if one.event.id not in over]
        ends = _end(series)
        op = event.operation["op"]
        after = None
        if op != "delete" and ends <= now_ms:
            after, over = ends, frozenset(one.event.id for one in past)
            event = event._replace(observed=frozenset())
        deadline = now_ms + event.operation["in_ms"] if op == "expire" else _FOR_EVER
        since = min((one.since for one in series), default=now_ms)
        told = _Told(event, after, over, deadline, since, empties=False)
        if op not in _DEADLINES:
            left = self._shown([*past, told])
            empties = self._shown(past).exists and not left.exists
            told = told._replace(empties=empties and ends < _FOR_EVER and after is None)
        self._told[event.id] = told

    def show(self, visible: Iterable[EventId], now_ms: int) -> tuple[Shown, int | None]:
        """What a reader sees at a time, and until when."""
        events = self._among(visible)
        over = self._over(events)
        ends = _end([one for one in self._counting(events) if one.event.id not in over])
        shown = show(self._name, ()) if ends <= now_ms else self._shown(events)
        return shown, ends if shown.exists and ends < _FOR_EVER else None

    def _among(self, ids: Iterable[EventId]) -> list[_Told]:
        return [self._told[one] for one in ids if one in self._told]

    def _counting(self, events: list[_Told]) -> list[_Told]:
        """The deadlines that nothing has replaced."""
        gone: set[EventId] = set()
        for one in events:
            op = one.event.operation["op"]
            if op in _DEADLINES or one.empties:
                gone |= one.event.past
            elif op in _WIPES:
                gone |= one.event.observed
        return [
            one
            for one in events
            if one.event.operation["op"] in _DEADLINES and one.event.id not in gone
        ]

    def _over(self, events: list[_Told]) -> frozenset[EventId]:
        """What came before a new life, and the deadlines that ended with what came before."""
        counting = self._counting(events)
        over: set[EventId] = set()
        for one in events:
            after = one.after
            if after is None:
                continue
            if not any(d.since < after < d.deadline for d in counting):
                over |= one.event.past
                over |= {d.event.id for d in counting if d.since < after and d.deadline <= after}
        return frozenset(over)

    def _shown(self, events: list[_Told]) -> Shown:
        over = self._over(events)
        return show(
            self._name,
            [
                one.event
                if one.event.operation["op"] in _WIPES
                else one.event._replace(
                    past=one.event.past - one.over, observed=one.event.observed - one.over
                )
                for one in events
                if one.event.id not in over and one.event.operation["op"] not in _DEADLINES
            ],
        )


def _end(series: list[_Told]) -> int:
    """The latest deadline; without any, the end of time."""
    return max((one.deadline for one in series), default=_FOR_EVER)
