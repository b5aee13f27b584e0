"""Commit at one replica → readable at another, against one durable commit plus one exchange.

A client writes at one replica, takes the session token of the answer to another and reads there;
the read answers once that replica has the write. The time runs from the request of the write to
the answer of the read, so two exchanges and at least one commit are in it.

The floor, measured in turns with it: a bare LMDB commit of one put (default flags, one sync of
data and one of the meta page), and an exchange of the same answer with bare aiohttp.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter
from typing import Any, Final, NamedTuple

import lmdb

from bare import bare_servers
from cluster import Replica
from disk import Disk
from figures import Figure, Round, at_most
from plan import Plan
from raw_http import Answer, Line, request

__all__ = ["visibility"]

_PATH: Final = "/v1/buckets/bench/register/visible"
_READ: Final = request("GET", _PATH)
_VALUE_BYTES: Final = 100
_BOUND: Final = at_most(10)


class _Crossing(NamedTuple):
    """How long until a write is answered, and until it is read at another replica."""

    answered_s: float
    readable_s: float


def visibility(plan: Plan, directory: Path, disk: Disk, cluster: Sequence[Replica]) -> Figure:
    """Between any two of the replicas."""
    random = plan.random("visibility")
    with ExitStack() as stack:
        lines = [stack.enter_context(Line(replica.port)) for replica in cluster]
        _write(lines[0], 0)
        (bare_port,) = stack.enter_context(bare_servers([lines[0].ask(_READ)])).ports
        bare = stack.enter_context(Line(bare_port))
        environment = stack.enter_context(lmdb.open(str(directory), map_size=1 << 26))
        rounds = []
        for number in range(-1, plan.rounds):
            disk.wait_until_quick()
            one = _round(plan, random, lines, bare, environment)
            if number >= 0:  # the first is the warm-up
                rounds.append(one)
    return Figure("commit → readable elsewhere / durable commit + exchange", _BOUND, rounds)


def _round(
    plan: Plan, random: Random, lines: Sequence[Line], bare: Line, environment: lmdb.Environment
) -> Round:
    commits: list[float] = []
    exchanges: list[float] = []
    crossings: list[_Crossing] = []

    def commit() -> None:
        commits.append(_commit(environment, random))

    def exchange() -> None:
        exchanges.append(_exchange(bare))

    def cross() -> None:
        here, there = random.sample(lines, 2)
        crossings.append(_cross(here, there, random.getrandbits(32)))

    steps = [commit, exchange, cross]
    for _ in range(plan.operations):
        random.shuffle(steps)  # none always follows the same one
        for step in steps:
            step()
    readable = median(crossing.readable_s for crossing in crossings)
    measured = {
        "readable ms": readable * 1_000,
        "answered ms": median(crossing.answered_s for crossing in crossings) * 1_000,
        "commit ms": median(commits) * 1_000,
        "exchange ms": median(exchanges) * 1_000,
    }
    return Round(readable / (median(commits) + median(exchanges)), measured)


def _commit(environment: lmdb.Environment, random: Random) -> float:
    key, value = random.randbytes(8), random.randbytes(_VALUE_BYTES)
    began = perf_counter()
    with environment.begin(write=True) as transaction:
        transaction.put(key, value)
    return perf_counter() - began


def _exchange(bare: Line) -> float:
    began = perf_counter()
    bare.exchange(_READ)
    return perf_counter() - began


def _cross(here: Line, there: Line, value: int) -> _Crossing:
    began = perf_counter()
    written = _write(here, value)
    answered = perf_counter()
    token = ("Crdtdb-Context", written.header("Crdtdb-Context"))
    answer = there.ask(request("GET", _PATH, headers=(token, ("Prefer", "wait=10"))))
    ended = perf_counter()
    document: dict[str, Any] = json.loads(answer.body)
    if document["value"] != value:
        raise RuntimeError(f"a read that covers the write of {value} shows {document}")
    return _Crossing(answered - began, ended - began)


def _write(line: Line, value: int) -> Answer:
    return line.ask(request("POST", _PATH, {"op": "set", "value": value}))
