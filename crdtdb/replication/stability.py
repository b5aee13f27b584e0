"""Causal stability: what every member has seen, so that nothing concurrent to it can arrive.

stable = the meet, over all members, of the last VV *reported by that member which this replica's
own VV covers entirely*; a member never heard counts as empty. "Covers entirely" is what makes it
causal: whatever a member did concurrently to a stable operation is in its report, hence here.
Reports travel with summaries, so members need not talk to each other directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from crdtdb.causal import NOTHING, VersionVector

__all__ = ["Latest", "Reports"]

_T = TypeVar("_T")


class Latest(Generic[_T]):
    """A value that is worked out again when one of the things that it is made of is another one.

    Those are immutable, or replaced when they change: they are compared by identity, in O(1).
    """

    def __init__(self) -> None:
        self._of: tuple[object, ...] = ()
        self._value: list[_T] = []

    def get(self, of: tuple[object, ...], make: Callable[[], _T]) -> _T:
        """The value made of these things."""
        if not self._value or any(a is not b for a, b in zip(of, self._of, strict=True)):
            self._of, self._value = of, [make()]
        return self._value[0]


class Reports:
    """The last VV of each member: counted once this replica's own covers it."""

    def __init__(self) -> None:
        self._counted: dict[int, VersionVector] = {}
        self._waiting: dict[int, VersionVector] = {}
        #: Another object whenever one of them counts for more.
        self.changed = object()

    def take(self, member: int, reported: VersionVector, seen: VersionVector) -> None:
        """A member says what it has seen, while this replica has seen `seen`."""
        if seen.includes(reported):
            self._count(member, reported)
        else:
            self._waiting[member] = reported

    def advance(self, seen: VersionVector) -> None:
        """This replica has seen more: count what waited for that."""
        for member, reported in list(self._waiting.items()):
            if seen.includes(reported):
                del self._waiting[member]
                self._count(member, reported)

    def _count(self, member: int, reported: VersionVector) -> None:
        counted = self._counted.get(member, NOTHING)
        if not counted.includes(reported):
            self._counted[member] = counted.join(reported)
            self.changed = object()

    def counted(self, member: int) -> VersionVector:
        """The counted report of a member; empty if it was never heard."""
        return self._counted.get(member, NOTHING)

    def told(self, member: int) -> VersionVector:
        """All that a member has said to have seen, also what counts only once that is here."""
        return self.counted(member).join(self._waiting.get(member, NOTHING))

    def table(
        self, members: Iterable[int], own: int, seen: VersionVector
    ) -> dict[int, VersionVector]:
        """The counted reports of all members, this replica's own included."""
        return {
            member: seen if member == own else self.counted(member) for member in sorted(members)
        }

    def stable(self, members: Iterable[int], own: int, seen: VersionVector) -> VersionVector:
        """What every member has seen. O(members × entries)."""
        result = seen
        for member in members:
            if member != own:
                result = result.meet(self.counted(member))
        return result

    def blocking(self, members: Iterable[int], own: int, seen: VersionVector) -> dict[int, int]:
        """Members that keep operations from being stable, and how many operations each lacks."""
        lacking = {
            member: self.counted(member).missing(seen) for member in members if member != own
        }
        return {member: count for member, count in lacking.items() if count}
