"""A way to a replica on which single exchanges break, before or after the replica got the request.

What it does with each connection is said in advance; every connection is one exchange.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from threading import Thread
from urllib.parse import urlsplit

__all__ = ["Cutting", "Fate", "cutting", "whole_request"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Fate(Enum):
    """What becomes of an exchange."""

    PASSES = "passes"
    #: The replica never gets it.
    REQUEST_LOST = "request lost"
    #: The replica carries it out, and nobody hears of it.
    ANSWER_LOST = "answer lost"


class Cutting:
    """Listens in front of a replica."""

    def __init__(self, behind: str, fates: Iterable[Fate]) -> None:
        self._behind = urlsplit(behind)
        self._fates = iter(fates)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        #: What became of the exchanges so far.
        self.exchanges: list[Fate] = []

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            with connection:
                if request := whole_request(connection):
                    fate = next(self._fates, Fate.PASSES)
                    self.exchanges.append(fate)
                    if fate is not Fate.REQUEST_LOST:
                        answer = self._carry(request)
                        if fate is Fate.PASSES:
                            connection.sendall(answer)

    def close(self) -> None:
        # Wakes the thread that waits in `accept`, which `close` alone does not.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _carry(self, request: bytes) -> bytes:
        """What the replica answers, all of it."""
        request = request.replace(b"Connection: keep-alive", b"Connection: close", 1)
        assert self._behind.hostname is not None
        parts: list[bytes] = []
        with socket.create_connection((self._behind.hostname, self._behind.port or 80)) as replica:
            replica.sendall(request)
            while part := replica.recv(65_536):
                parts.append(part)
        return b"".join(parts)


def whole_request(connection: socket.socket) -> bytes:
    """One request, whole; nothing if the caller leaves before."""
    request = b""
    while True:
        head, end, body = request.partition(b"\r\n\r\n")
        if end:
            length = _LENGTH.search(head)
            if len(body) >= (int(length[1]) if length else 0):
                return request
        part = connection.recv(65_536)
        if not part:
            return b""
        request += part


@contextmanager
def cutting(behind: str, fates: Iterable[Fate]) -> Iterator[Cutting]:
    """A way to the replica at that URL, on which exchanges have these fates, then none."""
    way = Cutting(behind, fates)
    thread = Thread(target=way.run, name="cutting")
    thread.start()
    try:
        yield way
    finally:
        way.close()
        thread.join()
