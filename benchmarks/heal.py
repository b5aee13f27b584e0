"""Two replicas that both wrote on while apart: how soon they are level again, and who notices.

    python benchmarks/heal.py [--quick] [--rounds N] [--seed N] [--json FILE]

Both hold 1,000,000 registers (quick: 20,000) with random keys. Each side sets 100,000 more (quick:
5,000) in transactions of 1,000 while the link between the two is cut; then it is mended. The time
runs until each has what the other had seen.

- Rate, on scattered and on adjacent keys: records that each side takes in a second, against LMDB
  alone that holds as many and puts the same records (the bytes of their rows, in order of their
  addresses) in one durable commit. Scattered keys fall among those that are there, so both change
  a page of the table for nearly each record.
- A client of one side: the 99th percentile of single writes at half of what that side can do, while
  the two get level, against the same load before.
- Memory: what either process' own grew by at most, in MiB.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from threading import Event, Thread
from time import perf_counter
from typing import Any, Final, NamedTuple

import command
from cluster import Replica, replicas
from crdtdb.database import Database
from crdtdb.store.base import Table
from disk import Disk
from figures import Figure, Round, at_least, at_most
from floor import BareLmdb
from generator import Generator, Load, generator
from links import FAULTS, cut, exchange_states, mend, token
from machine import BOTH, CLIENT, pin, private_bytes
from plan import Plan
from raw_http import Line, request

__all__ = ["measure"]

_NAMES: Final = ("near", "far")
_BUCKET: Final = "bench"
_TOGETHER: Final = 1_000
_FILLED_TOGETHER: Final = 100_000
_VALUE_BYTES: Final = 25
_CONNECTIONS: Final = 32
_SAMPLE_S: Final = 0.02
_MIB: Final = 2**20

_SCATTERED: Final = at_least(0.4)
_ADJACENT: Final = at_least(0.15)
_FOREGROUND: Final = at_most(5)
_MEMORY: Final = at_most(64)


class _Healed(NamedTuple):
    """How it went."""

    seconds: float
    #: What the process grew by most, of the two.
    grown_bytes: int


def measure(plan: Plan, directory: Path, disk: Disk, writes: int | None = None) -> Iterator[Figure]:
    """Every figure, as soon as there is one. `writes` are those of each side."""
    pin(0, CLIENT)
    random = plan.random("heal")
    count = writes or (5_000 if plan.quick else 100_000)
    held = writes or (20_000 if plan.quick else 1_000_000)
    memory: list[Round] = []
    with _level_pair(directory, held, random) as (pair, bare):
        for keys, bound in (("scattered", _SCATTERED), ("adjacent", _ADJACENT)):
            rates = []
            for number in range(plan.rounds):
                disk.wait_until_quick()
                sides = [_transactions(keys, f"{side}-{number}", count, random) for side in _NAMES]
                healed = _heal(pair, sides)
                bare_s = bare.put(_rows(sides[0]))
                measured = {
                    "records/s": count / healed.seconds,
                    "bare puts/s": count / bare_s,
                    "heal s": healed.seconds,
                }
                rates.append(Round(bare_s / healed.seconds, measured))
                memory.append(Round(healed.grown_bytes / _MIB, {"writes of each": count}))
            name = f"heal, {count:,} on each side among {held:,}, {keys} keys / sorted puts"
            yield Figure(name, bound, rates)
    yield Figure("heal: memory grown by at most, MiB", _MEMORY, memory)
    with generator() as load:
        under_load = [
            _under_load(plan, directory / f"load-{number}", count, random, load)
            for number in range(plan.rounds)
        ]
    yield Figure("heal under half load: p99 of writes / before", _FOREGROUND, under_load)


@contextmanager
def _level_pair(
    directory: Path, held: int, random: Random
) -> Iterator[tuple[list[Replica], BareLmdb]]:
    """Two level replicas that hold so many registers, and LMDB alone with the same rows."""
    near = directory / _NAMES[0]
    with Database.open(near, replica=_NAMES[0]) as database:
        for start in range(0, held, _FILLED_TOGETHER):
            fewer = min(_FILLED_TOGETHER, held - start)
            for updates in _transactions("scattered", _NAMES[0], fewer, random):
                _carry_out(database, updates)
    with closing(BareLmdb(directory / "bare")) as bare:
        with Database.open(near, replica=_NAMES[0]) as database:
            bare.put(_records(database))
        with _pair(directory) as pair:
            yield pair, bare


@contextmanager
def _pair(path: Path) -> Iterator[list[Replica]]:
    with replicas([path / name for name in _NAMES], BOTH, options=FAULTS) as pair:
        yield pair


def _heal(pair: Sequence[Replica], sides: Sequence[Sequence[Any]]) -> _Healed:
    """Let both sides write while apart, then get level."""
    with _apart(pair, sides) as mended, _watched([replica.pid for replica in pair]) as grown:
        began = perf_counter()
        mended()
        seconds = perf_counter() - began
    return _Healed(seconds, max(grown))


@contextmanager
def _apart(pair: Sequence[Replica], sides: Sequence[Sequence[Any]]) -> Iterator[Callable[[], None]]:
    """Replicas that have written while apart; gives what mends the link until they are level."""
    with Line(pair[0].port) as near, Line(pair[1].port) as far:
        cut(near, _NAMES[1])
        for line, transactions in zip((near, far), sides, strict=True):
            for updates in transactions:
                line.exchange(request("POST", "/v1/transactions", {"updates": updates}))
        tokens = token(near), token(far)

        def mended() -> None:
            mend(near, _NAMES[1])
            exchange_states(near, far, *tokens)

        yield mended


def _under_load(plan: Plan, path: Path, count: int, random: Random, load: Generator) -> Round:
    """The same, while somebody writes to the near side."""
    sides = [_transactions("scattered", side, count, random) for side in _NAMES]
    with _pair(path) as pair:
        requests = [
            request(
                "POST",
                f"/v1/buckets/{_BUCKET}/counter/key-{random.randrange(1_000)}",
                {"op": "increment"},
            )
            for _ in range(1_000)
        ]
        most = Load(pair[0].port, _CONNECTIONS, requests, plan.window_s)
        load.run(most)  # the warm-up
        half = most._replace(every_s=2 * _CONNECTIONS / load.run(most).rate)
        before = load.run(half)
        with _apart(pair, sides) as mended:
            load.begin(half)
            mended()
            during = load.stop()
    measured = {
        "before p99 ms": before.p99_ms,
        "healing p99 ms": during.p99_ms,
        "before p50 ms": before.p50_ms,
        "healing p50 ms": during.p50_ms,
        "writes/s": during.rate,
    }
    return Round(during.p99_ms / before.p99_ms, measured)


@contextmanager
def _watched(pids: Sequence[int]) -> Iterator[list[int]]:
    """What each process' own memory grows by at most while the block lasts: there at its end."""
    before = [private_bytes(pid) for pid in pids]
    grown = [0 for _ in pids]
    ended = Event()

    def watch() -> None:
        while not ended.wait(_SAMPLE_S):
            for i, pid in enumerate(pids):
                grown[i] = max(grown[i], private_bytes(pid) - before[i])

    thread = Thread(target=watch)
    thread.start()
    try:
        yield grown
    finally:
        ended.set()
        thread.join()


def _transactions(keys: str, side: str, count: int, random: Random) -> list[list[dict[str, Any]]]:
    """What one side writes. Keys of the two sides are apart; adjacent ones follow each other."""

    def key(number: int) -> str:
        return f"{side}-{number:08}" if keys == "adjacent" else f"{random.getrandbits(64):016x}"

    updates = [
        {
            "bucket": _BUCKET,
            "type": "register",
            "key": key(number),
            "op": "set",
            "value": random.randbytes(_VALUE_BYTES).hex(),
        }
        for number in range(count)
    ]
    return [updates[at : at + _TOGETHER] for at in range(0, count, _TOGETHER)]


def _rows(transactions: Sequence[Sequence[dict[str, Any]]]) -> list[tuple[bytes, bytes]]:
    """The records that these writes make, in order of their addresses."""
    with Database.in_memory() as database:
        for updates in transactions:
            _carry_out(database, updates)
        return _records(database)


def _carry_out(database: Database, updates: Sequence[dict[str, Any]]) -> None:
    """Set registers in one transaction."""
    with database.transaction() as transaction:
        for update in updates:
            transaction.register(update["bucket"], update["key"]).set(update["value"])


def _records(database: Database) -> list[tuple[bytes, bytes]]:
    """All rows of records, in order of their addresses."""
    with database.engine.store.snapshot() as snapshot:
        return list(snapshot.scan(Table.RECORDS))


if __name__ == "__main__":
    sys.exit(command.run("Healing of a partition, as ratios.", measure))
