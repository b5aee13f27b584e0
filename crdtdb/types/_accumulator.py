"""Running totals: what counters are made of.

Each replica keeps its increments of one counter in an *accumulator*: totals of what it added and
took away, named by the dot of its first increment (so a replica that comes back with an empty
disk, or after the old totals were reclaimed, never adds to a name that has a baseline elsewhere).
A payload is

    [name, added, taken, baselines]      baselines: [[name, added, taken], …] sorted

A reset removes exactly what it saw: it records, per accumulator, the totals it saw as a
*baseline*. The value is Σ totals − baseline. Baselines of one accumulator join by max, entry by
entry, wherever they are found; each later payload repeats the baselines of its own accumulator,
so they outlive the reset that set them.

Totals are exact integers; beyond 64 bits they travel as big-endian bytes, of which all the steps
that an incarnation has dots for fill less than 16.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, NamedTuple, TypeAlias

from msgspec import Meta

from crdtdb.causal import Dot, format_dot
from crdtdb.record import Live, Payload

__all__ = [
    "Number",
    "PayloadType",
    "Sums",
    "accumulate",
    "check",
    "counting",
    "describe",
    "is_spent",
    "pack",
    "reset",
    "since",
    "taken_out",
    "total",
    "unpack",
]

#: A total that is not negative, as it travels.
Number: TypeAlias = int | Annotated[bytes, Meta(max_length=16)]
_Baseline: TypeAlias = tuple[int, int, Number, Number]
#: [name (incarnation, counter), added, taken, baselines]
PayloadType: TypeAlias = tuple[int, int, Number, Number, list[_Baseline]]


class Sums(NamedTuple):
    """What one accumulator, or all of them, added and took away."""

    added: int
    taken: int


_NONE = Sums(0, 0)


class Step(NamedTuple):
    """The next payload of this replica and the dots it replaces."""

    replaces: Collection[Dot]
    payload: Payload


def pack(number: int) -> Number:
    """A total as it travels."""
    return number if number < 1 << 64 else number.to_bytes((number.bit_length() + 7) // 8, "big")


def unpack(number: Number) -> int:
    """The inverse of `pack`."""
    return number if isinstance(number, int) else int.from_bytes(number, "big")


def _read(live: Live) -> tuple[dict[Dot, Sums], dict[Dot, Sums]]:
    """Totals and baselines by accumulator, each joined by max."""
    totals: dict[Dot, Sums] = {}
    baselines: dict[Dot, Sums] = {}
    for incarnation, counter, added, taken, lines in live.values():
        _raise_to(totals, (incarnation, counter), Sums(unpack(added), unpack(taken)))
        for inc, n, base_added, base_taken in lines:
            _raise_to(baselines, (inc, n), Sums(unpack(base_added), unpack(base_taken)))
    return totals, baselines


def _raise_to(sums: dict[Dot, Sums], name: Dot, other: Sums) -> None:
    mine = sums.get(name, _NONE)
    sums[name] = Sums(max(mine.added, other.added), max(mine.taken, other.taken))


def _write(name: Dot, sums: Sums, baselines: dict[Dot, Sums]) -> Payload:
    lines = [
        (*accumulator, pack(base.added), pack(base.taken))
        for accumulator, base in sorted(baselines.items())
    ]
    return (*name, pack(sums.added), pack(sums.taken), lines)


def _own(live: Live, dot: Dot) -> tuple[list[Dot], Dot]:
    """This replica's live dots, and the name of its accumulator (the new dot if it has none)."""
    mine = [d for d in live if d[0] == dot[0]]
    if not mine:
        return mine, dot
    incarnation, counter, *_ = live[max(mine, key=lambda d: (_has_counted(live[d]), d))]
    name = incarnation, counter
    # After a life that was over another one began (`since`); if that came back, there are two.
    return [d for d in mine if not _has_counted(live[d]) or tuple(live[d][:2]) == name], name


def _has_counted(payload: Payload) -> bool:
    """Is it more than baselines?"""
    return bool(payload[2] or payload[3])


def check(dot: Dot, payload: Payload) -> None:
    """Raises ValueError for a payload that no replica writes with this dot."""
    incarnation, counter, added, taken, lines = payload
    if incarnation != dot[0] or not 1 <= counter <= dot[1]:
        raise ValueError("an accumulator belongs to the replica that wrote it")
    numbers = [added, taken, *(number for line in lines for number in line[2:])]
    if any(isinstance(number, int) and number < 0 for number in numbers):
        raise ValueError("totals only grow")


def describe(payload: Payload) -> dict[str, Any]:
    """A payload in names: the accumulator, its totals, and what resets took of which."""
    incarnation, counter, added, taken, lines = payload
    return {
        "accumulator": format_dot((incarnation, counter)),
        "added": unpack(added),
        "taken": unpack(taken),
        "baselines": [
            {
                "accumulator": format_dot((inc, n)),
                "added": unpack(base_added),
                "taken": unpack(base_taken),
            }
            for inc, n, base_added, base_taken in lines
        ],
    }


def total(live: Live) -> int:
    """The value: everything added less everything taken, less what resets removed."""
    if len(live) == 1:
        ((_, _, added, taken, lines),) = live.values()
        if not lines:
            try:
                alone: int = added - taken
                return alone
            except TypeError:  # great totals are bytes
                return unpack(added) - unpack(taken)
    totals, baselines = _read(live)
    value = 0
    for name, sums in totals.items():
        base = baselines.get(name, _NONE)
        value += max(0, sums.added - base.added) - max(0, sums.taken - base.taken)
    return value


def is_spent(live: Live) -> bool:
    """Has everything been reset, so that users see a counter nobody wrote?"""
    if len(live) == 1:
        ((_, _, added, taken, lines),) = live.values()
        if not lines:
            return not (added or taken)
    totals, baselines = _read(live)
    return all(
        sums.added <= baselines.get(name, _NONE).added
        and sums.taken <= baselines.get(name, _NONE).taken
        for name, sums in totals.items()
    )


def counting(live: Live) -> Live:
    """Those that have counted, and may go on."""
    return {dot: payload for dot, payload in live.items() if _has_counted(payload)}


def since(live: Live, former: Live) -> Live:
    """The same, with what the accumulators among these had come to as baselines."""
    before = _read(former)[0]
    return {dot: _less(payload, before) for dot, payload in live.items()}


def _less(payload: Payload, before: dict[Dot, Sums]) -> Payload:
    incarnation, counter, added, taken, _ = payload
    base = before.get((incarnation, counter))
    if base is None:
        return payload
    baselines = _read({(0, 0): payload})[1]
    _raise_to(baselines, (incarnation, counter), base)
    sums = Sums(unpack(added), unpack(taken))
    return _write((incarnation, counter), sums, baselines)


def taken_out(live: Live, former: Live, dot: Dot) -> Payload | None:
    """Baselines of what the accumulators among these had come to; None: of none of them."""
    before = _read(former)[0]
    names = {(payload[0], payload[1]) for payload in counting(live).values()}
    baselines = {name: sums for name, sums in before.items() if name in names}
    return _write(dot, _NONE, baselines) if baselines else None


def accumulate(live: Live, dot: Dot, by: Sums) -> Step:
    """Add to this replica's accumulator; its payload repeats the baselines it has carried."""
    if len(live) == 1:
        ((own, (incarnation, counter, added, taken, lines)),) = live.items()
        if own[0] == dot[0] and not lines:  # nobody else counts, and nothing was reset
            sums = Sums(unpack(added) + by.added, unpack(taken) + by.taken)
            return Step((own,), _write((incarnation, counter), sums, {}))
    mine, name = _own(live, dot)
    totals, baselines = _read(live)
    sums = totals.get(name, _NONE)
    carried = _read({d: live[d] for d in mine})[1]
    if name in baselines:
        carried[name] = baselines[name]
    return Step(mine, _write(name, Sums(sums.added + by.added, sums.taken + by.taken), carried))


def reset(live: Live, dot: Dot, observed: Collection[Dot]) -> Step | None:
    """Record what was observed of every accumulator as its baseline; None: it is known already.

    This replica's own totals, if they were not observed, keep the dot of their last step: by that
    alone a later removal tells whether it has observed them. The baselines then stand by
    themselves, until the next step takes them along.
    """
    baselines = _read(live)[1]
    taken_out = _read({d: live[d] for d in observed})[0]
    if all(
        sums.added <= baselines.get(accumulator, _NONE).added
        and sums.taken <= baselines.get(accumulator, _NONE).taken
        for accumulator, sums in taken_out.items()
    ):
        return None
    for accumulator, sums in taken_out.items():
        _raise_to(baselines, accumulator, sums)
    mine, name = _own(live, dot)
    if all(d in observed for d in mine):
        return Step(mine, _write(name, taken_out.get(name, _NONE), baselines))
    marks = [d for d in mine if not _has_counted(live[d])]
    return Step(marks, _write(dot, _NONE, baselines))
