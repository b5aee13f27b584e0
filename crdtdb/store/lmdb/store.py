"""`LmdbStore`: commits, snapshots, and what happens when the map or the disk is full.

**The map** is the address range that LMDB may use. It costs nothing, but it can only grow while
no snapshot is open (`gate`), so it grows early: while a quarter of it is still free. At its limit
deletions still work: they take pages before they free some, so they get a loan of address space.
What a commit frees can be used two commits later; at the limit an empty one goes in between.

**The disk.** LMDB writes changed pages to free places, syncs, and then one meta page that makes
them count. A failure before that leaves the former state, and the environment goes on. If the meta
page itself cannot be written, LMDB puts the old one back and refuses everything until it is opened
again. `_revive` does so. Nothing is written on top before `_settle` has the old meta page on the
disk: a power cut could otherwise bring back the new one, with its pages written over.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import lmdb

from crdtdb.errors import DamagedStore, NoSpace, StartError, StorageFailed
from crdtdb.store.base import Batch, StoreStats, Table, check_keys
from crdtdb.store.disk import mostly_deletes, write_problem
from crdtdb.store.lmdb import longkeys
from crdtdb.store.lmdb.directory import DataDirectory
from crdtdb.store.lmdb.environment import Environment
from crdtdb.store.lmdb.gate import Gate
from crdtdb.store.lmdb.packing import pack_run

__all__ = ["MAX_MAP_BYTES", "LmdbSnapshot", "LmdbStore"]

_MAP_BYTES = 2**30
MAX_MAP_BYTES = 2**40
_LOAN_BYTES = 2**24
#: Snapshots are short, so one older than this is held by a thread that waits for us.
_PATIENCE_S = 5.0
#: Entries of no table: one that is only there to be written, and the note.
_TURN, _NOTE = b"turn", b"note"


class LmdbStore:
    """A replica's tables in one LMDB environment. Make one with `open`."""

    def __init__(
        self,
        directory: DataDirectory,
        environment: Environment,
        *,
        map_bytes: int,
        max_map_bytes: int,
    ) -> None:
        self.location = directory.location
        self._directory = directory
        self._environment = environment
        self._map_bytes = map_bytes
        self._max_map_bytes = max_map_bytes
        self._gate = Gate()
        #: LMDB's number of the last commit that succeeded.
        self._last_commit = environment.last_commit
        #: The meta page of a failed commit may still be on the disk.
        self._unsettled = False
        #: An empty commit came after the last one.
        self._turned_over = False
        #: Why nothing can be done with this store any more.
        self._refusal: str | None = None
        self._closed = False

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        map_bytes: int = _MAP_BYTES,
        max_map_bytes: int = MAX_MAP_BYTES,
    ) -> Self:
        """Open the store at `path`, or make one if there is nothing.

        `map_bytes` is the size of the map to begin with; it grows up to `max_map_bytes`, which
        bounds the data file. Raises a `StartError`.
        """
        map_bytes = min(map_bytes, max_map_bytes)
        directory = DataDirectory.take(Path(path).absolute())
        with ExitStack() as on_failure:
            on_failure.callback(directory.release)
            try:
                if directory.is_new:
                    directory.begin_store()
                environment = Environment.open(directory.path, map_bytes, create=directory.is_new)
                on_failure.callback(environment.handle.close)
                if directory.is_new:
                    directory.finish_store()
            except (lmdb.Error, OSError) as error:
                kind = DamagedStore if _is_damage(error) else StartError
                raise kind(f"{path} cannot be opened: {error}") from error
            on_failure.pop_all()
        return cls(directory, environment, map_bytes=map_bytes, max_map_bytes=max_map_bytes)

    def snapshot(self) -> LmdbSnapshot:
        return LmdbSnapshot(self)

    def commit(self, batch: Batch, note: bytes | None = None) -> None:
        """As the contract says. `note` is kept in the same transaction, beside all tables."""
        check_keys(batch)
        if self._refusal is not None:
            raise StorageFailed(self._refusal)
        try:
            if self._unsettled:
                self._settle()
            self._fit_map(batch)
            self._write(batch, note)
        except (lmdb.Error, OSError) as error:
            self._revive()
            raise self._problem(error, batch) from error

    def commit_in_order(self, batch: Batch) -> None:
        self.commit(batch)

    def pack(self, table: Table, start: bytes, end: bytes | None) -> bytes | None:
        """Write some entries before `end` anew, so that their pages are full (`packing`).

        Keys that are too long for LMDB stay where they are. Returns where to go on; None: no more
        keys are left from `start` on. Raises `NoSpace` or `StorageFailed` with nothing changed.
        """
        if self._refusal is not None:
            raise StorageFailed(self._refusal)
        first = start[: longkeys.CHUNK]
        last = None if end is None else end[: longkeys.CHUNK + 1]
        following: list[bytes | None] = []

        def change(transaction: lmdb.Transaction[bytes]) -> None:
            database = self._environment.tables[table].short
            following.append(pack_run(transaction, database, first, last))

        try:
            if self._unsettled:
                self._settle()
            self._transact(change)
            self._turned_over = False
        except (lmdb.Error, OSError) as error:
            self._revive()
            raise self._problem(error, {}) from error
        return following[-1]

    @property
    def is_congested(self) -> bool:
        return False

    def stats(self) -> StoreStats:
        with self.snapshot():
            try:
                return self._environment.stats()
            except lmdb.Error as error:
                raise self._unreadable(error) from error

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._refusal = "the store is closed; open it again"
        with self._gate.shut(_PATIENCE_S):
            self._environment.handle.close()
        self._directory.release()

    def note(self) -> bytes | None:
        """What the latest commit with a note left; `None` if there was none."""
        with self.snapshot() as snapshot:
            return snapshot.note()

    def _write(self, batch: Batch, note: bytes | None) -> None:
        """One transaction, repeated in a greater map if this one proves too small."""

        def change(transaction: lmdb.Transaction[bytes]) -> None:
            self._environment.change(transaction, batch)
            if note is not None:
                transaction.put(_NOTE, note)

        limit = self._max_map_bytes + (_LOAN_BYTES if mostly_deletes(batch) else 0)
        while True:
            try:
                self._transact(change)
                self._turned_over = False
                return
            except lmdb.MapFullError as error:
                size = self._environment.map_bytes
                if size < limit and not self._grow(2 * size, limit, _PATIENCE_S):
                    raise StorageFailed(
                        "the store must grow and cannot while snapshots are open; try again"
                    ) from error
                if size >= limit and not self._turn_over():
                    raise NoSpace(
                        f"the store has reached its limit of {self._max_map_bytes} bytes; "
                        "delete something, or raise the limit"
                    ) from error

    def _transact(self, change: Callable[[lmdb.Transaction[bytes]], object]) -> None:
        """One write transaction: all of it is on the disk on return, or nothing happened."""
        transaction = self._environment.handle.begin(write=True)
        try:
            change(transaction)
            transaction.commit()
        except BaseException:
            # py-lmdb's abort waits for an instant without any operation in another thread, and
            # busy snapshots may never leave it one. So they have to wait outside.
            with self._gate.shut(_PATIENCE_S):
                transaction.abort()
            raise
        self._last_commit = self._environment.last_commit

    def _fit_map(self, batch: Batch) -> None:
        """Grow while there is room, so that hardly any transaction is thrown away."""
        reached, size = self._environment.reached_bytes, self._environment.map_bytes
        need = 2 * _footprint(batch, self._environment.page_bytes)
        if size > max(reached, self._max_map_bytes):
            self._resize(self._max_map_bytes, _PATIENCE_S)  # the loan of an earlier batch
        elif size - reached < max(size // 4, need):
            self._grow(max(2 * size, reached + 2 * need), self._max_map_bytes, 0)

    def _turn_over(self) -> bool:
        """Let the next transaction use what the last commit freed. Whether that can help."""
        if self._turned_over:
            return False
        self._turned_over = True
        lent = self._max_map_bytes + _LOAN_BYTES
        self._grow(lent, lent, _PATIENCE_S)
        try:
            self._transact(lambda transaction: transaction.put(_TURN, b""))
        except lmdb.MapFullError:
            return False
        finally:
            self._resize(self._max_map_bytes, _PATIENCE_S)
        return True

    def _grow(self, map_bytes: int, limit: int, patience_s: float) -> bool:
        """Make the map that large, or as large as the limit. Whether it grew."""
        map_bytes = min(map_bytes, limit)
        return map_bytes > self._environment.map_bytes and self._resize(map_bytes, patience_s)

    def _resize(self, map_bytes: int, patience_s: float) -> bool:
        """Exchange the map (for one that holds what there is, at least). Whether it was done."""
        with self._gate.shut(patience_s) as alone:
            if not alone:
                return False
            try:
                self._environment.handle.set_mapsize(map_bytes)
            except lmdb.Error:  # no such address range; LMDB has given up the former one
                self._reopen()
                return False
        return True

    def _revive(self) -> None:
        """After a failed commit: open the environment again if LMDB has given it up."""
        try:
            self._environment.handle.begin().abort()
        except lmdb.Error:
            with self._gate.shut(_PATIENCE_S):
                self._reopen()

    def _reopen(self) -> None:
        self._unsettled = True
        self._environment.handle.close()
        with suppress(lmdb.Error):  # tried again before the next commit
            self._environment = Environment.open(
                self._directory.path, self._map_bytes, create=False
            )
            if self._environment.last_commit != self._last_commit:
                self._refusal = "a failed commit could not be taken back; restart this replica"
                self._environment.handle.close()

    def _settle(self) -> None:
        """Make sure that no power cut brings back a failed commit, before the next one."""
        self._revive()
        self._environment.rewrite_meta_pages()
        self._unsettled = False

    def _problem(self, error: lmdb.Error | OSError, batch: Batch) -> NoSpace | StorageFailed:
        code = error.errno if isinstance(error, OSError) else error.code
        short_write = code == errno.EIO and self._disk_is_full(batch)
        return write_problem(code, error, is_full=short_write)

    def _unreadable(self, error: lmdb.Error) -> StorageFailed:
        return StorageFailed(self._refusal or f"the data directory cannot be read: {error}")

    def _disk_is_full(self, batch: Batch) -> bool:
        free_bytes = shutil.disk_usage(self._directory.path).free
        return free_bytes < _footprint(batch, self._environment.page_bytes)


class LmdbSnapshot:
    """One read transaction. It costs a few microseconds, and no more however long the scan."""

    def __init__(self, store: LmdbStore) -> None:
        self._store = store
        self._ended = False

    def __enter__(self) -> Self:
        self._thread = self._store._gate.enter()
        try:
            environment = self._store._environment
            self._tables = environment.tables
            self._transaction = environment.handle.begin()
        except lmdb.Error as error:
            self._store._gate.leave(self._thread)
            raise self._store._unreadable(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._transaction.abort()
        self._store._gate.leave(self._thread)

    def get(self, table: Table, key: bytes) -> bytes | None:
        try:
            return longkeys.get(self._transaction, self._tables[table], key)
        except lmdb.Error as error:
            raise self._problem(error) from error

    def note(self) -> bytes | None:
        """The note as of this snapshot."""
        try:
            return self._transaction.get(_NOTE)
        except lmdb.Error as error:
            raise self._problem(error) from error

    def scan(
        self,
        table: Table,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        databases = self._tables[table]
        try:
            yield from longkeys.scan(self._transaction, databases, start, end, reverse=reverse)
        except lmdb.Error as error:
            raise self._problem(error) from error

    def page(
        self, table: Table, start: bytes, end: bytes | None, most: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        databases = self._tables[table]
        try:
            return longkeys.page(self._transaction, databases, start, end, most, reverse=reverse)
        except lmdb.Error as error:
            raise self._problem(error) from error

    def _problem(self, error: lmdb.Error) -> StorageFailed:
        if self._ended:
            return StorageFailed("the snapshot has ended; take a new one")
        return self._store._unreadable(error)


def _footprint(batch: Batch, page_bytes: int) -> int:
    """Bytes of fresh pages that a batch may take: at worst each entry changes a page of its own."""
    return sum(
        page_bytes * len(changes)
        + sum(map(len, changes))
        + sum(map(len, filter(None, changes.values())))
        for changes in batch.values()
    )


def _is_damage(error: lmdb.Error | OSError) -> bool:
    """LMDB's own codes are negative; the others are the system's."""
    return isinstance(error, lmdb.Error) and error.code < 0
