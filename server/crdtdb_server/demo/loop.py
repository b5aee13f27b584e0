"""The plain loop: what every object must show, from the acknowledged operations alone.

It shares nothing with the database but the names of types and operations. It knows which operation
had seen which by how the story is told, not by any clock or version vector:

- operations of one region are in order;
- everything of an earlier chapter was seen by everyone before the next chapter began;
- in the chapter of the cut, nothing crossed the cut: what one side did is concurrent to what the
  other side did.

Whether two regions on the *same* side had seen each other's operation is a matter of milliseconds.
A story whose outcome hangs on that cannot be checked, so it is refused. Only a register asks for a
clock: of concurrent writes the one that began after the other was acknowledged is the later one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = ["Acknowledged", "Address", "Chapter", "Undecided", "expected"]

#: Bucket-free name of an object: type and key.
Address: TypeAlias = tuple[str, str]


class Chapter(IntEnum):
    """When: what one chapter wrote was everywhere before the next began."""

    BEFORE = 0
    CUT = 1
    AFTER = 2


class Acknowledged(NamedTuple):
    """One operation that a replica said yes to, and when, on one clock for all."""

    chapter: Chapter
    region: str
    address: Address
    plain: dict[str, Any]
    began_ms: float
    ended_ms: float


class Undecided(Exception):
    """The outcome hangs on something that the story does not say, or it is no possible story."""


def expected(history: Sequence[Acknowledged], *, isolated: str) -> dict[Address, Any]:
    """What every replica must show once all have seen everything. Collections are sorted lists.

    `history` is in the order of acknowledgement within each region; `isolated` is the region that
    was alone during the cut. Raises Undecided.
    """
    _check(history, isolated)
    objects: dict[Address, list[Acknowledged]] = {}
    for entry in history:
        objects.setdefault(entry.address, []).append(entry)
    values: dict[Address, Any] = {}
    for address, entries in objects.items():
        rule = _RULES.get(address[0])
        if rule is None:
            raise Undecided(f"there is no rule for the type {address[0]!r}")
        values[address] = rule(entries, _Order(entries, isolated))
    return values


def _check(history: Sequence[Acknowledged], isolated: str) -> None:
    """Refuse what cannot have happened in this order."""
    chapter = Chapter.BEFORE
    ended_ms: dict[str, float] = {}
    for entry in history:
        if entry.chapter < chapter:
            raise Undecided(f"{entry} comes after a later chapter")
        if not ended_ms.get(entry.region, entry.began_ms) <= entry.began_ms <= entry.ended_ms:
            raise Undecided(f"{entry} is out of order in its region")
        chapter = entry.chapter
        ended_ms[entry.region] = entry.ended_ms
    alone = {entry.region for entry in history if entry.chapter is Chapter.CUT}
    if alone and isolated not in alone:
        raise Undecided(f"nothing happened at {isolated} during the cut")


class _Order:
    """Which operation on one object had seen which."""

    def __init__(self, entries: Sequence[Acknowledged], isolated: str) -> None:
        self._position = {id(entry): position for position, entry in enumerate(entries)}
        self._isolated = isolated

    def saw(self, later: Acknowledged, earlier: Acknowledged) -> bool:
        """Had `later` seen `earlier`? Raises Undecided."""
        if earlier.chapter != later.chapter:
            return earlier.chapter < later.chapter
        if earlier.region == later.region:
            return self._position[id(earlier)] < self._position[id(later)]
        if earlier.chapter is Chapter.CUT and self._isolated in (earlier.region, later.region):
            return False
        raise Undecided(
            f"{earlier.region} and {later.region} both changed {'/'.join(later.address)} in the "
            f"chapter {later.chapter.name}: nobody knows which saw the other"
        )

    def unseen(self, entries: Sequence[Acknowledged]) -> list[Acknowledged]:
        """The operations that no other had seen when it came."""
        return [
            entry
            for entry in entries
            if not any(self.saw(other, entry) for other in entries if other is not entry)
        ]


# -- one rule per type ----------------------------------------------------------------------------


def _sum(entries: Sequence[Acknowledged], order: _Order) -> int:
    """Every step counts, except those that a reset had seen."""
    resets = [
        entry for entry in entries if _op(entry, "increment", "decrement", "reset") == "reset"
    ]
    total = 0
    for entry in entries:
        if entry not in resets and not any(order.saw(reset, entry) for reset in resets):
            total += _step(entry) if entry.plain["op"] == "increment" else -_step(entry)
    return total


def _growing_sum(entries: Sequence[Acknowledged], order: _Order) -> int:
    for entry in entries:
        _op(entry, "increment")
    return _sum(entries, order)


def _latest(entries: Sequence[Acknowledged], order: _Order) -> Any:
    """Of the writes that none had seen, the one by the clock."""
    winner, *others = _writes(entries, order)
    for entry in others:
        if winner.ended_ms < entry.began_ms:
            winner = entry
        elif not entry.ended_ms < winner.began_ms:
            raise Undecided(f"{'/'.join(entry.address)} was written at the same time on both sides")
    return winner.plain["value"]


def _all_values(entries: Sequence[Acknowledged], order: _Order) -> list[str]:
    """Every value that no write had seen."""
    return sorted({_text(entry.plain["value"]) for entry in _writes(entries, order)})


def _writes(entries: Sequence[Acknowledged], order: _Order) -> list[Acknowledged]:
    for entry in entries:
        _op(entry, "set")
        _field(entry, "value")
    return order.unseen(entries)


def _any_on(entries: Sequence[Acknowledged], order: _Order) -> bool:
    """On if any enabling is left that nothing had seen."""
    return any(_op(entry, "enable", "disable") == "enable" for entry in order.unseen(entries))


def _all_on(entries: Sequence[Acknowledged], order: _Order) -> bool:
    """Off if any disabling is left that nothing had seen."""
    return all(_op(entry, "enable", "disable") == "enable" for entry in order.unseen(entries))


def _members(entries: Sequence[Acknowledged], order: _Order) -> list[str]:
    """Every value with an add that no remove had seen."""
    removes = [entry for entry in entries if _op(entry, "add", "remove") == "remove"]
    members: set[str] = set()
    for entry in entries:
        if entry not in removes:
            gone = {
                value
                for remove in removes
                for value in _texts(remove)
                if value in _texts(entry) and order.saw(remove, entry)
            }
            members.update(set(_texts(entry)) - gone)
    return sorted(members)


def _growing_members(entries: Sequence[Acknowledged], order: _Order) -> list[str]:
    for entry in entries:
        _op(entry, "add")
    return _members(entries, order)


_RULES: Final[dict[str, Callable[[Sequence[Acknowledged], _Order], Any]]] = {
    "counter": _sum,
    "opcounter": _sum,
    "gcounter": _growing_sum,
    "register": _latest,
    "mvregister": _all_values,
    "flag": _any_on,
    "dwflag": _all_on,
    "set": _members,
    "gset": _growing_members,
}


def _op(entry: Acknowledged, *known: str) -> str:
    op = entry.plain.get("op")
    if op not in known:
        raise Undecided(f"there is no rule for {op!r} on a {entry.address[0]}")
    return str(op)


def _field(entry: Acknowledged, name: str) -> Any:
    if name not in entry.plain:
        raise Undecided(f"{entry.plain} needs {name!r}")
    return entry.plain[name]


def _step(entry: Acknowledged) -> int:
    step = _field(entry, "by")
    if type(step) is not int or step < 1:
        raise Undecided(f"{step!r} is no step of a counter")
    return step


def _texts(entry: Acknowledged) -> list[str]:
    return [_text(value) for value in _field(entry, "values")]


def _text(value: Any) -> str:
    """The story's members are strings: everybody knows their order."""
    if not isinstance(value, str):
        raise Undecided(f"{value!r} is not a string")
    return value
