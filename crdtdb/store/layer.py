"""A layer: tables in memory that change batch by batch while views of them stand still.

`MemoryStore` is one such layer; `LoggedStore` lays up to two of them over tables on disk, where a
deletion has to be an entry of its own, which hides what lies below.

A view keeps the *former* values of what was changed since it began, so a batch without open views
costs nothing extra, and one with them a dictionary entry per changed key and view. Keys are put
in order when somebody scans, and then only those that came or went since the last scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from heapq import merge
from itertools import groupby, islice, repeat
from threading import Lock
from typing import Final, cast

from sortedcontainers import SortedList

from crdtdb.errors import StorageFailed
from crdtdb.store.base import WRITTEN_ONCE, Batch, Table, behind

__all__ = [
    "ABSENT",
    "FIRST_PAGE",
    "GREATEST_PAGE",
    "Absent",
    "Layer",
    "View",
    "ended",
]

#: A scan reads ahead this many entries at first, then twice as many each time up to the greatest.
FIRST_PAGE, GREATEST_PAGE = 8, 512
#: What an entry takes in memory beside its bytes: two objects and a place in a dictionary.
_ENTRY_BYTES = 160


class Absent(Enum):
    """The layer says nothing about a key."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
_NOTHING: Final[dict[bytes, bytes | Absent | None]] = {}


class _Column:
    """One table of a layer."""

    __slots__ = ("count", "moved", "order", "values")

    def __init__(self) -> None:
        self.values: dict[bytes, bytes | None] = {}
        #: Those that are no marks of deletion.
        self.count = 0
        #: The keys as of the last scan.
        self.order: SortedList[bytes] = SortedList()
        #: Keys that came or went since then → were they there?
        self.moved: dict[bytes, bool] = {}

    def settle(self) -> None:
        """Bring the order up to date. O(k log n) for k keys that came or went."""
        came: list[bytes] = []
        for key, was_there in self.moved.items():
            if key not in self.values:
                if was_there:
                    self.order.remove(key)
            elif not was_there:
                came.append(key)
        self.order.update(came)
        self.moved.clear()


class Layer:
    """Tables with views. One `apply` at a time; views may be used in any thread meanwhile."""

    def __init__(self, *, marks_deletions: bool) -> None:
        self._marks_deletions = marks_deletions
        self._columns = {table: _Column() for table in Table}
        self._views: set[View] = set()
        self._lock = Lock()
        self._closed = False
        #: What it takes in memory, roughly.
        self.size_bytes = 0

    def __len__(self) -> int:
        """Entries, marks of deletion included."""
        return sum(len(column.values) for column in self._columns.values())

    def entries(self, table: Table) -> dict[bytes, bytes | None]:
        """All entries of a table, in no order; `None` is a mark of deletion. Not to be changed."""
        return self._columns[table].values

    def count(self, table: Table) -> int:
        """Entries of a table, without marks of deletion."""
        return self._columns[table].count

    def copy(self) -> Layer:
        """A layer of its own with the same contents."""
        twin = Layer(marks_deletions=self._marks_deletions)
        with self._lock:
            for table, column in self._columns.items():
                twin._columns[table].values = column.values.copy()
                twin._columns[table].count = column.count
                twin._columns[table].moved = dict.fromkeys(column.values, False)
            twin.size_bytes = self.size_bytes
        return twin

    def view(self) -> View:
        """What stands here now, until its `end`."""
        view = View(self)
        with self._lock:
            self.check_open()
            self._views.add(view)
        return view

    def apply(self, batch: Batch) -> None:
        """Take in all changes of a batch; open views do not see them."""
        with self._lock:
            self.check_open()
            for table, changes in batch.items():
                column = self._columns[table]
                values, moved = column.values, column.moved
                for view in self._views:
                    view.keep(table, changes)
                olds = list(map(values.get, changes, repeat(ABSENT)))
                if not (ABSENT in olds or None in olds or None in changes.values()):
                    new_bytes = sum(map(len, cast(Iterable[bytes], changes.values())))
                    self.size_bytes += new_bytes - sum(map(len, cast(list[bytes], olds)))
                    values.update(changes)
                    continue
                forgets = not self._marks_deletions
                written_once = table in WRITTEN_ONCE
                count = size = 0
                for (key, value), old in zip(changes.items(), olds, strict=True):
                    if old is ABSENT:
                        if value is None and forgets:
                            continue
                        moved.setdefault(key, False)
                        size += _ENTRY_BYTES + len(key)
                    elif old is not None:
                        count -= 1
                        size -= len(old)
                        if value is None and (forgets or written_once):
                            del values[key]
                            moved.setdefault(key, True)
                            size -= _ENTRY_BYTES + len(key)
                            continue
                    if value is not None:
                        count += 1
                        size += len(value)
                    values[key] = value
                column.count += count
                self.size_bytes += size

    def retract(self, table: Table, keys: Iterable[bytes]) -> None:
        """Say nothing about these keys any more. Nobody may have a view."""
        with self._lock:
            assert not self._views, "a view would change"
            column = self._columns[table]
            for key in keys:
                value = column.values.pop(key, ABSENT)
                if value is not ABSENT:
                    column.moved.setdefault(key, True)
                    column.count -= value is not None
                    self.size_bytes -= _ENTRY_BYTES + len(key) + len(value or b"")

    def close(self) -> None:
        """End all views; nothing can be done any more."""
        with self._lock:
            self._closed = True
            for view in self._views:
                view.has_ended = True
            self._views.clear()

    def check_open(self) -> None:
        """Raises StorageFailed after `close`."""
        if self._closed:
            raise StorageFailed("the store is closed; open it again")


class View:
    """The state of a layer when the view began. Using it after its end: `StorageFailed`."""

    __slots__ = ("_columns", "_layer", "_undo", "has_ended")

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._columns = layer._columns
        self._undo: dict[Table, dict[bytes, bytes | Absent | None]] = {}
        self.has_ended = False

    def end(self) -> None:
        """The layer need no longer remember anything for this view. Idempotent."""
        with self._layer._lock:
            self._layer._views.discard(self)
            self.has_ended = True

    def keep(self, table: Table, changes: dict[bytes, bytes | None]) -> None:
        """Before `changes` are applied: remember what was there (the first time it is changed)."""
        values = self._columns[table].values
        undo = self._undo.setdefault(table, {})
        for key in changes:
            if key not in undo:
                undo[key] = values.get(key, ABSENT)

    def get(self, table: Table, key: bytes) -> bytes | Absent | None:
        """What the layer says about a key; `None`: it was deleted here."""
        if self.has_ended:
            raise ended()
        # A value is remembered before it changes: whoever sees the new one finds the former, too.
        value = self._columns[table].values.get(key, ABSENT)
        undo = self._undo.get(table)
        if undo is not None:
            return undo.get(key, value)
        return value

    def scan(
        self, table: Table, start: bytes, end: bytes | None, *, reverse: bool
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """Entries with start ≤ key < end in byte order (descending if `reverse`), lazily."""
        size = FIRST_PAGE
        more = True
        while more:
            page = self.page(table, start, end, size, reverse=reverse)
            for entry in page:
                yield entry
                if self.has_ended:
                    raise ended()
            more = len(page) == size
            if more:
                start, end = behind(page[-1][0], start, end, reverse=reverse)
            size = min(2 * size, GREATEST_PAGE)

    def page(
        self, table: Table, start: bytes, end: bytes | None, most: int, *, reverse: bool
    ) -> list[tuple[bytes, bytes | None]]:
        """The first `most` entries of that scan, at once; fewer only if there are no more."""
        found: list[tuple[bytes, bytes | None]] = []
        more = True
        while more and len(found) < most:
            with self._layer._lock:
                if self.has_ended:
                    raise ended()
                keys = list(islice(self._keys(table, start, end, reverse), most))
                former = self._undo.get(table, _NOTHING)
                values = map(self._columns[table].values.get, keys, repeat(ABSENT))
                page = zip(keys, map(former.get, keys, values) if former else values, strict=True)
                found += [(key, value) for key, value in page if value is not ABSENT]
            more = len(keys) == most
            if more:
                start, end = behind(keys[-1], start, end, reverse=reverse)
        return found[:most]

    def _keys(
        self, table: Table, start: bytes, end: bytes | None, reverse: bool
    ) -> Iterator[bytes]:
        """Every key that is or was there; those without an entry are not part of the view."""
        column = self._columns[table]
        if not column.values and not self._undo:
            return iter(())
        if column.moved:
            column.settle()
        current: Iterator[bytes] = column.order.irange(start, end, (True, False), reverse)
        undo = self._undo.get(table)
        if not undo:
            return current
        former = [key for key in undo if start <= key and (end is None or key < end)]
        former.sort(reverse=reverse)
        return (key for key, _ in groupby(merge(current, former, reverse=reverse)))


def ended() -> StorageFailed:
    """Why a view can no longer be used."""
    return StorageFailed("the snapshot has ended; take a new one")
