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
from collections.abc import Iterable, Iterator
from itertools import islice
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
#: What is written with one transaction, and how many entries at a time.
_TOGETHER_BYTES: Final = 2**24
_PORTION: Final = 1_000


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
        names = [name for name, _ in snapshot.cursor() if name in TABLE_NAMES]
        notes = [entry for entry in snapshot.cursor() if entry[0] not in TABLE_NAMES]
        tables = {name: source.open_db(name, snapshot, create=False) for name in names}
        portions = (
            (name, portion)
            for name, table in tables.items()
            for portion in _portions(snapshot.cursor(table))
        )
        is_all = False
        while not is_all:
            is_all = _append(portions, target, notes)


def _append(
    portions: Iterator[tuple[bytes, list[tuple[bytes, bytes]]]],
    target: lmdb.Environment,
    notes: list[tuple[bytes, bytes]],
) -> bool:
    """Write as many portions as fit in memory with one transaction; were those all?

    Entries come in the order of their keys: page after page is filled. With the last come `notes`.
    """
    size_bytes = 0
    with target.begin(write=True) as transaction:
        for name, portion in portions:
            table = target.open_db(name, transaction)
            with transaction.cursor(table) as cursor:
                cursor.putmulti(portion, append=True)
            size_bytes += sum(len(key) + len(value) for key, value in portion)
            if size_bytes >= _TOGETHER_BYTES:
                return False
        for name, value in notes:
            transaction.put(name, value)
        return True


def _portions(entries: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """All entries of a table, some at a time; one empty portion if there is none."""
    left = iter(entries)
    yield list(islice(left, _PORTION))
    while portion := list(islice(left, _PORTION)):
        yield portion
