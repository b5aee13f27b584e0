"""One add or remove in a set of 100,000 against the same in a set of 100.

Both sets are in the same database. Of a pool of names half are members; each step adds the one
that has been absent longest and removes the one that has been present longest, so sizes stay what
they are, and neighbours in time are strangers in the order of members.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter
from typing import Final, Literal, NamedTuple, TypeAlias

from cluster import replicas
from crdtdb.database import Database
from disk import Disk
from figures import Figure, Round, at_most
from generator import Generator, Load
from machine import CLIENT, SERVER, pin
from plan import Plan
from raw_http import Line, request

__all__ = ["Pool", "set_size"]

_BUCKET: Final = "bench"
_SMALL: Final = 100
_LARGE: Final = 100_000
_CHUNK: Final = 1_000
_CONNECTIONS: Final = 64
_BOUND: Final = at_most(1.3)

_Verb: TypeAlias = Literal["add", "remove"]
_VERBS: Final[tuple[_Verb, _Verb]] = ("add", "remove")


class _Step(NamedTuple):
    verb: _Verb
    member: str


#: Carries out a step on the set with a key; how long that took.
_Door: TypeAlias = Callable[[str, _Step], float]


class Pool:
    """A set of constant size, and the steps that keep it so."""

    def __init__(self, size: int, random: Random) -> None:
        self.key = f"of-{size}"
        self.title = f"of {size:,}"
        names = [f"{random.getrandbits(64):016x}" for _ in range(2 * size)]
        self._present, self._absent = deque(names[:size]), deque(names[size:])

    def fill(self, database: Database) -> None:
        """Put the members in."""
        members = list(self._present)
        for start in range(0, len(members), _CHUNK):
            database.set(_BUCKET, self.key).add(*members[start : start + _CHUNK])

    def steps(self, pairs: int) -> Iterator[_Step]:
        """Adds and removes in turn. Whoever takes them carries out all of them."""
        for _ in range(pairs):
            joins, leaves = self._absent.popleft(), self._present.popleft()
            self._present.append(joins)
            self._absent.append(leaves)
            yield _Step("add", joins)
            yield _Step("remove", leaves)


def set_size(plan: Plan, directory: Path, disk: Disk, generator: Generator) -> Iterator[Figure]:
    """Embedded, over HTTP one by one, and over HTTP under load."""
    random = plan.random("set size")
    small, large = Pool(_SMALL, random), Pool(_LARGE, random)
    with Database.open(directory) as database:
        small.fill(database)
        large.fill(database)
        disk.wait_until_quick()
        pin(0, SERVER)
        yield from _one_by_one("embedded", plan, (small, large), partial(_embedded, database))
        pin(0, CLIENT)
    with replicas([directory], SERVER) as (subject,):
        with Line(subject.port) as line:
            yield from _one_by_one("1 connection", plan, (small, large), partial(_over_http, line))
        yield _under_load(plan, (small, large), subject.port, generator, random)


def _embedded(database: Database, key: str, step: _Step) -> float:
    members = database.set(_BUCKET, key)
    carry_out = members.add if step.verb == "add" else members.remove
    began = perf_counter()
    carry_out(step.member)
    return perf_counter() - began


def _over_http(line: Line, key: str, step: _Step) -> float:
    message = _request(key, step)
    began = perf_counter()
    line.exchange(message)
    return perf_counter() - began


def _request(key: str, step: _Step) -> bytes:
    document = {"op": step.verb, "value": step.member}
    return request("POST", f"/v1/buckets/{_BUCKET}/set/{key}", document)


def _one_by_one(title: str, plan: Plan, pools: tuple[Pool, Pool], door: _Door) -> Iterator[Figure]:
    """Single operations, the two sets taking turns: medians of each round."""
    rounds: dict[_Verb, list[Round]] = {verb: [] for verb in _VERBS}
    for number in range(-1, plan.rounds):
        took_s: dict[tuple[_Verb, Pool], list[float]] = {}
        for steps in zip(*(pool.steps(plan.operations) for pool in pools), strict=True):
            for pool, step in zip(pools, steps, strict=True):
                took_s.setdefault((step.verb, pool), []).append(door(pool.key, step))
        if number < 0:
            continue  # the warm-up
        for verb in _VERBS:
            small_ms, large_ms = (median(took_s[verb, pool]) * 1_000 for pool in pools)
            measured = {f"{pools[0].title} ms": small_ms, f"{pools[1].title} ms": large_ms}
            rounds[verb].append(Round(large_ms / small_ms, measured))
    for verb in _VERBS:
        yield Figure(_name(f"{verb}, {title}", pools), _BOUND, rounds[verb])


def _under_load(
    plan: Plan, pools: tuple[Pool, Pool], port: int, generator: Generator, random: Random
) -> Figure:
    """The same at many connections, for information.

    Their records share a commit. In the small set they also share its few pages, in the large one
    nearly each is on a page of its own: the store pays for that, and the set is not what differs.
    """
    rounds: list[Round] = []
    for number in range(-1, plan.rounds):
        rates: dict[Pool, float] = {}
        for pool in random.sample(pools, 2):
            requests = [_request(pool.key, step) for step in pool.steps(20 * plan.operations)]
            rates[pool] = generator.run(Load(port, _CONNECTIONS, requests, None)).rate
        if number < 0:
            continue  # the warm-up
        small, large = (rates[pool] for pool in pools)
        measured = {f"{pools[0].title} req/s": small, f"{pools[1].title} req/s": large}
        rounds.append(Round(small / large, measured))
    return Figure(_name(f"both, {_CONNECTIONS} connections", pools), None, rounds)


def _name(what: str, pools: tuple[Pool, Pool]) -> str:
    small, large = pools
    return f"{what}: set {large.title} / {small.title}"
