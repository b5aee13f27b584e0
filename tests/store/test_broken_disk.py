"""The disk breaks, in each step of a commit: the error is clear, nothing is applied, reads go on,
and writes recover by themselves."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest

from crdtdb.errors import NoSpace, StorageFailed, Unavailable
from crdtdb.store.base import Table
from crdtdb.store.lmdb import LmdbStore
from store import breakable, children


def has(store: LmdbStore, key: bytes) -> bool:
    with store.snapshot() as snapshot:
        values = {snapshot.get(table, key) for table in (Table.META, Table.RECORDS)}
    assert len(values) == 1, "half a commit"
    return values != {None}


def attempt(store: LmdbStore, key: bytes, size: int = 5) -> str:
    """Commit, and say how it went."""
    value = b"x" * size
    try:
        store.commit({Table.META: {key: value}, Table.RECORDS: {key: value}})
    except Unavailable as problem:
        return type(problem).__name__
    return "done"


def child_meets_a_failure(directory: str, what: str, error: str, reaches: str) -> None:
    store = LmdbStore.open(directory)
    assert attempt(store, b"before") == "done"
    breakable.fail(what.encode(), error=int(error), reaches=reaches == "True")
    print(attempt(store, b"broken"))
    assert has(store, b"before")
    assert not has(store, b"broken")
    assert attempt(store, b"after") == "done"
    assert has(store, b"after")
    assert not has(store, b"broken")


@pytest.mark.parametrize("reaches", [False, True], ids=["refused", "lost later"])
@pytest.mark.parametrize(
    ("what", "error", "problem"),
    [
        (breakable.DATA_WRITE, errno.ENOSPC, NoSpace),
        (breakable.DATA_WRITE, errno.EDQUOT, NoSpace),
        (breakable.DATA_WRITE, errno.EIO, StorageFailed),
        (breakable.SYNC, errno.EIO, StorageFailed),
        (breakable.SYNC, errno.ENOSPC, NoSpace),
        (breakable.META_WRITE, errno.EIO, StorageFailed),
        (breakable.META_WRITE, errno.ENOSPC, NoSpace),
    ],
)
def test_one_failed_commit(
    breakable_disk: Path,
    tmp_path: Path,
    what: bytes,
    error: int,
    problem: type[Unavailable],
    reaches: bool,
) -> None:
    data, environment = tmp_path / "data", breakable.preload(breakable_disk, tmp_path / "log")
    said = children.run(
        child_meets_a_failure, data, what.decode(), error, reaches, environment=environment
    )
    assert said == [problem.__name__]
    store = LmdbStore.open(data)
    assert has(store, b"before")
    assert has(store, b"after")
    assert not has(store, b"broken")
    store.close()


def child_meets_a_disk_that_stays_broken(directory: str) -> None:
    store = LmdbStore.open(directory)
    assert attempt(store, b"before") == "done"
    breakable.fail(breakable.META_WRITE, calls=-1)
    assert attempt(store, b"broken") == "StorageFailed"
    breakable.fail(breakable.SYNC, calls=-1)
    for _ in range(3):  # the failed meta page cannot be made good either
        assert attempt(store, b"broken") == "StorageFailed"
        assert has(store, b"before")
        assert not has(store, b"broken")
    breakable.mend()
    assert attempt(store, b"after") == "done"


def test_a_disk_that_stays_broken_for_a_while(breakable_disk: Path, tmp_path: Path) -> None:
    environment = breakable.preload(breakable_disk, tmp_path / "log")
    children.run(child_meets_a_disk_that_stays_broken, tmp_path / "data", environment=environment)


def child_cannot_take_back(directory: str) -> None:
    store = LmdbStore.open(directory)
    assert attempt(store, b"before") == "done"
    breakable.fail(breakable.META_WRITE, reaches=True)
    breakable.fail(breakable.META_RESTORE)
    assert attempt(store, b"broken") == "StorageFailed"
    with pytest.raises(StorageFailed, match="restart"), store.snapshot():
        pass
    with pytest.raises(StorageFailed, match="restart"):
        store.commit({})
    store.close()


def test_a_failed_commit_that_cannot_be_taken_back_stops_the_store(
    breakable_disk: Path, tmp_path: Path
) -> None:
    """What is on the disk now is not what the caller was told. Only a new start knows."""
    environment = breakable.preload(breakable_disk, tmp_path / "log")
    children.run(child_cannot_take_back, tmp_path / "data", environment=environment)
    store = LmdbStore.open(tmp_path / "data")
    assert has(store, b"before")
    store.close()


def child_fills_the_disk(directory: str) -> None:
    store = LmdbStore.open(directory)
    assert attempt(store, b"before") == "done"
    used = store.stats().file_bytes
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, 4096, 100_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (used + room, most))
        print(attempt(store, b"too much", size=10**6))
        assert has(store, b"before")
        assert not has(store, b"too much")
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert attempt(store, b"too much", size=10**6) == "done"
    assert has(store, b"too much")
    store.close()


def test_a_full_disk(tmp_path: Path) -> None:
    """The limit on the size of files stands for it: some writes fail, others are cut short."""
    said = children.run(child_fills_the_disk, tmp_path / "data")
    assert said[0] == "NoSpace"
    assert set(said) <= {"NoSpace", "StorageFailed"}


def child_has_no_addresses(directory: str) -> None:
    store = LmdbStore.open(directory, map_bytes=2**26)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**26, most))
    said = [attempt(store, b"%d" % number, size=2**20) for number in range(40)]
    held = [has(store, b"%d" % number) for number in range(40)]
    assert held == [word == "done" for word in said]
    assert 20 < held.count(True) < 40, said
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    assert attempt(store, b"at last", size=2**20) == "done"


def test_a_map_that_cannot_grow(tmp_path: Path) -> None:
    """There is no address range for a greater map: the smaller one is used to its end."""
    children.run(child_has_no_addresses, tmp_path / "data")


if __name__ == "__main__":
    children.main(globals())
