"""Four times more requests than a replica can carry out: who is refused, and what the others feel.

    python benchmarks/overload.py [--quick] [--rounds N] [--seed N] [--json FILE]

What a replica can do is what it does for 64 clients who each write again as soon as they are
answered; how long they wait is what is normal. Then clients come who together send four times as
many requests in the same time, spread over 512 connections. Who is refused waits as long as
`Retry-After` says, or (*pressing*) does not heed it. Then normal again, in short windows, until it
is as it was. In the end the counters must show every write that was acknowledged and no other.

`offered` is what really came: a server that is pressed answers no faster than it can, and refusing
takes a quarter of what a write takes. So for clients who press, the figure is for information.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Final

import command
from cluster import Replica, replicas
from disk import Disk
from figures import Figure, Round, at_most
from generator import Generator, Load, Sample, generator
from machine import SERVER
from plan import Plan
from raw_http import Line, request

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

_KEPT: Final = at_most(5)
_RECOVERED: Final = at_most(1)


def measure(plan: Plan, directory: Path, disk: Disk) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    with generator() as crowd, replicas([directory / "overload"], SERVER) as (replica,):
        overload = _Overload(replica, crowd, plan)
        for pressing in (False, True):
            waits: list[Round] = []
            recoveries: list[Round] = []
            for number in range(-1, plan.rounds):
                disk.wait_until_quick()
                wait, recovery = overload.round(pressing=pressing)
                if number >= 0:  # the first is the warm-up
                    waits.append(wait)
                    recoveries.append(recovery)
            who = "pressing" if pressing else "heeding"
            bound = None if pressing else _KEPT
            yield Figure(f"p99 of the admitted / normal, {who}", bound, waits)
            yield Figure(f"recovery / {_RECOVERY_S:g} s, {who}", _RECOVERED, recoveries)
        shown, acknowledged = overload.shown(), overload.acknowledged
    if shown != acknowledged:
        raise RuntimeError(f"{acknowledged} writes were acknowledged, {shown} are there")
    print(f"{acknowledged:,} writes were acknowledged, and are there; no other is")


class _Overload:
    """Loads on one replica, and what it acknowledged."""

    def __init__(self, replica: Replica, crowd: Generator, plan: Plan) -> None:
        increment = {"op": "increment"}
        paths = [f"/v1/buckets/bench/counter/{number}" for number in range(_COUNTERS)]
        writes = [request("POST", path, increment) for path in paths]
        self._reads = [request("GET", path) for path in paths]
        self._port = replica.port
        self._crowd = crowd
        self._window_s = plan.window_s
        self._normal = Load(replica.port, _NORMAL, writes, plan.window_s)
        self.acknowledged = 0

    def round(self, *, pressing: bool) -> tuple[Round, Round]:
        """Normal, overload, normal again: how long the admitted wait, how soon all is well."""
        normal = self._run(self._normal)
        crowd = self._normal._replace(
            connections=_CROWD,
            every_s=_CROWD / (_TIMES * normal.rate),
            refusals=True,
            pressing=pressing,
            seconds=max(_OVERLOAD_S, self._window_s),
        )
        over = self._run(crowd)
        recovered_s = self._recovery_s(normal)
        measured = {
            "normal writes/s": normal.rate,
            "normal p99 ms": normal.p99_ms,
            "offered/s": over.rate * (1 + over.refused / over.answers),
            "admitted/s": over.rate,
            "refused": over.refused,
            "p50 ms": over.p50_ms,
            "p99 ms": over.p99_ms,
            "generator busy": over.busy,
        }
        return (
            Round(over.p99_ms / normal.p99_ms, measured),
            Round(recovered_s / _RECOVERY_S, {"recovered s": recovered_s}),
        )

    def shown(self) -> int:
        """The sum of all counters."""
        with Line(self._port) as line:
            return sum(int(json.loads(line.ask(read).body)["value"]) for read in self._reads)

    def _run(self, load: Load) -> Sample:
        sample = self._crowd.run(load)
        self.acknowledged += sample.answers
        return sample

    def _recovery_s(self, normal: Sample) -> float:
        """Seconds from the end of the overload to the end of the first window as before."""
        began = perf_counter()
        while True:
            load = self._normal._replace(seconds=self._window_s / 2, refusals=True)
            again = self._run(load)
            recovered_s = perf_counter() - began
            is_as_before = not again.refused and again.p99_ms <= _AS_BEFORE * normal.p99_ms
            if is_as_before or recovered_s > 3 * _RECOVERY_S:
                return recovered_s


if __name__ == "__main__":
    sys.exit(command.run(__doc__.partition("\n")[0], measure))
