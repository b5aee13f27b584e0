"""How many connections there may be: one too many is told so, and ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from crdtdb.causal import NOTHING
from crdtdb.errors import Field, Overloaded
from crdtdb_server.problems import problem_answer

__all__ = ["Doors"]


class Doors:
    """Makes the protocol of each connection, while there are not too many."""

    def __init__(
        self, make: Callable[[], asyncio.Protocol], count: Callable[[], int], most: int
    ) -> None:
        """`count` says how many there are. O(1), or about."""
        self._make = make
        self._count = count
        self._most = most

    def __call__(self) -> asyncio.Protocol:
        return self._make() if self._count() < self._most else _Turned(self._most)


class _Turned(asyncio.Protocol):
    """Answers whatever will be asked, and ends."""

    def __init__(self, most: int) -> None:
        self._most = most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        answer = problem_answer(
            Overloaded(
                f"{self._most} connections are open here; use fewer, ask another replica, or later",
                Field("", "too many connections", self._most),
            ),
            NOTHING,
        )
        fields = (("Content-Type", answer.media_type), *answer.headers, ("Connection", "close"))
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        status = f"HTTP/1.1 {answer.status} {Overloaded.title}\r\n"
        connection = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        connection.write(f"{status}{head}Content-Length: {len(answer.body)}\r\n\r\n".encode())
        connection.write(answer.body)
        connection.close()
