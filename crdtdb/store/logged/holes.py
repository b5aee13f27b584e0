"""Where deletions have left holes in the tables, so that they are packed when nobody writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from crdtdb.store.base import Table
from crdtdb.store.lmdb import LmdbStore

__all__ = ["Holes"]

#: A table is packed when a quarter as many entries have gone as there are.
_PART: Final = 4


class _Range(NamedTuple):
    """So many entries have gone, from the first of these keys to the last."""

    gone: int
    first: bytes
    last: bytes


class Holes:
    """What has gone since a table was packed, as far as this process knows.

    A few bytes for a table. Whatever is forgotten with the process, `compact` finds.
    """

    def __init__(self, least: int) -> None:
        """Fewer than `least` entries of a table are not worth it."""
        self._least = least
        self._ranges: dict[Table, _Range] = {}
        #: The table that is being packed, and where the next run ends.
        self._packing: tuple[Table, bytes, bytes | None] | None = None

    def note(self, batch: Mapping[Table, Mapping[bytes, bytes | None]]) -> None:
        """These changes have been put in place. O(entries)."""
        for table, changes in batch.items():
            keys = [key for key, value in changes.items() if value is None]
            if keys:
                gone, *edges = self._ranges.get(table, (0,))
                edges += min(keys), max(keys)
                self._ranges[table] = _Range(gone + len(keys), min(edges), max(edges))

    def are_due(self, tables: LmdbStore) -> bool:
        """Is there something to pack in these tables? Raises StorageFailed."""
        if self._packing is None and self._ranges:
            entries = tables.stats().entries
            for table, (gone, first, last) in self._ranges.items():
                if gone >= self._least and _PART * gone >= entries[table]:
                    del self._ranges[table]
                    self._packing = table, first, last + b"\1"
                    break
        return self._packing is not None

    def pack(self, tables: LmdbStore) -> None:
        """Pack some of what is due; no more of it, if that raises NoSpace or StorageFailed."""
        assert self._packing is not None, "only what is due is packed"
        (table, start, end), self._packing = self._packing, None
        following = tables.pack(table, start, end)
        if following is not None:
            self._packing = table, start, following
