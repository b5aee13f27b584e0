"""What is special to LMDB: growth and limits of the map, the lock, threads, crashes of the process.

Damage is in `test_damage.py`, durability in `test_power_cut.py` and `test_broken_disk.py`.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event, Thread

import lmdb
import pytest

from crdtdb.errors import DamagedStore, DirectoryInUse, NoSpace, StartError, StorageFailed
from crdtdb.store.base import Batch, Table
from crdtdb.store.lmdb import LmdbStore
from crdtdb.store.lmdb.longkeys import CHUNK
from store import children

Opened = Callable[..., LmdbStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def opened() -> Iterator[Opened]:
    """`LmdbStore.open`, closed at the end of the test."""
    with ExitStack() as resources:

        def open_store(path: Path, **options: int) -> LmdbStore:
            store = LmdbStore.open(path, **options)
            resources.callback(store.close)
            return store

        yield open_store


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """For many commits in a test that is not about durability."""
    monkeypatch.setattr(lmdb, "open", partial(lmdb.open, sync=False))


def records(start: int, end: int, size: int = 1000) -> Batch:
    return {Table.RECORDS: {b"%06d" % n: b"%06d" % n * (size // 6) for n in range(start, end)}}


def count(store: LmdbStore) -> int:
    with store.snapshot() as snapshot:
        return sum(1 for _ in snapshot.scan(Table.RECORDS))


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


# The directory


def test_contents_survive_close_and_open(path: Path, opened: Opened) -> None:
    first = opened(path)
    first.commit({table: {b"k" * n: b"v" * n for n in (1, 900, 5000)} for table in Table})
    stats = first.stats()
    first.close()
    second = opened(path)
    assert second.stats() == stats
    assert second.location == first.location
    with second.snapshot() as snapshot:
        for table in Table:
            assert [len(key) for key, _ in snapshot.scan(table)] == [1, 900, 5000]
    second.commit({Table.META: {b"more": b"1"}})


def test_only_the_owner_can_read_the_files(path: Path, opened: Opened) -> None:
    mask = os.umask(0)
    try:
        opened(path / "below")
    finally:
        os.umask(mask)
    for directory in (path, path / "below"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for file in (path / "below").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_an_empty_directory_becomes_a_store(path: Path, opened: Opened) -> None:
    path.mkdir(mode=0o750)
    opened(path)
    assert sorted(files(path)) == ["FORMAT", "LOCK", "data.mdb", "lock.mdb"]
    assert (path / "FORMAT").read_bytes() == b"crdtdb 1\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


@pytest.mark.parametrize("leftover", [b"", bytes(5000), b"half a file"])
def test_an_interrupted_creation_starts_again(path: Path, opened: Opened, leftover: bytes) -> None:
    path.mkdir()
    for name in ("LOCK", "FORMAT.new", "data.mdb", "lock.mdb"):
        (path / name).write_bytes(leftover)
    opened(path).commit({Table.META: {b"k": b"v"}})
    assert sorted(files(path)) == ["FORMAT", "LOCK", "data.mdb", "lock.mdb"]


def test_a_copied_directory_has_another_location(tmp_path: Path, opened: Opened) -> None:
    original = opened(tmp_path / "original")
    original.close()
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    (tmp_path / "original").rename(tmp_path / "moved")
    assert opened(tmp_path / "copy").location != original.location
    assert opened(tmp_path / "moved").location == original.location


def test_a_path_that_cannot_be_a_directory(path: Path) -> None:
    path.write_text("a file")
    with pytest.raises(StartError, match="cannot be used"):
        LmdbStore.open(path)
    with pytest.raises(StartError, match="cannot be used"):
        LmdbStore.open(path / "below")


def test_nothing_stays_open(path: Path) -> None:
    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    LmdbStore.open(path).close()
    before = descriptors()
    for _ in range(10):
        store = LmdbStore.open(path)
        store.commit(records(0, 10))
        with store.snapshot() as snapshot:
            next(snapshot.scan(Table.RECORDS))
        with pytest.raises(DirectoryInUse):
            LmdbStore.open(path)
        store.close()
    (path / "data.mdb").write_bytes(b"")
    for _ in range(10):
        with pytest.raises(DamagedStore):
            LmdbStore.open(path)
    assert descriptors() == before


# The lock


def test_a_second_open_in_the_same_process(path: Path, opened: Opened) -> None:
    store = opened(path)
    (path.parent / "link").symlink_to(path)
    before = files(path)
    for name in (path, path.parent / "link"):
        with pytest.raises(DirectoryInUse, match=f"process {os.getpid()};"):
            LmdbStore.open(name)
    assert files(path) == before
    store.commit(records(0, 1))
    store.close()
    assert count(opened(path)) == 1


def child_holds_a_snapshot(directory: str) -> None:
    store = LmdbStore.open(directory)
    store.commit(records(0, 1))
    with store.snapshot():
        print("open")
        signal.pause()


def test_a_second_open_in_another_process(path: Path, opened: Opened) -> None:
    with children.start(child_holds_a_snapshot, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        before = files(path)
        with pytest.raises(DirectoryInUse, match=f"process {holder.pid};"):
            LmdbStore.open(path)
        assert files(path) == before
        holder.kill()
    assert count(opened(path)) == 1  # the lock and the snapshot went with the process


# Crashes of the process


def child_commits_for_ever(directory: str) -> None:
    store = LmdbStore.open(directory, map_bytes=2**16)
    number = 0
    while True:
        store.commit({table: {b"%06d" % number: b"x" * 3000} for table in Table})
        print(number)
        number += 1


@pytest.mark.parametrize("after", [1, 20, 150])
def test_every_reported_commit_survives_a_kill(path: Path, opened: Opened, after: int) -> None:
    with children.start(child_commits_for_ever, path) as writer:
        assert writer.stdout is not None
        reported = [next(writer.stdout) for _ in range(after)]
        writer.kill()
        reported += [line for line in writer.stdout if line.endswith("\n")]
    with opened(path).snapshot() as snapshot:
        held = [[int(key) for key, _ in snapshot.scan(table)] for table in Table]
    assert held[0] in (list(range(len(reported))), list(range(len(reported) + 1)))
    assert all(numbers == held[0] for numbers in held), "half a commit"


# The map


@pytest.mark.usefixtures("unsynced")
def test_the_map_grows_between_snapshots(path: Path, opened: Opened) -> None:
    store = opened(path, map_bytes=2**16)
    for number in range(3000):
        store.commit(records(number, number + 1))
        with store.snapshot() as snapshot:
            assert snapshot.get(Table.RECORDS, b"%06d" % number) is not None
    assert count(store) == 3000
    assert store.stats().map_bytes > 3000 * 1000


@pytest.mark.usefixtures("unsynced")
def test_the_map_grows_early(path: Path, opened: Opened) -> None:
    """So a commit below a snapshot of the same thread has room, although it could not grow."""
    store = opened(path, map_bytes=2**20)
    for number in range(0, 3000, 2):
        store.commit(records(number, number + 1))
        with store.snapshot():
            store.commit(records(number + 1, number + 2))
    assert count(store) == 3000


@pytest.mark.usefixtures("unsynced")
def test_one_batch_far_larger_than_the_map(path: Path, opened: Opened) -> None:
    store = opened(path, map_bytes=2**16)
    store.commit({Table.META: {b"%d" % n: b"x" * 2**20 for n in range(20)}})
    assert store.stats().used_bytes > 20 * 2**20


def test_the_map_cannot_grow_below_a_snapshot_of_the_same_thread(
    path: Path, opened: Opened
) -> None:
    store = opened(path, map_bytes=2**18)
    store.commit(records(0, 10))
    with store.snapshot() as snapshot:
        store.commit(records(10, 20))  # there is room
        with pytest.raises(StorageFailed, match="snapshots are open"):
            store.commit(records(20, 1000))
        assert sum(1 for _ in snapshot.scan(Table.RECORDS)) == 10
    assert count(store) == 20
    store.commit(records(20, 1000))
    assert count(store) == 1000


def test_growth_waits_for_the_snapshots_of_other_threads(path: Path, opened: Opened) -> None:
    store = opened(path, map_bytes=2**18)
    store.commit(records(0, 10))
    inside, committing = Event(), Event()
    counts: list[int] = []

    def watch() -> None:
        with store.snapshot() as snapshot:
            inside.set()
            committing.wait()
            with store.snapshot() as nested:  # those inside may come in again
                counts.append(sum(1 for _ in nested.scan(Table.RECORDS)))
            counts.append(sum(1 for _ in snapshot.scan(Table.RECORDS)))

    watcher = Thread(target=watch)
    watcher.start()
    inside.wait()
    committing.set()
    store.commit(records(10, 1000))
    watcher.join()
    assert counts[1] == 10
    assert counts[0] in (10, 1000)
    assert count(store) == 1000


def test_more_snapshots_than_there_are_places(path: Path, opened: Opened) -> None:
    store = opened(path)
    with ExitStack() as snapshots:
        for _ in range(512):
            snapshots.enter_context(store.snapshot())
        with pytest.raises(StorageFailed, match="cannot be read"):
            snapshots.enter_context(store.snapshot())
        store.commit(records(0, 1))
    assert count(store) == 1


# The limit


def fill(store: LmdbStore, start: int) -> int:
    """Commit until the store refuses; the first number that is not in it."""
    number = start
    while True:
        try:
            store.commit(records(number, number + 5))
        except NoSpace:
            return number
        number += 5


def test_a_full_store_reads_on_and_takes_what_is_deleted(path: Path, opened: Opened) -> None:
    limit = 2**20
    store = opened(path, max_map_bytes=limit)
    end = fill(store, 0)
    assert 400 < end < 1000
    assert count(store) == end
    for start in range(0, 10 * 100, 100):  # again and again: nothing is lost on the way
        with pytest.raises(NoSpace, match="limit of 1048576 bytes"):
            store.commit(records(end, end + 5))
        gone = dict.fromkeys(b"%06d" % n for n in range(start, start + 100))
        store.commit({Table.RECORDS: dict(gone), Table.META: {b"note": b"%d" % start}})
        store.commit(records(end, end + 5))
        end = fill(store, end + 5)
    assert end - 1000 > 300
    assert count(store) == end - 1000
    assert (path / "data.mdb").stat().st_size <= limit + 2**16


def test_a_full_store_goes_on_with_a_higher_limit(path: Path, opened: Opened) -> None:
    store = opened(path, max_map_bytes=2**20)
    end = fill(store, 0)
    store.close()
    store = opened(path, max_map_bytes=2**21)
    assert fill(store, end) > end + 200
    store.close()
    lower = opened(path, max_map_bytes=2**19)  # below what is used: readable, and deletable
    assert count(lower) > end
    with pytest.raises(NoSpace):
        lower.commit(records(10_000, 10_200))
    lower.commit({Table.RECORDS: dict.fromkeys(b"%06d" % n for n in range(end))})
    assert count(lower) > 200


# Long keys


def test_deleting_long_keys_leaves_nothing_behind(path: Path, opened: Opened) -> None:
    store = opened(path)
    prefix = b"p" * CHUNK * 3
    keys = [prefix + b"%d" % n for n in range(10)] + [prefix[: CHUNK * 2], prefix, b"p" * 5000]
    store.commit({Table.RECORDS: dict.fromkeys(keys, b"v")})
    for key in keys:
        store.commit({Table.RECORDS: {key: None}})
    assert store.stats().entries[Table.RECORDS] == 0


if __name__ == "__main__":
    children.main(globals())
