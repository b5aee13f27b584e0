"""HTTP/1.1 as raw bytes: requests ready to send, answers taken apart, one blocking connection."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

__all__ = [
    "Answer",
    "Line",
    "answer_end",
    "answer_retry_s",
    "answer_status",
    "first_answer",
    "read_answer",
    "request",
]

_END_OF_HEAD: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\nContent-Length: "
_RETRY: Final = b"\r\nRetry-After: "
_LOOK_S: Final = 0.002


def request(
    method: str, path: str, document: Any = None, *, headers: tuple[tuple[str, str], ...] = ()
) -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    body = b""
    if document is not None:
        body = json.dumps(document, separators=(",", ":")).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode() + _END_OF_HEAD + body


def answer_end(data: bytes) -> int | None:
    """Where the first answer in the data ends; None while it is not there whole."""
    head = data.find(_END_OF_HEAD)
    if head < 0:
        return None
    at = data.index(_LENGTH, 0, head + 2) + len(_LENGTH)
    end = head + len(_END_OF_HEAD) + int(data[at : data.index(b"\r", at)])
    return end if len(data) >= end else None


def answer_status(data: bytes) -> int:
    """The status of the answer that the data begins with."""
    return int(data[9:12])


def answer_retry_s(data: bytes) -> int | None:
    """When to ask again, if the answer that the data begins with is a refusal that says so."""
    if answer_status(data) not in (429, 503):
        return None
    at = data.find(_RETRY, 0, data.index(_END_OF_HEAD) + 2)
    return None if at < 0 else int(data[at + len(_RETRY) : data.index(b"\r", at + 2)])


class Answer(NamedTuple):
    """One answer, taken apart."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, wanted: str) -> str:
        """The value of a header field that must be there."""
        return next(value for name, value in self.headers if name.lower() == wanted.lower())


class Line:
    """One keep-alive connection, one request at a time: the least a client can cost."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def exchange(self, message: bytes) -> bytes:
        """Send a request; the answer as it came. Raises RuntimeError if it is not a 200."""
        self.send(message)
        return self.receive()

    def send(self, message: bytes) -> None:
        """Send a request whose answer is received later."""
        self._socket.sendall(message)

    def receive(self) -> bytes:
        """The answer as it came. Raises RuntimeError if it is not a 200."""
        data = self._socket.recv(65_536)
        while (end := answer_end(data)) is None:
            part = self._socket.recv(65_536)
            if not part:
                raise RuntimeError("the server closed the connection")
            data += part
        assert end == len(data), "one answer per request"
        if answer_status(data) != 200:
            raise RuntimeError(f"the server answered {data!r}")
        return data

    def ask(self, message: bytes) -> Answer:
        """The same, with the answer taken apart."""
        return read_answer(self.exchange(message))


def first_answer(port: int, message: bytes, within_s: float) -> Line:
    """A connection over which a server that is about to start has given an answer.

    If that takes longer than ``within_s``, raises what its last attempt raised: OSError or
    RuntimeError.
    """
    deadline = monotonic() + within_s
    while True:
        with ExitStack() as held:
            try:
                line = held.enter_context(Line(port))
                line.exchange(message)
            except (OSError, RuntimeError):  # it does not listen yet, or does not serve
                if monotonic() > deadline:
                    raise
            else:
                held.pop_all()
                return line
        sleep(_LOOK_S)


def read_answer(data: bytes) -> Answer:
    """An answer, taken apart."""
    head, _, body = data.partition(_END_OF_HEAD)
    status_line, *lines = head.decode().split("\r\n")
    fields = [line.partition(": ") for line in lines]
    headers = tuple((name, value) for name, _, value in fields)
    return Answer(int(status_line.split()[1]), headers, body)
