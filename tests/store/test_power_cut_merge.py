"""The power goes at any moment of a pull that is worked out ahead, and of the commit it ends in.

A child pulls from a donor: it stages the pages, works the records out part by part while it writes
to the same records itself, and merges them in one commit, on a disk that logs what it promised
(`power_cut.c`). For a moment of each step, and for many of the last one, its files are rebuilt as
they would have been left: by a power cut, with and without luck, and by a kill, after which all
that was written is there. What such a replica shows must be all of the pull or nothing of it, as
its version vector says, and every acknowledged write of its own; then it goes on where it stood,
and ends up level with the donor.

The checker is checked: merges that take two commits must fail, and so must a log without syncs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, pairwise
from pathlib import Path
from random import Random
from typing import Any, Final, cast
from unittest.mock import patch

import pytest

from crdtdb.causal import NOTHING
from crdtdb.engine import Engine
from crdtdb.errors import StartError
from crdtdb.joining import Joined
from crdtdb.replication import donor, repair, staging
from crdtdb.scrub import Scrub
from crdtdb.store.base import Batch, Table
from crdtdb.store.logged import LoggedStore, log
from crdtdb.store.memory import MemoryStore
from pulling import RECORDS, Pulling
from replicas import Replica
from store import breakable, children
from store.backends import HASTY

#: So many moments of each step, and of the last commit.
CUTS_OF_A_STEP: Final = 1
CUTS_OF_THE_MERGE: Final = 10

KEYS: Final = tuple(f"k{i}" for i in range(7))
#: Keys of sets, and members.
Members = set[tuple[str, int]]

#: What the donor has and the puller lacks.
MISSED: Final = {(f"k{i % 7}", i) for i in range(RECORDS)}

#: How the last commit gets to the disk: by several writes to the log, or into the tables at once.
PACES: Final = {
    "logged": HASTY._replace(direct_bytes=2**20, layer_bytes=2**20, log_bytes=2**20),
    "direct": HASTY._replace(direct_bytes=2**13),
}


@contextmanager
def small() -> Iterator[None]:
    """A pull takes ten pages and twelve parts."""
    with ExitStack() as patches:
        for where, name, size in (
            (donor, "PAGE_RECORDS", 10),
            (staging, "SHORT_PART_RECORDS", 8),
            (repair, "SHORT_PART_RECORDS", 8),
        ):
            patches.enter_context(patch.object(where, name, size))
        yield


# -- what may be wrong ----------------------------------------------------------------------------

_merge = Engine._merge


def _says_so_first(engine: Engine, joined: Joined, *given: Any, **more: Any) -> bool:
    """Has seen what is written only then."""
    _merge(engine, joined._replace(batch={}), *given, **more)
    return _merge(engine, joined, *given, **more)


def _says_so_later(engine: Engine, joined: Joined, *given: Any, **more: Any) -> bool:
    """Shows what it has not seen yet."""
    engine._write_joined(joined, NOTHING, {}, time=engine.state.time)
    return _merge(engine, joined._replace(batch={}), *given, **more)


def _writes_halves(engine: Engine, joined: Joined, *given: Any, **more: Any) -> bool:
    """Shows half of what it claims to have seen."""
    halves: tuple[Batch, Batch] = ({}, {})
    for table, rows in joined.batch.items():
        for number, (key, row) in enumerate(sorted(rows.items())):
            halves[number % 2].setdefault(table, {})[key] = row
    _merge(engine, joined._replace(batch=halves[0]), *given, **more)
    return _merge(engine, joined._replace(batch=halves[1]), *given, **more)


FLAWS: Final[dict[str, Callable[[], object]]] = {
    "says so first": patch.object(Engine, "_merge", _says_so_first).start,
    "says so later": patch.object(Engine, "_merge", _says_so_later).start,
    "writes halves": patch.object(Engine, "_merge", _writes_halves).start,
    "overwrites local commits": patch("crdtdb.ahead.Ahead.note", lambda *_: None).start,
    "no sync of the log": patch.object(os, "fdatasync", lambda descriptor: None).start,
}


# -- the child ------------------------------------------------------------------------------------


class OnDisk(Replica):
    """The puller, on a store with a log."""

    def __init__(self, directory: str, pace: str) -> None:
        self._logged = LoggedStore.open(directory, map_bytes=2**20, pace=PACES[pace])
        super().__init__(2)

    def reopen(self, location: bytes | None = None) -> None:
        self._logged.location = self.store.location
        self.store = cast(MemoryStore, self._logged)  # of which only snapshots are taken
        self.engine = Engine(self._logged, lambda: self.now_ms, self._entropy)


def child_pulls(directory: str, pace: str, seed: str, flaw: str) -> None:
    """Pull, and write meanwhile, saying before and after each write what happens."""
    if flaw:
        FLAWS[flaw]()
    random = Random(seed)
    with small(), patch.object(log, "_COPIED_BYTES", 2**12):
        pair = Pulling(puller=OnDisk(directory, pace), served=True)
        pair.write()
        engine = pair.puller.engine
        merge_ahead = engine.merge_ahead

        def marked(*given: Any, **more: Any) -> bool:
            breakable.mark("merging")
            refused = merge_ahead(*given, **more)
            breakable.mark("merged")
            return refused

        with patch.object(engine, "merge_ahead", marked):
            breakable.mark("open")
            values = count(1_000)
            while not pair.puller.seen.includes(pair.donor.seen):
                breakable.mark("step")
                pair.tick()
                if engine.ahead is not None and random.random() < 0.7:
                    key, value = random.choice(sorted(MISSED))
                    for new in (value, next(values)):
                        breakable.mark(f"begin {key} {new}")
                        pair.put(pair.puller, key, new)
                        breakable.mark(f"done {key} {new}")
            breakable.mark("end")


# -- the parent -----------------------------------------------------------------------------------


class Acknowledged:
    """What the replica itself has written, and what it may have, as the marks go by."""

    def __init__(self) -> None:
        self.written: Members = set()
        self.begun: Members = set()

    def hear(self, mark: str) -> None:
        match mark.split():
            case ["begin", key, value]:
                self.begun = {(key, int(value))}
            case ["done", key, value]:
                self.written.add((key, int(value)))
                self.begun = set()


def _moments(events: list[breakable.Event], luck: Random) -> set[int]:
    """When to cut: in each step, and more often while all is merged."""
    marks = [n for n, event in enumerate(events) if event.kind == "m"]
    opened = next(n for n in marks if events[n].data == b"open")
    steps = [n for n in marks if n > opened and events[n].data in (b"step", b"end")]
    (merging,) = (n for n in marks if events[n].data == b"merging")
    (merged,) = (n for n in marks if events[n].data == b"merged")
    cuts: set[int] = set()
    for first, last in pairwise(steps):
        within = [n for n in range(first + 1, last) if events[n].kind != "m"]
        cuts |= set(luck.sample(within, min(CUTS_OF_A_STEP, len(within))))
    last_step = range(merging + 1, merged + 2)
    return cuts | set(luck.sample(last_step, min(CUTS_OF_THE_MERGE, len(last_step))))


def _found(image: Path) -> Replica:
    """The replica that a start after the cut finds. Raises StartError."""
    store = LoggedStore.open(image, map_bytes=2**20)
    with store.snapshot() as snapshot:
        rows: Batch = {table: dict(snapshot.scan(table)) for table in Table}
    store.close()
    numbers = count(9 << 32)
    replica = Replica(2, entropy=lambda _: next(numbers))
    replica.store = MemoryStore(replica.store.location)
    replica.store.commit(rows)
    replica.reopen()
    return replica


def _members(replica: Replica) -> Members:
    return {(key, value) for key in KEYS for value in replica.value("set", key)}


def _is_sound(replica: Replica) -> bool:
    scrub = Scrub()
    while not scrub.done:
        if replica.engine.scrub(scrub, 1_000):
            return False
    return True


def _wrong(image: Path, own: Acknowledged) -> Iterator[str]:
    """What is wrong with a replica after a cut, and with what becomes of it."""
    pair = Pulling(served=True)
    pair.write()
    try:
        found = _found(image)
    except StartError as problem:
        yield f"it does not start: {problem}"
        return
    members = _members(found)
    if not own.written <= members:
        yield f"acknowledged and lost: {own.written - members}"
    foreign = members - own.written - own.begun
    expected = MISSED - own.written - own.begun
    if foreign != (expected if found.seen.includes(pair.donor.seen) else set()):
        yield f"shows {len(foreign)} of {len(expected)} members, and has seen {found.seen}"
    if not _is_sound(found):
        yield "its rows do not agree"
    found.now_ms = pair.donor.now_ms
    pair.puller = found
    pair.restart()
    for _ in range(400):
        if pair.puller.seen == pair.donor.seen and not pair.puller.rows()[Table.STAGED]:
            break
        pair.run(50)
    if pair.puller.digest() != pair.donor.digest():
        yield "it never is level with the donor"
    if not own.written | MISSED <= _members(pair.donor):
        yield "something is lost by the time it is level"
    if pair.puller.rows()[Table.STAGED]:
        yield "what was joined is still staged"


def violations(
    library: Path, directory: Path, pace: str, *, seed: int, flaw: str = ""
) -> Iterator[str]:
    """One pull, cut at many moments, each in one of three ways: what is wrong with which."""
    told, origin, image = directory / "log", directory / "origin", directory / "image"
    environment = breakable.preload(library, told)
    children.run(child_pulls, origin, pace, seed, flaw, environment=environment)
    events = list(breakable.Event.read(told))
    luck = Random(seed)
    cuts = _moments(events, luck)
    print(f"{seed=}, {len(cuts)} cuts")
    disks = {number: breakable.Disk() for number in range(len(breakable.FILES))}
    own = Acknowledged()
    with small():
        for moment, event in enumerate(events):
            if moment in cuts:
                cut = luck.choice(("bare", "torn", "killed"))
                shutil.rmtree(image, ignore_errors=True)
                image.mkdir()
                shutil.copy(origin / "FORMAT", image)
                for number, disk in disks.items():
                    running = event if event.file == number else None
                    left = (
                        disk.killed()
                        if cut == "killed"
                        else disk.image(luck if cut == "torn" else None, running)
                    )
                    (image / breakable.FILES[number]).write_bytes(left)
                for wrong in _wrong(image, own):
                    yield f"{pace} {seed=} {moment=} {cut}: {wrong}"
            disks[event.file].happen(event)
            if event.kind == "m":
                own.hear(event.data.decode())


@pytest.mark.parametrize("pace", PACES)
def test_all_of_a_pull_or_nothing_of_it(breakable_disk: Path, tmp_path: Path, pace: str) -> None:
    assert list(violations(breakable_disk, tmp_path, pace, seed=1)) == []


@pytest.mark.planted
@pytest.mark.parametrize("flaw", FLAWS)
def test_the_checker_sees_a_merge_with_a_flaw(
    breakable_disk: Path, tmp_path: Path, flaw: str
) -> None:
    for life in range(5):
        directory = tmp_path / str(life)
        directory.mkdir()
        found = next(violations(breakable_disk, directory, "logged", seed=life, flaw=flaw), None)
        if found is not None:
            print(found)
            return
    pytest.fail(f"a merge that does this passes: {flaw}")


if __name__ == "__main__":
    children.main(globals())
