"""Rights: what bounded counters are made of (Balegas et al. 2015, "Extending Eventually Consistent
Cloud Databases for Enforcing Numeric Invariants").

What is between a counter's value and its bounds is divided among replicas as *rights*: whoever
takes away or adds uses as many of its own, so it needs to ask nobody. Each incarnation has one row
of that paper's matrix, which it alone writes:

    [creation, added, taken, given, upper]
    creation: null, or [counter, min, max, room, [[incarnation, counter], …]]
    given:    [[incarnation, rights to decrement given to it], …] sorted
    upper:    null, or [incarnation, counter, added, taken, given]

- **Rights to decrement** of a row: added - taken + received - given. Their sum is what the value is
  above `min`, and no row ever goes below zero, so the value does not either: not in any state that
  has with each row all that its writer had seen, and replicas have no other.
- **Rights to increment** count anew for each creation with a `max`, named by its dot: room, of the
  creator, - added + taken + received - given. What a row did under another creation does not count.
- A *creation* stands until another one that has seen it replaces it. Several that stand, one with
  a `max`: each gave out rights of its own, so together they are too many. The bounds conflict.
- The greatest of all `min` counts, whether its creation stands or not: nobody ever sees less.

Rights belong to an incarnation, and only its own row gives them away. Those of one that has gone (a
lost disk, a copied directory) stay with it: nobody else is ever certain that it does not act again,
and what it did unseen may still arrive. The bound is then kept with fewer rights than there were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, Self, TypeAlias

from msgspec import Meta

from crdtdb.causal import Dot, format_dot, format_incarnation
from crdtdb.limits import LIMITS
from crdtdb.record import Live, Payload
from crdtdb.types._accumulator import Number, pack, unpack

__all__ = [
    "Bound",
    "Creation",
    "Matrix",
    "PayloadType",
    "Row",
    "Upper",
    "check",
    "describe",
    "shifts",
]

#: What a bound may be: every JSON client holds it exactly.
Bound: TypeAlias = Annotated[int, Meta(ge=-LIMITS.step, le=LIMITS.step)]

_Given: TypeAlias = list[tuple[int, Number]]
_Creation: TypeAlias = tuple[int, Bound, Bound | None, Number, list[tuple[int, int]]]
_Upper: TypeAlias = tuple[int, int, Number, Number, _Given]
PayloadType: TypeAlias = tuple[_Creation | None, Number, Number, _Given, _Upper | None]


class Creation(NamedTuple):
    """One `create`: the bounds, and the rights to increment that it gives to its maker."""

    dot: Dot
    min: int
    max: int | None
    room: int = 0
    #: The creations that it had seen, by their makers.
    replaces: Mapping[int, int] = {}


class Upper(NamedTuple):
    """What a row did, and gave away of rights to increment, under one creation."""

    creation: Dot
    added: int = 0
    taken: int = 0
    given: Mapping[int, int] = {}


class Row(NamedTuple):
    """What one incarnation did."""

    creation: Creation | None = None
    added: int = 0
    taken: int = 0
    given: Mapping[int, int] = {}
    upper: Upper | None = None

    @classmethod
    def read(cls, incarnation: int, payload: Payload) -> Self:
        """A row from its payload."""
        creation, added, taken, given, upper = payload
        if creation is not None:
            counter, least, most, room, replaces = creation
            creation = Creation(
                (incarnation, counter), least, most, unpack(room), dict(map(tuple, replaces))
            )
        if upper is not None:
            inc, counter, upper_added, upper_taken, upper_given = upper
            upper = Upper(
                (inc, counter), unpack(upper_added), unpack(upper_taken), _read_given(upper_given)
            )
        return cls(creation, unpack(added), unpack(taken), _read_given(given), upper)

    def write(self) -> Payload:
        """The payload of a row."""
        creation = upper = None
        if self.creation is not None:
            (_, counter), least, most, room, replaces = self.creation
            creation = (counter, least, most, pack(room), sorted(replaces.items()))
        if self.upper is not None:
            named, added, taken, given = self.upper
            upper = (*named, pack(added), pack(taken), _write_given(given))
        return creation, pack(self.added), pack(self.taken), _write_given(self.given), upper


def _read_given(given: Iterable[Any]) -> dict[int, int]:
    return {incarnation: unpack(amount) for incarnation, amount in given}


def _write_given(given: Mapping[int, int]) -> _Given:
    return [(incarnation, pack(amount)) for incarnation, amount in sorted(given.items())]


class Matrix:
    """All rows of one counter, as a replica has seen them.

    To read them costs O(rows and what they gave), and so does each question at most.
    """

    def __init__(self, live: Live) -> None:
        #: By incarnation.
        self.rows = {dot[0]: Row.read(dot[0], payload) for dot, payload in sorted(live.items())}
        self._creations = [row.creation for row in self.rows.values() if row.creation is not None]
        self._received: Counter[int] = Counter()
        #: By creation, then by incarnation.
        self._uppers: dict[Dot, dict[int, Upper]] = {}
        self._upper_received: dict[Dot, Counter[int]] = {}
        for incarnation, row in self.rows.items():
            self._received.update(row.given)
            if row.upper is not None:
                named = row.upper.creation
                self._uppers.setdefault(named, {})[incarnation] = row.upper
                self._upper_received.setdefault(named, Counter()).update(row.upper.given)

    @property
    def is_created(self) -> bool:
        return bool(self._creations)

    @property
    def creations(self) -> dict[int, int]:
        """All that are known, standing or not, by their makers: what another one replaces."""
        return dict(creation.dot for creation in self._creations)

    @property
    def standing(self) -> list[Creation]:
        """The creations that no other one has replaced."""
        replaced: dict[int, int] = {}
        for creation in self._creations:
            for incarnation, counter in creation.replaces.items():
                replaced[incarnation] = max(counter, replaced.get(incarnation, 0))
        return [one for one in self._creations if one.dot[1] > replaced.get(one.dot[0], 0)]

    @property
    def is_conflicting(self) -> bool:
        """Were there several creations, and a `max` that therefore nobody can keep?"""
        standing = self.standing
        return len(standing) > 1 and any(one.max is not None for one in standing)

    @property
    def least(self) -> int:
        """The lower bound."""
        return max((creation.min for creation in self._creations), default=0)

    @property
    def bounding(self) -> Creation | None:
        """The one creation whose `max` holds; None: there is no upper bound, or none is agreed."""
        standing = self.standing
        return standing[0] if len(standing) == 1 and standing[0].max is not None else None

    @property
    def value(self) -> int:
        return self.least + sum(row.added - row.taken for row in self.rows.values())

    @property
    def holders(self) -> list[int]:
        """Everybody who wrote, or was given rights; in order."""
        return sorted({*self.rows, *self._received}.union(*self._upper_received.values()))

    def to_decrement(self, incarnation: int) -> int:
        """The rights to decrement that an incarnation holds."""
        row = self.rows.get(incarnation, Row())
        made = row.added - row.taken
        return made + self._received[incarnation] - sum(row.given.values())

    def to_increment(self, incarnation: int, creation: Creation) -> int:
        """The rights to increment that an incarnation holds under a creation with a `max`."""
        named = creation.dot
        own = self._uppers.get(named, {}).get(incarnation, Upper(named))
        received = self._upper_received.get(named, Counter())[incarnation]
        room = creation.room if named[0] == incarnation else 0
        return room - own.added + own.taken + received - sum(own.given.values())

    def check(self, live: Live) -> None:
        """Raises ValueError for what no replica's state can be: somebody used what it had not."""
        if len(self.rows) != len(live):
            raise ValueError("a replica has one row of rights")
        standing = self.standing
        if not standing:
            raise ValueError("a bounded counter counts when it was created")
        if any(self.to_decrement(incarnation) < 0 for incarnation in self.rows):
            raise ValueError("rights to decrement were used that nobody held")
        for creation in standing:
            under = self._uppers.get(creation.dot, {}) if creation.max is not None else {}
            if any(self.to_increment(incarnation, creation) < 0 for incarnation in under):
                raise ValueError("rights to increment were used that nobody held")


def shifts(held: Mapping[int, int], own: int) -> Iterator[tuple[int, int]]:
    """What `own` gives to whom, so that nobody runs out while others have plenty. O(n log n).

    Who holds most gives to those that hold less than half of an equal share as much as they lack
    of it, the poorest first, and keeps a share itself. So whoever takes in rights has to use half
    of them before it is given more, and what was given is never given back: it settles.
    """
    share = sum(held.values()) // len(held)
    if share == 0 or own != max(held, key=lambda i: (held[i], i)):
        return
    spare = held[own] - share
    for incarnation in sorted(held, key=lambda i: (held[i], i)):
        amount = min(spare, share - held[incarnation], LIMITS.step)
        if amount < 1 or 2 * held[incarnation] >= share:
            return
        spare -= amount
        yield incarnation, amount


def check(dot: Dot, payload: Payload) -> None:
    """Raises ValueError for a row that no replica writes with this dot, whatever others did."""
    creation, added, taken, given, upper = payload
    totals: list[Number] = [added, taken, *_amounts(given)]
    dots: list[tuple[int, int]] = []
    if creation is not None:
        counter, least, most, room, replaces = creation
        if not 1 <= counter <= dot[1]:
            raise ValueError("a creation belongs to the replica that made it")
        if most is not None and most < least:
            raise ValueError("the bounds exclude each other")
        totals.append(room)
        dots += replaces
    if upper is not None:
        dots.append((upper[0], upper[1]))
        totals += [upper[2], upper[3], *_amounts(upper[4])]
    if any(unpack(total) < 0 or pack(unpack(total)) != total for total in totals):
        raise ValueError("totals are not negative, and have one form")
    if any(incarnation < 1 or counter < 1 for incarnation, counter in dots):
        raise ValueError("a creation is named by its dot")


def _amounts(given: _Given) -> list[Number]:
    if any(incarnation < 1 for incarnation, _ in given):
        raise ValueError("rights are given to an incarnation")
    return [amount for _, amount in given]


def describe(payload: Payload) -> dict[str, Any]:
    """A row in names."""
    creation, added, taken, given, upper = Row.read(0, payload)
    described: dict[str, Any] = {"added": added, "taken": taken, "given": _described(given)}
    if creation is not None:
        described["created"] = {"min": creation.min, "max": creation.max, "room": creation.room}
    if upper is not None:
        described["upper"] = {
            "creation": format_dot(upper.creation),
            "added": upper.added,
            "taken": upper.taken,
            "given": _described(upper.given),
        }
    return described


def _described(given: Mapping[int, int]) -> dict[str, int]:
    return {format_incarnation(incarnation): amount for incarnation, amount in given.items()}
