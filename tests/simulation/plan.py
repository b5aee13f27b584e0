"""The circumstances of one run, all drawn from its seed before it begins."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from simulation.network import Weather

__all__ = ["Plan", "draw_plan"]


class Plan(NamedTuple):
    """What a run is like."""

    #: The machines; the last `late` of them join while the others work.
    machines: tuple[str, ...]
    late: int
    #: Does the last machine have no endpoint, so that it only gets answers?
    unreachable: bool
    #: Is the cluster cut in pieces before the machines have ever met?
    begins_cut: bool
    #: Do disks come back as they were some time ago?
    rolls_back: bool
    #: Are machines taken out of the cluster by others, to rejoin some time later?
    evicts: bool
    weather: Weather
    #: How many objects users work on: few meet more, many are more like a real database.
    objects: int
    #: How long users and faults go on.
    busy_ms: int
    #: Mean time between two group commits, of all machines together.
    commit_ms: int
    #: Mean time between two faults.
    fault_ms: int
    #: Records of one page of a pull; rows that reclaiming looks at with one tick.
    page_records: int
    reclaim_entries: int
    #: How long deletes stay for readers of the change feed.
    feed_ms: int


def draw_plan(seed: int) -> Plan:
    """The circumstances of the run of a seed."""
    random = Random(f"{seed} plan")
    count = random.randint(3, 5)
    rough = random.random()
    return Plan(
        machines=tuple("abcde"[:count]),
        late=random.choice((0, 0, 1, 2)) if count > 3 else random.choice((0, 0, 1)),
        unreachable=random.random() < 0.15,
        begins_cut=random.random() < 0.15,
        rolls_back=random.random() < 0.3,
        weather=Weather(
            loss=0.3 * rough * random.random(),
            duplication=0.2 * rough,
            delay_ms=(1, random.choice((5, 40, 200))),
            straggling=0.1 * rough,
        ),
        objects=random.randint(3, 20),
        busy_ms=random.randint(6_000, 12_000),
        commit_ms=random.randint(40, 90),
        fault_ms=random.randint(700, 2_000),
        page_records=random.choice((4, 10, 40, 1_000)),
        reclaim_entries=random.choice((3, 20, 2_000)),
        feed_ms=random.choice((0, 0, 500)),
        evicts=random.random() < 0.5,
    )
