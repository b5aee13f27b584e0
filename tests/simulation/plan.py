"""The circumstances of one run, all drawn from its seed before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from string import ascii_lowercase
from typing import Final, NamedTuple

from crdtdb.replication.staging import ONE_COMMIT_RECORDS, SHORT_PART_RECORDS
from simulation.network import Weather

__all__ = ["Plan", "draw_plan"]

_OFTEN: Final = ("cut", "crash")
#: Name of a fault → in how many of all runs it may strike.
_SOMETIMES: Final = {
    "asymmetric_loss": 0.3,
    "clock_jump": 0.4,
    "directory_copied": 0.4,
    "disk_full": 0.3,
    "disk_lost": 0.3,
    "evict": 0.4,
    "flapping": 0.3,
    "put_back": 0.4,
    "record_flipped": 0.45,
    "replace": 0.25,
    "named_alike": 0.35,
}


class Plan(NamedTuple):
    """What a run is like."""

    #: The machines; the last `late` of them join while the others work.
    machines: tuple[str, ...]
    late: int
    #: Does the last machine have no endpoint, so that it only gets answers?
    unreachable: bool
    #: Is the cluster cut in pieces before the machines have ever met?
    begins_cut: bool
    #: Name of each fault that may strike (`simulation.faults.FAULTS`) → how often, in proportion.
    faults: Mapping[str, int]
    #: How long a lull between faults lasts.
    lull_ms: int
    #: How many machines may be added while the run is busy.
    spare: int
    #: How far clocks are off at first, and how wrong they go.
    clock_offset_ms: int
    clock_drift: float
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
    #: How often machines look what is due.
    tick_ms: int
    #: How many objects have deadlines.
    timed: int = 0
    #: A pull of more records than this is worked out ahead, so many at a time.
    short_part_records: int = SHORT_PART_RECORDS
    #: One of more than this is joined in parts; users keep away from a machine that shows a part.
    one_commit_records: int = ONE_COMMIT_RECORDS
    #: How many pushes that came too early a machine may hold; what `early` promises.
    held_pushes: int = 256


def draw_plan(seed: int) -> Plan:
    """The circumstances of the run of a seed."""
    random = Random(f"{seed} plan")
    count = _count(random)
    is_large = count > 8
    rough = random.random()
    return Plan(
        machines=tuple(map(_name, range(count))),
        late=min(random.choice((0, 0, 1, 2)), count - 2),
        unreachable=random.random() < 0.15,
        begins_cut=random.random() < 0.15,
        faults=_faults(random),
        lull_ms=random.randint(1_000, 3_000),
        spare=random.choice((0, 1, 2, 3)),
        clock_offset_ms=random.choice((300, 300, 4_000, 86_400_000)),
        clock_drift=random.choice((0.01, 0.01, 0.3)),
        weather=Weather(
            loss=0.3 * rough * random.random(),
            duplication=0.2 * rough,
            delay_ms=(1, random.choice((5, 40, 200))),
            straggling=0.1 * rough,
            flips=random.choice((0, 0, 0.01)),
        ),
        objects=random.randint(3, 20),
        busy_ms=random.randint(3_000, 5_000) if is_large else random.randint(5_000, 9_000),
        commit_ms=random.randint(40, 90) * (2 if is_large else 1),
        fault_ms=random.randint(400, 1_200),
        page_records=random.choice((4, 10, 40, 1_000)),
        reclaim_entries=random.choice((20, 2_000) if is_large else (3, 20, 2_000)),
        feed_ms=random.choice((0, 0, 500)),
        tick_ms=200 if is_large else 70,
    )


def _count(random: Random) -> int:
    """How many machines: most clusters are small, for what a run costs grows with the square."""
    size = random.random()
    if size < 0.88:
        return random.choice((2, 3, 3, 3, 4, 4, 5))
    if size < 0.97:
        return random.randint(6, 8)
    return random.randint(9, 16) if size < 0.995 else random.randint(17, 50)


def _name(number: int) -> str:
    """a, b, …, z, a1, b1, …"""
    turn, place = divmod(number, len(ascii_lowercase))
    return ascii_lowercase[place] + (str(turn) if turn else "")


def _faults(random: Random) -> dict[str, int]:
    """Cuts and crashes in every run; of the others some, now and then all."""
    weights = dict.fromkeys(_OFTEN, 3)
    is_storm = random.random() < 0.1
    for name, share in _SOMETIMES.items():
        if is_storm or random.random() < share:
            weights[name] = random.randint(1, 4)
    return weights
