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
from simulation.cluster import run

SEEDS = 240
CHUNK = 24

#: What every chunk must contain, or it has proven nothing.
NEEDED = (
    "clock jumps",
    "crashes",
    "cuts, halves",
    "cuts, isolated",
    "cuts, one_way",
    "cuts, ring",
    "donors that died",
    "evictions",
    "folded",
    "late joins",
    "messages, Page",
    "messages, Gone",
    "operations",
    "reclaimed",
    "rejoins",
    "roll-backs",
    "unknown outcomes, kept",
    "unknown outcomes, lost",
)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_clusters_under_faults(first: int) -> None:
    """Every seed is green, and together they contain what they are for."""
    tally: Counter[str] = Counter()
    for seed in range(first, first + CHUNK):
        tally += run(seed).tally
    print(*(f"{count:>9,} {what}" for what, count in sorted(tally.items())), sep="\n")
    assert not [what for what in NEEDED if not tally[what]]


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
