"""Until when an object is there: its value from the causal history, the deadlines and a clock.

Said once more, sharing no code with what it judges. An event is anything that happened to one
object; each has a time, and knows which events came before it.

- A deadline counts until another one, a removal of the object, or whatever empties it, has seen it.
- Whoever finds the object after its deadline begins a new *life*: what came before is over. Unless
  a deadline counts that is later than that one, and belongs to a series begun before it.
- What happens in a life concerns nothing that was over when it happened, but what removes the
  whole object (`delete`, `clear`, `reset`) concerns everything.
- A replica's steps are counted in *runs*. A run goes on until what it has come to is over where its
  replica counts once more; of a run there is one total, so what takes out its last step that is not
  over takes out all of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeAlias

from crdtdb.causal import VersionVector
from crdtdb.jsonbytes import encode
from crdtdb.jsonvalue import normalise
from oracle.events import ElementId, Event, EventId, Object, Shown
from oracle.history import numbers_of
from oracle.specification import is_refused, show

__all__ = ["Lives"]

_DEADLINES: Final = frozenset({"expire", "persist"})
_STEPS: Final = frozenset({"increment", "decrement"})
_FOR_EVER: Final = 1 << 64
#: What ends a life.
_END: Final[EventId] = (-1, 0)
#: Whose steps, and where in the object.
_Place: TypeAlias = tuple[Any, ...]


def _wipes(event: Event) -> bool:
    """Does it remove the whole object?"""
    operation = event.operation
    if operation["op"] == "delete":
        return "index" not in operation
    # What `clear` removes of a remove-wins set are the members that are there.
    return operation["op"] in ("clear", "reset") and event.target[1] != "rwset"


def _place_of(event: Event) -> _Place | None:
    """Of what counts: who counts, and where."""
    operation = event.operation
    field: tuple[str, ...] = ()
    if operation["op"] == "update":
        field = (*operation.get("field", ()),)
        operation = operation.get("do", operation)
    if operation["op"] not in _STEPS:
        return None
    member = encode(normalise(operation["member"])) if "member" in operation else None
    return event.id[0], field, operation.get("type"), member


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
    #: Of what began new lives before: that in vain, for the former ones came back.
    back: frozenset[EventId] = frozenset()
    #: Of a step: the first of its run.
    run: EventId | None = None


class Lives:
    """Everything that happened to one object."""

    def __init__(self, name: Object) -> None:
        self._name = name
        self._told: dict[EventId, _Told] = {}
        #: Equal histories are asked about once: what they show, and when that ends.
        self._meanings: dict[frozenset[EventId], tuple[Shown, int]] = {}

    def add(self, event: Event, now_ms: int) -> None:
        """One more event; all that it has seen are there."""
        past = self._among(event.past)
        counting, over = self._counting(past), self._over(past)
        series = [one for one in counting if one.event.id not in over]
        ends = _end(series)
        op = event.operation["op"]
        after = None
        if not (op == "delete" and _wipes(event)) and ends <= now_ms:
            after, over = ends, frozenset(one.event.id for one in past)
        deadline = now_ms + event.operation["in_ms"] if op == "expire" else _FOR_EVER
        since = min((one.since for one in series), default=now_ms)
        run = self._run(event, past, over)
        told = _Told(event, after, over, deadline, since, empties=False, run=run)
        if op not in _DEADLINES:
            left = self._shown([*past, told])
            empties = self._shown(past).exists and not left.exists
            told = told._replace(empties=empties and ends < _FOR_EVER and after is None)
        self._told[event.id] = told

    def forget(self, one: EventId, seen: VersionVector) -> None:
        """Everybody knows that there is no deadline any more, and somebody forgets it."""
        events = self._among(filter(seen.covers, self._told))
        counting, over = self._counting(events), self._over(events)
        series = [each for each in counting if each.event.id not in over]
        if series and _end(series) == _FOR_EVER:
            ended = frozenset(each.event.id for each in series)
            event = Event(one, self._name, {"op": "forget"}, ended, ended, 0)
            back = frozenset(e.event.id for e in events if e.after and not e.event.past <= over)
            self._told[one] = _Told(event, None, frozenset(), _FOR_EVER, 0, True, back=back)

    def _run(self, event: Event, past: list[_Told], over: frozenset[EventId]) -> EventId | None:
        place = _place_of(event)
        if place is None:
            return None
        before = [o for o in past if _place_of(o.event) == place and o.event.id not in over]
        return max(before, key=lambda one: one.event.id).run if before else event.id

    def show(self, seen: VersionVector, now_ms: int) -> tuple[Shown, int | None]:
        """What a reader sees at a time who has seen so much, and until when."""
        visible = frozenset(filter(seen.covers, self._told))
        if visible not in self._meanings:
            events = self._among(visible)
            over = self._over(events)
            ends = _end([one for one in self._counting(events) if one.event.id not in over])
            self._meanings[visible] = self._shown(events), ends
        shown, ends = self._meanings[visible]
        if ends <= now_ms:
            shown = show(self._name, ())
        return shown, ends if shown.exists and ends < _FOR_EVER else None

    def refuses(self, asked: Event, now_ms: int) -> bool:
        """Is there a reason in what its issuer sees then not to carry an operation out?"""
        events = self._among(asked.past)
        over = self._over(events)
        ends = _end([one for one in self._counting(events) if one.event.id not in over])
        seen = () if ends <= now_ms else self._concerned(events)
        return is_refused(self._name[1], asked, seen)

    def elements(self, visible: Iterable[EventId]) -> frozenset[ElementId]:
        """All elements that these events put into a list, or those of a map, deleted or not."""
        return frozenset(
            (*one.event.id, number)
            for one in self._among(visible)
            for number in numbers_of(one.event.operation)
        )

    def _among(self, ids: Iterable[EventId]) -> list[_Told]:
        return [self._told[one] for one in ids if one in self._told]

    def _counting(self, events: list[_Told]) -> list[_Told]:
        """The deadlines that nothing has replaced."""
        gone: set[EventId] = set()
        for one in events:
            if one.event.operation["op"] in _DEADLINES or one.empties:
                gone |= one.event.past
            elif _wipes(one.event):
                gone |= one.event.observed
        return [
            one
            for one in events
            if one.event.operation["op"] in _DEADLINES and one.event.id not in gone
        ]

    def _over(self, events: list[_Told]) -> frozenset[EventId]:
        """What came before a new life, and the deadlines that ended with what came before."""
        counting = self._counting(events)
        back = {each for one in events for each in one.back}
        over: set[EventId] = set()
        for one in events:
            after = one.after
            if after is None or one.event.id in back:
                continue
            if not any(d.since < after < d.deadline for d in counting):
                over |= one.event.past
                over |= {d.event.id for d in counting if d.since < after and d.deadline <= after}
        return frozenset(over)

    def _shown(self, events: list[_Told]) -> Shown:
        return show(self._name, self._concerned(events))

    def _concerned(self, events: list[_Told]) -> list[Event]:
        """The events, each with what it concerns only."""
        over = self._over(events)
        told = [one for one in events if one.event.operation["op"] not in (*_DEADLINES, "forget")]
        shown = [one.event if _wipes(one.event) else self._concerning(one) for one in told]
        # It is as if somebody had seen exactly that, and deleted it.
        end = Event(_END, self._name, {"op": "delete"}, over, over, 0)
        return [*shown, end] if over else shown

    def _concerning(self, one: _Told) -> Event:
        """The event with what it concerns only."""
        past = one.event.past - one.over
        runs = {self._told[e].run for e in past if e in self._told}
        runs.discard(None)
        whole = {e for e in one.event.past if e in self._told and self._told[e].run in runs}
        observed = one.event.observed - one.over
        return one.event._replace(past=past | whole, observed=observed | whole, over=one.over)


def _end(series: list[_Told]) -> int:
    """The latest deadline; without any, the end of time."""
    return max((one.deadline for one in series), default=_FOR_EVER)
