"""What was acknowledged, what must therefore be shown, and what a replica shows instead.

The comparator is a plain loop over the writes. So that it can tell one right answer, a set's
member is added once and removed by who added it, and a writer's register is its own; the shared
register may show any value that was sent, as long as all replicas show the same.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from crdtdb.jsonvalue import JsonValue

__all__ = ["SHARED", "Ledger", "Shown", "Write", "progress_key", "wrong_answers"]

#: The key of the counter, the set and the register that all write to.
SHARED: Final = "shared"


def progress_key(origin: str) -> str:
    """The counter that every write of a replica's writer increments by one, in the same commit."""
    return f"written-at-{origin}"


class Write(NamedTuple):
    """One write, as its writer knows it."""

    origin: str
    kind: Literal["count", "add", "remove", "set"]
    key: str
    value: int | str
    #: False: no answer came, so it may have happened or not.
    acknowledged: bool = True


class Shown(NamedTuple):
    """What one replica shows, by key."""

    counters: dict[str, int]
    members: frozenset[str]
    registers: dict[str, JsonValue]


class Ledger:
    """The writes of one run, each writer's in order."""

    def __init__(self, origins: Iterable[str]) -> None:
        self.writes: list[Write] = []
        #: When each acknowledged write of a replica's writer was answered, ascending.
        self.answered_s: dict[str, list[float]] = {origin: [] for origin in origins}

    def note(self, write: Write, now_s: float) -> None:
        """A write has ended."""
        self.writes.append(write)
        if write.acknowledged:
            insort(self.answered_s[write.origin], now_s)

    def behind(self, shown: dict[str, int], now_s: float) -> tuple[int, float]:
        """How far a replica is behind that shows so many writes of each origin.

        In acknowledged writes that it does not show, and in seconds since the oldest of them.
        """
        missing, lag_s = 0, 0.0
        for origin, answered in self.answered_s.items():
            unseen = answered[shown[origin] :]
            missing += len(unseen)
            if unseen:
                lag_s = max(lag_s, now_s - unseen[0])
        return missing, lag_s


def wrong_answers(writes: Sequence[Write], shown: Shown) -> list[str]:
    """How what a replica shows differs from a plain loop over the writes; empty: in nothing."""
    low: Counter[str] = Counter()
    high: Counter[str] = Counter()
    must: set[str] = set()
    may: set[str] = set()
    registers: defaultdict[str, set[JsonValue]] = defaultdict(set)
    for write in writes:
        progress = progress_key(write.origin)
        high[progress] += 1
        low[progress] += write.acknowledged
        match write.kind, write.value:
            case "count", int(by):
                low[write.key] += by if write.acknowledged else min(by, 0)
                high[write.key] += by if write.acknowledged else max(by, 0)
            case "add", str(member):
                may.add(member)
                if write.acknowledged:
                    must.add(member)
            case "remove", str(member):
                must.discard(member)
                if write.acknowledged:
                    may.discard(member)
            case "set", value:
                if write.acknowledged and write.key != SHARED:
                    registers[write.key].clear()
                registers[write.key].add(value)
    wrong = [
        f"counter {key} shows {shown.counters.get(key, 0)}, not {low[key]} to {high[key]}"
        for key in high.keys() | low.keys()
        if not low[key] <= shown.counters.get(key, 0) <= high[key]
    ]
    wrong += [f"lost: member {member}" for member in sorted(must - shown.members)]
    wrong += [f"made up or undead: member {member}" for member in sorted(shown.members - may)]
    wrong += [
        f"register {key} shows {shown.registers.get(key)!r}, none of {len(allowed)} possible"
        for key, allowed in registers.items()
        if shown.registers.get(key) not in allowed
    ]
    return wrong
