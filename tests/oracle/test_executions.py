"""Random executions of real engines against the specification, one test per seed.

`--seed N` replays one of them, `--executions N` runs so many.
"""

from __future__ import annotations

from collections import Counter

import pytest

from crdtdb.types import CATALOGUE
from oracle.executions import Execution
from oracle.specification import SPECIFICATIONS


def test_every_type_is_specified() -> None:
    assert set(SPECIFICATIONS) == set(CATALOGUE)


def test_replicas_do_what_the_specification_says(seed: int) -> None:
    execution = Execution(seed)
    try:
        execution.run()
    except Exception:
        print(f"replay with --seed {seed}", *execution.story, sep="\n")
        raise


def test_the_executions_contain_what_they_are_for(pytestconfig: pytest.Config) -> None:
    """An execution in which nothing conflicts, gets lost or is reclaimed would prove nothing."""
    tally: Counter[str] = Counter()
    seeds = range(25)
    for seed in seeds:
        execution = Execution(seed)
        execution.run()
        tally += execution.tally
    print(tally)
    for kind in (
        "transactions",
        "refused transactions",
        "pushes",
        "pushes that did not fit",
        "pulls",
        "records that came twice",
        "times refused",
        "objects erased",
        "records reclaimed",
        "clock changes",
    ):
        assert tally[kind] >= len(seeds), kind
    assert tally["restarts"], "no replica was started again"
    assert tally["moves"], "no replica was moved"


def test_executions_of_bounded_counters_meet_every_refusal() -> None:
    tally: Counter[str] = Counter()
    for seed in range(12):
        execution = Execution(seed, ("bcounter",))
        execution.run()
        tally += execution.tally
    print(tally)
    for slug in ("no-rights", "out-of-bounds", "conflicting-bounds", "invalid-operation"):
        assert tally[f"refused with {slug}"], slug
