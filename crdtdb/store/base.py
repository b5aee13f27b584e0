"""What a store is: ordered tables of bytes, consistent snapshots, one atomic durable batch.

The engine is the only caller. A store knows nothing of records, types or replication, so that a
backend is one file and the same suite (`tests/store/test_conformance.py`) proves each of them.

Threads: one `commit` at a time, which the caller guarantees; snapshots may be taken in any thread,
also while a commit runs. A thread that holds a snapshot must not wait for a commit of another
thread: that commit may be waiting for the snapshot to end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

__all__ = [
    "KEY_BYTES",
    "WRITTEN_ONCE",
    "Batch",
    "Snapshot",
    "Store",
    "StoreStats",
    "Table",
    "behind",
    "check_keys",
]

#: The longest key. Addresses of the longest bucket, key and member stay far below it.
KEY_BYTES = 65_536


class Table(Enum):
    """The tables of a replica. The values are their names on disk, so they never change."""

    #: Address → record.
    RECORDS = "records"
    #: Local sequence number → address of the record that changed last then. A number is given
    #: once: what was deleted is never put again.
    SEQUENCE = "sequence"
    #: Object → what listings and sizes need, in O(1).
    HEADS = "heads"
    #: Object → the materialised value of its folded operations.
    FOLDED = "folded"
    #: Number of a conflict seen here → what lost, and to what.
    CONFLICTS = "conflicts"
    #: Address → record that a pull has brought, until its donor claims (`replication.staging`).
    STAGED = "staged"
    #: The replica's own facts: identity, version vector, clock.
    META = "meta"

    #: Every lookup of a table hashes it, and `Enum` does that in Python.
    __hash__ = object.__hash__


#: Tables whose keys are never given again once they were deleted, so a store may forget a deletion
#: together with the entry that it deletes.
WRITTEN_ONCE: Final = frozenset({Table.SEQUENCE})

#: Changes that take effect together: key → new value, or `None` to delete.
Batch = dict[Table, dict[bytes, bytes | None]]


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How full a store is."""

    #: Bytes in use by entries, with the backend's own overhead.
    used_bytes: int
    #: Bytes of the backing files, with the space in them that is free to be used again.
    file_bytes: int
    #: Address space set aside for the files (it grows by itself); 0 where there is no such thing.
    map_bytes: int
    #: Entries of each table; a backend may count a long key twice, or one that it is moving.
    entries: Mapping[Table, int]


class Snapshot(Protocol):
    """One consistent state: later commits do not show. Using it after its end: `StorageFailed`."""

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value at `key`, or `None`."""
        ...

    def scan(
        self,
        table: Table,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Entries with start ≤ key < end in byte order (descending if `reverse`), lazily."""
        ...

    def page(
        self, table: Table, start: bytes, end: bytes | None, most: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """The first `most` entries of that scan, at once; fewer only if there are no more."""
        ...


class Store(Protocol):
    """A replica's storage."""

    @property
    def location(self) -> bytes:
        """Where this store is. A copied directory has another one: its identity must not go on."""
        ...

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A consistent view, ended at exit. Keep it short: it holds back space and growth."""
        ...

    def commit(self, batch: Batch) -> None:
        """Apply all of `batch`, durably on return.

        Raises `NoSpace` or `StorageFailed` with nothing applied; repeating it later may succeed.
        Raises `ValueError` for an empty key or one longer than `KEY_BYTES`.
        """
        ...

    def commit_in_order(self, batch: Batch) -> None:
        """As `commit`, one of many whose keys are neighbours while nobody else writes.

        Nothing is won by gathering such batches in memory before they are put in place.
        """
        ...

    @property
    def is_congested(self) -> bool:
        """Will the next commits wait for work of the store's own? An event loop must not, then."""
        ...

    def stats(self) -> StoreStats:
        """How full this store is now."""
        ...

    def close(self) -> None:
        """Release everything. Idempotent; using the store afterwards raises `StorageFailed`."""
        ...


def behind(
    last: bytes, start: bytes, end: bytes | None, *, reverse: bool
) -> tuple[bytes, bytes | None]:
    """The bounds of what is left of a scan that has come to the key `last`."""
    return (start, last) if reverse else (last + b"\0", end)


def check_keys(batch: Batch) -> None:
    """Refuse a batch that no store could hold, before anything is written."""
    for changes in batch.values():
        longest = max(map(len, changes), default=1)
        if b"" in changes or longest > KEY_BYTES:
            raise ValueError(f"a key of {longest} bytes or none; stores take 1 to {KEY_BYTES}")
