"""What is special to the store with a log: crashes while folding, no space, bounded memory."""

from __future__ import annotations

import errno
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from threading import Event
from typing import Any
from unittest.mock import patch

import pytest

from crdtdb.errors import DamagedStore, NoSpace, StorageFailed, Unavailable
from crdtdb.store.base import Batch, Table
from crdtdb.store.lmdb import LmdbStore
from crdtdb.store.logged import LoggedStore, Pace
from store import breakable, children
from store.backends import HASTY

Contents = dict[tuple[Table, bytes], bytes]
Opened = Callable[..., LoggedStore]

#: Nothing is folded unless a layer is full.
UNHURRIED = Pace(layer_entries=10, idle_s=3600.0, retry_s=0.001)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """`LoggedStore.open`, closed at the end of the test."""
    with ExitStack() as stores:

        def open_store(path: Path, pace: Pace = UNHURRIED) -> LoggedStore:
            store = LoggedStore.open(path, pace=pace)
            stores.callback(store.close)
            return store

        yield open_store


def contents(store: LoggedStore) -> Contents:
    with store.snapshot() as snapshot:
        return {(table, key): value for table in Table for key, value in snapshot.scan(table)}


def in_tables(store: LoggedStore) -> int:
    """Entries that have been put in place."""
    return sum(store._tables.stats().entries.values())


def put(*numbers: int, table: Table = Table.RECORDS) -> Batch:
    return {table: {b"%06d" % number: b"value %d" % number for number in numbers}}


@pytest.mark.parametrize("pace", [Pace(), HASTY, UNHURRIED], ids=["usual", "hasty", "unhurried"])
def test_a_crash_at_any_time_loses_nothing(tmp_path: Path, opened: Opened, pace: Pace) -> None:
    """The directory is copied after each commit, as a crash of the process would leave it.

    A log has to be copied before the tables: folding moves things from the former to the latter.
    """
    random = Random(1)
    store = opened(tmp_path / "data", pace)
    model: Contents = {}
    for number in range(60):
        batch: Batch = {
            table: {
                b"%02d" % random.randrange(40): random.choice([None, b"%d" % number])
                for _ in range(4)
            }
            for table in (Table.RECORDS, Table.HEADS)
        }
        random.choice([store.commit, store.commit_in_order])(batch)
        for table, changes in batch.items():
            for key, value in changes.items():
                model.pop((table, key), None)
                if value is not None:
                    model[table, key] = value
        assert contents(store) == model
        if number % 6 == 0:
            copy = tmp_path / f"copy {number}"
            with store._commits:  # nobody exchanges the files of the log meanwhile
                if store._folding is not None:
                    continue
                shutil.copytree(tmp_path / "data", copy)
            assert contents(opened(copy, pace)) == model


def test_what_was_folded_is_forgotten_by_the_log(tmp_path: Path, opened: Opened) -> None:
    store = opened(tmp_path / "data")
    for number in range(100):
        store.commit(put(number))
    store.close()
    with patch.object(LmdbStore, "commit", side_effect=AssertionError("all was in place")):
        again = opened(tmp_path / "data")
        assert len(again._current) == 0
        assert len(contents(again)) == 100
    assert in_tables(again) == 100


def test_a_full_layer_is_folded_while_the_next_one_fills(tmp_path: Path, opened: Opened) -> None:
    store = opened(tmp_path / "data")
    for number in range(1000):
        store.commit(put(number))
        assert len(store._current) <= UNHURRIED.layer_entries
    assert in_tables(store) >= 1000 - 2 * UNHURRIED.layer_entries


def test_sequence_entries_that_come_and_go_leave_nothing_behind(
    tmp_path: Path, opened: Opened
) -> None:
    """An object that is written again and again must not fill the layer."""
    store = opened(tmp_path / "data")
    for number in range(1, 1000):
        store.commit({Table.SEQUENCE: {b"%06d" % (number - 1): None, b"%06d" % number: b"address"}})
    assert len(store._current) <= 2
    assert contents(store) == {(Table.SEQUENCE, b"000999"): b"address"}


def test_when_nobody_writes_what_there_is_is_folded(tmp_path: Path, opened: Opened) -> None:
    done = Event()
    commit = LmdbStore.commit

    def watched(store: LmdbStore, batch: Batch, note: bytes | None = None) -> None:
        commit(store, batch, note)
        if batch:
            done.set()

    with patch.object(LmdbStore, "commit", watched):
        store = opened(tmp_path / "data", UNHURRIED._replace(idle_s=0.001))
        store.commit(put(1))
        assert done.wait(60)
    assert in_tables(store) == 1


def test_a_batch_that_would_fill_the_log_goes_past_it(tmp_path: Path, opened: Opened) -> None:
    store = opened(tmp_path / "data", UNHURRIED._replace(direct_bytes=10_000))
    store.commit(put(1, 2))
    written = store._log.file_bytes
    store.commit({Table.RECORDS: {b"000001": b"x" * 100_000, b"000002": None}})
    assert store._log.file_bytes == written
    store.commit(put(3))
    expected = {b"000001": b"x" * 100_000, b"000003": b"value 3"}
    assert contents(store) == {(Table.RECORDS, key): value for key, value in expected.items()}
    store.close()
    assert len(contents(opened(tmp_path / "data"))) == 2


def test_a_batch_in_order_goes_past_the_log(tmp_path: Path, opened: Opened) -> None:
    store = opened(tmp_path / "data")
    store.commit(put(1, 2))
    store.commit_in_order({Table.RECORDS: {b"000001": b"later", b"000002": None}})
    assert contents(store) == {(Table.RECORDS, b"000001"): b"later"}
    assert in_tables(store) == 1
    written = store._log.last
    for number in range(3, 200):
        store.commit_in_order(put(number))
        assert len(store._current) == 0, "it is kept in memory"
    assert store._log.last == written
    assert in_tables(store) == len(contents(store)) == 198
    store.commit(put(1))
    assert contents(store)[Table.RECORDS, b"000001"] == b"value 1"


class _FullDisk:
    """While it is full, nothing can be put into the tables."""

    def __init__(self) -> None:
        self._commit = LmdbStore.commit
        self.is_full = False

    def commit(self, store: LmdbStore, batch: Batch, note: bytes | None = None) -> None:
        if self.is_full and any(value for table in batch.values() for value in table.values()):
            raise NoSpace("no space left")
        self._commit(store, batch, note)

    def patched(self) -> Any:
        return patch.object(LmdbStore, "commit", lambda *arguments: self.commit(*arguments))


def test_without_space_for_the_tables_commits_go_on_until_the_layers_are_full(
    tmp_path: Path, opened: Opened
) -> None:
    disk = _FullDisk()
    with disk.patched():
        store = opened(tmp_path / "data")
        disk.is_full = True
        accepted: list[int] = []

        def write_on() -> None:
            while True:
                store.commit(put(len(accepted)))
                accepted.append(len(accepted))

        with pytest.raises(NoSpace, match="no space left"):
            write_on()
        assert UNHURRIED.layer_entries < len(accepted) <= 2 * UNHURRIED.layer_entries
        assert len(contents(store)) == len(accepted), "reads go on"
        assert store.is_congested
        store.commit({Table.RECORDS: {b"%06d" % number: None for number in accepted[:5]}})
        assert len(contents(store)) == len(accepted) - 5

        folding = store._folding
        assert folding is not None
        assert not folding._views, "nothing is kept for reads that are over"

        store.close()  # what could not be put in place is in the log
        store = opened(tmp_path / "data")
        assert len(contents(store)) == len(accepted) - 5

        disk.is_full = False
        with store._changed:
            assert store._changed.wait_for(lambda: store._folding is None, 60)
        for number in range(1000, 1100):
            store.commit(put(number))
        assert len(contents(store)) == len(accepted) - 5 + 100
        assert in_tables(store) > 60


def test_a_failure_that_is_over_refuses_nobody(tmp_path: Path, opened: Opened) -> None:
    """It was known for a moment longer than the layer that could not be folded.

    Whoever filled the next layer in that moment was told that there was no space.
    """
    disk, fold, looked = _FullDisk(), LoggedStore._fold, Event()

    def fold_and_wait(store: LoggedStore) -> None:
        fold(store)
        looked.wait()

    with disk.patched(), patch.object(LoggedStore, "_fold", fold_and_wait):
        store = opened(tmp_path / "data")
        disk.is_full = True
        for number in range(UNHURRIED.layer_entries + 1):
            store.commit(put(number))
        with store._changed:
            assert store._changed.wait_for(lambda: store._failure is not None, 60)
            disk.is_full = False
            assert store._changed.wait_for(lambda: store._folding is None, 60)
            failure = store._failure
        looked.set()
    assert failure is None


def test_commits_do_not_wait_for_a_folding_that_cannot_go_on(
    tmp_path: Path, opened: Opened
) -> None:
    """Whatever stops it: here, that somebody has removed the directory."""
    commit = LmdbStore.commit
    is_gone = True

    def break_off(store: LmdbStore, batch: Batch, note: bytes | None = None) -> None:
        if is_gone and batch:
            raise FileNotFoundError(errno.ENOENT, "no such directory")
        commit(store, batch, note)

    with patch.object(LmdbStore, "commit", break_off):
        store = opened(tmp_path / "data")

        def fill() -> None:
            for number in range(3 * UNHURRIED.layer_entries):
                store.commit(put(number))

        with pytest.raises(StorageFailed, match="no such directory"):
            fill()
        is_gone = False
        with store._changed:
            assert store._changed.wait_for(lambda: store._folding is None, 60)
        store.commit(put(1000))


def child_fills_the_disk(directory: str) -> None:
    """The limit on the size of files stands for a full disk."""
    store = LoggedStore.open(directory)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, most))
    accepted = 0
    said = ""
    while not said:
        try:
            store.commit({Table.RECORDS: {b"%d" % accepted: bytes(50_000)}})
            accepted += 1
        except Unavailable as problem:
            said = type(problem).__name__
    print(said)
    assert 10 < accepted < 25
    assert len(contents(store)) == accepted
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    store.commit({Table.RECORDS: {b"at last": b""}})
    assert len(contents(store)) == accepted + 1
    store.close()
    store = LoggedStore.open(directory)
    assert len(contents(store)) == accepted + 1
    store.close()


def test_a_full_disk(tmp_path: Path) -> None:
    assert children.run(child_fills_the_disk, tmp_path / "data") == ["NoSpace"]


def child_meets_a_failure(directory: str, what: str, error: str, reaches: str) -> None:
    store = LoggedStore.open(directory)
    store.commit(put(1))
    breakable.fail(what.encode(), error=int(error), reaches=reaches == "True")
    try:
        store.commit(put(2))
    except Unavailable as problem:
        print(type(problem).__name__)
    assert len(contents(store)) == 1
    store.commit(put(3))
    assert len(contents(store)) == 2


@pytest.mark.parametrize("reaches", [False, True], ids=["refused", "lost later"])
@pytest.mark.parametrize(
    ("what", "error", "problem"),
    [
        (breakable.DATA_WRITE, errno.ENOSPC, "NoSpace"),
        (breakable.DATA_WRITE, errno.EIO, "StorageFailed"),
        (breakable.SYNC, errno.EIO, "StorageFailed"),
        (breakable.SYNC, errno.EDQUOT, "NoSpace"),
    ],
)
def test_one_failed_commit(
    breakable_disk: Path, tmp_path: Path, what: bytes, error: int, problem: str, reaches: bool
) -> None:
    """The error is clear, nothing is applied, and the next commit goes on."""
    path, environment = tmp_path / "data", breakable.preload(breakable_disk, tmp_path / "log")
    said = children.run(
        child_meets_a_failure, path, what.decode(), error, reaches, environment=environment
    )
    assert said == [problem]
    store = LoggedStore.open(path)
    assert {key for _, key in contents(store)} == {b"000001", b"000003"}
    store.close()


@pytest.mark.parametrize("name", ["log.0", "log.1"])
def test_a_log_that_is_missing_is_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data"
    LoggedStore.open(path).close()
    (path / name).unlink()
    before = sorted(path.iterdir())
    with pytest.raises(DamagedStore, match=rf"{name} is missing; put a backup"):
        LoggedStore.open(path)
    assert sorted(path.iterdir()) == before


def test_a_log_that_is_damaged_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "data"
    store = LoggedStore.open(path, pace=UNHURRIED)
    for number in range(3):
        store.commit(put(number))
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    store.close()
    data = bytearray((copy / "log.0").read_bytes())
    data[40] ^= 1
    (copy / "log.0").write_bytes(data)
    with pytest.raises(DamagedStore, match=r"commit 1 is damaged, commit \d is whole; put a"):
        LoggedStore.open(copy)
    assert (copy / "log.0").read_bytes() == data


if __name__ == "__main__":
    children.main(globals())
