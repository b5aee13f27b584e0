"""Between a socket and aiohttp: what arrives is handed on in slices, and has to begin some time.

A parser that is given a lot at once keeps all others waiting. A hundred thousand chunks of one byte
are legal HTTP, fit into a few reads of a socket, and take a parser much longer than as many bytes
in one piece. Between two slices the event loop has its turn. A head that never ends would keep its
connection for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast

__all__ = ["Sliced"]

#: For the first head of a connection to arrive whole. (For later ones, aiohttp sees to it.)
HEAD_S: Final = 30.0

SLICE_BYTES: Final = 16 * 1024


class Sliced(asyncio.Protocol):
    """Stands between a transport and a protocol."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        #: Slices that wait for their turn.
        self._waiting: deque[bytes] = deque()
        #: Runs until a request has begun.
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._patience = self._loop.call_later(HEAD_S, connection.abort)
        self._protocol.connection_made(transport)

    def begin(self) -> None:
        """A head has arrived."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def data_received(self, data: bytes) -> None:
        if len(data) <= SLICE_BYTES and not self._waiting:
            self._protocol.data_received(data)
            return
        if not self._waiting:
            self._loop.call_soon(self._hand_on)
        starts = range(0, len(data), SLICE_BYTES)
        self._waiting.extend([data[start : start + SLICE_BYTES] for start in starts])

    def _hand_on(self) -> None:
        if self._waiting:  # else the connection has ended
            self._protocol.data_received(self._waiting.popleft())
        if self._waiting:
            self._loop.call_soon(self._hand_on)

    def eof_received(self) -> bool | None:
        while self._waiting:
            self._protocol.data_received(self._waiting.popleft())
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.clear()
        self.begin()
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
