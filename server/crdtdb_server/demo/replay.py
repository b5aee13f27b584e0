"""`crdtdb demo --trace FILE`: a commit history, written where its commits were made.

Each commit goes to its region's replica as one transaction:

======== ============== =================================================================
counter  lines/WHO      plus the lines added, minus the lines removed by that contributor
set      paths/WHO      the paths that contributor touched
register the path       the last commit that touched it
gcounter added, removed all lines
opcounter commits       all commits
======== ============== =================================================================

The history comes in rounds of a thousand commits. In the second half of each round one region is
cut off, in turn; then the cut is healed, and the round ends when all digests are equal. Within a
round the regions write at the same time, each its own commits in order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import cycle
from threading import Event
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from crdtdb.errors import CrdtdbError
from crdtdb.limits import LIMITS
from crdtdb_client import Client
from crdtdb_server.demo.audit import differences
from crdtdb_server.demo.regions import Region, Regions, running
from crdtdb_server.demo.screen import Screen
from crdtdb_server.demo.tally import ADDED, BUCKET, COMMITS, REMOVED, Tally, last_commit
from crdtdb_server.demo.trace import Commit, Trace

__all__ = ["replay", "write_commit"]

_ROUND: Final = 1_000
#: Paths in one transaction: an operation for each, and six besides.
_PATHS: Final = LIMITS.transaction_operations - 6
#: Differences that are worth printing.
_SHOWN: Final = 10


def replay(screen: Screen, trace: Trace) -> bool:
    """Replay a history; True if every region ended as the plain loop says."""
    screen.heading(f"{len(trace.commits):,} commits in three regions")
    screen.say(
        "Each commit is one transaction at its region’s replica. Of every "
        f"{_ROUND:,} commits the second half comes while one region is cut off."
    )
    with running(trace.regions) as regions:
        try:
            return _Replay(screen, regions, trace.commits).run()
        except CrdtdbError as error:
            screen.verdict(str(error), good=False)
            screen.say(regions.log_tails(), "dim")
            return False


def write_commit(db: Client, commit: Commit) -> None:
    """One commit, atomically. What one transaction cannot hold of its paths goes in more."""
    paths = list(dict.fromkeys(path for path, _, _ in commit.files))
    for start in range(0, len(paths), _PATHS):
        portion = paths[start : start + _PATHS]
        with db.transaction() as tx:
            if start == 0:
                tx.opcounter(BUCKET, COMMITS).increment()
                if commit.added:
                    tx.counter(BUCKET, f"lines/{commit.who}").increment(commit.added)
                    tx.gcounter(BUCKET, ADDED).increment(commit.added)
                if commit.removed:
                    tx.counter(BUCKET, f"lines/{commit.who}").decrement(commit.removed)
                    tx.gcounter(BUCKET, REMOVED).increment(commit.removed)
            tx.set(BUCKET, f"paths/{commit.who}").add(*portion)
            for path in portion:
                tx.register(BUCKET, path).set(last_commit(commit))


class _Replay:
    """One run, and what it has counted."""

    def __init__(self, screen: Screen, regions: Regions, commits: Sequence[Commit]) -> None:
        self._screen = screen
        self._regions = regions
        self._commits = commits
        self._tally = Tally()
        self._writing_s = 0.0
        self._healed_ms: list[float] = []
        self._progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=screen.console,
            transient=True,
            disable=not screen.console.is_terminal,
        )
        self._task = self._progress.add_task("commits", total=len(commits))

    def run(self) -> bool:
        cut_off = cycle(region.name for region in self._regions.all)
        with self._progress:
            for number, start in enumerate(range(0, len(self._commits), _ROUND)):
                self._round(number, self._commits[start : start + _ROUND], next(cut_off))
        commits, seconds = len(self._commits), self._writing_s
        self._screen.say(
            f"{commits:,} commits in {seconds:.1f} s: {commits / seconds:,.0f} commits a second. "
            f"{len(self._healed_ms)} cuts healed, each within {max(self._healed_ms):,.0f} ms."
        )
        return self._audit()

    def _round(self, number: int, commits: Sequence[Commit], cut_off: str) -> None:
        half = (len(commits) + 1) // 2
        self._write(commits[:half])
        self._regions.cut(cut_off)
        self._write(commits[half:])
        began = time.monotonic()
        self._regions.heal(cut_off)
        self._regions.meet()
        healed_ms = (time.monotonic() - began) * 1_000
        self._healed_ms.append(healed_ms)
        for commit in commits:
            self._tally.add(commit, number)
        self._screen.say(
            f"{self._tally.commits:>7,} commits; {cut_off} cut off during {len(commits) - half:,}; "
            f"all equal {healed_ms:,.0f} ms after the heal"
        )

    def _write(self, commits: Sequence[Commit]) -> None:
        """Write commits in all regions at once, each region its own in order."""
        began = time.monotonic()
        stop = Event()
        with ThreadPoolExecutor(len(self._regions.all)) as threads:
            futures = [
                threads.submit(self._write_in, region, commits, stop)
                for region in self._regions.all
            ]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()
        for future in futures:
            future.result()
        self._writing_s += time.monotonic() - began

    def _write_in(self, region: Region, commits: Sequence[Commit], stop: Event) -> None:
        for commit in commits:
            if commit.region == region.name:
                if stop.is_set():
                    return
                write_commit(region.db, commit)
                self._progress.advance(self._task)

    def _audit(self) -> bool:
        """Compare every object of every region with the plain loop."""
        tally = self._tally
        wrong = [
            f"{region.name}: {difference}"
            for region in self._regions.all
            for difference in differences(region.db, tally)
        ]
        self._screen.table(
            ("in every region", "plain loop"),
            (
                ("commits", f"{tally.commits:,}"),
                ("lines added", f"{tally.added:,}"),
                ("lines removed", f"{tally.removed:,}"),
                ("contributors, each with lines and paths", f"{len(tally.paths):,}"),
                ("paths, each with the last commit", f"{len(tally.last):,}"),
            ),
        )
        for difference in wrong[:_SHOWN]:
            self._screen.say(difference, "red")
        self._screen.verdict(
            f"{len(wrong)} differences from a plain loop over the file."
            if wrong
            else "In every region every object is what a plain loop over the file says.",
            good=not wrong,
        )
        return not wrong
