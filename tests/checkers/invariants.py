"""What values of a type may never do, whatever was written where.

- `gcounter`, `max`: never less, `gset`: never without what was there, `min`: never more, from one
  look of a viewer to the next between which no delete became visible.
- `bcounter`: never below its least value, nor above its greatest.
- `list`: two elements stand in one order for everybody, whoever has seen which deletes of the list;
  what one operation put in stands together, with nothing in it from who had not seen it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from checkers.violation import Violation

__all__ = ["Element", "Sight", "invariants"]


class Element(NamedTuple):
    """One element of a list: who put it in, and which other operations that one had seen."""

    id: str
    #: The operation that put it in; several elements can be of one.
    operation: str
    #: The operations visible where it was put in; None: not known.
    past: frozenset[str] | None = None


class Sight(NamedTuple):
    """What a viewer was shown of an object, after what it was shown before."""

    viewer: str
    object: str
    type: str
    #: A number; of a gset a list of strings; of a list a list of `Element`.
    value: Any
    #: The deletes (resets, erasures) of the object that were visible.
    deletes: frozenset[str] = frozenset()
    #: Of a bcounter: its bounds as far as they are known.
    least: int | None = None
    most: int | None = None


def invariants(history: Sequence[Sight]) -> list[Violation]:
    """Every sight that its type excludes. Pairs of list elements make it O(sights x elements²)."""
    found = []
    last: dict[tuple[str, str, str], Sight] = {}
    lists: dict[tuple[str, frozenset[str]], list[Sight]] = {}
    for sight in history:
        key = sight.viewer, sight.object, sight.type
        before = last.get(key)
        if (
            sight.type in _GROWN
            and before is not None
            and before.deletes == sight.deletes
            and not _GROWN[sight.type](before.value, sight.value)
        ):
            told = f"{sight.viewer} sees {sight.object} go from {before.value} to {sight.value}"
            found.append(Violation(f"{sight.type} is monotone", told))
        last[key] = sight
        if sight.type == "bcounter":
            found += _out_of_bounds(sight)
        if sight.type == "list":
            lists.setdefault((sight.object, sight.deletes), []).append(sight)
            found += _interleaved(sight)
    for sights in lists.values():
        found += _reordered(sights)
    return found


#: What may come after what.
_GROWN: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "gcounter": lambda before, after: after >= before,
    "gset": lambda before, after: set(before) <= set(after),
    "max": lambda before, after: before is None or (after is not None and after >= before),
    "min": lambda before, after: before is None or (after is not None and after <= before),
}


def _out_of_bounds(sight: Sight) -> Iterator[Violation]:
    below = sight.least is not None and sight.value < sight.least
    above = sight.most is not None and sight.value > sight.most
    if below or above:
        told = f"{sight.viewer} sees {sight.object} at {sight.value}"
        yield Violation("bcounter is bounded", f"{told}, not in {sight.least} … {sight.most}")


def _interleaved(sight: Sight) -> Iterator[Violation]:
    elements: list[Element] = sight.value
    places: dict[str, list[int]] = {}
    for place, element in enumerate(elements):
        places.setdefault(element.operation, []).append(place)
    for operation, own in places.items():
        for between in elements[own[0] : own[-1] + 1]:
            if (
                between.operation != operation
                and between.past is not None
                and operation not in between.past
            ):
                told = f"{sight.viewer} sees {sight.object} with {between.id} in the middle of"
                told = f"{told} what {operation} put in, unseen by who put it there"
                yield Violation("list does not interleave", told)


def _reordered(sights: Iterable[Sight]) -> Iterator[Violation]:
    """Is there one order that all sights agree with? Neighbours of any sight are its edges."""
    follows: dict[str, dict[str, Sight]] = {}
    for sight in sights:
        ids = [element.id for element in sight.value]
        if len(set(ids)) != len(ids):
            told = f"{sight.viewer} sees {sight.object} with an element twice: {ids}"
            yield Violation("list has one order", told)
        for one, other in pairwise(ids):
            follows.setdefault(one, {}).setdefault(other, sight)
    waits = dict.fromkeys({other for others in follows.values() for other in others}, 0)
    for others in follows.values():
        for other in others:
            waits[other] += 1
    free = [one for one in follows if not waits.get(one)]
    while free:
        for other in follows.pop(free.pop(), {}):
            waits[other] -= 1
            if not waits[other]:
                free.append(other)
    left = {
        one: {o: s for o, s in others.items() if waits.get(o)} for one, others in follows.items()
    }
    if any(left.values()):
        told = ", ".join(
            f"{one} before {other} ({sight.viewer})"
            for one, others in left.items()
            for other, sight in others.items()
        )
        yield Violation("list has one order", f"no order agrees with all sights: {told}")
