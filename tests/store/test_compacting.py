"""Compacting a store that nobody has open: less room, the same contents, or nothing at all."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path

import lmdb
import pytest

from crdtdb import Database
from crdtdb.errors import DirectoryInUse, StartError
from crdtdb.store.base import Table
from crdtdb.store.lmdb import LmdbStore, compacting
from crdtdb.store.lmdb.compacting import compact
from store import children


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A replica's directory, most of whose contents are gone."""
    path = tmp_path / "data"
    with Database.open(path, replica="eu-1") as database:
        for first in range(0, 4_000, 1_000):
            database.set("shop", "cart").add(*(f"{n:0200}" for n in range(first, first + 1_000)))
        for n in range(20):
            database.register("shop", f"title {n}").set(n)
    with closing(LmdbStore.open(path)) as store:
        with store.snapshot() as snapshot:
            # As reclaiming does.
            gone = list(snapshot.scan(Table.SEQUENCE))[:3_900]
        entries, records = zip(*gone, strict=True)
        store.commit(
            {Table.SEQUENCE: dict.fromkeys(entries), Table.RECORDS: dict.fromkeys(records)}
        )
    return path


def contents(path: Path) -> dict[Table, list[tuple[bytes, bytes]]]:
    """Everything in a store."""
    with closing(LmdbStore.open(path)) as store, store.snapshot() as snapshot:
        return {table: list(snapshot.scan(table)) for table in Table}


@pytest.mark.parametrize("together", [compacting._TOGETHER_BYTES, 10_000])
def test_less_room_for_the_same(path: Path, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "_TOGETHER_BYTES", together)
    before, data = contents(path), path / "data.mdb"
    size, mode = data.stat().st_size, data.stat().st_mode
    compacted = compact(path)
    assert compacted == (size, data.stat().st_size)
    assert compacted.after_bytes < compacted.before_bytes / 2
    assert data.stat().st_mode == mode
    assert contents(path) == before
    assert compact(path).after_bytes == compacted.after_bytes
    assert {name for name in os.listdir(path) if "compact" in name} == set()


def test_what_went_here_and_there_leaves_no_more_than_if_it_had_never_been(tmp_path: Path) -> None:
    """LMDB joins no pages that are a quarter full: copied page by page, they stay so."""
    sizes: list[int] = []
    staying = {b"%05d" % n: bytes(100) for n in range(0, 40_000, 4)}
    for name, passing in (
        ("never", {}),
        ("after", {b"%05d" % n: bytes(100) for n in range(40_000)}),
    ):
        with closing(LmdbStore.open(tmp_path / name)) as store:
            store.commit({Table.RECORDS: {**passing, **staying}})
            store.commit({Table.RECORDS: dict.fromkeys(passing.keys() - staying)})
        sizes.append(compact(tmp_path / name).after_bytes)
        with closing(LmdbStore.open(tmp_path / name)) as store:
            store.commit({Table.RECORDS: {b"long" * 500: b"x"}})  # it takes more
            assert store.stats().entries[Table.RECORDS] >= len(staying)
    never, after = sizes
    assert after <= 1.05 * never


def test_the_replica_stays_who_it_is(path: Path) -> None:
    with Database.open(path) as database:
        identity = database.engine.state
    compact(path)
    with Database.open(path) as database:
        state = database.engine.state
        assert (state.store_id, state.incarnation) == (identity.store_id, identity.incarnation)
        assert database.register("shop", "title 7").get().value == 7
        database.register("shop", "title 7").set(8)


def test_refused_where_a_process_has_it_open(path: Path) -> None:
    with Database.open(path):
        before = (path / "data.mdb").read_bytes()
        with pytest.raises(DirectoryInUse, match="is in use by process"):
            compact(path)
        assert (path / "data.mdb").read_bytes() == before


def test_refused_where_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no crdtdb store"):
        compact(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def killed_child(where: str, path: str) -> None:
    """Compact, and die before or after the copy takes the place of the data file."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    owner, name = {"before": (os, "replace"), "after": (compacting, "sync_names")}[where]
    setattr(owner, name, die)
    compact(path)


@pytest.mark.parametrize("where", ["before", "after"])
def test_killed_half_way(where: str, path: Path) -> None:
    before = contents(path)
    with children.start(killed_child, where, path) as process:
        assert process.wait() == -signal.SIGKILL
    assert contents(path) == before
    compact(path)
    assert contents(path) == before
    assert not (path / "data.mdb.compact").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left"), lmdb.Error("bad page")])
def test_a_copy_that_fails_leaves_all_as_it_was(
    error: Exception, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (path / "data.mdb").read_bytes()

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(compacting, "_copy", fail)
    with pytest.raises(StartError, match="it is as it was"):
        compact(path)
    assert (path / "data.mdb").read_bytes() == before


if __name__ == "__main__":
    children.main(globals())
