"""A cluster on this machine: how soon others can read a write, being cut off, and being idle.

    python benchmarks/propagation.py [--quick] [--rounds N] [--seed N] [--json FILE]

- Commit at one replica → readable at both others of three, and at all five others of six, against
  one durable LMDB commit plus one exchange with bare aiohttp (`visibility.py`).
- Single writes at one of three replicas, while every link to its peers swallows everything, against
  the same a moment before. An error ends the benchmark.
- Processor time of replicas that nobody uses (`idle.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter
from typing import Final

import command
from cluster import Replica, replicas
from disk import Disk
from figures import Figure, Round, at_most
from idle import idle
from links import FAULTS, cut, mend
from machine import BOTH, CLIENT, pin
from plan import Plan
from raw_http import Line, request
from visibility import visibility

__all__ = ["measure"]

_NAMES: Final = ("one", "two", "three", "four", "five", "six")
_THREE: Final = _NAMES[:3]
_READABLE: Final = at_most(4)
_CUT_OFF: Final = at_most(1.15)


def measure(plan: Plan, directory: Path, disk: Disk, most: int = 5) -> Iterator[Figure]:
    """Every figure, as soon as there is one. `most` peers are in the greater cluster."""
    pin(0, CLIENT)
    paths = [directory / "three" / name for name in _THREE]
    with replicas(paths, BOTH, options=FAULTS) as cluster:
        yield visibility(plan, directory / "floor", disk, cluster, 2, _READABLE)
        yield _cut_off(plan, disk, cluster)
        yield idle(plan, cluster)
    paths = [directory / "more" / name for name in _NAMES[: 1 + most]]
    with replicas(paths, BOTH) as cluster:
        yield visibility(plan, directory / "floor-of-more", disk, cluster, most, None)


def _cut_off(plan: Plan, disk: Disk, cluster: Sequence[Replica]) -> Figure:
    """Writes at the first replica, in turns with every link and with none."""
    random = plan.random("cut off")
    rounds = []
    with Line(cluster[0].port) as line:
        for number in range(-1, plan.rounds):
            disk.wait_until_quick()
            before_s = _writes(plan.operations, line, random)
            for peer in _THREE[1:]:
                cut(line, peer)
            during_s = _writes(plan.operations, line, random)
            for peer in _THREE[1:]:
                mend(line, peer)
            if number >= 0:  # the first is the warm-up
                measured = {"before p50 ms": before_s * 1_000, "cut off p50 ms": during_s * 1_000}
                rounds.append(Round(during_s / before_s, measured))
    return Figure("a write while every peer is cut off / before", _CUT_OFF, rounds)


def _writes(count: int, line: Line, random: Random) -> float:
    """The median of so many writes, in seconds. Raises RuntimeError if one is refused."""
    took_s = []
    for _ in range(count):
        path = f"/v1/buckets/bench/register/key-{random.randrange(1_000)}"
        message = request("POST", path, {"op": "set", "value": random.getrandbits(32)})
        began = perf_counter()
        line.exchange(message)
        took_s.append(perf_counter() - began)
    return median(took_s)


if __name__ == "__main__":
    sys.exit(command.run("Propagation, isolation and idleness of a cluster, as ratios.", measure))
