"""The figures of the first slice, each a ratio within this run.

    python benchmarks/first_slice.py [--quick] [--rounds N] [--seed N] [--json FILE]

Subject and comparator take turns in every round; printed are the median over the rounds, the
spread, the target and, below, the medians behind it. Servers run on one core and whoever asks
them on another, so on two cores the load generator costs half the machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import command
from cluster import replicas
from disk import Disk
from figures import Figure
from generator import generator
from idle import idle
from machine import BOTH, CLIENT, pin
from plan import Plan
from set_size import SIZES, set_size
from throughput import throughput
from visibility import visibility

_REPLICAS: Final = ("one", "two", "three")


def measure(
    plan: Plan, directory: Path, disk: Disk, sizes: Sequence[int] = SIZES
) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    pin(0, CLIENT)
    with generator() as load:
        yield from throughput(plan, directory / "throughput", disk, load)
        yield from set_size(plan, directory / "set-size", disk, load, sizes)
    with replicas([directory / name for name in _REPLICAS], BOTH) as cluster:
        yield visibility(plan, directory / "floor", disk, cluster)
        yield idle(plan, cluster)


if __name__ == "__main__":
    sys.exit(command.run("The figures of the first slice, as ratios.", measure))
