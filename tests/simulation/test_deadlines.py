"""Whole clusters whose objects have deadlines, under clocks that are off and wrong networks.

After every message each of these objects shows what its causal history says at that moment by that
machine's clock (`oracle.lives`), and until when; in the end nothing is left of what has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, Final
from unittest.mock import patch

import pytest

from crdtdb import address, expiry, reclaim
from crdtdb.author import Author
from crdtdb.causal import Dot
from oracle.checks import Violation
from simulation.cluster import run
from simulation.plan import Plan, draw_plan

SEEDS: Final = 48
CHUNK: Final = 12
#: Mistakes may show rarely.
SEARCHED: Final = 200
#: It found records with later places than their object: a second life began where the end of the
#: first had to be swept.
SWEPT: Final = 83
#: Nothing by which operations are lost, or come back when all have told that they are past them.
FAULTS: Final = {"cut": 4, "crash": 3, "flapping": 2, "asymmetric_loss": 2, "disk_full": 1}


def timed(seed: int) -> Plan:
    """The plan of a seed, with deadlines; clocks are off by less than is believed.

    What has ended goes when the slowest clock is past that, and some seconds: so long a run waits
    in the end, and hence reclaims in large portions.
    """
    plan = draw_plan(seed)
    return plan._replace(
        timed=4,
        faults=FAULTS,
        clock_offset_ms=min(plan.clock_offset_ms, 2_000),
        clock_drift=0.01,
        reclaim_entries=max(plan.reclaim_entries, 100),
    )


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_clusters_show_what_deadlines_say(first: int) -> None:
    tally: Counter[str] = Counter()
    for seed in range(first, first + CHUNK):
        tally += run(seed, plan=timed(seed)).tally
    print(tally)
    for what in ("shown until a deadline", "hidden or empty", "lives that may come back"):
        assert tally[what] >= CHUNK, what


def test_an_object_is_numbered_by_its_last_change() -> None:
    run(SWEPT, plan=timed(SWEPT))


def _run_all() -> None:
    for seed in range(SEARCHED):
        run(seed, plan=timed(seed))


def _by_its_own_clock(author: Author) -> int:
    """A writer goes by its wall clock, not by the stamp, which others' times have moved."""
    return author._now_ms


def _lost(*_: Any) -> bool:
    """Who began a new life does not care for a deadline that was moved elsewhere in time."""
    return False


def _at_once(portion: Any, prefix: bytes, _deadline_ms: int, dots: Collection[Dot]) -> None:
    """What one replica has hidden goes for good, whatever time the others have."""
    portion._leave_idle(prefix + address.EXPIRY, [*dots], portion._walk.place)


@pytest.mark.planted
@pytest.mark.parametrize(
    ("where", "what", "broken"),
    [
        pytest.param(Author, "_passed_ms", _by_its_own_clock, id="the local clock decides"),
        pytest.param(expiry, "_was_moved", _lost, id="an extension is lost"),
        pytest.param(reclaim._Portion, "_await", _at_once, id="gone before all are past it"),
    ],
)
def test_a_planted_mistake_is_found(
    where: Any, what: str, broken: Any, record_property: Callable[[str, object], None]
) -> None:
    with patch.object(where, what, broken), pytest.raises(Violation) as found:
        _run_all()
    record_property("noticed_by", f"the simulation’s check of {found.value.check!r}")
