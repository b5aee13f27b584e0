"""Backups of a replica at work, what is wrong with damaged ones, and replicas made from them."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import msgspec
import pytest

from crdtdb import Database
from crdtdb.backup import Manifest, Taking, check, restore, save
from crdtdb.errors import Overloaded, StartError, UnusableBackup


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(tmp_path / "data", replica="eu-1") as database:
        for first in range(0, 4_000, 1_000):
            database.set("shop", "cart").add(*(f"{n:0400}" for n in range(first, first + 1_000)))
        database.counter("shop", "views").increment(5)
        database.opcounter("shop", "sold").increment(3)
        database.set("shop", "cart").remove(f"{1:0400}")
        yield database


def _parts(database: Database, cut_bytes: int = 70_000) -> Generator[bytes, None, None]:
    """The frames of a backup, cut anywhere, as a network does."""
    taking = Taking(database.engine, version="1", cluster="shop", replica=database.replica)
    taking.begin()
    try:
        for frame in taking.frames():
            for place in range(0, len(frame), cut_bytes):
                yield frame[place : place + cut_bytes]
    finally:
        taking.end()


def _saved(database: Database, directory: Path) -> Manifest:
    return save(directory, _parts(database), taken_at_ms=1_000)


def test_a_restored_replica_shows_the_same_and_is_somebody_else(
    database: Database, tmp_path: Path
) -> None:
    taken = _saved(database, tmp_path / "backup")
    assert (taken.cluster, taken.replica, taken.taken_at_ms) == ("shop", "eu-1", 1_000)
    assert check(tmp_path / "backup") == taken
    assert restore(tmp_path / "backup", tmp_path / "restored") == taken
    with Database.open(tmp_path / "restored") as restored:
        assert restored.digest() == database.digest()
        assert restored.replica == "eu-1"
        assert restored.engine.state.incarnation != database.engine.state.incarnation
        assert restored.engine.state.store_id != database.engine.state.store_id
        assert restored.counter("shop", "views").increment(1).value == 6
        assert restored.opcounter("shop", "sold").get().value == 3


def test_it_is_somebody_else_even_where_the_first_one_was(tmp_path: Path) -> None:
    """A directory may get the number of the one that was removed."""
    path = tmp_path / "data"
    with Database.open(path) as database:
        database.counter("shop", "views").increment()
        former = database.engine.state.incarnation
        _saved(database, tmp_path / "backup")
    for name in os.listdir(path):
        (path / name).unlink()
    restore(tmp_path / "backup", path)
    with Database.open(path) as restored:
        restored.counter("shop", "views").increment()
        assert restored.engine.state.incarnation != former


def test_only_this_user_may_read_it(database: Database, tmp_path: Path) -> None:
    _saved(database, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    for directory in (tmp_path / "backup", tmp_path / "restored", tmp_path / "data"):
        assert directory.stat().st_mode & 0o777 == 0o700
        assert all(file.stat().st_mode & 0o077 == 0 for file in directory.iterdir())


def test_writes_go_on_and_the_backup_is_the_state_at_its_end(
    database: Database, tmp_path: Path
) -> None:
    def parts() -> Iterator[bytes]:
        for number, part in enumerate(_parts(database)):
            yield part
            if number < 20:
                database.set("shop", "cart").add(f"late {number}")
                database.set("shop", "cart").remove(f"{number:0400}")
                database.counter("shop", "views").increment(1)

    save(tmp_path / "backup", parts(), taken_at_ms=1)
    restore(tmp_path / "backup", tmp_path / "restored")
    with Database.open(tmp_path / "restored") as restored:
        assert restored.digest() == database.digest()


def test_a_commit_is_told_before_it_shows_and_when_it_does(database: Database) -> None:
    views, shown = database.counter("shop", "views"), []
    database.engine.watchers = (lambda _: shown.append(views.get().value),)
    views.increment(1)
    assert shown == [5, 6]


def test_one_backup_at_a_time(database: Database) -> None:
    first = _parts(database)
    next(first)
    with pytest.raises(Overloaded, match="taken already"):
        next(_parts(database))
    first.close()
    next(_parts(database))


# -- what is no backup ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", [0, 5, 40, 5_000, -1])
def test_a_flipped_bit_is_told_and_nothing_is_written(
    database: Database, tmp_path: Path, where: int
) -> None:
    _saved(database, tmp_path / "backup")
    rows = tmp_path / "backup" / "rows"
    data = bytearray(rows.read_bytes())
    data[where] ^= 1
    rows.write_bytes(data)
    with pytest.raises(UnusableBackup, match="is damaged: rows is not what was written"):
        restore(tmp_path / "backup", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_what_is_cut_short_or_missing_is_told(database: Database, tmp_path: Path) -> None:
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    _saved(database, backup)
    whole = (backup / "rows").read_bytes()
    (backup / "rows").write_bytes(whole[:-100])
    with pytest.raises(UnusableBackup, match="the manifest says"):
        restore(backup, restored)
    (backup / "rows").unlink()
    with pytest.raises(UnusableBackup, match="not whole"):
        restore(backup, restored)
    (backup / "rows").write_bytes(whole)
    (backup / "manifest.json").unlink()
    with pytest.raises(UnusableBackup, match=r"never finished: manifest\.json is missing"):
        restore(backup, restored)
    (backup / "manifest.json").write_text("{}")
    with pytest.raises(UnusableBackup, match="cannot be read"):
        restore(backup, restored)
    assert not restored.exists()


def test_a_newer_format_is_told(database: Database, tmp_path: Path) -> None:
    manifest = msgspec.structs.asdict(_saved(database, tmp_path / "backup"))
    manifest |= {"format": 2, "version": "9.0", "colour": "blue"}
    (tmp_path / "backup" / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(UnusableBackup, match=r"format 2.*use crdtdb 9\.0"):
        restore(tmp_path / "backup", tmp_path / "restored")


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_what_breaks_off_leaves_nothing(database: Database, tmp_path: Path, kept: int) -> None:
    parts = list(_parts(database))
    with pytest.raises(UnusableBackup, match="broke off before its end"):
        save(tmp_path / "backup", parts[:kept], taken_at_ms=1)
    assert not (tmp_path / "backup").exists()


def test_why_the_server_gave_up_is_told(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crdtdb.store import copying

    monkeypatch.setattr(copying, "_NOTED_KEYS", 1)

    def parts() -> Iterator[bytes]:
        for part in _parts(database):
            yield part
            database.set("shop", "cart").remove(f"{2:0400}", f"{3:0400}", f"{4:0400}")
            database.set("shop", "cart").add(f"{2:0400}", f"{3:0400}", f"{4:0400}")

    with pytest.raises(UnusableBackup, match="take the backup faster"):
        save(tmp_path / "backup", parts(), taken_at_ms=1)


def test_each_backup_has_a_directory_of_its_own(database: Database, tmp_path: Path) -> None:
    _saved(database, tmp_path / "backup")
    before = (tmp_path / "backup" / "rows").read_bytes()
    with pytest.raises(UnusableBackup, match="not empty"):
        _saved(database, tmp_path / "backup")
    assert (tmp_path / "backup" / "rows").read_bytes() == before


# -- where to restore to --------------------------------------------------------------------------


def test_a_directory_with_something_in_it_stays_as_it_is(
    database: Database, tmp_path: Path
) -> None:
    _saved(database, tmp_path / "backup")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter").write_text("dear")
    with pytest.raises(UnusableBackup, match="not empty"):
        restore(tmp_path / "backup", tmp_path / "other")
    assert os.listdir(tmp_path / "other") == ["letter"]
    with pytest.raises(UnusableBackup, match="not empty"):
        restore(tmp_path / "backup", tmp_path / "data")


def test_no_replica_starts_in_half_a_restore(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _saved(database, tmp_path / "backup")
    restored = tmp_path / "restored"
    restored.mkdir()
    (restored / "restoring").mkdir()  # what a kill leaves
    with pytest.raises(StartError, match="no crdtdb store"):
        Database.open(restored)
    with pytest.raises(UnusableBackup, match="begun and not ended"):
        restore(tmp_path / "backup", restored)
    (restored / "restoring").rmdir()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crdtdb.backup.move_store", full)
    with pytest.raises(UnusableBackup, match="No space left"):
        restore(tmp_path / "backup", restored)
    assert os.listdir(restored) == []
