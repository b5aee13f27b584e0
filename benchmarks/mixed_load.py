"""A mixed load from one process: at every replica a writer that waits for each answer."""

from __future__ import annotations

import asyncio
from random import Random
from time import perf_counter
from typing import Final, NamedTuple

from crdtdb.errors import CrdtdbError
from crdtdb_client import AsyncClient, Unreachable
from crdtdb_client.calls import Collected
from ledger import SHARED, Ledger, Write, progress_key

__all__ = ["BUCKET", "Asked", "Writer"]

BUCKET: Final = "bench"
#: Begin an operation so often, if the one before is done.
_EVERY_S: Final = 0.01
_TIMEOUT_S: Final = 5.0


class Asked(NamedTuple):
    """One operation of a client."""

    answered: bool
    seconds: float


class Writer:
    """The client of one replica, which it never leaves."""

    def __init__(self, replica: str, url: str, ledger: Ledger, random: Random) -> None:
        self.replica = replica
        self.asked: list[Asked] = []
        #: Reads that did not show what this session had written.
        self.unread: list[str] = []
        self._client = AsyncClient(url, timeout_s=_TIMEOUT_S, patience_s=0)
        self._ledger = ledger
        self._random = random
        self._number = 0
        self._mine: list[str] = []

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def work(self, stop: asyncio.Event) -> None:
        """One operation after the other until told to stop."""
        while not stop.is_set():
            began = perf_counter()
            write = self._next()
            answered = await (self._read() if write is None else self._write(write))
            took_s = perf_counter() - began
            self.asked.append(Asked(answered, took_s))
            await asyncio.sleep(max(0.0, _EVERY_S - took_s))

    def _next(self) -> Write | None:
        """What to write next; None: read."""
        self._number += 1
        name = f"{self.replica}-{self._number}"
        draw = self._random.random()
        if draw < 0.25:
            return None
        if draw < 0.55:
            by = self._random.choice((-3, -1, 1, 2, 5))
            return Write(self.replica, "count", SHARED, by)
        if draw < 0.75:
            return Write(self.replica, "add", SHARED, name)
        if draw < 0.85 and self._mine:
            member = self._mine.pop(self._random.randrange(len(self._mine)))
            return Write(self.replica, "remove", SHARED, member)
        key = self._random.choice((SHARED, f"of-{self.replica}"))
        return Write(self.replica, "set", key, name)

    async def _write(self, write: Write) -> bool:
        try:
            async with self._client.transaction() as tx:
                _update(tx, write)
                tx.counter(BUCKET, progress_key(self.replica)).increment()
        except Unreachable:
            return False  # nothing was written
        except CrdtdbError:
            self._ledger.note(write._replace(acknowledged=False), perf_counter())
            return False
        self._ledger.note(write, perf_counter())
        if write.kind == "add":
            self._mine.append(str(write.value))
        return True

    async def _read(self) -> bool:
        written = len(self._ledger.answered_s[self.replica])
        try:
            shown = await self._client.counter(BUCKET, progress_key(self.replica)).get()
        except CrdtdbError:
            return False
        if shown.value < written:
            self.unread.append(f"{self.replica} shows {shown.value} of its {written} own writes")
        return True


def _update(tx: Collected, write: Write) -> None:
    match write.kind, write.value:
        case "count", int(by) if by > 0:
            tx.counter(BUCKET, write.key).increment(by)
        case "count", int(by):
            tx.counter(BUCKET, write.key).decrement(-by)
        case "add", member:
            tx.set(BUCKET, write.key).add(member)
        case "remove", member:
            tx.set(BUCKET, write.key).remove(member)
        case "set", value:
            tx.register(BUCKET, write.key).set(value)
