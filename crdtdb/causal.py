"""Causality as algebra: dots and version vectors.

A *dot* names one operation: (incarnation, counter), counters of one incarnation are 1, 2, 3, …
A *version vector* (VV) says what has been seen: incarnation → highest counter, everything up to
it included. VVs form a lattice: `join` is the least upper bound, `meet` the greatest lower one,
`includes` the order, `NOTHING` the bottom.

Values are immutable; every function is O(entries) unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, ItemsView, Iterable, Mapping
from typing import Final, TypeAlias

__all__ = ["NOTHING", "Dot", "VersionVector", "format_dot", "format_incarnation"]

#: (incarnation, counter ≥ 1). An incarnation is a random 64-bit number that is never reused.
Dot: TypeAlias = tuple[int, int]


_new: Final = object.__new__


class VersionVector:
    """What has been seen: incarnation → highest counter. Absent means 0."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[int, int] | None = None) -> None:
        self._entries: dict[int, int] = dict(entries) if entries else {}

    @classmethod
    def of(cls, dots: Iterable[Dot]) -> VersionVector:
        """The least vector that covers all of `dots`."""
        entries: dict[int, int] = {}
        for incarnation, counter in dots:
            if counter > entries.get(incarnation, 0):
                entries[incarnation] = counter
        return cls._own(entries)

    @classmethod
    def _own(cls, entries: dict[int, int]) -> VersionVector:
        """A vector around a dict that nobody else holds: no copy."""
        vector: VersionVector = _new(cls)
        vector._entries = entries
        return vector

    def get(self, incarnation: int) -> int:
        """The highest counter seen of `incarnation`; 0 if none. O(1)."""
        return self._entries.get(incarnation, 0)

    def covers(self, dot: Dot) -> bool:
        """Has this operation been seen? O(1)."""
        return self._entries.get(dot[0], 0) >= dot[1]

    def includes(self, other: VersionVector) -> bool:
        """Has everything been seen that `other` has seen? (`other` ≤ `self`)"""
        mine, theirs = self._entries, other._entries
        if mine is theirs:
            return True
        for incarnation, counter in theirs.items():  # noqa: SIM110 - asked several times a request
            if mine.get(incarnation, 0) < counter:
                return False
        return True

    def join(self, other: VersionVector) -> VersionVector:
        """Everything that either has seen."""
        if not other._entries:
            return self
        entries = dict(self._entries)
        for incarnation, counter in other._entries.items():
            if counter > entries.get(incarnation, 0):
                entries[incarnation] = counter
        return VersionVector._own(entries)

    def meet(self, other: VersionVector) -> VersionVector:
        """Everything that both have seen: how a token from outside is clamped to what is here."""
        theirs = other._entries
        entries = {
            incarnation: min(counter, theirs[incarnation])
            for incarnation, counter in self._entries.items()
            if incarnation in theirs
        }
        return VersionVector._own(entries)

    def with_dot(self, dot: Dot) -> VersionVector:
        """Everything seen here, and everything of the dot's incarnation up to it."""
        entries = dict(self._entries)
        if dot[1] > entries.get(dot[0], 0):
            entries[dot[0]] = dot[1]
        return VersionVector._own(entries)

    def without(self, incarnation: int) -> VersionVector:
        """The same without one incarnation's entry."""
        return VersionVector._own({i: n for i, n in self._entries.items() if i != incarnation})

    def missing(self, other: VersionVector) -> int:
        """How many operations `other` has seen that this vector has not."""
        mine = self._entries
        return sum(max(0, n - mine.get(i, 0)) for i, n in other._entries.items())

    def items(self) -> ItemsView[int, int]:
        """(incarnation, counter) pairs, in no order."""
        return self._entries.items()

    def beyond(self, dots: Collection[Dot]) -> list[int]:
        """The entries, as `flat` has them, that the least vector which covers `dots` lacks."""
        if len(dots) == len(self._entries) == 1:
            ((incarnation, counter),) = dots
            if self._entries.get(incarnation) == counter:
                return []
        implied = VersionVector.of(dots)
        entries = {i: n for i, n in self._entries.items() if implied.get(i) < n}
        return VersionVector._own(entries).flat()

    def flat(self) -> list[int]:
        """[incarnation, counter, …] sorted by incarnation: the canonical form for the codec."""
        entries = self._entries
        if len(entries) == 1:
            return [*next(iter(entries.items()))]
        return [number for entry in sorted(entries.items()) for number in entry]

    @classmethod
    def from_flat(cls, flat: list[int]) -> VersionVector:
        """The inverse of `flat`. Raises ValueError unless strictly sorted and in range."""
        if len(flat) % 2:
            raise ValueError("a version vector needs pairs")
        entries: dict[int, int] = {}
        last = -1
        for i in range(0, len(flat), 2):
            incarnation, counter = flat[i], flat[i + 1]
            if not last < incarnation < 1 << 64 or not 1 <= counter < 1 << 63:
                raise ValueError("a version vector is unsorted or out of range")
            entries[incarnation] = counter
            last = incarnation
        return cls._own(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionVector) and self._entries == other._entries

    def __hash__(self) -> int:
        return hash(frozenset(self._entries.items()))

    def __repr__(self) -> str:
        inner = ", ".join(f"{format_incarnation(i)}:{n}" for i, n in sorted(self._entries.items()))
        return f"{{{inner}}}"


#: The bottom: nothing seen.
NOTHING: Final = VersionVector()


def format_incarnation(incarnation: int) -> str:
    """An incarnation as people and documents see it: 16 hexadecimal digits."""
    return f"{incarnation:016x}"


def format_dot(dot: Dot) -> str:
    """A dot as people and documents see it."""
    return f"{dot[0]:016x}:{dot[1]}"
