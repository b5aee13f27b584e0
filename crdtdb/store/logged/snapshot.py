"""One consistent state, from the layers in memory and the tables below them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Self, cast

from crdtdb.store.base import Table, behind
from crdtdb.store.layer import (
    ABSENT,
    FIRST_PAGE,
    GREATEST_PAGE,
    View,
    ended,
)
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
        found: list[tuple[bytes, bytes]] = []
        size = most
        while True:
            below = self._below.page(table, start, end, size, reverse=reverse)
            stops: list[bytes] = []
            low, high = start, end
            if len(below) == size:  # what the layers say beyond its end is for later
                stops.append(below[-1][0])
                low, high = _up_to(below[-1][0], start, end, reverse=reverse)
            above = [
                view.page(table, low, high, size, reverse=reverse)
                for view in (self._older, self._newer)
                if view is not None
            ]
            # Where a part is full there may be more of it: up to there, all that is said is known.
            stops += [part[-1][0] for part in above if len(part) == size]
            stop = (max if reverse else min)(stops) if stops else None
            found += _laid_over(below, above, stop, reverse=reverse) if any(above) else below
            if stop is None or len(found) >= most:
                return found[:most] if len(found) > most else found
            start, end = behind(stop, start, end, reverse=reverse)
            size = min(2 * size, GREATEST_PAGE)


def _up_to(
    last: bytes, start: bytes, end: bytes | None, *, reverse: bool
) -> tuple[bytes, bytes | None]:
    """The bounds of a part of a scan that ends with the key `last`."""
    return (last, end) if reverse else (start, last + b"\0")


def _laid_over(
    below: list[tuple[bytes, bytes]],
    above: list[list[tuple[bytes, bytes | None]]],
    stop: bytes | None,
    *,
    reverse: bool,
) -> list[tuple[bytes, bytes]]:
    """In order, up to `stop`: what the last part with something to say of a key says."""
    said: dict[bytes, bytes | None] = dict(below)
    for part in above:
        said.update(part)
    keys = sorted(said, reverse=reverse)
    if stop is not None and keys[-1] != stop:
        keys = [key for key in keys if (key >= stop if reverse else key <= stop)]
    values = list(map(said.get, keys))
    if None not in values:
        return list(zip(keys, cast(list[bytes], values), strict=True))
    return [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
