"""`zset`: a sorted set. Its members are JSON values, each with a score that can be counted up.

Every member is a record of its own. Its score is

    the latest score that was added (time, then dot)  +  every increment made since

An `add` sets the score: it takes the place of the scores and increments that its replica has seen;
an increment concurrent to it counts on top. A `remove` takes out what it observed; an increment
concurrent to it makes the member again, as that increment and nothing more. A member is there as
long as a score or an increment is in force, whatever they add up to.

A payload is

    [score, steps, baselines]       one of the three, but baselines may come with a score

    score       [time, number]                        what an `add` leaves
    steps       [name, increments, sum]               what an `increment` leaves: an accumulator
    baselines   [[name, increments, sum], …] sorted   of accumulators, what has been taken out

Each replica keeps its increments of one member in an accumulator, named by the dot of the first of
them: how many there were and their exact sum (`_exact`). Only that replica writes it, so of two
states the one with more increments is the later. Nobody else replaces it: what takes it out records
what it saw of it as a baseline, and the value is Σ sum - baseline, exactly. Whatever takes the
place of a payload with baselines carries them on, so a record has at most one line for each
incarnation that ever incremented the member.

A running total is no dot, so a cut cannot remove exactly what it saw of it: `clear` and `delete`
remove member by member (at most 100,000). For the same reason a read context cannot split one
replica's increments of a member: a removal with an older one takes them out if it showed the last
of them, and else leaves them all. It never takes out what the read did not show.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

from crdtdb import hlc
from crdtdb.causal import Dot, format_dot
from crdtdb.datatype import (
    NO_PAYLOAD,
    Change,
    Cut,
    Operation,
    ReadContext,
    Restored,
    ScoredType,
    Stamp,
    View,
)
from crdtdb.errors import BadRequest, Field, InvalidOperation, TooLarge
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.record import Live, Payload
from crdtdb.types import _exact
from crdtdb.types._exact import Number
from crdtdb.types._members import member_tail

__all__ = ["TYPE"]

_Score: TypeAlias = tuple[int, int | float]
#: [incarnation, counter, increments, sum]
_Line: TypeAlias = tuple[int, int, int, _exact.Packed]


class Add(Operation, tag="add", frozen=True):
    """Put a member in with this score, or set its score."""

    member: Any
    score: int | float


class Increment(Operation, tag="increment", frozen=True):
    """Add `by` to the score of a member, which may be negative; one that is not there has none."""

    member: Any
    by: int | float = 1


class Remove(Operation, tag="remove", frozen=True):
    """Take a member out, as far as it was observed."""

    member: Any
    seen: ReadContext = None

    @property
    def repeatable(self) -> bool:
        return self.seen is not None


class Clear(Operation, tag="clear", frozen=True):
    """Take all members out, as far as they were observed; at most 100,000."""

    seen: ReadContext = None

    @property
    def repeatable(self) -> bool:
        return self.seen is not None

    @property
    def wide(self) -> bool:
        return True


class Total(NamedTuple):
    """What an accumulator has come to; of two, the greater is the later."""

    increments: int
    sum: Fraction


_NONE = Total(0, Fraction(0))
_Totals: TypeAlias = dict[Dot, Total]


class SortedSet(ScoredType):
    name = "zset"
    summary = "Members with scores that can be set and counted, in the order of either."
    operations = (Add, Increment, Remove, Clear)
    payload = tuple[_Score | None, _Line | None, list[_Line]]

    # -- writing --------------------------------------------------------------------------------

    def mutate(self, operation: Operation, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        match operation:
            case Add(member, score):
                tail = member_tail(member, "member")
                yield self._added(tail, view, _exact.number(score, "score"), stamp)
            case Increment(member, by):
                tail = member_tail(member, "member")
                yield self._counted(tail, view.live(tail), _exact.number(by, "by"), stamp)
            case Remove(member):
                tail = member_tail(member, "member")
                yield from self._removed(tail, view)
            case _:
                yield from self.delete(view, stamp)

    def delete(self, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        view = view.whole()
        if view.size() > LIMITS.delete_objects:
            raise TooLarge(
                f"each of {view.size()} members is removed by itself; remove some of them first",
                Field("op", "takes out too many members", LIMITS.delete_objects),
            )
        for tail, _ in list(view.members()):
            yield from self._removed(tail, view)

    def _added(self, tail: bytes, view: View, score: Number, stamp: Stamp) -> Change:
        live = view.live(tail)
        kept = _kept(_baselines(live.values()), view.stored(tail))
        taken_out = _joined(kept, _totals(live.values()))
        replaces = [dot for dot, (_, steps, _) in live.items() if steps is None]
        return Change(tail, replaces, ((stamp.time, score), None, _lines(taken_out)))

    def _counted(self, tail: bytes, live: Live, by: Number, stamp: Stamp) -> Change:
        before = self._exact(live)
        after = before + Fraction(by)
        if abs(after) > abs(before) and not _exact.is_finite(after):
            raise InvalidOperation(
                "the score would be beyond the range of a double; take less",
                Field("by", "leads beyond the greatest double"),
            )
        own = stamp.dot[0]
        mine = [dot for dot, (_, steps, _) in live.items() if steps is not None and dot[0] == own]
        baselines = _baselines(live.values())
        name, total = stamp.dot, _NONE
        # Of what was taken out nothing goes on: the baseline that says so may be idle, and go.
        standing = [dot for dot in mine if _is_standing(live[dot][1], baselines)]
        if standing:
            name, total = _total(live[max(standing)][1])
            # After a life that was over another one began; if that came back, there are two.
            others = [dot for dot in standing if _total(live[dot][1])[0] != name]
            mine = [dot for dot in mine if dot not in others]
        total = Total(total.increments + 1, total.sum + Fraction(by))
        return Change(tail, mine, (None, _line(name, total), []))

    def _removed(self, tail: bytes, view: View) -> Iterator[Change]:
        """Take out what was observed; nothing of that may be in force any more."""
        live = view.live(tail)
        observed = view.observed(live)
        baselines = _baselines(live.values())
        scores: list[Dot] = []
        marks: list[Dot] = []
        steps: list[Payload] = []
        for dot, payload in live.items():
            if payload[0] is None and payload[1] is None:
                marks.append(dot)
            elif dot in observed:
                if payload[1] is None:
                    scores.append(dot)
                elif _is_standing(payload[1], baselines):
                    steps.append(payload)
        if not scores and not steps:
            return
        # An earlier mark says nothing that this one does not say, too.
        replaced = _baselines(live[dot] for dot in (*scores, *marks))
        replaced = _kept(replaced, view.stored(tail))
        if taken_out := _joined(replaced, _totals(steps)):
            yield Change(tail, (*scores, *marks), (None, None, _lines(taken_out)))
        else:
            yield Change(tail, (*scores, *marks), NO_PAYLOAD)

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        for entry in value if isinstance(value, list) else [value]:
            if not isinstance(entry, dict) or entry.keys() != {"member", "score"}:
                raise BadRequest(
                    '`value` is a list of {"member","score"}',
                    Field("value", "not a list of members with scores"),
                )
            score = _exact.number(entry["score"], "value")
            yield Restored({"op": "add", "member": entry["member"], "score": score})

    # -- what peers send ------------------------------------------------------------------------

    def check(self, dot: Dot, payload: Payload) -> None:
        super().check(dot, payload)
        score, steps, baselines = payload
        if score is not None:
            time, shown = score
            if not 0 <= time <= hlc.MOST:
                raise ValueError("a time is out of range")
            _exact.check_number(shown)
        if steps is not None:
            if score is not None or baselines:
                raise ValueError("increments stand alone")
            name, total = _total(steps)
            if name[0] != dot[0] or name[1] > dot[1] or total.increments > dot[1]:
                raise ValueError("an accumulator belongs to the replica that wrote it")
        elif score is None and not baselines:
            raise ValueError("a payload without anything in it")
        lines = [steps] if steps is not None else baselines
        names = []
        for line in lines:
            name, total = _total(line)
            if name[1] < 1 or total.increments < 1:
                raise ValueError("an accumulator begins with an increment")
            names.append(name)
        if names != sorted(set(names)):
            raise ValueError("baselines are not in order")

    # -- what a cut covers ----------------------------------------------------------------------

    def since(self, live: Live, former: Live) -> Live:
        before = _totals(former.values())
        return {dot: _less(payload, before) for dot, payload in live.items()}

    def counting(self, live: Live) -> Live:
        return {dot: payload for dot, payload in live.items() if payload[1] is not None}

    def taken_out(self, live: Live, former: Live, dot: Dot) -> Payload:
        lines = _lines(_kept(_totals(former.values()), live))
        return (None, None, lines) if lines else NO_PAYLOAD

    # -- reading --------------------------------------------------------------------------------

    def alive(self, live: Live) -> bool:
        baselines = None
        for score, steps, _ in live.values():
            if score is not None:
                return True
            if steps is not None:
                if baselines is None:
                    baselines = _baselines(live.values())
                if _is_standing(steps, baselines):
                    return True
        return False

    def score(self, live: Live) -> Number:
        if len(live) == 1:
            ((score, _, _),) = live.values()
            if score is not None:
                shown: Number = score[1]
                return shown
        return _exact.rounded(self._exact(live))

    def _exact(self, live: Live) -> Fraction:
        """The score before it is rounded."""
        winner = self._winner(live)
        exact = Fraction(0 if winner is None else live[winner][0][1])
        baselines = _baselines(live.values())
        for name, total in _totals(live.values()).items():
            baseline = baselines.get(name, _NONE)
            if total.increments > baseline.increments:
                exact += total.sum - baseline.sum
        return exact

    def _winner(self, live: Live) -> Dot | None:
        scores = [dot for dot, (score, _, _) in live.items() if score is not None]
        return max(scores, key=lambda dot: (live[dot][0][0], dot), default=None)

    def decisive(self, live: Live) -> Collection[Dot]:
        """All but the scores that lose, and increments that have been taken out."""
        winner = self._winner(live)
        baselines = _baselines(live.values())
        return [
            dot
            for dot, (score, steps, _) in live.items()
            if (score is None or dot == winner)
            and (steps is None or _is_standing(steps, baselines))
        ]

    def describe(self, payload: Payload) -> dict[str, Any]:
        score, steps, baselines = payload
        told: dict[str, Any] = {}
        if score is not None:
            time, shown = score
            told |= {"score": shown, "time": time, "at_ms": hlc.milliseconds(time)}
        if steps is not None:
            told |= _told(steps)
        if baselines:
            told["baselines"] = [_told(line) for line in baselines]
        return told


def _total(line: _Line) -> tuple[Dot, Total]:
    """The accumulator that a line is about, and what it says of it. Raises ValueError."""
    incarnation, counter, increments, packed = line
    return (incarnation, counter), Total(increments, _exact.unpack(*packed))


def _line(name: Dot, total: Total) -> _Line:
    return (*name, total.increments, _exact.pack(total.sum))


def _lines(totals: _Totals) -> list[_Line]:
    return [_line(name, total) for name, total in sorted(totals.items())]


def _totals(payloads: Iterable[Payload]) -> _Totals:
    """What the accumulators among these have come to."""
    return _latest(steps for _, steps, _ in payloads if steps is not None)


def _baselines(payloads: Iterable[Payload]) -> _Totals:
    """What has been taken out, by accumulator."""
    return _latest(line for _, _, lines in payloads for line in lines)


def _latest(lines: Iterable[_Line]) -> _Totals:
    totals: _Totals = {}
    for line in lines:
        name, total = _total(line)
        totals[name] = max(total, totals.get(name, _NONE))
    return totals


def _joined(some: _Totals, others: _Totals) -> _Totals:
    names = some.keys() | others.keys()
    return {name: max(some.get(name, _NONE), others.get(name, _NONE)) for name in names}


def _kept(baselines: _Totals, stored: Live) -> _Totals:
    """The baselines of accumulators that are in force: those of others are not needed any more."""
    totals = _totals(stored.values())
    return {name: total for name, total in baselines.items() if name in totals}


def _less(payload: Payload, before: _Totals) -> Payload:
    """Increments with what their accumulator had come to as its baseline."""
    steps = payload[1]
    if steps is None:
        return payload
    name, _ = _total(steps)
    return (None, steps, [_line(name, before[name])]) if name in before else payload


def _is_standing(steps: _Line, baselines: _Totals) -> bool:
    """Has more been counted than was taken out?"""
    name, total = _total(steps)
    return total.increments > baselines.get(name, _NONE).increments


def _told(line: _Line) -> dict[str, Any]:
    name, total = _total(line)
    return {
        "accumulator": format_dot(name),
        "increments": total.increments,
        "sum": _exact.rounded(total.sum),
    }


TYPE = SortedSet()
