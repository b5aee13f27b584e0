"""The command line: play seeds, tell what they covered, or tell one of them event by event."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from time import perf_counter

from oracle.checks import Violation
from simulation.cluster import run

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Play the seeds that were asked for; 1 if one of them is red."""
    parser = argparse.ArgumentParser(prog="python tests/simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this one")
    parser.add_argument("--seeds", default="0:100", help="play these: FIRST:END")
    parser.add_argument("--trace", action="store_true", help="print every event")
    given = parser.parse_args(arguments)
    first, end = map(int, given.seeds.split(":"))
    seeds = range(first, end) if given.seed is None else range(given.seed, given.seed + 1)
    tally: Counter[str] = Counter()
    red: Counter[str] = Counter()
    slowest_ms = 0
    began = perf_counter()
    for seed in seeds:
        try:
            report = run(seed, sys.stdout if given.trace else None)
        except Violation as violation:
            red[violation.check] += 1
            print(
                f"seed {seed} is red: {violation}", *getattr(violation, "__notes__", ()), sep="; "
            )
            continue
        tally += report.tally
        slowest_ms = max(slowest_ms, report.converged_ms)
        if given.seed is not None:
            print(f"trace {report.trace}")
    took = perf_counter() - began
    for what, count in sorted(tally.items()):
        print(f"{count:>9,} {what}")
    print(f"slowest convergence after the faults: {slowest_ms} ms")
    print(
        f"{len(seeds)} seeds, {sum(red.values())} red {dict(red)}, {len(seeds) / took:.1f} seeds/s"
    )
    return 1 if red else 0
