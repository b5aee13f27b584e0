"""Causality as algebra: dots and version vectors.

A *dot* names one operation: (incarnation, counter), counters of one incarnation are 1, 2, 3, …
A *version vector* (VV) says what has been seen: incarnation → highest counter, everything up to
it included. VVs form a lattice: `join` is the least upper bound, `meet` the greatest lower one,
`includes` the order, `NOTHING` the bottom.

A replica that lost its disk or was copied goes on under a new incarnation, and the old one stays in
all vectors for ever. So a vector may rest on a *floor*: entries that it shares with many others,
held once. What it says is the same; what it costs is the entries above the floor.

Values are immutable; every function is O(entries above the floor) for vectors on one floor, and
O(entries) for others, unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, ItemsView, Iterable, Mapping
from typing import Final, TypeAlias

__all__ = ["NOTHING", "Dot", "Floor", "VersionVector", "format_dot", "format_incarnation"]

#: (incarnation, counter ≥ 1). An incarnation is a random 64-bit number that is never reused.
Dot: TypeAlias = tuple[int, int]


_new: Final = object.__new__


class Floor(dict[int, int]):
    """Entries that vectors share. Never changed once it is made; one object for one content."""

    __slots__ = ("mark", "packed")

    def __init__(self, entries: Mapping[int, int], mark: int, packed: bytes) -> None:
        """`mark` names the content, which is also there as bytes (`crdtdb.floors`)."""
        super().__init__(entries)
        self.mark = mark
        self.packed = packed


_GROUND: Final = Floor({}, 0, b"")


class VersionVector:
    """What has been seen: incarnation → highest counter. Absent means 0."""

    __slots__ = ("_entries", "_floor")

    def __init__(self, entries: Mapping[int, int] | None = None) -> None:
        #: What is above the floor: no entry is as low as the floor's.
        self._entries: dict[int, int] = dict(entries) if entries else {}
        self._floor = _GROUND

    @classmethod
    def of(cls, dots: Iterable[Dot]) -> VersionVector:
        """The least vector that covers all of `dots`."""
        entries: dict[int, int] = {}
        for incarnation, counter in dots:
            if counter > entries.get(incarnation, 0):
                entries[incarnation] = counter
        return cls._own(entries)

    @classmethod
    def up_to(cls, incarnation: int, counter: int) -> VersionVector:
        """The least vector that covers one dot."""
        return cls._own({incarnation: counter})

    @classmethod
    def _own(cls, entries: dict[int, int], floor: Floor = _GROUND) -> VersionVector:
        """A vector around a dict that nobody else holds: no copy."""
        vector: VersionVector = _new(cls)
        vector._entries = entries
        vector._floor = floor
        return vector

    @property
    def floor(self) -> Floor:
        """The floor that this rests on; an empty one with the mark 0 if it rests on none."""
        return self._floor

    def resting_on(self, floor: Floor) -> VersionVector:
        """The same, above a floor; as it is, unless it includes all of that floor."""
        if floor is self._floor:
            return self
        whole = self._whole()
        if any(whole.get(incarnation, 0) < counter for incarnation, counter in floor.items()):
            return self
        return VersionVector._own({i: n for i, n in whole.items() if n > floor.get(i, 0)}, floor)

    def above(self, floor: Floor) -> VersionVector:
        """The join of this, which rests on no floor, with all of a floor; it rests on that."""
        return VersionVector._own(
            {i: n for i, n in self._entries.items() if n > floor.get(i, 0)}, floor
        )

    def _whole(self) -> dict[int, int]:
        """All entries; not to be changed."""
        return {**self._floor, **self._entries} if self._floor else self._entries

    def get(self, incarnation: int) -> int:
        """The highest counter seen of `incarnation`; 0 if none. O(1)."""
        return self._entries.get(incarnation) or self._floor.get(incarnation, 0)

    def covers(self, dot: Dot) -> bool:
        """Has this operation been seen? O(1)."""
        incarnation, counter = dot
        return (
            self._entries.get(incarnation, 0) >= counter
            or self._floor.get(incarnation, 0) >= counter
        )

    def includes(self, other: VersionVector) -> bool:
        """Has everything been seen that `other` has seen? (`other` ≤ `self`)"""
        mine, theirs = self._entries, other._entries
        floor, others_floor = self._floor, other._floor
        if mine is theirs and floor is others_floor:
            return True
        for incarnation, counter in theirs.items():
            if mine.get(incarnation, 0) < counter and floor.get(incarnation, 0) < counter:
                return False
        if others_floor is floor:
            return True
        return all(self.get(i) >= n for i, n in others_floor.items())

    def is_below_each(self, other: VersionVector) -> bool:
        """Is each entry of `other`, of which there are some, greater than the one here?"""
        if other._floor:
            return False
        mine, floor, theirs = self._entries, self._floor, other._entries
        for incarnation, counter in theirs.items():
            if mine.get(incarnation, 0) >= counter or floor.get(incarnation, 0) >= counter:
                return False
        return bool(theirs)

    def join(self, other: VersionVector) -> VersionVector:
        """Everything that either has seen, on the greater of their floors."""
        floor = self._floor
        if other._floor is not floor and other._floor:
            return self._join_apart(other)
        if not other._entries:
            return self
        if not self._entries and not floor:
            return other
        entries = dict(self._entries)
        for incarnation, counter in other._entries.items():
            if counter > entries.get(incarnation, 0) and counter > floor.get(incarnation, 0):
                entries[incarnation] = counter
        return VersionVector._own(entries, floor)

    def _join_apart(self, other: VersionVector) -> VersionVector:
        whole = dict(self._whole())
        for incarnation, counter in other._whole().items():
            if counter > whole.get(incarnation, 0):
                whole[incarnation] = counter
        floor = max(self._floor, other._floor, key=len)
        return VersionVector._own(whole).resting_on(floor)

    def meet(self, other: VersionVector) -> VersionVector:
        """Everything that both have seen: how a token from outside is clamped to what is here."""
        floor = self._floor
        if other._floor is not floor:
            mine, theirs = self._whole(), other._whole()
            both = {i: min(n, theirs[i]) for i, n in mine.items() if i in theirs}
            return VersionVector._own(both).resting_on(min(floor, other._floor, key=len))
        theirs = other._entries
        entries = {
            incarnation: min(counter, theirs[incarnation])
            for incarnation, counter in self._entries.items()
            if incarnation in theirs
        }
        return VersionVector._own(entries, floor)

    def with_dot(self, dot: Dot) -> VersionVector:
        """Everything seen here, and everything of the dot's incarnation up to it."""
        entries = dict(self._entries)
        incarnation, counter = dot
        if counter > entries.get(incarnation, 0) and counter > self._floor.get(incarnation, 0):
            entries[incarnation] = counter
        return VersionVector._own(entries, self._floor)

    def without(self, incarnation: int) -> VersionVector:
        """The same without one incarnation's entry. On no floor, if the floor has one."""
        is_floored = incarnation in self._floor
        entries = self._whole() if is_floored else self._entries
        left = {i: n for i, n in entries.items() if i != incarnation}
        return VersionVector._own(left, _GROUND if is_floored else self._floor)

    def missing(self, other: VersionVector) -> int:
        """How many operations `other` has seen that this vector has not."""
        theirs = other._entries if other._floor is self._floor else other._whole()
        return sum(max(0, n - self.get(i)) for i, n in theirs.items())

    def items(self) -> ItemsView[int, int]:
        """(incarnation, counter) pairs, in no order."""
        return self._whole().items()

    def beyond(self, dots: Collection[Dot]) -> list[int]:
        """The entries, as `flat` has them, that the least vector which covers `dots` lacks."""
        if len(dots) == len(self._entries) == 1 and not self._floor:
            ((incarnation, counter),) = dots
            if self._entries.get(incarnation) == counter:
                return []
        implied = VersionVector.of(dots)
        entries = {i: n for i, n in self._whole().items() if implied.get(i) < n}
        return VersionVector._own(entries).flat()

    def flat(self) -> list[int]:
        """[incarnation, counter, …] sorted by incarnation: the canonical form for the codec."""
        return _flat(self._whole())

    def flat_above(self) -> list[int]:
        """The entries above the floor, as `flat` has them: with the floor, all that this says."""
        return _flat(self._entries)

    @classmethod
    def from_flat(cls, flat: list[int]) -> VersionVector:
        """The inverse of `flat`. Raises ValueError unless strictly sorted and in range."""
        if len(flat) == 2 and 0 <= flat[0] < 1 << 64 and 1 <= flat[1] < 1 << 63:
            return cls._own({flat[0]: flat[1]})
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
        return len(self._whole())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VersionVector):
            return False
        if self._floor is other._floor:
            return self._entries == other._entries
        return self._whole() == other._whole()

    def __hash__(self) -> int:
        return hash(frozenset(self._whole().items()))

    def __repr__(self) -> str:
        inner = ", ".join(f"{format_incarnation(i)}:{n}" for i, n in sorted(self.items()))
        return f"{{{inner}}}"


def _flat(entries: Mapping[int, int]) -> list[int]:
    if len(entries) == 1:
        return [*next(iter(entries.items()))]
    return [number for entry in sorted(entries.items()) for number in entry]


#: The bottom: nothing seen.
NOTHING: Final = VersionVector()


def format_incarnation(incarnation: int) -> str:
    """An incarnation as people and documents see it: 16 hexadecimal digits."""
    return f"{incarnation:016x}"


def format_dot(dot: Dot) -> str:
    """A dot as people and documents see it."""
    return f"{dot[0]:016x}:{dot[1]}"
