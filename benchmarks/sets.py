"""Sets of 1,000 to 1,000,000 members: adding, removing, asking for members and reading pages.

    python benchmarks/sets.py [--quick] [--rounds N] [--seed N] [--json FILE]

- Add and remove, in the largest set against the smallest (`set_size.py`): embedded, over one
  connection, and over 64 connections, whose random members share commits.
- Membership, embedded: a reading of the newest state in which a random member of the largest set
  is looked for, against a transaction of LMDB alone that gets one of as many random keys. Both
  open what they read in and end it again; both look for bytes. Beside it, what `in` takes.
- A page of 100 from anywhere in the largest set, embedded, against a transaction of LMDB alone
  whose cursor reads 100 entries of the same bytes; and against such a page of the smallest set.

With `--quick` the largest set has 100,000 members.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

import command
from crdtdb import address, jsonbytes
from crdtdb.address import ObjectName
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
_AGAINST_BARE: Final = at_most(5)
_FLAT: Final = at_most(1.3)
_CHUNK: Final = 1_000
_ASKED: Final = 10
_PAGE: Final = 100
#: The row of a member that one replica added.
_ROW_BYTES: Final = 32


def measure(
    plan: Plan, directory: Path, disk: Disk, sizes: Sequence[int] | None = None
) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    pin(0, CLIENT)
    sizes = sizes or (_QUICK if plan.quick else _SIZES)
    with generator() as load:
        yield from set_size(plan, directory / "set-size", disk, load, sizes, _BOUNDS)
    yield from _parts(plan, directory, sizes)


class _Parts:
    """A large set and a small one, and LMDB alone with what the large one has in it."""

    def __init__(self, plan: Plan, database: Database, bare: BareLmdb, sizes: Sequence[int]):
        self._random = plan.random("parts")
        self._operations = _ASKED * plan.operations
        self._database = database
        self._bare = bare
        self.page = min(_PAGE, min(sizes) // 2)
        self._names: dict[int, list[str]] = {}
        for size in (min(sizes), max(sizes)):
            names = [f"{self._random.getrandbits(64):016x}" for _ in range(size)]
            for start in range(0, size, _CHUNK):
                database.set("bench", f"of-{size}").add(*names[start : start + _CHUNK])
            self._names[size] = sorted(names)
        self._small, self._large = self._names
        for start in range(0, size, _CHUNK):
            chunk = names[start : start + _CHUNK]
            bare.put([(self._address(name), bytes(_ROW_BYTES)) for name in chunk])

    def asked(self) -> Round:
        """Looks for random members."""
        members = self._database.set("bench", f"of-{self._large}")
        names = self._names[self._large]
        ours_s, sugar_s, bare_s = [], [], []
        for _ in range(self._operations):
            member = jsonbytes.encode(self._random.choice(names))
            began = perf_counter()
            with self._database.reading() as reading:
                found = reading.contains(members.name, member)
            ours_s.append(perf_counter() - began)
            name = self._random.choice(names)
            began = perf_counter()
            found = name in members and found
            sugar_s.append(perf_counter() - began)
            assert found, "members that were added"
            bare_s.append(self._bare.get(self._address(self._random.choice(names))))
        ours_us, bare_us = median(ours_s) * 1e6, median(bare_s) * 1e6
        notes = {"membership µs": ours_us, "bare get µs": bare_us, "in µs": median(sugar_s) * 1e6}
        return Round(ours_us / bare_us, notes)

    def paged(self) -> tuple[Round, Round]:
        """Reads pages from random members on: against a bare cursor, and against the small set."""
        bare_s: list[float] = []
        took_s: dict[int, list[float]] = {self._small: [], self._large: []}
        for _ in range(self._operations):
            for size, names in self._names.items():
                start = self._start(names)
                began = perf_counter()
                page = self._database.set("bench", f"of-{size}").page(from_=start, limit=self.page)
                took_s[size].append(perf_counter() - began)
                assert len(page.value) == self.page, "a whole page"
            # From a place of its own, too: a page that was just read is still near the processor.
            start = self._start(self._names[self._large])
            bare_s.append(self._bare.page(self._address(start), self.page))
        bare_us = median(bare_s) * 1e6
        small_us, large_us = (median(took) * 1e6 for took in took_s.values())
        return (
            Round(large_us / bare_us, {"page µs": large_us, "bare cursor µs": bare_us}),
            Round(large_us / small_us, {"large set µs": large_us, "small set µs": small_us}),
        )

    def _start(self, names: list[str]) -> str:
        return names[self._random.randrange(len(names) - self.page)]

    def _address(self, member: str) -> bytes:
        return address.member(ObjectName("bench", "set", f"of-{self._large}"), member)


def _parts(plan: Plan, directory: Path, sizes: Sequence[int]) -> Iterator[Figure]:
    pin(0, SERVER)
    with (
        Database.open(directory / "members") as database,
        closing(BareLmdb(directory / "bare")) as bare,
    ):
        parts = _Parts(plan, database, bare, sizes)
        rounds = [(parts.asked(), *parts.paged()) for _ in range(-1, plan.rounds)]
    pin(0, CLIENT)
    asked, against_bare, against_small = zip(*rounds[1:], strict=True)  # the first is the warm-up
    large, small = f"{max(sizes):,}", f"{min(sizes):,}"
    yield Figure(f"membership, set of {large} / bare LMDB get", _MEMBERSHIP, asked)
    yield Figure(f"page of {parts.page}, set of {large} / bare cursor", _AGAINST_BARE, against_bare)
    yield Figure(f"page of {parts.page}, set of {large} / of {small}", _FLAT, against_small)


if __name__ == "__main__":
    sys.exit(command.run("Sets of many members, as ratios.", measure))
