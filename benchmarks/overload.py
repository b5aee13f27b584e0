"""Four times more requests than a replica can carry out: who is refused, and what the others feel.

    python benchmarks/overload.py [--quick] [--rounds N] [--seed N] [--json FILE]

What a replica can do is what it does for 64 clients who each write again as soon as they are
answered; how long they wait is what is normal. (With half of that load they wait far shorter: that
stands beside it.) Then clients come over 512 connections who together want four times as much. Then
normal again, in short windows, until it is as it was. Three crowds:

* *heeding*: single increments; who is refused stays away for as long as `Retry-After` says. After
  the first rush, that leaves little more than can be carried out.
* *pressing*: single increments; who is refused comes again at once. To refuse one costs a quarter
  of carrying one out, so a replica cannot even refuse as many as these want to send: it tells them
  late, which keeps them from sending more.
* *pressing, of 100*: transactions of 100 increments. To refuse one costs next to nothing, so this
  is an overload of four times the capacity from beginning to end. That so many came is checked.

`times as many` says what really came. In the end the replica is killed, and started again: its
counters must show every write that was acknowledged and no other.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

import command
from cluster import Replica, replicas, starting
from disk import Disk
from figures import Figure, Round, at_least, at_most
from generator import Generator, Load, Sample, generator
from machine import SERVER
from plan import Plan
from raw_http import first_answer, request

__all__ = ["measure"]

_NORMAL: Final = 64
_CROWD: Final = 512
_TIMES: Final = 4
_COUNTERS: Final = 1_000
#: As it was: within so many times of what was normal before.
_AS_BEFORE: Final = 1.5
_RECOVERY_S: Final = 10.0
#: A refused client comes again after some seconds: less would show the first rush only.
_OVERLOAD_S: Final = 5.0
_START_S: Final = 120.0

_KEPT: Final = at_most(5)
_RECOVERED: Final = at_most(1)
_CAME: Final = at_least(0.9 * _TIMES)


class _Crowd(NamedTuple):
    """Who comes, and with what."""

    name: str
    pressing: bool
    #: Increments of one request.
    operations: int
    #: Must four times as many as can be carried out really come?
    came: bool


_CROWDS: Final = (
    _Crowd("heeding", pressing=False, operations=1, came=False),
    _Crowd("pressing", pressing=True, operations=1, came=False),
    _Crowd("pressing, of 100", pressing=True, operations=100, came=True),
)


def measure(plan: Plan, directory: Path, disk: Disk) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    data = directory / "overload"
    with generator() as callers, replicas([data], SERVER) as (replica,):
        overload = _Overload(replica, callers, plan)
        overload.round(_CROWDS[0])  # the warm-up
        for crowd in _CROWDS:
            waits: list[Round] = []
            times: list[Round] = []
            recoveries: list[Round] = []
            for _ in range(plan.rounds):
                disk.wait_until_quick()
                wait, came, recovery = overload.round(crowd)
                waits.append(wait)
                times.append(came)
                recoveries.append(recovery)
            yield Figure(f"p99 of the admitted / normal, {crowd.name}", _KEPT, waits)
            yield Figure(f"times as many, {crowd.name}", _CAME if crowd.came else None, times)
            yield Figure(f"recovery / {_RECOVERY_S:g} s, {crowd.name}", _RECOVERED, recoveries)
        os.kill(replica.pid, signal.SIGKILL)
    acknowledged = overload.acknowledged
    with starting(data, SERVER, replica.port, ()):
        shown = _shown(replica.port)
    if shown != acknowledged:
        raise RuntimeError(f"{acknowledged} writes were acknowledged, {shown} are there")
    print(f"{acknowledged:,} increments were acknowledged, and are there after a kill; no other is")


def _paths() -> list[str]:
    return [f"/v1/buckets/bench/counter/{number}" for number in range(_COUNTERS)]


def _shown(port: int) -> int:
    """The sum of all counters."""
    reads = [request("GET", path) for path in _paths()]
    with first_answer(port, reads[0], _START_S) as line:
        return sum(int(json.loads(line.ask(read).body)["value"]) for read in reads)


def _writes(operations: int) -> Sequence[bytes]:
    """Requests of so many increments each, which together touch every counter."""
    increment = {"op": "increment"}
    if operations == 1:
        return [request("POST", path, increment) for path in _paths()]
    keys = [{"bucket": "bench", "type": "counter", "key": str(key)} for key in range(_COUNTERS)]
    updates = [key | increment for key in keys]
    return [
        request("POST", "/v1/transactions", {"updates": updates[first : first + operations]})
        for first in range(0, _COUNTERS, operations)
    ]


class _Overload:
    """Loads on one replica, and how many increments it acknowledged."""

    def __init__(self, replica: Replica, callers: Generator, plan: Plan) -> None:
        self._port = replica.port
        self._callers = callers
        self._window_s = plan.window_s
        self.acknowledged = 0

    def round(self, crowd: _Crowd) -> tuple[Round, Round, Round]:
        """Normal, overload, normal again: how long the admitted wait, how many came, how soon
        all is well."""
        load = Load(self._port, _NORMAL, _writes(crowd.operations), self._window_s)
        self._calm_s(load, crowd, inf)  # after the crowd before
        normal = self._run(load, crowd)
        half = self._run(load._replace(every_s=_NORMAL * 2 / normal.rate), crowd)
        seconds = max(_OVERLOAD_S, self._window_s)
        many = load._replace(
            connections=_CROWD,
            every_s=_CROWD / (_TIMES * normal.rate),
            refusals=True,
            pressing=crowd.pressing,
            seconds=seconds,
        )
        over = self._run(many, crowd)
        recovered_s = self._calm_s(load, crowd, _AS_BEFORE * normal.p99_ms)
        offered = (over.answers + over.refused) / seconds
        measured = {
            "normal/s": normal.rate,
            "normal p99 ms": normal.p99_ms,
            "p99 ms at half of that": half.p99_ms,
            "admitted/s": over.rate,
            "refused": over.refused,
            "p50 ms": over.p50_ms,
            "p99 ms": over.p99_ms,
            "generator busy": over.busy,
        }
        return (
            Round(over.p99_ms / normal.p99_ms, measured),
            Round(offered / normal.rate, {"offered/s": offered}),
            Round(recovered_s / _RECOVERY_S, {"recovered s": recovered_s}),
        )

    def _run(self, load: Load, crowd: _Crowd) -> Sample:
        sample = self._callers.run(load)
        self.acknowledged += sample.answers * crowd.operations
        return sample

    def _calm_s(self, load: Load, crowd: _Crowd, p99_ms: float) -> float:
        """Seconds until the end of the first short window in which nobody is refused or waits so
        long."""
        began = perf_counter()
        while True:
            again = self._run(load._replace(seconds=self._window_s / 2, refusals=True), crowd)
            recovered_s = perf_counter() - began
            if (not again.refused and again.p99_ms <= p99_ms) or recovered_s > 3 * _RECOVERY_S:
                return recovered_s


if __name__ == "__main__":
    sys.exit(command.run(__doc__.partition("\n")[0], measure))
