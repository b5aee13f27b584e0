"""Pulls that are worked out ahead of their commit, while everybody goes on writing.

In other runs hardly any pull is large enough for that; in these most are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from unittest.mock import patch

import pytest

from crdtdb.ahead import Ahead
from crdtdb.cuts import WideCuts
from crdtdb.store.base import Batch
from oracle.checks import Violation
from simulation.cluster import run
from simulation.plan import draw_plan

SEEDS = range(100, 112)


def _play(seeds: Collection[int]) -> Counter[str]:
    tally: Counter[str] = Counter()
    for seed in seeds:
        # What comes in one page is taken in as it comes.
        plan = draw_plan(seed)._replace(page_records=4, short_part_records=3)
        tally += run(seed, plan=plan).tally
    return tally


def test_clusters_that_work_merges_out_ahead() -> None:
    assert _play(SEEDS)["merges worked out ahead"] > len(SEEDS)


@pytest.mark.planted
def test_what_was_written_meanwhile_is_forgotten() -> None:
    """What local commits change after it was joined is not joined again."""

    def note(self: Ahead, _: Batch, wide: WideCuts, sequence: int) -> None:
        self.is_stale |= wide is not self._wide or sequence >= self._first

    with patch.object(Ahead, "note", note), pytest.raises(Violation) as found:
        _play(SEEDS)
    assert found.value.check in {"value", "existence", "size", "leaves", "growth", "heads"}
