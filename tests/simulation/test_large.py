"""What is too small for it in other runs, with limits that are smaller still.

Pulls that are worked out ahead of their commit, or joined in parts, while everybody writes; and
more pushes that came too early than are held.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final
from unittest.mock import patch

import pytest

from crdtdb.ahead import Ahead
from crdtdb.cuts import WideCuts
from crdtdb.replication import early
from crdtdb.replication.cluster import Cluster
from crdtdb.replication.early import EarlyPushes
from crdtdb.replication.messages import Push
from crdtdb.store.base import Batch
from oracle.checks import Violation
from simulation.cluster import run
from simulation.plan import draw_plan

SEEDS: Final = range(100, 112)
#: What comes in one page is taken in as it comes.
AHEAD: Final = {"page_records": 4, "short_part_records": 3}
PARTS: Final = AHEAD | {"one_commit_records": 6}
FEW_HELD: Final = {"held_pushes": 2}


def _play(given: dict[str, Any]) -> Counter[str]:
    tally: Counter[str] = Counter()
    for seed in SEEDS:
        tally += run(seed, plan=draw_plan(seed)._replace(**given)).tally
    return tally


def test_clusters_that_work_merges_out_ahead() -> None:
    assert _play(AHEAD)["merges worked out ahead"] > len(SEEDS)


def test_clusters_that_join_pulls_in_parts() -> None:
    assert _play(PARTS)["parts of pulls joined"] > 10 * len(SEEDS)


def test_clusters_that_hold_few_pushes() -> None:
    assert _play(FEW_HELD)["messages, Push"] > 100 * len(SEEDS)


@pytest.mark.planted
def test_pushes_are_held_without_bound() -> None:
    """Whatever comes too early is kept until it fits."""

    bounded = EarlyPushes.hold

    def hold(self: EarlyPushes, push: Push, sender: str, now_ms: int) -> None:
        with patch.object(early, "_MOST", 1_000):
            bounded(self, push, sender, now_ms)

    with patch.object(EarlyPushes, "hold", hold), pytest.raises(Violation) as found:
        _play(FEW_HELD)
    assert found.value.check == "bounds"


@pytest.mark.planted
def test_what_is_written_meanwhile_is_forgotten() -> None:
    """What local commits change after it was joined is not joined again."""

    def note(self: Ahead, _: Batch, wide: WideCuts, sequence: int) -> None:
        self.is_stale |= wide is not self._wide or sequence >= self._first

    with patch.object(Ahead, "note", note), pytest.raises(Violation) as found:
        _play(AHEAD)
    assert found.value.check in {"value", "existence", "size", "leaves", "heads"}


@pytest.mark.planted
def test_who_has_joined_a_part_gives_it_to_others() -> None:
    """What it holds says more than it claims."""
    everything = property(lambda _: False)
    with patch.object(Cluster, "is_partial", everything), pytest.raises(Violation) as found:
        _play(PARTS)
    assert found.value.check in {"value", "existence", "size", "leaves", "refusal", "causality"}
