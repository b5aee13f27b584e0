"""A member that was away takes in what it missed: memory and kills, whatever the backlog.

    python benchmarks/backlog.py [--quick] [--missed N]... [--kills N] [--rounds N] [--seed N]
                                 [--json FILE]

Two replicas are level and stop. One of them takes N writes, half of them members of one set, half
registers; then both are started as processes on loopback, and the other catches up. It does so
twice: at its ease, and killed (SIGKILL) so many times while records come, as often when all are
there, and as often while they are joined in parts, and started again each time.

- Memory: what its own memory (`RssAnon`) grew by at most in any of its lives, in MiB. Pages of the
  mapped data file are left out: the system takes them back when it likes.
- Resumption: records that were there before a kill and are fetched again, or joined again.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any, Final, NamedTuple

import command
from bootstrap import fill
from cluster import Replica, replicas, starting
from crdtdb.database import Database
from crdtdb_server.ports import free_ports
from figures import Figure, Round, at_most
from links import exchange_states, token
from machine import BOTH, CLIENT, SERVER, facts, private_bytes
from raw_http import Line, first_answer, request

__all__ = ["measure"]

_NAMES: Final = ("donor", "away")
_MISSED: Final = (30_000, 100_000, 300_000)
_QUICK: Final = (5_000,)
_KILLS: Final = 2
_MIB: Final = 2**20
_SAMPLE_S: Final = 0.02
_GIVEN_UP_S: Final = 3_600.0
_ALIVE: Final = request("GET", "/healthz")
_READY: Final = request("GET", "/readyz")


class _Progress(NamedTuple):
    """How far a catch-up has come."""

    records: int = 0
    joined: int = 0
    is_complete: bool = False

    def reaches(self, moment: _Progress) -> bool:
        return (
            self.records >= moment.records
            and self.joined >= moment.joined
            and self.is_complete >= moment.is_complete
        )


#: Who is level when it is first asked has lost nothing.
_ALL: Final = _Progress(sys.maxsize, sys.maxsize, is_complete=True)


class _Life(NamedTuple):
    """From a start to a kill, or to the end."""

    grown_bytes: int
    first: _Progress
    last: _Progress
    was_killed: bool


class _Caught(NamedTuple):
    """One catch-up."""

    seconds: float
    grown_bytes: int
    kills: int
    again: int


def main() -> int:
    """Measure, print, judge."""
    arguments = _arguments()
    with TemporaryDirectory(prefix="crdtdb-bench-") as name:
        figures = measure(Path(name), arguments)
        return command.tell({**facts(), **vars(arguments)}, figures, arguments.json)


def measure(directory: Path, arguments: argparse.Namespace) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    for missed in arguments.missed:
        memory, resumed = [], []
        for number in range(arguments.rounds):
            random = Random(f"{arguments.seed} {missed} {number}")
            path = directory / f"{missed}-{number}"
            calm = _catch_up(path / "calm", missed, [], random)
            killed = _catch_up(path / "killed", missed, _moments(missed, arguments.kills), random)
            measured = {
                "MiB without kills": calm.grown_bytes / _MIB,
                "MiB with kills": killed.grown_bytes / _MIB,
                "records/s": missed / calm.seconds,
            }
            grown_bytes = max(calm.grown_bytes, killed.grown_bytes)
            memory.append(Round(grown_bytes / _MIB, measured))
            resumed.append(Round(killed.again, {"kills": killed.kills}))
            shutil.rmtree(path)
        yield Figure(f"{missed:,} missed: memory grown by at most, MiB", at_most(64), memory)
        yield Figure(f"{missed:,} missed: records again after kills", at_most(0), resumed)


def _moments(missed: int, kills: int) -> list[_Progress]:
    """When to kill: while records come, when all are there, and while they are joined."""
    parts = [round(missed * (number + 0.5) / kills) for number in range(kills)]
    return [
        *(_Progress(records=part) for part in parts),
        *(_Progress(is_complete=True) for _ in parts),
        *(_Progress(joined=part) for part in parts),
    ]


def _catch_up(path: Path, missed: int, moments: list[_Progress], random: Random) -> _Caught:
    """Let one of two replicas miss so many records, and catch up; killed at these moments."""
    donor, away = (path / name for name in _NAMES)
    with (
        replicas([donor, away], BOTH) as pair,
        Line(pair[0].port) as one,
        Line(pair[1].port) as other,
    ):
        exchange_states(one, other, token(one), token(other))
    with Database.open(donor, replica=_NAMES[0]) as database:
        fill(database, missed, random)
    own, port = free_ports(2)
    lives: list[_Life] = []
    with starting(donor, SERVER, own, [port]), first_answer(own, _READY, _GIVEN_UP_S) as line:
        wanted, began = token(line), monotonic()
        for moment in [*moments, None]:
            with starting(away, CLIENT, port, [own]) as replica:
                lives.append(_live(replica, wanted, moment))
            if not lives[-1].was_killed:
                break
        seconds = monotonic() - began
    return _Caught(
        seconds,
        max(life.grown_bytes for life in lives),
        len(lives) - 1,
        sum(_lost(one.last, other.first) for one, other in pairwise(lives)),
    )


def _lost(before: _Progress, after: _Progress) -> int:
    """So many records are not there any more."""
    return max(0, before.records - after.records) + max(0, before.joined - after.joined)


def _live(replica: Replica, wanted: str, moment: _Progress | None) -> _Life:
    """Let a replica catch up to a moment, and kill it; or to the end."""
    asked = request("GET", "/v1/buckets/bench/register/any", headers=_covering(wanted))
    with first_answer(replica.port, _ALIVE, _GIVEN_UP_S) as line:
        before = most = private_bytes(replica.pid)
        deadline = monotonic() + _GIVEN_UP_S
        first = last = None
        while not _covers(line, asked):
            last = _progress(line) or last
            first = first or last
            most = max(most, private_bytes(replica.pid))
            if moment is not None and last is not None and last.reaches(moment):
                os.kill(replica.pid, signal.SIGKILL)
                return _Life(most - before, first or last, last, was_killed=True)
            if monotonic() > deadline:
                raise TimeoutError("a replica never caught up")
            sleep(_SAMPLE_S)
        most = max(most, private_bytes(replica.pid))
        return _Life(most - before, first or _ALL, last or _ALL, was_killed=False)


def _covering(wanted: str) -> tuple[tuple[str, str], ...]:
    return ("Crdtdb-Context", wanted), ("Prefer", "wait=0")


def _covers(line: Line, asked: bytes) -> bool:
    try:
        line.exchange(asked)
    except RuntimeError:  # still behind
        return False
    return True


def _progress(line: Line) -> _Progress | None:
    document: dict[str, Any] = json.loads(line.ask(_READY).body)
    progress = document.get("progress")
    if progress is None:
        return None
    return _Progress(progress["records"], progress["joined"], progress["complete"])


def _arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A catch-up, whatever the backlog.")
    parser.add_argument("--quick", action="store_true", help="few records, rough figures")
    parser.add_argument(
        "--missed", type=int, action="append", help="so many (30,000, 100,000 and 300,000)"
    )
    parser.add_argument("--kills", type=int, default=_KILLS, help="of each sort (2)")
    parser.add_argument("--rounds", type=int, help="of each (1)", default=1)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of all choices")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw rounds there")
    arguments = parser.parse_args(given)
    arguments.missed = arguments.missed or (_QUICK if arguments.quick else _MISSED)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
