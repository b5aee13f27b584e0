"""The command line: play seeds, tell what they covered, or tell one of them event by event."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count, islice, takewhile
from multiprocessing import get_context
from time import perf_counter
from typing import Final, NamedTuple

from oracle.checks import Violation
from simulation.cluster import Report, run

__all__ = ["main"]

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600}


class _Played(NamedTuple):
    """What came of one seed: a report, or the check that found it red and what it said."""

    seed: int
    report: Report | None
    check: str = ""
    told: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Play the seeds that were asked for; 1 if one of them is red."""
    parser = argparse.ArgumentParser(
        prog="python tests/simulation",
        description=__doc__,
    )
    parser.add_argument("--seed", type=int, help="play this one")
    parser.add_argument("--seeds", type=_range, default="0:100", help="play these: FIRST:END")
    parser.add_argument(
        "--for", type=_seconds, dest="for_s", help="play on for so long: 90s, 30m, 2h"
    )
    parser.add_argument("--start", type=int, default=0, help="the first seed of --for")
    parser.add_argument("--jobs", type=int, default=1, help="seeds that are played at a time")
    parser.add_argument("--trace", action="store_true", help="print every event of --seed")
    given = parser.parse_args(arguments)
    began = perf_counter()
    if given.seed is not None:
        played: Iterable[_Played] = [_play(given.seed, trace=given.trace)]
    elif given.for_s is not None:
        played = _in_parallel(_until(given.start, given.for_s), given.jobs)
    else:
        played = _in_parallel(given.seeds, given.jobs)
    return _tell(played, began, trace=given.seed is not None)


def _tell(played: Iterable[_Played], began: float, *, trace: bool) -> int:
    tally: Counter[str] = Counter()
    red: Counter[str] = Counter()
    seeds = slowest_ms = 0
    for one in played:
        seeds += 1
        if one.report is None:
            red[one.check] += 1
            print(f"seed {one.seed} is red: {one.told}", flush=True)
            continue
        tally += one.report.tally
        slowest_ms = max(slowest_ms, one.report.converged_ms)
        if trace:
            print(f"trace {one.report.trace}")
    took = perf_counter() - began
    for what, amount in sorted(tally.items()):
        print(f"{amount:>9,} {what}")
    print(f"slowest convergence after the faults: {slowest_ms} ms")
    print(f"{seeds} seeds, {sum(red.values())} red {dict(red)}, {seeds / took:.1f} seeds/s")
    return 1 if red else 0


def _play(seed: int, *, trace: bool = False) -> _Played:
    try:
        return _Played(seed, run(seed, sys.stdout if trace else None))
    except Violation as violation:
        told = "; ".join((str(violation), *getattr(violation, "__notes__", ())))
        return _Played(seed, None, violation.check, told)


def _in_parallel(seeds: Iterable[int], jobs: int) -> Iterator[_Played]:
    """Play seeds, some at a time, in the order in which they end."""
    if jobs == 1:
        yield from map(_play, seeds)
        return
    waiting = iter(seeds)
    # Not forked: what a fork inherits of threads differs from run to run.
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        running: set[Future[_Played]] = set()
        while True:
            # One more than there are processes, so that none has to wait for this one.
            running |= {
                pool.submit(_play, seed) for seed in islice(waiting, jobs + 1 - len(running))
            }
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def _until(start: int, for_s: float) -> Iterator[int]:
    """Seeds from a first one on, until so much time has passed."""
    end_s = perf_counter() + for_s
    return takewhile(lambda _: perf_counter() < end_s, count(start))


def _range(text: str) -> range:
    return range(*map(int, text.split(":")))


def _seconds(text: str) -> int:
    found = re.fullmatch(r"(\d+)([smh])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 90s, 30m or 2h")
    return int(found[1]) * _UNITS_S[found[2]]
