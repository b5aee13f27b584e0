"""One add or remove in a large set against the same in a small one.

All sets are in the same database. Of a pool of names half are members; each step adds the one
that has been absent longest and removes the one that has been present longest, so sizes stay what
they are, and neighbours in time are strangers in the order of members.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter
from typing import Final, Literal, NamedTuple, TypeAlias

from cluster import replicas
from crdtdb.database import Database
from disk import Disk
from figures import Bound, Chart, Figure, Point, Round, at_most
from generator import Generator, Load
from machine import CLIENT, SERVER, pin
from plan import Plan
from raw_http import Line, request

__all__ = ["SIZES", "Bounds", "Pool", "set_size"]

_BUCKET: Final = "bench"
SIZES: Final = (100, 100_000)
_CHUNK: Final = 1_000
_CONNECTIONS: Final = 64

_Verb: TypeAlias = Literal["add", "remove"]
_VERBS: Final[tuple[_Verb, _Verb]] = ("add", "remove")


class Bounds(NamedTuple):
    """What the largest set has to keep against the smallest."""

    embedded: Bound | None = at_most(1.3)
    one_connection: Bound | None = at_most(1.3)
    under_load: Bound | None = None


#: Of the first slice.
_BOUNDS: Final = Bounds()


class _Step(NamedTuple):
    verb: _Verb
    member: str


#: Carries out a step on the set with a key; how long that took.
_Door: TypeAlias = Callable[[str, _Step], float]


class Pool:
    """A set of constant size, and the steps that keep it so."""

    def __init__(self, size: int, random: Random) -> None:
        self.size = size
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


def set_size(
    plan: Plan,
    directory: Path,
    disk: Disk,
    generator: Generator,
    sizes: Sequence[int] = SIZES,
    bounds: Bounds = _BOUNDS,
) -> Iterator[Figure]:
    """Embedded, over HTTP one by one, and over HTTP under load; each set against the smallest."""
    random = plan.random("set size")
    pools = [Pool(size, random) for size in sizes]
    with Database.open(directory) as database:
        for pool in pools:
            pool.fill(database)
        disk.wait_until_quick()
        pin(0, SERVER)
        door = partial(_embedded, database)
        yield from _one_by_one("embedded", plan, pools, door, bounds.embedded)
        pin(0, CLIENT)
    with replicas([directory], SERVER) as (subject,):
        with Line(subject.port) as line:
            door = partial(_over_http, line)
            yield from _one_by_one("1 connection", plan, pools, door, bounds.one_connection)
        yield from _under_load(plan, pools, subject.port, generator, random, bounds.under_load)


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


def _one_by_one(
    title: str, plan: Plan, pools: Sequence[Pool], door: _Door, bound: Bound | None
) -> Iterator[Figure]:
    """Single operations, the sets taking turns: medians of each round."""
    rounds: list[dict[tuple[_Verb, Pool], float]] = []
    for number in range(-1, plan.rounds):
        took_s: dict[tuple[_Verb, Pool], list[float]] = {}
        for steps in zip(*(pool.steps(plan.operations) for pool in pools), strict=True):
            for pool, step in zip(pools, steps, strict=True):
                took_s.setdefault((step.verb, pool), []).append(door(pool.key, step))
        if number >= 0:  # the first is the warm-up
            rounds.append({which: median(took) * 1_000 for which, took in took_s.items()})
    small = pools[0]
    chart = Chart(f"one operation, {title}", "members of the set", "ms")
    for verb in _VERBS:
        for large in pools[1:]:
            ratios = [
                Round(
                    one[verb, large] / one[verb, small],
                    {f"{pool.title} ms": one[verb, pool] for pool in pools},
                )
                for one in rounds
            ]
            last = large is pools[-1]
            points = [Point(chart, verb, pool.size, f"{pool.title} ms") for pool in pools]
            name = _name(f"{verb}, {title}", small, large)
            yield Figure(name, bound if last else None, ratios, points if last else ())


def _under_load(
    plan: Plan,
    pools: Sequence[Pool],
    port: int,
    generator: Generator,
    random: Random,
    bound: Bound | None,
) -> Iterator[Figure]:
    """The same at many connections: records of random members share a commit.

    In a small set they also share its few pages, in a large one nearly each is on a page of its
    own, for which the store pays when it folds.
    """
    rounds: list[dict[Pool, float]] = []
    for number in range(-1, plan.rounds):
        rates: dict[Pool, float] = {}
        for pool in random.sample(pools, len(pools)):
            requests = [_request(pool.key, step) for step in pool.steps(20 * plan.operations)]
            rates[pool] = generator.run(Load(port, _CONNECTIONS, requests, None)).rate
        if number >= 0:  # the first is the warm-up
            rounds.append(rates)
    small = pools[0]
    chart = Chart(f"adds and removes, {_CONNECTIONS} connections", "members of the set", "a second")
    for large in pools[1:]:
        ratios = [
            Round(one[small] / one[large], {f"{pool.title} req/s": one[pool] for pool in pools})
            for one in rounds
        ]
        last = large is pools[-1]
        points = [Point(chart, "both", pool.size, f"{pool.title} req/s") for pool in pools]
        name = _name(f"both, {_CONNECTIONS} connections", small, large)
        yield Figure(name, bound if last else None, ratios, points if last else ())


def _name(what: str, small: Pool, large: Pool) -> str:
    return f"{what}: set {large.title} / {small.title}"
