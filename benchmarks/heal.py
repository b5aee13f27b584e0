"""Two replicas that both wrote on while apart: how soon they are level again, and who notices.

    python benchmarks/heal.py [--quick] [--rounds N] [--seed N] [--json FILE]

Each side sets 100,000 registers (quick: 5,000) in transactions of 1,000 while the link between the
two is cut; then it is mended. The time runs until each has what the other had seen.

- Rate, on scattered and on adjacent keys: records that each side takes in a second, against LMDB
  alone that puts the same records (the bytes of their rows, in order of their addresses) in one
  durable commit.
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
from crdtdb.address import ObjectName
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
    memory: list[Round] = []
    for keys, bound in (("scattered", _SCATTERED), ("adjacent", _ADJACENT)):
        rates = []
        for number in range(plan.rounds):
            disk.wait_until_quick()
            path = directory / f"{keys}-{number}"
            sides = [_transactions(keys, side, count, random) for side in range(2)]
            with _pair(path) as pair:
                healed = _heal(pair, sides)
            bare_s = _bare_puts(sides[0], path / "bare")
            measured = {
                "records/s": count / healed.seconds,
                "bare puts/s": count / bare_s,
                "heal s": healed.seconds,
            }
            rates.append(Round(bare_s / healed.seconds, measured))
            memory.append(Round(healed.grown_bytes / _MIB, {"writes of each": count}))
        yield Figure(f"heal, {count:,} on each side, {keys} keys / sorted puts", bound, rates)
    yield Figure("heal: memory grown by at most, MiB", _MEMORY, memory)
    with generator() as load:
        under_load = [
            _under_load(plan, directory / f"load-{number}", count, random, load)
            for number in range(plan.rounds)
        ]
    yield Figure("heal under half load: p99 of writes / before", _FOREGROUND, under_load)


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
    sides = [_transactions("scattered", side, count, random) for side in range(2)]
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


def _transactions(keys: str, side: int, count: int, random: Random) -> list[list[dict[str, Any]]]:
    """What one side writes. Keys of the two sides are apart; adjacent ones follow each other."""

    def key(number: int) -> str:
        if keys == "adjacent":
            return f"{_NAMES[side]}-{number:08}"
        return f"{random.getrandbits(64):016x}"

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


def _bare_puts(transactions: Sequence[Sequence[dict[str, Any]]], directory: Path) -> float:
    """How long LMDB alone takes to put the records that these writes make, in order."""
    with Database.in_memory() as database:
        for updates in transactions:
            with database.transaction() as transaction:
                for update in updates:
                    name = ObjectName(update["bucket"], update["type"], update["key"])
                    transaction.register(name.bucket, name.key).set(update["value"])
        with database.engine.store.snapshot() as snapshot:
            rows = list(snapshot.scan(Table.RECORDS))
    with closing(BareLmdb(directory)) as bare:
        return bare.put(rows)


if __name__ == "__main__":
    sys.exit(command.run("Healing of a partition, as ratios.", measure))
