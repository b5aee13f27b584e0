"""The power goes at any moment: every acknowledged commit is there, whole, and nothing else is.

A child writes batches on a disk that logs what it promised (`power_cut.c`). For moments all over
that log, the files are rebuilt as the cut would have left them and opened as a store: once with
everything lost that was not promised, once with random sectors of it surviving (torn writes).
The contents must be exactly those of the acknowledged batches; the batch that was being written,
or had just failed, may be there in addition, but only whole.

The checker is checked: stores with the durability flaws that LMDB offers as flags must fail.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from unittest.mock import patch

import lmdb
import pytest

from crdtdb.errors import StartError, StorageFailed, Unavailable
from crdtdb.store.base import WRITTEN_ONCE, Batch, Store, Table
from crdtdb.store.lmdb import LmdbStore
from crdtdb.store.lmdb.environment import Environment
from crdtdb.store.logged import LoggedStore
from crdtdb.store.logged import store as logged_store
from store import breakable, children
from store.backends import HASTY

BATCHES = 60
CUTS = 50

Contents = dict[tuple[Table, bytes], bytes]


def batch(seed: int, number: int) -> Batch:
    """What the child commits: small and large, short and long keys, puts and deletes."""
    random = Random(f"{seed}/{number}")

    def key() -> bytes:
        return b"%03d" % random.randrange(150) * random.choice([1, 1, 1, 40, 200, 400])

    def value() -> bytes | None:
        if random.random() < 0.3:
            return None
        return random.randbytes(random.choice([0, 20, 300, 3_000, 9_000]))

    tables = random.sample(sorted(set(Table) - WRITTEN_ONCE, key=str), k=2)
    return {table: {key(): value() for _ in range(random.randrange(1, 25))} for table in tables}


def _open_with(open_environment: Callable[..., lmdb.Environment]) -> None:
    patch.object(lmdb, "open", open_environment).start()


STORES: dict[str, Callable[[str], Store]] = {
    "lmdb": partial(LmdbStore.open, map_bytes=2**16),
    "logged": partial(LoggedStore.open, map_bytes=2**16, pace=HASTY),
}


def _notes_at_once(store: LoggedStore) -> None:
    """Says that a layer is in the tables before it is."""
    store._tables.commit({}, logged_store._pack_note(store._salt, store._folding_last))
    _fold(store)


_fold = LoggedStore._fold

#: What a store might do wrong, and this test must notice.
FLAWS: dict[str, dict[str, Callable[[], object]]] = {
    "lmdb": {
        "no sync": lambda: _open_with(partial(lmdb.open, sync=False)),
        "no sync of the meta page": lambda: _open_with(partial(lmdb.open, metasync=False)),
        "goes on after a failure": patch.object(LmdbStore, "_settle", LmdbStore._revive).start,
        "only syncs after a failure": patch.object(
            Environment, "rewrite_meta_pages", lambda environment: environment.handle.sync(True)
        ).start,
    },
    "logged": {
        "no sync of the log": patch.object(os, "fdatasync", lambda descriptor: None).start,
        "notes at once": patch.object(LoggedStore, "_fold", _notes_at_once).start,
        "turns without waiting": patch.object(
            LoggedStore, "_await_folding", lambda store: None
        ).start,
    },
}


def child_writes(directory: str, kind: str, seed: str, flaw: str, broken: str) -> None:
    """Commit all batches, saying before and after each what happens."""
    if flaw:
        FLAWS[kind][flaw]()
    random = Random(f"{seed}/faults")
    store = STORES[kind](directory)
    breakable.mark("open")
    for number in range(BATCHES):
        if broken == "broken" and random.random() < 0.4:
            what = random.choice([breakable.META_WRITE, breakable.SYNC, breakable.DATA_WRITE])
            error = random.choice([errno.EIO, errno.ENOSPC])
            breakable.fail(what, error=error, reaches=random.random() < 0.7)
        breakable.mark(f"begin {number}")
        try:
            store.commit(batch(int(seed), number))
        except Unavailable:
            breakable.mark(f"failed {number}")
        else:
            breakable.mark(f"done {number}")
        breakable.mend()


class Acknowledged:
    """What must be in the store, and what may be, as the marks go by."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.is_open = False
        self.promised: Contents = {}
        self._perhaps: list[int] = []

    def hear(self, mark: str) -> None:
        match mark.split():
            case ["open"]:
                self.is_open = True
            case ["begin", number]:
                self._perhaps.append(int(number))
            case ["done", number]:
                self.promised = self._with(int(number))
                self._perhaps.clear()

    def allowed(self) -> Iterator[Contents]:
        yield self.promised
        for number in self._perhaps:
            yield self._with(number)

    def _with(self, number: int) -> Contents:
        contents = dict(self.promised)
        for table, changes in batch(self._seed, number).items():
            for key, value in changes.items():
                contents.pop((table, key), None)
                if value is not None:
                    contents[table, key] = value
        return contents


def contents_of(directory: Path, kind: str) -> Contents:
    store = STORES[kind](str(directory))
    try:
        with store.snapshot() as snapshot:
            return {(table, key): value for table in Table for key, value in snapshot.scan(table)}
    finally:
        store.close()


def violations(
    library: Path, directory: Path, kind: str, *, seed: int, flaw: str = "", broken: bool = False
) -> Iterator[str]:
    """One life of a store, cut at `CUTS` moments, twice each: what is wrong with which."""
    log, origin, image = directory / "log", directory / "origin", directory / "image"
    environment = breakable.preload(library, log)
    fault = "broken" if broken else ""
    children.run(child_writes, origin, kind, seed, flaw, fault, environment=environment)
    events = list(breakable.Event.read(log))
    luck = Random(seed)
    first = next(n for n, event in enumerate(events) if event.data == b"open")
    cuts = {*luck.sample(range(first + 1, len(events)), CUTS - 1), len(events)}
    disks = {
        number: breakable.Disk()
        for number, name in enumerate(breakable.FILES)
        if (origin / name).exists()  # also one that was never written
    }
    acknowledged = Acknowledged(seed)
    for moment, event in enumerate([*events, breakable.Event("m", 0, 0, b"end")]):
        if moment in cuts:
            for cut, chances in (("bare", None), ("torn", luck)):
                shutil.rmtree(image, ignore_errors=True)
                image.mkdir()
                shutil.copy(origin / "FORMAT", image)
                for number, disk in disks.items():
                    running = event if event.file == number else None
                    name = breakable.FILES[number]
                    (image / name).write_bytes(disk.image(chances, running))
                where = f"{kind} {seed=} {moment=} {cut}"
                try:
                    if contents_of(image, kind) not in acknowledged.allowed():
                        yield f"{where}: contents"
                except (StartError, StorageFailed) as problem:
                    yield f"{where}: {problem!r}"
        disks[event.file].happen(event)
        if event.kind == "m":
            acknowledged.hear(event.data.decode())


@pytest.mark.parametrize("life", range(3))
@pytest.mark.parametrize("broken", [False, True], ids=["sound", "broken"])
@pytest.mark.parametrize("kind", STORES)
def test_no_acknowledged_commit_is_lost(
    breakable_disk: Path, tmp_path: Path, kind: str, life: int, broken: bool
) -> None:
    print(f"seed={life}, {CUTS} cuts, twice each")
    assert list(violations(breakable_disk, tmp_path, kind, seed=life, broken=broken)) == []


@pytest.mark.planted
@pytest.mark.parametrize(
    ("kind", "flaw"), [(kind, flaw) for kind in STORES for flaw in FLAWS[kind]]
)
def test_the_checker_sees_a_store_with_a_flaw(
    breakable_disk: Path, tmp_path: Path, kind: str, flaw: str
) -> None:
    for life in range(10):
        directory = tmp_path / str(life)
        directory.mkdir()
        found = violations(breakable_disk, directory, kind, seed=life, flaw=flaw, broken=True)
        try:
            if next(found, None):
                return
        except children.Died:  # two threads in the tables at once need not live to the end
            return
    pytest.fail(f"a store that does this passes: {flaw}")


if __name__ == "__main__":
    children.main(globals())
