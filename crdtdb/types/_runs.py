"""Runs: the elements of a sequence that were typed in one go, kept as one, and how one is found.

A run is neighbours of which each is the right child of the one before (`_fugue`) and has the next
id. What one replica types in one go is one run, until something is put in between.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Final, NamedTuple, TypeAlias

from msgspec import Meta

__all__ = [
    "LEFT",
    "RIGHT",
    "Child",
    "ElementId",
    "Generation",
    "Index",
    "Row",
    "Run",
    "Spans",
    "ids_from",
    "later_id",
]

#: (incarnation, counter, number within the operation).
ElementId: TypeAlias = tuple[
    Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=0)]
]
LEFT: Final = False
RIGHT: Final = True
_GENERATIONS: Final = 2**53 - 1

#: Of right children: none of those that stood there when the first ones came, one more each time
#: that one is put before them. Of left children always 0.
Generation: TypeAlias = Annotated[int, Meta(ge=0, le=_GENERATIONS)]

#: A run as it is stored: first id, the element it hangs below (None: at the top), is it a right
#: child, of which generation, and its values; of deleted elements only how many.
Row: TypeAlias = tuple[
    ElementId, ElementId | None, bool, Generation, list[bytes] | Annotated[int, Meta(ge=1)]
]


class Child(NamedTuple):
    """An element as a child of another one (None: of the top)."""

    id: ElementId
    parent: ElementId | None
    side: bool
    generation: int

    @property
    def rank(self) -> tuple[int, ElementId]:
        """Its place among the children on that side: the least comes first."""
        return -self.generation, self.id


class Run(NamedTuple):
    first: ElementId
    length: int
    parent: ElementId | None
    side: bool
    #: None: they are deleted.
    values: tuple[bytes, ...] | None
    #: Of the first element; all others are the first to hang below the one before.
    generation: int = 0
    #: Can the first element have left children?
    has_left: bool = False

    @property
    def child(self) -> Child:
        """The first element."""
        return Child(self.first, self.parent, self.side, self.generation)

    def id_at(self, k: int) -> ElementId:
        return later_id(self.first, k)

    def place_of(self, one: ElementId) -> int:
        """Where in the run an element is; -1: it is not."""
        first = self.first
        if one[0] != first[0] or (one[2] == 0) != (first[2] == 0):
            return -1
        if first[2] == 0:
            k = one[1] - first[1]
        elif one[1] == first[1]:
            k = one[2] - first[2]
        else:
            return -1
        return k if 0 <= k < self.length else -1

    def part(self, start: int, end: int) -> Run:
        """The elements from `start` to before `end`."""
        if start == 0 and end == self.length:
            return self
        values = None if self.values is None else self.values[start:end]
        if start == 0:
            return self._replace(length=end, values=values)
        above = self.id_at(start - 1)
        return Run(self.id_at(start), end - start, above, RIGHT, values)

    def row(self) -> Row:
        held = self.length if self.values is None else list(self.values)
        return self.first, self.parent, self.side, self.generation, held

    def joins(self, later: Run) -> bool:
        """Are this run and the one behind it one?"""
        return (
            later.side == RIGHT
            and later.generation == 0
            and (later.values is None) == (self.values is None)
            and later.first == self.id_at(self.length)
            and later.parent == self.id_at(self.length - 1)
        )

    def with_more(self, later: Run) -> Run:
        values = None
        if self.values is not None and later.values is not None:
            values = self.values + later.values
        return self._replace(length=self.length + later.length, values=values)


def later_id(one: ElementId, k: int) -> ElementId:
    incarnation, counter, number = one
    if number == 0:
        return incarnation, counter + k, 0
    return incarnation, counter, number + k


def ids_from(first: ElementId, count: int) -> Iterator[ElementId]:
    """The ids of a range: of one operation, or of operations in a row that brought one each."""
    return (later_id(first, k) for k in range(count))


class Spans:
    """A set of elements, taken in run by run."""

    def __init__(self) -> None:
        self._runs: dict[tuple[int, int], list[Run]] = {}

    def add(self, run: Run) -> None:
        self._runs.setdefault(_family(run.first), []).append(run)

    def __contains__(self, one: ElementId | None) -> bool:
        return one is not None and any(
            run.place_of(one) >= 0 for run in self._runs.get(_family(one), ())
        )


class Index:
    """Finds elements in many runs. O(log runs) each. Raises ValueError if one is there twice."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._by_family: dict[tuple[int, int], list[tuple[ElementId, int]]] = {}
        for i, run in enumerate(runs):
            self._by_family.setdefault(_family(run.first), []).append((run.first, i))
        for entries in self._by_family.values():
            entries.sort()
            for (_, i), (later, _) in pairwise(entries):
                if later < runs[i].id_at(runs[i].length):
                    raise ValueError("an element is there twice")

    def find(self, one: ElementId) -> tuple[int, int] | None:
        """Its run and its place in that."""
        entries = self._by_family.get(_family(one), [])
        before = bisect_right(entries, one, key=lambda entry: entry[0])
        if before == 0:
            return None
        i = entries[before - 1][1]
        k = self._runs[i].place_of(one)
        return None if k < 0 else (i, k)


def _family(one: ElementId) -> tuple[int, int]:
    return one[0], one[1] if one[2] else 0
