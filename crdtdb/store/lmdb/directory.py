"""The data directory: one process at a time, one format, and never a guess about its contents.

    FORMAT    `crdtdb 1`: what wrote this directory; there exactly when the store is whole
    LOCK      held (flock) by the process that has the store open; says which one
    data.mdb  LMDB's data
    lock.mdb  LMDB's reader table, made anew at each open
    log.0     commits on their way into data.mdb (`crdtdb.store.logged`)
    log.1     and those after them; the two take turns

A store under construction has `FORMAT.new` instead of `FORMAT`. Nobody can have stored anything
in it yet, so after a crash its construction just starts again. In every other state that is not a
whole store or an empty directory, the open fails and changes nothing.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from struct import Struct

from crdtdb.errors import ADVICE, DamagedStore, DirectoryInUse, NewerFormat, StartError
from crdtdb.store.disk import sync_names
from crdtdb.store.lmdb.environment import DATA_FILE, FIRST_TABLE_NAMES, LOCK_FILE
from crdtdb.store.lmdb.pages import DamagedPages, check_data_file

__all__ = ["LOCK", "DataDirectory", "move_store"]

#: Holds the process that has the directory open.
LOCK = "LOCK"
_FORMAT, _UNFINISHED = "FORMAT", "FORMAT.new"
_VERSION = 1
_FORMAT_TEXT = re.compile(rb"crdtdb ([1-9][0-9]{0,8})\n")
_LOCATION = Struct(">QQ")


class DataDirectory:
    """A directory that this process holds until `release`."""

    def __init__(self, path: Path, lock: int, *, is_new: bool) -> None:
        self.path = path
        self.is_new = is_new
        self._lock = lock

    @classmethod
    def take(cls, path: Path) -> DataDirectory:
        """Lock `path` and look at it. Raises a `StartError`, with the files as they were."""
        try:
            _make(path)
            lock = _lock(path, os.O_RDWR)
            if lock is None:
                _look_at(path)  # before LOCK is made, so that a refused directory stays as it is
                lock = _lock(path, os.O_RDWR | os.O_CREAT)
                assert lock is not None
            try:
                is_new = _look_at(path)
                os.ftruncate(lock, 0)
                os.pwrite(lock, b"%d\n" % os.getpid(), 0)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            raise StartError(f"the data directory {path} cannot be used: {error}") from error
        return cls(path, lock, is_new=is_new)

    @classmethod
    def take_existing(cls, path: Path) -> DataDirectory:
        """Lock a directory that holds a whole store. Raises a `StartError`; makes nothing."""
        if not (path / _FORMAT).is_file():
            raise StartError(f"there is no crdtdb store in {path}")
        return cls.take(path)

    @property
    def location(self) -> bytes:
        """Device and inode: a copy of the directory has others."""
        stat = self.path.stat()
        return _LOCATION.pack(stat.st_dev, stat.st_ino)

    def begin_store(self) -> None:
        """Mark a new store as unfinished, and drop what an interrupted attempt left."""
        with open(self.path / _UNFINISHED, "wb", opener=_private) as file:
            file.write(b"crdtdb %d\n" % _VERSION)
            file.flush()
            os.fsync(file.fileno())
        for name in (DATA_FILE, LOCK_FILE):
            (self.path / name).unlink(missing_ok=True)
        sync_names(self.path)

    def finish_store(self) -> None:
        """The store is whole. This also puts the names of LMDB's files on the disk."""
        (self.path / _UNFINISHED).rename(self.path / _FORMAT)
        sync_names(self.path)

    def release(self) -> None:
        """Let other processes open the directory. (The end of the process does it, too.)"""
        os.close(self._lock)


def _make(path: Path) -> None:
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=0o700)
        sync_names(directory.parent)


def _lock(path: Path, flags: int) -> int | None:
    """The locked file, or `None` if it is not there."""
    try:
        file = os.open(path / LOCK, flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(file, 20).strip().decode(errors="replace")
        os.close(file)
        known = f"process {holder}" if holder.isdecimal() else "another process"
        raise DirectoryInUse(
            f"{path} is in use by {known}; stop it, or choose another data directory"
        ) from None
    return file


def _look_at(path: Path) -> bool:
    """Whether a store has to be made here. Raises if there is something else than a store."""
    names = set(os.listdir(path))
    if _FORMAT not in names:
        if _UNFINISHED in names or names <= {LOCK}:
            return True
        raise DamagedStore(
            f"{path} has files but is no crdtdb store ({_FORMAT} is missing); "
            "choose an empty directory"
        )
    text = (path / _FORMAT).read_bytes()
    version = _FORMAT_TEXT.fullmatch(text)
    if version is None:
        raise DamagedStore(f"{path / _FORMAT} says {text[:20]!r}; {ADVICE}")
    if int(version[1]) > _VERSION:
        raise NewerFormat(
            f"{path} has format {int(version[1])}, this crdtdb knows up to {_VERSION}; "
            "use the newer crdtdb"
        )
    try:
        check_data_file(path / DATA_FILE, FIRST_TABLE_NAMES)
    except DamagedPages as reason:
        raise DamagedStore(f"{path} is damaged: {reason}; {ADVICE}") from None
    return False


def move_store(source: Path, target: Path) -> None:
    """Move a store that nobody has open to an empty directory, and remove its former one.

    Until the last step `target` is no store, and no replica starts there. Raises OSError.
    """
    for name in (DATA_FILE, _FORMAT):
        (source / name).rename(target / name)
        sync_names(target)
    for path in source.iterdir():
        path.unlink()
    source.rmdir()
    sync_names(target)


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
