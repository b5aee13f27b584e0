"""What replicas cost that nobody uses: processor time, as a share of one core."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter, sleep
from typing import Final

from cluster import Replica
from figures import Figure, Round, at_most
from machine import cpu_seconds
from plan import Plan

__all__ = ["idle"]

#: After this, whatever was under way is done.
_SETTLE_S: Final = 3.0
_BOUND: Final = at_most(0.01)


def idle(plan: Plan, cluster: Sequence[Replica]) -> Figure:
    """The busiest of idle replicas that are each other's peers."""
    sleep(_SETTLE_S)
    rounds = [_round(plan.idle_s, cluster) for _ in range(plan.idle_rounds)]
    return Figure(f"idle: the busiest of {len(cluster)} replicas / one core", _BOUND, rounds)


def _round(idle_s: float, cluster: Sequence[Replica]) -> Round:
    began = perf_counter()
    before = [cpu_seconds(replica.pid) for replica in cluster]
    sleep(idle_s)
    after = [cpu_seconds(replica.pid) for replica in cluster]
    wall_s = perf_counter() - began
    shares = [(then - now) / wall_s for now, then in zip(before, after, strict=True)]
    return Round(max(shares), {f"replica {i}": share for i, share in enumerate(shares, 1)})
