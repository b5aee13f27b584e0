"""Hundreds of whole clusters, each from a seed, each judged after every message."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest

from oracle.checks import Violation
from simulation.cluster import Cluster, run
from simulation.faults import FAULTS
from simulation.permanent import OPEN, PERMANENT
from simulation.plan import draw_plan
from simulation.trace import Trace

SEEDS = 520
CHUNK = 104

#: What every chunk must contain, or it has proven nothing.
NEEDED = (
    "asymmetric loss",
    "clock jumps",
    "commits refused by a disk",
    "crashes",
    "cuts, bridge",
    "cuts, halves",
    "cuts, isolated",
    "cuts, one_way",
    "cuts, ring",
    "directories copied",
    "disks full",
    "disks lost",
    "disks put back",
    "donors that died",
    "evictions",
    "flapping",
    "folded",
    "frames flipped",
    "late joins",
    "lulls",
    "messages, Gone",
    "messages, Page",
    "names given twice",
    "operations",
    "operations lost with a disk",
    "reclaimed while busy",
    "records flipped",
    "records mended",
    "rejoins",
    "replacements",
    "sequence flipped",
    "unknown outcomes, kept",
    "unknown outcomes, lost",
)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_clusters_under_faults(first: int) -> None:
    """Every seed is green, and together they contain what they are for."""
    tally: Counter[str] = Counter()
    for seed in sorted({*range(first, first + CHUNK)} - OPEN.keys()):
        tally += run(seed).tally
    print(*(f"{count:>9,} {what}" for what, count in sorted(tally.items())), sep="\n")
    assert not [what for what in NEEDED if not tally[what]]


@pytest.mark.parametrize("number", PERMANENT)
def test_what_was_red_once(number: int) -> None:
    """Its story is in `permanent.py`."""
    run(number)


@pytest.mark.xfail(strict=True, raises=Violation)
@pytest.mark.parametrize("number", OPEN)
def test_what_is_red_still(number: int) -> None:
    """Once it is green it belongs among the permanent ones, with its story."""
    run(number)


@pytest.mark.parametrize("count", [2, 24])
def test_the_smallest_cluster_and_a_large_one(count: int) -> None:
    """Chance draws few large ones, which go up to 50; this is what CI has time for."""
    names = tuple(f"m{number}" for number in range(count))
    plan = draw_plan(2)._replace(machines=names, late=0, busy_ms=2_000, tick_ms=200)
    assert run(2, plan=plan).tally["runs"] == 1


@pytest.mark.parametrize("number", [1, 2])
def test_a_seed_is_a_run(number: int) -> None:
    """The same seed does the same, again and in a process that hashes otherwise."""
    here = run(number).trace
    assert run(number).trace == here
    folder = Path(__file__).parent
    for hash_seed in ("1", "2"):
        elsewhere = subprocess.run(
            [sys.executable, str(folder), "--seed", str(number)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"trace {here}" in elsewhere.stdout


def test_no_name_is_given_again() -> None:
    """Seed 391 once: a copy of a directory was called what one was called that was gone for good.

    Whoever saw to it that the name was evicted, evicted the copy, which nobody let rejoin; and its
    incarnation was that of the other, for all that is random at a machine follows from its name.
    """
    cluster = Cluster(1, draw_plan(1)._replace(machines=("a",), late=0), Trace())
    world = cluster._world
    world.start(world.machines["a"])
    FAULTS["directory_copied"](world)
    world.lose(world.machines["a2"])
    FAULTS["directory_copied"](world)
    assert world.machines.keys() == {"a", "a3"}


def test_reading_a_run_does_not_change_it() -> None:
    """The trace that people read is of the very run that was judged."""
    told = StringIO()
    assert run(3, told).trace == run(3).trace
    assert "a starts" in told.getvalue()


def test_a_red_seed_says_how_to_play_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong, the failure names the seed as a command."""

    def broken(*_: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr("simulation.cluster.Cluster.play", broken)
    with pytest.raises(Violation, match=r"on purpose; replay: .* --seed 7 --trace"):
        run(7)
