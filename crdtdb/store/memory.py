"""A store in memory, for tests, simulations and throw-away replicas. Nothing survives the process.

The tables hold the newest state. An open snapshot keeps the *former* values of what was changed
since it began (its undo maps), so a commit without open snapshots costs nothing extra, and one
with them costs a dictionary entry per changed key and snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import groupby, islice
from threading import Lock
from typing import Self

from sortedcontainers import SortedDict

from crdtdb.errors import StorageFailed
from crdtdb.store.base import Batch, StoreStats, Table, check_keys

__all__ = ["MemorySnapshot", "MemoryStore"]

#: A scan reads ahead this many entries at first, then twice as many each time up to the greatest.
_FIRST_PAGE, _GREATEST_PAGE = 8, 512


class MemoryStore:
    """Sorted dictionaries with snapshots."""

    def __init__(self, location: bytes = b"memory") -> None:
        self.location = location
        self._tables: dict[Table, SortedDict[bytes, bytes]] = {t: SortedDict() for t in Table}
        self._snapshots: set[MemorySnapshot] = set()
        self._lock = Lock()
        self._closed = False

    def copy(self, location: bytes | None = None) -> MemoryStore:
        """A store of its own with the same contents: what a crash now would leave behind."""
        twin = MemoryStore(self.location if location is None else location)
        with self._lock:
            twin._tables = {table: entries.copy() for table, entries in self._tables.items()}
        return twin

    def snapshot(self) -> MemorySnapshot:
        self._check_open()
        return MemorySnapshot(self._tables, self._snapshots, self._lock)

    def commit(self, batch: Batch) -> None:
        check_keys(batch)
        with self._lock:
            self._check_open()
            for table, changes in batch.items():
                entries = self._tables[table]
                for view in self._snapshots:
                    view.keep(table, changes)
                for key, value in changes.items():
                    if value is None:
                        entries.pop(key, None)
                    else:
                        entries[key] = value

    def stats(self) -> StoreStats:
        with self._lock:
            self._check_open()
            used = sum(
                len(key) + len(value)
                for entries in self._tables.values()
                for key, value in entries.items()
            )
            counts = {table: len(entries) for table, entries in self._tables.items()}
        return StoreStats(used_bytes=used, file_bytes=used, map_bytes=0, entries=counts)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._snapshots.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageFailed("the store is closed; open it again")


class MemorySnapshot:
    """The state when the snapshot began: the newest tables, minus what came since."""

    def __init__(
        self,
        tables: dict[Table, SortedDict[bytes, bytes]],
        alive: set[MemorySnapshot],
        lock: Lock,
    ) -> None:
        self._tables = tables
        self._alive = alive
        self._lock = lock
        self._undo: dict[Table, SortedDict[bytes, bytes | None]] = {}

    def __enter__(self) -> Self:
        with self._lock:
            self._alive.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._alive.discard(self)
            self._undo.clear()

    def keep(self, table: Table, changes: dict[bytes, bytes | None]) -> None:
        """Before `changes` are applied: remember what was there (the first time it is changed)."""
        entries = self._tables[table]
        undo = self._undo.setdefault(table, SortedDict())
        for key in changes:
            if key not in undo:
                undo[key] = entries.get(key)

    def get(self, table: Table, key: bytes) -> bytes | None:
        with self._lock:
            self._check_alive()
            return self._value(table, key)

    def scan(
        self,
        table: Table,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        size = _FIRST_PAGE
        more = True
        while more:
            with self._lock:
                self._check_alive()
                keys = list(islice(self._keys(table, start, end, reverse), size))
                page = [(key, self._value(table, key)) for key in keys]
            for key, value in page:
                if value is not None:
                    yield key, value
                    self._check_alive()
            more = len(page) == size
            if more and reverse:
                end = keys[-1]
            elif more:
                start = keys[-1] + b"\0"
            size = min(2 * size, _GREATEST_PAGE)

    def _value(self, table: Table, key: bytes) -> bytes | None:
        undo = self._undo.get(table)
        if undo is not None and key in undo:
            former: bytes | None = undo[key]
            return former
        current: bytes | None = self._tables[table].get(key)
        return current

    def _keys(
        self, table: Table, start: bytes, end: bytes | None, reverse: bool
    ) -> Iterator[bytes]:
        """Every key that is or was there; those without a value are not part of the snapshot."""
        current: Iterator[bytes] = self._tables[table].irange(start, end, (True, False), reverse)
        undo = self._undo.get(table)
        if not undo:
            return current
        former = undo.irange(start, end, (True, False), reverse)
        return (key for key, _ in groupby(merge(current, former, reverse=reverse)))

    def _check_alive(self) -> None:
        if self not in self._alive:
            raise StorageFailed("the snapshot has ended; take a new one")
