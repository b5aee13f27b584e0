"""Real processes, real links cut: nobody is refused, and nothing acknowledged is missing after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from processes import Replica, cluster, equal

#: Cuts links among the replicas; returns what mends them.
Cutting: TypeAlias = Callable[[list[Replica]], Callable[[], None]]


def single(replicas: list[Replica]) -> Callable[[], None]:
    """The first replica is cut off from all others, both ways."""
    lonely, *others = replicas
    lonely.cut(*others)
    return lambda: lonely.mend(*others)


def one_way(replicas: list[Replica]) -> Callable[[], None]:
    """What the first replica sends is lost; what is sent to it arrives."""
    mute, *others = replicas
    mute.cut(*others, direction="out")
    return lambda: mute.mend(*others)


def halves(replicas: list[Replica]) -> Callable[[], None]:
    """Nothing crosses the middle."""
    half = len(replicas) // 2
    left, right = replicas[:half], replicas[half:]
    for replica in left:
        replica.cut(*right)

    def mend() -> None:
        for replica in left:
            replica.mend(*right)

    return mend


def ring(replicas: list[Replica]) -> Callable[[], None]:
    """Each replica reaches only its two neighbours."""
    count = len(replicas)
    far = {
        i: [replicas[j] for j in range(count) if (i - j) % count not in (0, 1, count - 1)]
        for i in range(count)
    }
    for i, others in far.items():
        replicas[i].cut(*others)

    def mend() -> None:
        for i, others in far.items():
            replicas[i].mend(*others)

    return mend


class Acknowledged:
    """What was acknowledged, by a plain loop."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.members: set[str] = set()
        self.registers: set[str] = set()

    def write(self, replica: Replica, number: int) -> None:
        """A round of writes at one replica; every one must be answered with 200."""
        name = f"{replica.name}-{number}"
        for path, operation in (
            ("counter/c", {"op": "increment", "by": number}),
            ("opcounter/o", {"op": "increment", "by": number}),
            ("set/s", {"op": "add", "value": name}),
            ("mvregister/m", {"op": "set", "value": name}),
        ):
            answer = replica.post(path, operation)
            assert answer.status_code == 200, f"{replica.name} refused {path}: {answer.text}"
        assert name in replica.value("set/s")
        self.counts["counter/c"] += number
        self.counts["opcounter/o"] += number
        self.members.add(name)

    def check(self, replica: Replica) -> None:
        """A replica shows all of it."""
        for path, total in self.counts.items():
            assert replica.value(path) == total, f"{path} at {replica.name}"
        assert set(replica.value("set/s")) == self.members, f"set at {replica.name}"
        assert set(replica.value("mvregister/m")) <= self.members


@pytest.mark.parametrize(("cutting", "count"), [(single, 3), (one_way, 3), (halves, 4), (ring, 5)])
def test_every_side_goes_on_and_all_meet(cutting: Cutting, count: int, tmp_path: Path) -> None:
    with cluster(tmp_path, count) as replicas:
        acknowledged = Acknowledged()
        for replica in replicas:
            acknowledged.write(replica, 1)
        mend = cutting(replicas)
        for number in range(2, 12):
            for replica in replicas:
                acknowledged.write(replica, number)
        mend()
        equal(replicas)
        for replica in replicas:
            acknowledged.check(replica)


def test_a_connected_ring_converges_without_being_mended(tmp_path: Path) -> None:
    """Records are relayed: two replicas that cannot talk meet through the others."""
    with cluster(tmp_path, 4) as replicas:
        ring(replicas)
        acknowledged = Acknowledged()
        for number in range(1, 6):
            for replica in replicas:
                acknowledged.write(replica, number)
        equal(replicas)
        for replica in replicas:
            acknowledged.check(replica)
