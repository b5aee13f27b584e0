"""Throughput and latency against connections, beside everything that they can be compared with.

    python benchmarks/connections.py [--quick] [--rounds N] [--seed N] [--json FILE]

Writes are single durable increments of random counters, one request under way on each connection.
They are compared with the same server without storage, with all its work on a store in memory, and
with a commit for each request (`variants.py`); with Redis that syncs each append (`INCRBY`,
unpipelined); with bare aiohttp that answers the same bytes to everything; and with LMDB alone, each
commit of which puts as many records as there are connections. Reads are of the same counters,
through the fast lane and through aiohttp, against bare aiohttp and Redis (`GET`).

All of them run in every round, in random order, one at a time, on the servers' core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Final, NamedTuple, TypeAlias

import command
import variants
from bare import bare_servers
from cluster import Replica, replicas
from crdtdb.address import ObjectName
from crdtdb.database import Database
from disk import Disk
from figures import Bound, Chart, Figure, Point, Round, at_least, quantile
from floor import BareLmdb
from generator import Generator, Load, generator
from machine import CLIENT, SERVER, pin
from plan import Plan
from raw_http import Line, request
from redis_server import ABSENT, RESP, call, is_installed, redis_server

__all__ = ["measure"]

_COUNTS: Final = (1, 8, 64, 256)
#: Where the targets are.
_MANY: Final = 256
_OBJECTS: Final = 10_000
_CHUNK: Final = 1_000
_BY: Final = 5

#: By what a durable write at crdtdb is to be how many times as fast, at many connections.
_WRITES: Final[Mapping[str, Bound | None]] = {
    "no storage": at_least(0.8),
    "in memory": None,
    "a commit each": at_least(4),
    "Redis": at_least(1),
    "bare aiohttp": None,
    "bare LMDB": None,
}
_READS: Final[Mapping[str, Bound | None]] = {"bare aiohttp": at_least(2), "Redis": None}
_READS_BY_AIOHTTP: Final = at_least(0.7)

_OURS: Final = "crdtdb"
_BY_AIOHTTP: Final = "crdtdb through aiohttp"


class _Speed(NamedTuple):
    """How fast one side was."""

    rate: float
    p50_ms: float
    p99_ms: float
    #: Share of its core that the load generator used: near 1, it is what was measured.
    busy: float


_WHAT: Final = ("/s", "p50 ms", "p99 ms", "generator busy")

#: One side, for one number of connections and one round.
_Side: TypeAlias = Callable[[int], _Speed]


def measure(
    plan: Plan, directory: Path, disk: Disk, counts: Sequence[int] = _COUNTS
) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    pin(0, CLIENT)
    random = plan.random("connections")
    with ExitStack() as running:
        load = running.enter_context(generator())
        writes, reads = _sides(plan, directory, random, running, load)
        for count in counts:
            disk.wait_until_quick()
            rounds = _rounds(plan, random, writes, count)
            yield from _all_compared("writes", count, _WRITES, rounds)
            rounds = _rounds(plan, random, reads, count)
            yield from _all_compared("reads", count, _READS, rounds)
            bound = _READS_BY_AIOHTTP if count == _MANY else None
            yield _compared("reads", count, _BY_AIOHTTP, "bare aiohttp", bound, rounds)


def _rounds(
    plan: Plan, random: Random, sides: Mapping[str, _Side], count: int
) -> list[dict[str, _Speed]]:
    rounds = []
    for number in range(-1, plan.rounds):
        speeds = {name: sides[name](count) for name in random.sample(sorted(sides), len(sides))}
        if number >= 0:  # the first is the warm-up
            rounds.append(speeds)
    return rounds


def _all_compared(
    kind: str, count: int, others: Mapping[str, Bound | None], rounds: Sequence[dict[str, _Speed]]
) -> Iterator[Figure]:
    for other, bound in others.items():
        if other in rounds[0]:
            bound = bound if count == _MANY else None
            yield _compared(kind, count, _OURS, other, bound, rounds)


def _compared(
    kind: str,
    count: int,
    subject: str,
    other: str,
    bound: Bound | None,
    rounds: Sequence[dict[str, _Speed]],
) -> Figure:
    def measured(speeds: dict[str, _Speed]) -> dict[str, float]:
        return {
            f"{name} {what}": value
            for name in (subject, other)
            for what, value in zip(_WHAT, speeds[name], strict=True)
        }

    charts = {
        what: Chart(f"{kind}: {about}", "connections", unit)
        for what, about, unit in (
            ("/s", "throughput", "a second"),
            ("p50 ms", "median latency", "ms"),
            ("p99 ms", "99th percentile of latency", "ms"),
        )
    }
    points = [
        Point(chart, name, count, f"{name} {what}")
        for what, chart in charts.items()
        for name in (subject, other)
    ]
    ratios = [Round(one[subject].rate / one[other].rate, measured(one)) for one in rounds]
    name = f"{kind}, {count} connections: {subject} / {other}"
    return Figure(name, bound, ratios, points)


# -- the sides ------------------------------------------------------------------------------------


def _sides(
    plan: Plan, directory: Path, random: Random, running: ExitStack, load: Generator
) -> tuple[dict[str, _Side], dict[str, _Side]]:
    """Start everything that is measured: what is written to, and what is read from."""
    order = random.sample(range(_OBJECTS), _OBJECTS)
    increment = {"op": "increment", "by": _BY}
    posts = [request("POST", _path(i), increment) for i in order]
    gets = [request("GET", _path(i)) for i in order]
    # A field that says more of the body than its length: not for the fast lane.
    elsewhere = [request("GET", _path(i), headers=(("TE", "trailers"),)) for i in order]

    def http(port: int, requests: Sequence[bytes]) -> _Side:
        return partial(_generated, load, Load(port, 0, requests, plan.window_s))

    def start(name: str, program: Sequence[str] | None = None) -> Replica:
        path = directory / name
        _fill(path)
        if program is None:
            (replica,) = running.enter_context(replicas([path], SERVER))
        else:
            (replica,) = running.enter_context(replicas([path], SERVER, program=program))
        return replica

    own = start("own")
    writes = {_OURS: http(own.port, posts)}
    reads = {_OURS: http(own.port, gets), _BY_AIOHTTP: http(own.port, elsewhere)}
    for name, variant in (
        ("no storage", "no-storage"),
        ("in memory", "in-memory"),
        ("a commit each", "ungrouped"),
    ):
        replica = start(variant, variants.program(variant))
        writes[name] = http(replica.port, posts)
    with Line(own.port) as line:
        answers = [line.ask(posts[0]), line.ask(gets[0])]
    bare = running.enter_context(bare_servers(answers))
    writes["bare aiohttp"] = http(bare.ports[0], posts)
    reads["bare aiohttp"] = http(bare.ports[1], gets)
    alone = BareLmdb(directory / "bare-lmdb")
    running.callback(alone.close)
    writes["bare LMDB"] = partial(_committed, plan.window_s, alone, random)
    if is_installed():
        port = running.enter_context(redis_server(directory / "redis")).port
        for side, commands in (
            (writes, [call("INCRBY", f"key-{i:05}", str(_BY)) for i in order]),
            (reads, [call("GET", f"key-{i:05}") for i in order]),
        ):
            side["Redis"] = partial(
                _generated, load, Load(port, 0, commands, plan.window_s, speech=RESP)
            )
    else:
        print(ABSENT)
    return writes, reads


def _generated(load: Generator, what: Load, count: int) -> _Speed:
    sample = load.run(what._replace(connections=count))
    return _Speed(sample.rate, sample.p50_ms, sample.p99_ms, sample.busy)


def _committed(window_s: float, alone: BareLmdb, random: Random, count: int) -> _Speed:
    """Commits of as many puts as there are connections, one after the other."""
    took_s: list[float] = []
    deadline = perf_counter() + window_s
    while not took_s or perf_counter() < deadline:
        took_s.append(alone.commit(random, count))
    took_s.sort()
    rate = count * len(took_s) / sum(took_s)
    return _Speed(rate, quantile(took_s, 0.5) * 1_000, quantile(took_s, 0.99) * 1_000, 0.0)


def _fill(directory: Path) -> None:
    """Every counter is there already."""
    with Database.open(directory) as database:
        for start in range(0, _OBJECTS, _CHUNK):
            with database.transaction() as transaction:
                for i in range(start, start + _CHUNK):
                    transaction.counter(_name(i).bucket, _name(i).key).increment(_BY)


def _name(number: int) -> ObjectName:
    return ObjectName("bench", "counter", f"key-{number:05}")


def _path(number: int) -> str:
    name = _name(number)
    return f"/v1/buckets/{name.bucket}/{name.type}/{name.key}"


if __name__ == "__main__":
    sys.exit(command.run("Throughput and latency against connections, as ratios.", measure))
