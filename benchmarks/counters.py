"""A counter kept as a state against one kept as operations: time, bytes kept, bytes sent.

    python benchmarks/counters.py [--quick] [--rounds N] [--seed N] [--json FILE]

`counter` keeps a total for each replica and joins it; `opcounter` keeps each increment until all
replicas have it, then folds. Both get the same increments of one object, in turns:

- time of single increments, and of reading the value among them, in memory;
- bytes kept of increments that a peer has not seen yet, and sent when it comes back (counted, the
  same in every run with one seed);
- bytes sent of increments that a peer gets at once, one commit each (likewise).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

import command
from catch_up import Pair
from crdtdb.address import ObjectName
from crdtdb.database import Database
from disk import Disk
from figures import Figure, Round
from plan import Plan
from updates import update
from virtual_network import Traffic

__all__ = ["measure"]

_STATE: Final = "counter"
_OPERATIONS: Final = "opcounter"
_KINDS: Final = (_STATE, _OPERATIONS)
_TOGETHER: Final = 1_000
#: Between two commits that a peer gets at once.
_EVERY_MS: Final = 20


def measure(
    plan: Plan, _directory: Path, _disk: Disk, increments: int | None = None
) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    count = increments or (10_000 if plan.quick else 100_000)
    yield from _times(plan)
    kept, missed = zip(*(_missed(kind, count, plan.seed) for kind in _KINDS), strict=True)
    yield _bytes(f"{count:,} increments a peer lacks: bytes kept", kept)
    yield _bytes(f"{count:,} increments a peer lacks: bytes sent", missed)
    pushed = [_pushed(kind, count // 10, plan.seed) for kind in _KINDS]
    yield _bytes(f"{count // 10:,} commits of one increment: bytes sent", pushed)


def _bytes(what: str, sizes: Sequence[int]) -> Figure:
    measured = {f"{kind} B": float(size) for kind, size in zip(_KINDS, sizes, strict=True)}
    state, operations = sizes
    return Figure(f"{what}: {_OPERATIONS} / {_STATE}", None, [Round(operations / state, measured)])


def _times(plan: Plan) -> Iterator[Figure]:
    """The two take turns at each operation; medians of each round."""
    rounds: dict[str, list[Round]] = {"increment": [], "read": []}
    with Database.in_memory() as database:
        names = {kind: ObjectName("bench", kind, "views") for kind in _KINDS}
        for number in range(-1, plan.rounds):
            took_s: dict[tuple[str, str], list[float]] = {}
            for _ in range(10 * plan.operations):
                for kind, name in names.items():
                    began = perf_counter()
                    database.update(name, [{"op": "increment"}])
                    between = perf_counter()
                    database.read(name)
                    ended = perf_counter()
                    took_s.setdefault(("increment", kind), []).append(between - began)
                    took_s.setdefault(("read", kind), []).append(ended - between)
            if number < 0:
                continue  # the warm-up
            for what, done in rounds.items():
                state_us, operations_us = (median(took_s[what, kind]) * 1e6 for kind in _KINDS)
                measured = {f"{_STATE} µs": state_us, f"{_OPERATIONS} µs": operations_us}
                done.append(Round(operations_us / state_us, measured))
    for what, done in rounds.items():
        yield Figure(f"{what}: {_OPERATIONS} / {_STATE}", None, done)


def _missed(kind: str, increments: int, seed: int) -> tuple[int, int]:
    """Bytes kept of what a peer has not seen, and sent when it comes back."""
    pair = Pair(seed, kind)
    with pair.apart() as donor:
        before = donor.engine.store.stats().used_bytes
        for _ in range(0, increments, _TOGETHER):
            donor.write(*[update(kind, "views", "increment")] * _TOGETHER)
        kept = donor.engine.store.stats().used_bytes - before
    return kept, pair.network.traffic.body_bytes


def _pushed(kind: str, commits: int, seed: int) -> int:
    """Bytes sent while a peer that listens gets each commit."""
    pair = Pair(seed, kind)
    network = pair.network
    network.traffic = traffic = Traffic()
    for _ in range(commits):
        pair.donor.write(update(kind, "views", "increment"))
        network.run_until(network.now_ms + _EVERY_MS)
    return traffic.body_bytes


if __name__ == "__main__":
    sys.exit(command.run("Counters kept as states and as operations, as ratios.", measure))
