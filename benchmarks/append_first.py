"""What the log in front of LMDB gives: commits of random records, and opening after a crash.

    python benchmarks/append_first.py [--quick] [--records N] [--rounds N] [--seed N] [--json FILE]

Both stores hold the same records and are committed to in turns: `straight` puts each batch into
LMDB, `logged` appends it and folds later; the folding that falls into a round is part of it. The
batches are what an engine writes: a record, its new place in the sequence, the place it had before,
and a head. Opening is timed on a copy of a store whose layers are full, as a crash leaves it.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

import command
from crdtdb.store.base import Batch, Store, Table
from crdtdb.store.lmdb import LmdbStore
from crdtdb.store.logged import LoggedStore
from disk import Disk
from figures import Figure, Round, at_least, at_most
from machine import facts

_GROUPS: Final = (1, 16, 64, 512)
_KEY_BYTES: Final = 24
_VALUE_BYTES: Final = 100
_FILL: Final = 5_000
_PATIENCE_S: Final = 10.0


class Workload:
    """Changes of random records of one store, as an engine writes them."""

    def __init__(self, store: Store, records: int, random: Random) -> None:
        self._store = store
        self._random = random
        self._keys = [random.randbytes(_KEY_BYTES) for _ in range(records)]
        #: The place in the sequence of each record.
        self._places = [0] * records
        self._sequence = 0
        for start in range(0, records, _FILL):
            store.commit(self._batch(range(start, min(start + _FILL, records))))

    def commits(self, records: int, group: int) -> float:
        """Change so many records in commits of `group`; how long that took, in seconds."""
        numbers = self._random.choices(range(len(self._keys)), k=records)
        batches = [self._batch(numbers[at : at + group]) for at in range(0, records, group)]
        began = perf_counter()
        for batch in batches:
            self._store.commit(batch)
        return perf_counter() - began

    def _batch(self, numbers: range | list[int]) -> Batch:
        records: dict[bytes, bytes | None] = {}
        places: dict[bytes, bytes | None] = {}
        heads: dict[bytes, bytes | None] = {}
        for number in dict.fromkeys(numbers):
            key = self._keys[number]
            if self._places[number]:
                places[_place(self._places[number])] = None
            self._sequence += 1
            self._places[number] = self._sequence
            places[_place(self._sequence)] = key
            records[key] = self._random.randbytes(_VALUE_BYTES)
            heads[key[:12]] = self._random.randbytes(60)
        return {
            Table.RECORDS: records,
            Table.SEQUENCE: places,
            Table.HEADS: heads,
            Table.META: {b"state": _place(self._sequence)},
        }


def _place(sequence: int) -> bytes:
    return sequence.to_bytes(8, "big")


def main() -> int:
    """Measure, print, judge."""
    arguments = _arguments()
    with TemporaryDirectory(prefix="crdtdb-bench-") as name:
        figures = measure(Path(name), arguments)
        return command.tell({**facts(), **vars(arguments)}, figures, arguments.json)


def measure(directory: Path, arguments: argparse.Namespace) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    disk = Disk(directory, _PATIENCE_S)
    records: int = arguments.records
    with (
        closing(LmdbStore.open(directory / "straight")) as straight,
        closing(LoggedStore.open(directory / "logged")) as logged,
    ):
        sides = {
            name: Workload(store, records, Random(arguments.seed))
            for name, store in (("straight", straight), ("logged", logged))
        }
        for group in _GROUPS:
            changed = min(arguments.changes, 200 * group)
            rounds = []
            for _ in range(arguments.rounds):
                disk.wait_until_quick()
                rate = {
                    name: changed / side.commits(changed, group) for name, side in sides.items()
                }
                measured = {f"{name} records/s": value for name, value in rate.items()}
                rounds.append(Round(rate["logged"] / rate["straight"], measured))
            bound = at_least(1.0)
            yield Figure(f"commits of {group}: logged / straight", bound, rounds)
    yield _opening(directory, arguments)


def _opening(directory: Path, arguments: argparse.Namespace) -> Figure:
    """How long it takes to open a store whose layers are full, in seconds over one second."""
    rounds = []
    for number in range(arguments.rounds):
        path, crashed = directory / f"full-{number}", directory / f"crashed-{number}"
        with closing(LoggedStore.open(path)) as store:
            workload = Workload(store, 20_000, Random(number))
            workload.commits(40_000, 64)
            shutil.copytree(path, crashed)  # the log first: see the tests of the store
        began = perf_counter()
        reopened = LoggedStore.open(crashed)
        took_s = perf_counter() - began
        reopened.close()
        rounds.append(Round(took_s, {"open ms": took_s * 1_000}))
        shutil.rmtree(path)
    return Figure("opening after a crash / one second", at_most(1.0), rounds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The log in front of LMDB, as ratios.")
    parser.add_argument("--quick", action="store_true", help="few records, rough figures")
    parser.add_argument("--records", type=int, help="in the store (1,000,000; quick: 50,000)")
    parser.add_argument("--changes", type=int, help="a round at most (100,000; quick: 5,000)")
    parser.add_argument("--rounds", type=int, help="rounds of each figure (7; quick: 3)")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of all choices")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw rounds there")
    arguments = parser.parse_args()
    quick = arguments.quick
    arguments.records = arguments.records or (50_000 if quick else 1_000_000)
    arguments.changes = arguments.changes or (5_000 if quick else 100_000)
    arguments.rounds = arguments.rounds or (3 if quick else 7)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
