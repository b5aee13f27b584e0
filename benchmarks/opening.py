"""A replica that is started again: how soon it answers, and what it needs in memory.

    python benchmarks/opening.py [--quick] [--rounds N] [--seed N] [--json FILE]

A replica of 1,000,000 records (quick: 20,000), half of them members of one set, half registers, is
started as a process; the time runs until it has answered a read of one of them.

- After it was stopped.
- After a crash with a full overlay: as much was written to it, in transactions of 1,000, as its log
  takes before it is folded, and then the process was killed.
- For information, an empty one: what Python and its modules cost; and the memory of each process
  that the system cannot take back.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from os import kill
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Final, NamedTuple

import command
from bootstrap import fill
from cluster import replicas, starting
from crdtdb.database import Database
from crdtdb_server.ports import free_ports
from disk import Disk
from figures import Bound, Figure, Round, at_most
from machine import CLIENT, SERVER, pin, private_bytes
from plan import Plan
from raw_http import Line, first_answer, request

__all__ = ["measure"]

_SECOND: Final = at_most(1.0)
_TOGETHER: Final = 1_000
#: With three rows each (record, place and head), almost two layers of the log.
_OVERLAY_REGISTERS: Final = 80_000
_VALUE_BYTES: Final = 50
_GIVEN_UP_S: Final = 120.0
_READ: Final = request("GET", "/v1/buckets/bench/register/known")
_MIB: Final = 2**20


class _Start(NamedTuple):
    """One start."""

    seconds: float
    private_bytes: int


def measure(
    plan: Plan, directory: Path, disk: Disk, records: int | None = None
) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    pin(0, CLIENT)
    random = plan.random("opening")
    count = records or (20_000 if plan.quick else 1_000_000)
    path = directory / "large"
    with Database.open(path) as database:
        database.register("bench", "known").set(1)
        fill(database, count, random)
    stopped, crashed, empty = [], [], []
    for number in range(plan.rounds):
        disk.wait_until_quick()
        empty.append(_start(directory / f"empty-{number}"))
        stopped.append(_start(path))
        _crash(path, random, min(count, _OVERLAY_REGISTERS))
        crashed.append(_start(path))
    yield _seconds(f"first answer, {count:,} records, stopped / 1 s", _SECOND, stopped)
    yield _seconds(f"first answer, {count:,} records, killed / 1 s", _SECOND, crashed)
    yield _seconds("first answer, empty / 1 s", None, empty)
    for name, starts in ((f"{count:,} records", stopped), ("none", empty)):
        yield Figure(
            f"memory of a replica just started, {name}, MiB",
            None,
            [
                Round(start.private_bytes / _MIB, {"private B": start.private_bytes})
                for start in starts
            ],
        )


def _seconds(name: str, bound: Bound | None, starts: list[_Start]) -> Figure:
    return Figure(
        name, bound, [Round(one.seconds, {"first answer s": one.seconds}) for one in starts]
    )


def _start(path: Path) -> _Start:
    """Start a replica; it stops again."""
    (port,) = free_ports(1)
    began = perf_counter()
    with starting(path, SERVER, port, ()) as replica:
        with first_answer(port, _READ, _GIVEN_UP_S):
            took_s = perf_counter() - began
        return _Start(took_s, private_bytes(replica.pid))


def _crash(path: Path, random: Random, registers: int) -> None:
    """Write much at once to a replica, and kill it."""
    with replicas([path], SERVER) as (replica,), Line(replica.port) as line:
        for _ in range(0, registers, _TOGETHER):
            updates = [
                {
                    "bucket": "bench",
                    "type": "register",
                    "key": f"{random.getrandbits(64):016x}",
                    "op": "set",
                    "value": random.randbytes(_VALUE_BYTES // 2).hex(),
                }
                for _ in range(_TOGETHER)
            ]
            line.exchange(request("POST", "/v1/transactions", {"updates": updates}))
        kill(replica.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(command.run("Starting a replica again, as ratios.", measure))
