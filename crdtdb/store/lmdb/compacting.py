"""Compacting: the data file of a store that nobody has open, written anew without its holes.

LMDB gives freed pages to later commits and never back to the file system; and what has gone from
places here and there leaves pages that are a quarter full. So all entries are appended, in the
order of their keys, to a file in a directory within this one, which takes the place of the data
file in one step when it is on the disk. Whatever happens before that, the data file is as it was.
The directory stays the one it is, and so does the replica in it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from crdtdb.errors import DamagedStore, StartError
from crdtdb.store.disk import sync_names
from crdtdb.store.lmdb.directory import DataDirectory
from crdtdb.store.lmdb.environment import DATA_FILE, TABLE_NAMES

__all__ = ["Compacted", "compact"]

_COPY: Final = "data.mdb.compact"
#: What a copy may take at most beside twice what there is: a map is only address space.
_ROOM_BYTES: Final = 2**26
#: Of entries written with one transaction.
_PORTION_BYTES: Final = 2**24


class Compacted(NamedTuple):
    """The size of the data file."""

    before_bytes: int
    after_bytes: int


def compact(path: str | os.PathLike[str]) -> Compacted:
    """Write the data file of the store at `path` compactly. O(entries), and as much space.

    Raises DirectoryInUse or another `StartError`, with the data file as it was.
    """
    directory = DataDirectory.take_existing(Path(path).absolute())
    try:
        data, copy = directory.path / DATA_FILE, directory.path / _COPY
        before = data.stat().st_size
        try:
            _copy(directory.path, copy)
            os.replace(copy / DATA_FILE, data)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        sync_names(directory.path)
        return Compacted(before, data.stat().st_size)
    except OSError as error:
        raise StartError(f"{path} cannot be compacted: {error}; it is as it was") from error
    except lmdb.Error as error:
        raise DamagedStore(f"{path} cannot be compacted: {error}; it is as it was") from error
    finally:
        directory.release()


def _copy(directory: Path, copy: Path) -> None:
    """All entries, on the disk in a directory of their own. Raises OSError or lmdb.Error."""
    if copy.exists():  # as a kill has left it
        shutil.rmtree(copy)
    copy.mkdir(mode=0o700)
    most_bytes = 2 * (directory / DATA_FILE).stat().st_size + _ROOM_BYTES
    with (
        lmdb.open(
            os.fspath(directory), readonly=True, create=False, max_dbs=len(TABLE_NAMES)
        ) as source,
        lmdb.open(
            os.fspath(copy),
            lock=False,
            mode=0o600,
            map_size=most_bytes,
            max_dbs=len(TABLE_NAMES),
        ) as target,
        source.begin() as snapshot,
    ):
        notes: list[tuple[bytes, bytes]] = []
        for name, value in snapshot.cursor():
            if name in TABLE_NAMES:
                _append(source.open_db(name, snapshot, create=False), snapshot, target, name)
            else:
                notes.append((name, value))
        with target.begin(write=True) as transaction:
            for name, value in notes:
                transaction.put(name, value)


def _append(
    table: lmdb._Database,
    snapshot: lmdb.Transaction[bytes],
    target: lmdb.Environment,
    name: bytes,
) -> None:
    """The entries of one table, in the order of their keys: page after page is filled."""
    entries = iter(snapshot.cursor(table))
    copied = target.open_db(name)
    while portion := list(_portion(entries)):
        with target.begin(write=True) as transaction, transaction.cursor(copied) as cursor:
            cursor.putmulti(portion, append=True)


def _portion(entries: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """So many of them that a transaction of those fits in memory."""
    size = 0
    for key, value in entries:
        yield key, value
        size += len(key) + len(value)
        if size >= _PORTION_BYTES:
            return
