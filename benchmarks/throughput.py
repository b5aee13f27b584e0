"""Requests a second at 64 connections, against bare aiohttp answering the same bytes.

Writes are single durable operations on objects chosen at random, so nearly each record of a group
commit is on a page of its own. The comparator sends what the replica answered: same status, same
header fields, same body.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from bare import bare_servers
from cluster import Replica, replicas
from crdtdb.address import ObjectName
from crdtdb.database import Database
from disk import Disk
from figures import Bound, Figure, Round, at_least
from generator import Generator, Load, Sample
from machine import SERVER, cpu_seconds
from plan import Plan
from raw_http import Line, request

__all__ = ["throughput"]

_CONNECTIONS: Final = 64
_BUCKET: Final = "bench"
_OBJECTS: Final = 10_000
#: Sets are fewer, with more in each.
_SETS: Final = 100
_MEMBERS: Final = 100
_CHUNK: Final = 1_000

_WRITES: Final = at_least(0.3)
_READS: Final = at_least(0.5)


class _Kind(NamedTuple):
    """Requests of one kind, and what their rate has to keep."""

    name: str
    bound: Bound | None
    requests: list[bytes]


def throughput(plan: Plan, directory: Path, disk: Disk, generator: Generator) -> Iterator[Figure]:
    """Writes and reads of one replica."""
    random = plan.random("throughput")
    members = _fill(directory, random)
    kinds = [*_writes(random), *_reads(random, members)]
    with replicas([directory], SERVER) as (subject,):
        with Line(subject.port) as line:
            answers = [line.ask(kind.requests[0]) for kind in kinds]
        with bare_servers(answers) as bare:
            sides = [(subject, Replica(port, bare.pid)) for port in bare.ports]
            rounds: list[list[Round]] = [[] for _ in kinds]
            for number in range(-1, plan.rounds):
                disk.wait_until_quick()
                for kind, pair, done in zip(kinds, sides, rounds, strict=True):
                    one = _round(kind, pair, plan, random, generator)
                    if number >= 0:  # the first is the warm-up
                        done.append(one)
    for kind, done, answer in zip(kinds, rounds, answers, strict=True):
        yield Figure(f"{kind.name} / bare aiohttp, {len(answer.body)} B", kind.bound, done)


def _round(
    kind: _Kind, sides: tuple[Replica, Replica], plan: Plan, random: Random, generator: Generator
) -> Round:
    samples: dict[Replica, tuple[Sample, float]] = {}
    load = Load(0, _CONNECTIONS, kind.requests, plan.window_s)
    for side in random.sample(sides, 2):
        before_s = cpu_seconds(side.pid)
        sample = generator.run(load._replace(port=side.port))
        samples[side] = sample, (cpu_seconds(side.pid) - before_s) / sample.answers * 1e6
    (own, own_us), (bare, bare_us) = (samples[side] for side in sides)
    measured = {
        "req/s": own.rate,
        "p50 ms": own.p50_ms,
        "p99 ms": own.p99_ms,
        "CPU µs": own_us,
        "bare req/s": bare.rate,
        "bare p50 ms": bare.p50_ms,
        "bare p99 ms": bare.p99_ms,
        "bare CPU µs": bare_us,
        "generator busy": bare.busy,
    }
    return Round(own.rate / bare.rate, measured)


def _fill(directory: Path, random: Random) -> list[list[str]]:
    """Give every object a value; the members of each set."""
    operations: list[tuple[ObjectName, dict[str, Any]]] = []
    for i in range(_OBJECTS):
        operations.append((_name("counter", i), {"op": "increment", "by": random.randrange(1, 99)}))
        operations.append((_name("register", i), {"op": "set", "value": _text(random)}))
    members = [[_text(random) for _ in range(_MEMBERS)] for _ in range(_SETS)]
    operations += [
        (_name("set", i), {"op": "add", "values": members[i]}) for i in range(len(members))
    ]
    with Database.open(directory) as database:
        for start in range(0, len(operations), _CHUNK):
            with database.transaction() as transaction:
                transaction.updates += [
                    database.parse_update(name, operation)
                    for name, operation in operations[start : start + _CHUNK]
                ]
    return members


def _writes(random: Random) -> Iterator[_Kind]:
    def post(name: ObjectName, operation: dict[str, Any]) -> bytes:
        return request("POST", _path(name), operation)

    order = random.sample(range(_OBJECTS), _OBJECTS)
    increment = {"op": "increment", "by": 5}
    yield _Kind(
        "increment a counter", _WRITES, [post(_name("counter", i), increment) for i in order]
    )
    assignments = [post(_name("register", i), {"op": "set", "value": _text(random)}) for i in order]
    yield _Kind("set a register", _WRITES, assignments)
    additions = [
        post(_name("set", i % _SETS), {"op": "add", "value": _text(random)}) for i in order
    ]
    yield _Kind("add to a set", _WRITES, additions)


def _reads(random: Random, members: list[list[str]]) -> Iterator[_Kind]:
    def get(name: ObjectName, query: str = "") -> bytes:
        return request("GET", _path(name) + query)

    order = random.sample(range(_OBJECTS), _OBJECTS)
    for type_name in ("counter", "register"):
        yield _Kind(f"read a {type_name}", _READS, [get(_name(type_name, i)) for i in order])
    lookups = [
        get(_name("set", i % _SETS), "?member=" + quote(f'"{random.choice(members[i % _SETS])}"'))
        for i in order
    ]
    yield _Kind("is it in the set?", _READS, lookups)
    pages = [get(_name("set", i)) for i in range(_SETS)]
    yield _Kind("a page of 100 members", None, pages)


def _name(type_name: str, number: int) -> ObjectName:
    return ObjectName(_BUCKET, type_name, f"key-{number:05}")


def _path(name: ObjectName) -> str:
    return f"/v1/buckets/{name.bucket}/{name.type}/{name.key}"


def _text(random: Random) -> str:
    return f"{random.getrandbits(128):032x}"
