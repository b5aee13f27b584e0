"""What a durable answer cannot do without: a commit of LMDB, and an exchange with bare aiohttp."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Final

import lmdb

from bare import bare_servers
from raw_http import Answer, Line

__all__ = ["BareLmdb", "Exchange", "exchange"]

_VALUE_BYTES: Final = 100
_KEY_BYTES: Final = 8
_MAP_BYTES: Final = 1 << 32


class BareLmdb:
    """LMDB with default flags: a commit syncs its data, and then the meta page."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._environment = lmdb.open(str(directory), map_size=_MAP_BYTES)

    def close(self) -> None:
        """Release the directory."""
        self._environment.close()

    def commit(self, random: Random, puts: int = 1) -> float:
        """So many puts of random keys in one durable commit; how long that took, in seconds."""
        items = [
            (random.randbytes(_KEY_BYTES), random.randbytes(_VALUE_BYTES)) for _ in range(puts)
        ]
        return self.put(items)

    def put(self, items: list[tuple[bytes, bytes]]) -> float:
        """These puts in one durable commit; how long that took, in seconds."""
        began = perf_counter()
        with self._environment.begin(write=True) as transaction:
            transaction.cursor().putmulti(items)
        return perf_counter() - began

    def get(self, key: bytes) -> float:
        """A transaction that reads one key; how long that took, in seconds."""
        began = perf_counter()
        with self._environment.begin() as transaction:
            transaction.get(key)
        return perf_counter() - began

    def page(self, start: bytes, entries: int) -> float:
        """A transaction whose cursor reads so many entries; how long that took, in seconds."""
        began = perf_counter()
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            cursor.set_range(start)
            list(islice(cursor.iternext(), entries))
        return perf_counter() - began


class Exchange:
    """One request and one answer over a connection on loopback."""

    def __init__(self, line: Line, message: bytes) -> None:
        self._line = line
        self._message = message

    def once(self) -> float:
        """How long one took, in seconds."""
        began = perf_counter()
        self._line.exchange(self._message)
        return perf_counter() - began


@contextmanager
def exchange(message: bytes, answer: Answer) -> Iterator[Exchange]:
    """An exchange of this request for this answer with bare aiohttp, while the block lasts."""
    with bare_servers([answer]) as bare, Line(bare.ports[0]) as line:
        yield Exchange(line, message)
