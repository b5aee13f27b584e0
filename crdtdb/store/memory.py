"""A store in memory, for tests, simulations and throw-away replicas: gone with the process."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Self

from crdtdb.store.base import Batch, StoreStats, Table, check_keys
from crdtdb.store.layer import Layer, View

__all__ = ["MemorySnapshot", "MemoryStore"]


class MemoryStore:
    """One layer, with nothing below."""

    def __init__(self, location: bytes = b"memory") -> None:
        self.location = location
        self._layer = Layer(marks_deletions=False)

    def copy(self, location: bytes | None = None) -> MemoryStore:
        """A store of its own with the same contents: what a crash now would leave behind."""
        twin = MemoryStore(self.location if location is None else location)
        twin._layer = self._layer.copy()
        return twin

    def snapshot(self) -> MemorySnapshot:
        return MemorySnapshot(self._layer)

    def commit(self, batch: Batch) -> None:
        check_keys(batch)
        self._layer.apply(batch)

    def commit_in_order(self, batch: Batch) -> None:
        self.commit(batch)

    @property
    def is_congested(self) -> bool:
        return False

    def stats(self) -> StoreStats:
        self._layer.check_open()
        held = {table: self._layer.entries(table).copy() for table in Table}
        used = sum(
            len(key) + len(value or b"")
            for entries in held.values()
            for key, value in entries.items()
        )
        counts = {table: len(entries) for table, entries in held.items()}
        return StoreStats(used_bytes=used, file_bytes=used, map_bytes=0, entries=counts)

    def close(self) -> None:
        self._layer.close()


class MemorySnapshot:
    """A view of the layer, in which nothing that is absent says so."""

    __slots__ = ("_layer", "_view")

    _view: View

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    def __enter__(self) -> Self:
        self._view = self._layer.view()
        return self

    def __exit__(self, *_: object) -> None:
        self._view.end()

    def get(self, table: Table, key: bytes) -> bytes | None:
        value = self._view.get(table, key)
        return value if isinstance(value, bytes) else None

    def scan(
        self,
        table: Table,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._view.scan(table, start, end, reverse=reverse):
            assert value is not None, "deletions are not marked where nothing lies below"
            yield key, value

    def page(
        self, table: Table, start: bytes, end: bytes | None, most: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        return list(islice(self.scan(table, start, end, reverse=reverse), most))
