"""One consistent state, from the layers in memory and the tables below them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Self

from crdtdb.store.base import Table, behind
from crdtdb.store.layer import (
    ABSENT,
    FIRST_PAGE,
    GREATEST_PAGE,
    View,
    ended,
)
from crdtdb.store.lmdb import LmdbSnapshot
from crdtdb.store.overlaid import page_over

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
        size = FIRST_PAGE
        more = True
        while more:
            page = self.page(table, start, end, size, reverse=reverse)
            for entry in page:
                yield entry
                if self._newer.has_ended:
                    raise ended()
            more = len(page) == size
            if more:
                start, end = behind(page[-1][0], start, end, reverse=reverse)
            size = min(2 * size, GREATEST_PAGE)

    def page(
        self, table: Table, start: bytes, end: bytes | None, most: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        views = [self._newer] if self._older is None else [self._older, self._newer]
        return page_over(views, self._below, table, start, end, most, reverse=reverse)
