"""Commit at one replica → readable at others, against one durable commit plus one exchange.

A client writes at one replica, takes the session token of the answer to others and reads there, at
all of them at once; a read answers once that replica has the write. The time runs from the request
of the write to the last answer, so two exchanges and at least one commit are in it.

The floor, measured in turns with it: a bare LMDB commit of one put (default flags, one sync of
data and one of the meta page), and an exchange of the same answer with bare aiohttp.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter
from typing import Any, Final, NamedTuple

from cluster import Replica
from disk import Disk
from figures import Bound, Figure, Round, at_most
from floor import BareLmdb, Exchange, exchange
from plan import Plan
from raw_http import Answer, Line, read_answer, request

__all__ = ["visibility"]

_PATH: Final = "/v1/buckets/bench/register/visible"
_READ: Final = request("GET", _PATH)
_BOUND: Final = at_most(10)


class _Crossing(NamedTuple):
    """How long until a write is answered, and until it is read at all the others."""

    answered_s: float
    readable_s: float


def visibility(
    plan: Plan,
    directory: Path,
    disk: Disk,
    cluster: Sequence[Replica],
    peers: int = 1,
    bound: Bound | None = _BOUND,
) -> Figure:
    """From any replica to any `peers` others."""
    random = plan.random("visibility")
    with ExitStack() as stack:
        lines = [stack.enter_context(Line(replica.port)) for replica in cluster]
        _write(lines[0], 0)
        floor = stack.enter_context(exchange(_READ, lines[0].ask(_READ)))
        bare = stack.enter_context(closing(BareLmdb(directory)))
        rounds = []
        for number in range(-1, plan.rounds):
            disk.wait_until_quick()
            one = _round(plan, random, lines, peers, floor, bare)
            if number >= 0:  # the first is the warm-up
                rounds.append(one)
    where = "elsewhere" if peers == 1 else f"at {peers} others"
    return Figure(f"commit → readable {where} / durable commit + exchange", bound, rounds)


def _round(
    plan: Plan,
    random: Random,
    lines: Sequence[Line],
    peers: int,
    floor: Exchange,
    bare: BareLmdb,
) -> Round:
    commits: list[float] = []
    exchanges: list[float] = []
    crossings: list[_Crossing] = []

    def commit() -> None:
        commits.append(bare.commit(random))

    def exchange_once() -> None:
        exchanges.append(floor.once())

    def cross() -> None:
        here, *there = random.sample(lines, 1 + peers)
        crossings.append(_cross(here, there, random.getrandbits(32)))

    steps = [commit, exchange_once, cross]
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


def _cross(here: Line, there: Sequence[Line], value: int) -> _Crossing:
    began = perf_counter()
    written = _write(here, value)
    answered = perf_counter()
    token = ("Crdtdb-Context", written.header("Crdtdb-Context"))
    read = request("GET", _PATH, headers=(token, ("Prefer", "wait=10")))
    for line in there:
        line.send(read)
    answers = [line.receive() for line in there]
    ended = perf_counter()
    for answer in answers:
        document: dict[str, Any] = json.loads(read_answer(answer).body)
        if document["value"] != value:
            raise RuntimeError(f"a read that covers the write of {value} shows {document}")
    return _Crossing(answered - began, ended - began)


def _write(line: Line, value: int) -> Answer:
    return line.ask(request("POST", _PATH, {"op": "set", "value": value}))
