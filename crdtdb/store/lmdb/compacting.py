"""Compacting: the data file of a store that nobody has open, written anew without its holes.

LMDB gives freed pages to later commits and never back to the file system. So the pages in use are
copied, in order, to a file beside the data file, which takes its place in one step when it is on
the disk. Whatever happens before that, the data file is as it was. The directory stays the one it
is, and so does the replica in it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from crdtdb.errors import DamagedStore, StartError
from crdtdb.store.disk import sync_names
from crdtdb.store.lmdb.directory import DataDirectory
from crdtdb.store.lmdb.environment import DATA_FILE

__all__ = ["Compacted", "compact"]

_COPY: Final = "data.mdb.compact"


class Compacted(NamedTuple):
    """The size of the data file."""

    before_bytes: int
    after_bytes: int


def compact(path: str | os.PathLike[str]) -> Compacted:
    """Write the data file of the store at `path` compactly. O(pages in use), and as much space.

    Raises DirectoryInUse or another `StartError`, with the data file as it was.
    """
    directory = DataDirectory.take_existing(Path(path).absolute())
    try:
        data, copy = directory.path / DATA_FILE, directory.path / _COPY
        before = data.stat().st_size
        try:
            _copy(directory.path, copy)
            os.replace(copy, data)
        finally:
            copy.unlink(missing_ok=True)
        sync_names(directory.path)
        return Compacted(before, data.stat().st_size)
    except OSError as error:
        raise StartError(f"{path} cannot be compacted: {error}; it is as it was") from error
    except lmdb.Error as error:
        raise DamagedStore(f"{path} cannot be compacted: {error}; it is as it was") from error
    finally:
        directory.release()


def _copy(directory: Path, copy: Path) -> None:
    """The pages in use, on the disk under another name. Raises OSError or lmdb.Error."""
    file = os.open(copy, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with lmdb.open(os.fspath(directory), readonly=True, create=False, max_dbs=0) as environment:
            environment.copyfd(file, compact=True)
        os.fsync(file)
    finally:
        os.close(file)
