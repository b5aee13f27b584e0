"""The figures of the first slice, each a ratio within this run.

    python benchmarks/first_slice.py [--quick] [--rounds N] [--seed N] [--json FILE]

Subject and comparator take turns in every round; printed are the median over the rounds, the
spread, the target and, below, the medians behind it. Servers run on one core and whoever asks
them on another, so on two cores the load generator costs half the machine. Data lies where
`TMPDIR` says: on a disk, or nothing here means much. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cluster import replicas
from disk import Disk
from figures import Figure
from generator import generator
from idle import idle
from machine import BOTH, CLIENT, facts, pin
from plan import Plan
from set_size import set_size
from throughput import throughput
from visibility import visibility

_REPLICAS: Final = ("one", "two", "three")


def main() -> int:
    """Measure, print, judge."""
    arguments = _arguments()
    plan = Plan.of(arguments.seed, rounds=arguments.rounds, quick=arguments.quick)
    run: dict[str, object] = {**facts(), **plan._asdict()}
    for name, fact in run.items():
        print(f"{name}: {fact}")
    pin(0, CLIENT)
    with TemporaryDirectory(prefix="crdtdb-bench-") as name:
        directory = Path(name)
        disk = Disk(directory, plan.patience_s)
        run["disk_before_ms"] = _probe(disk)
        figures = []
        for figure in measure(plan, directory, disk):
            print(*figure.lines(), sep="\n    ", flush=True)
            figures.append(figure)
        run["disk_after_ms"] = _probe(disk)
    missed = [figure.name for figure in figures if not figure.holds]
    if arguments.json is not None:
        run["figures"] = [figure.as_dict() for figure in figures]
        arguments.json.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n")
    print("\nmissed: " + "; ".join(missed) if missed else "\nevery target is kept")
    return 1 if missed else 0


def measure(plan: Plan, directory: Path, disk: Disk) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    with generator() as load:
        yield from throughput(plan, directory / "throughput", disk, load)
        yield from set_size(plan, directory / "set-size", disk, load)
    with replicas([directory / name for name in _REPLICAS], BOTH) as cluster:
        yield visibility(plan, directory / "floor", disk, cluster)
        yield idle(plan, cluster)


def _probe(disk: Disk) -> float:
    took_ms = disk.probe_ms()
    print(f"disk: a durable append of 4 KiB takes {took_ms:.3f} ms\n", flush=True)
    return took_ms


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The figures of the first slice, as ratios.")
    parser.add_argument("--quick", action="store_true", help="few short rounds, rough figures")
    parser.add_argument("--rounds", type=_positive, help="rounds of each figure (7; quick: 3)")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of all choices")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw rounds there")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())
