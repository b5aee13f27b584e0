"""One state, from layers in memory and what lies below them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, cast

from crdtdb.store.base import Snapshot, Table, behind
from crdtdb.store.layer import ABSENT, FIRST_PAGE, GREATEST_PAGE, View, ended

__all__ = ["Overlaid", "page_over"]


class Overlaid:
    """A snapshot with a layer over it: what the layer says of a key hides what lies below."""

    __slots__ = ("_below", "_view")

    def __init__(self, view: View, below: Snapshot) -> None:
        """Both must last as long as this is used."""
        self._view: Final = view
        self._below: Final = below

    def get(self, table: Table, key: bytes) -> bytes | None:
        value = self._view.get(table, key)
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
                if self._view.has_ended:
                    raise ended()
            more = len(page) == size
            if more:
                start, end = behind(page[-1][0], start, end, reverse=reverse)
            size = min(2 * size, GREATEST_PAGE)

    def page(
        self, table: Table, start: bytes, end: bytes | None, most: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        return page_over([self._view], self._below, table, start, end, most, reverse=reverse)


def page_over(
    views: Sequence[View],
    below: Snapshot,
    table: Table,
    start: bytes,
    end: bytes | None,
    most: int,
    *,
    reverse: bool,
) -> list[tuple[bytes, bytes]]:
    """A page (see `Snapshot.page`) of what is below with views, the newest last, over it."""
    found: list[tuple[bytes, bytes]] = []
    size = most
    while True:
        beneath = below.page(table, start, end, size, reverse=reverse)
        stops: list[bytes] = []
        low, high = start, end
        if len(beneath) == size:  # what the layers say beyond its end is for later
            stops.append(beneath[-1][0])
            low, high = _up_to(beneath[-1][0], start, end, reverse=reverse)
        above = [view.page(table, low, high, size, reverse=reverse) for view in views]
        # Where a part is full there may be more of it: up to there, all that is said is known.
        stops += [part[-1][0] for part in above if len(part) == size]
        stop = (max if reverse else min)(stops) if stops else None
        found += _laid_over(beneath, above, stop, reverse=reverse) if any(above) else beneath
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
