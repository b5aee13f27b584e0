"""Sets of 1,000 to 1,000,000 members: adding, removing, and asking whether something is in them.

    python benchmarks/sets.py [--quick] [--rounds N] [--seed N] [--json FILE]

- Add and remove, in the largest set against the smallest (`set_size.py`): embedded, over one
  connection, and over 64 connections, whose random members share commits.
- Membership: `contains` of random members of the largest set, embedded, against a transaction of
  LMDB alone that gets one of as many random keys.

With `--quick` the largest set has 100,000 members.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter
from typing import Final

import command
from crdtdb.database import Database
from disk import Disk
from figures import Figure, Round, at_most
from floor import BareLmdb
from generator import generator
from machine import CLIENT, SERVER, pin
from plan import Plan
from set_size import Bounds, set_size

__all__ = ["measure"]

_SIZES: Final = (1_000, 32_000, 1_000_000)
_QUICK: Final = (1_000, 100_000)
_BOUNDS: Final = Bounds(embedded=None, one_connection=at_most(1.15), under_load=at_most(1.5))
_MEMBERSHIP: Final = at_most(2)
_CHUNK: Final = 1_000
_ASKED: Final = 10


def measure(
    plan: Plan, directory: Path, disk: Disk, sizes: Sequence[int] | None = None
) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    pin(0, CLIENT)
    sizes = sizes or (_QUICK if plan.quick else _SIZES)
    with generator() as load:
        yield from set_size(plan, directory / "set-size", disk, load, sizes, _BOUNDS)
    yield _membership(plan, directory, sizes[-1])


def _membership(plan: Plan, directory: Path, size: int) -> Figure:
    random = plan.random("membership")
    names = [f"{random.getrandbits(64):016x}" for _ in range(size)]
    pin(0, SERVER)
    with (
        Database.open(directory / "members") as database,
        closing(BareLmdb(directory / "bare")) as bare,
    ):
        members = database.set("bench", "all")
        for start in range(0, size, _CHUNK):
            members.add(*names[start : start + _CHUNK])
            bare.put([(name.encode(), bytes(8)) for name in names[start : start + _CHUNK]])
        rounds = [_asked(plan, random, names, database, bare) for _ in range(-1, plan.rounds)]
    pin(0, CLIENT)
    return Figure(
        f"membership, set of {size:,} / bare LMDB get", _MEMBERSHIP, rounds[1:]
    )  # the first is the warm-up


def _asked(
    plan: Plan, random: Random, names: Sequence[str], database: Database, bare: BareLmdb
) -> Round:
    members = database.set("bench", "all")
    ours_s, bare_s = [], []
    for _ in range(_ASKED * plan.operations):
        name, other = random.choice(names), random.choice(names)
        began = perf_counter()
        found = name in members
        ours_s.append(perf_counter() - began)
        assert found, "a member that was added"
        bare_s.append(bare.get(other.encode()))
    ours_us, bare_us = median(ours_s) * 1e6, median(bare_s) * 1e6
    return Round(ours_us / bare_us, {"membership µs": ours_us, "bare get µs": bare_us})


if __name__ == "__main__":
    sys.exit(command.run("Sets of many members, as ratios.", measure))
