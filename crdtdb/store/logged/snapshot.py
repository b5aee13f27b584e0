"""One consistent state, from the layers in memory and the tables below them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Self

from crdtdb.store.base import Table
from crdtdb.store.layer import ABSENT, View
from crdtdb.store.lmdb import LmdbSnapshot

__all__ = ["LoggedSnapshot"]


class LoggedSnapshot:
    """The newest layer that says something about a key is right; else the tables are."""

    __slots__ = ("_begin", "_below", "_newer", "_older")

    _newer: View
    #: Of the layer that is being folded, if one is.
    _older: View | None
    _below: LmdbSnapshot

    def __init__(self, begin: Callable[[], tuple[View, View | None, LmdbSnapshot]]) -> None:
        """`begin` begins all parts, as of one moment."""
        self._begin = begin

    def __enter__(self) -> Self:
        self._newer, self._older, self._below = self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._newer.end()
        if self._older is not None:
            self._older.end()
        self._below.__exit__()

    def get(self, table: Table, key: bytes) -> bytes | None:
        value = self._newer.get(table, key)
        if value is ABSENT and self._older is not None:
            value = self._older.get(table, key)
        return self._below.get(table, key) if value is ABSENT else value

    def scan(
        self,
        table: Table,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        found: Iterator[tuple[bytes, bytes | None]]
        found = self._below.scan(table, start, end, reverse=reverse)
        for view in (self._older, self._newer):
            if view is not None:
                found = _over(view.scan(table, start, end, reverse=reverse), found, reverse=reverse)
        for key, value in found:
            if value is not None:
                yield key, value


def _over(
    upper: Iterator[tuple[bytes, bytes | None]],
    lower: Iterator[tuple[bytes, bytes | None]],
    *,
    reverse: bool,
) -> Iterator[tuple[bytes, bytes | None]]:
    """Both in order; where they have the same key, the upper one's value."""
    above = next(upper, None)
    if above is None:
        yield from lower
        return
    for entry in lower:
        while above is not None and above[0] != entry[0] and (above[0] < entry[0]) != reverse:
            yield above
            above = next(upper, None)
        if above is not None and above[0] == entry[0]:
            yield above
            above = next(upper, None)
        else:
            yield entry
    if above is not None:
        yield above
        yield from upper
