"""One write alone, and many in one transaction, against a bare durable commit and an exchange.

    python benchmarks/transactions.py [--quick] [--rounds N] [--seed N] [--json FILE]

- One connection: the median of a single durable increment, against the sum of one durable commit of
  LMDB alone (one put) and one exchange with bare aiohttp, measured in turns with it.
- Transactions of 1 to 1,000 increments of different counters: each operation's share of the time,
  against the single write of the same round; and against LMDB alone that puts as many in a commit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter
from typing import Final

import command
from cluster import replicas
from disk import Disk
from figures import Bound, Chart, Figure, Point, Round, at_most
from floor import BareLmdb, exchange
from machine import CLIENT, SERVER, pin
from plan import Plan
from raw_http import Line, request

__all__ = ["measure"]

_SIZES: Final = (1, 10, 100, 1_000)
_OBJECTS: Final = 10_000
_ALONE: Final = at_most(1.5)
_TOGETHER: Final = at_most(1 / 20)
_CHART: Final = Chart("an operation's share of a transaction", "operations", "µs")


def measure(plan: Plan, directory: Path, disk: Disk) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    pin(0, CLIENT)
    random = plan.random("transactions")
    alone: list[Round] = []
    shares: list[dict[int, tuple[float, float]]] = []
    with ExitStack() as stack:
        (subject,) = stack.enter_context(replicas([directory / "own"], SERVER))
        line = stack.enter_context(Line(subject.port))
        first = _single(0)
        floor = stack.enter_context(exchange(first, line.ask(first)))
        bare = stack.enter_context(closing(BareLmdb(directory / "bare")))
        for number in range(-1, plan.rounds):
            disk.wait_until_quick()
            commits, exchanges, writes = [], [], []
            for _ in range(plan.operations):
                commits.append(bare.commit(random))
                exchanges.append(floor.once())
                writes.append(_timed(line, _single(random.randrange(_OBJECTS))))
            write_s = median(writes)
            measured = {
                "write ms": write_s * 1_000,
                "commit ms": median(commits) * 1_000,
                "exchange ms": median(exchanges) * 1_000,
            }
            together = {size: _share(plan, random, line, bare, size) for size in _SIZES}
            if number >= 0:  # the first is the warm-up
                alone.append(Round(write_s / (median(commits) + median(exchanges)), measured))
                shares.append(together)
    yield Figure("a write alone / durable commit + exchange", _ALONE, alone)
    for size in _SIZES:
        bound = _TOGETHER if size == max(_SIZES) else None
        yield _compared(size, bound, alone, [share[size] for share in shares])


def _compared(
    size: int, bound: Bound | None, alone: Sequence[Round], shares: Sequence[tuple[float, float]]
) -> Figure:
    rounds = []
    for one, (ours_s, bare_s) in zip(alone, shares, strict=True):
        measured = {
            "crdtdb µs": ours_s * 1e6,
            "bare LMDB µs": bare_s * 1e6,
            "a write alone µs": one.measured["write ms"] * 1_000,
        }
        rounds.append(Round(ours_s * 1_000 / one.measured["write ms"], measured))
    points = [Point(_CHART, name, size, f"{name} µs") for name in ("crdtdb", "bare LMDB")]
    name = f"an operation of a transaction of {size:,} / a write alone"
    return Figure(name, bound, rounds, points)


def _share(
    plan: Plan, random: Random, line: Line, bare: BareLmdb, size: int
) -> tuple[float, float]:
    """An operation's share of a transaction, and of a commit of LMDB alone, in seconds."""
    ours, puts = [], []
    for _ in range(max(3, plan.operations // size)):
        message = _transaction(random.sample(range(_OBJECTS), size))
        ours.append(_timed(line, message))
        puts.append(bare.commit(random, size))
    return median(ours) / size, median(puts) / size


def _timed(line: Line, message: bytes) -> float:
    began = perf_counter()
    line.exchange(message)
    return perf_counter() - began


def _single(number: int) -> bytes:
    return request("POST", f"/v1/buckets/bench/counter/key-{number:05}", {"op": "increment"})


def _transaction(numbers: Sequence[int]) -> bytes:
    updates = [
        {"bucket": "bench", "type": "counter", "key": f"key-{number:05}", "op": "increment"}
        for number in numbers
    ]
    return request("POST", "/v1/transactions", {"updates": updates})


if __name__ == "__main__":
    sys.exit(command.run("One write and many in a transaction, as ratios.", measure))
