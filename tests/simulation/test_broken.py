"""Each planted mistake is found, and by a check that is about it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from oracle.checks import Violation
from simulation.broken import BROKEN
from simulation.cluster import run
from simulation.plan import Plan, draw_plan

#: Most are found by the first seed or two.
SEEDS = 25


@pytest.mark.planted
@pytest.mark.parametrize("name", BROKEN)
def test_a_planted_mistake_is_found(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    broken = BROKEN[name]
    plans = {seed: draw_plan(seed)._replace(**broken.given) for seed in range(SEEDS)}
    with broken.plant(), pytest.raises(Violation) as found:
        _play(plans)
    assert found.value.check in broken.checks, f"found by {found.value}"
    record_property("noticed_by", f"the simulation’s check of {found.value.check!r}")


def _play(plans: dict[int, Plan]) -> None:
    for seed, plan in plans.items():
        run(seed, plan=plan)
