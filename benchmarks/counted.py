"""A store that counts what is asked of it: what a machine's speed does not change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from crdtdb.store.base import Batch, Table
from crdtdb.store.layer import Layer
from crdtdb.store.memory import MemorySnapshot, MemoryStore

__all__ = ["CountedStore"]


class CountedStore(MemoryStore):
    """A store in memory that counts what is asked of it."""

    def __init__(self, location: bytes, calls: Counter[str]) -> None:
        super().__init__(location)
        self._calls = calls

    def snapshot(self) -> MemorySnapshot:
        self._calls["snapshots"] += 1
        return _CountedSnapshot(self._layer, self._calls)

    def commit(self, batch: Batch) -> None:
        self._calls["commits"] += 1
        super().commit(batch)


class _CountedSnapshot(MemorySnapshot):
    """A snapshot that counts the entries that are looked at."""

    __slots__ = ("_calls",)

    def __init__(self, layer: Layer, calls: Counter[str]) -> None:
        super().__init__(layer)
        self._calls = calls

    def get(self, table: Table, key: bytes) -> bytes | None:
        self._calls["gets"] += 1
        return super().get(table, key)

    def scan(
        self,
        table: Table,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        self._calls["scans"] += 1
        for entry in super().scan(table, start, end, reverse=reverse):
            self._calls["entries scanned"] += 1
            yield entry
