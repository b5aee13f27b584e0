"""A client for tests of the HTTP interface, which sends exactly the bytes it is told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from crdtdb.causal import VersionVector
from crdtdb_server.service import Service

__all__ = ["Reply", "Wire", "WireAgain"]

_ABSENT: Any = object()


class Reply(NamedTuple):
    """What came back."""

    status: int
    #: By lower-case name.
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def token(self) -> str:
        return self.headers["crdtdb-context"]


class Wire:
    """One server; every request on a connection of its own."""

    def __init__(
        self,
        service: Service,
        port: int,
        address: str = "127.0.0.1",
        always: Mapping[str, str] | None = None,
    ) -> None:
        self.service = service
        self.port = port
        self.address = address
        #: The address of this end; None: any.
        self.source: str | None = None
        #: Fields of every `request`.
        self._always = dict(always or {})

    async def send(self, raw: bytes) -> Reply:
        """Send bytes; read until the server closes the connection."""
        here = None if self.source is None else (self.source, 0)
        reader, writer = await asyncio.open_connection(self.address, self.port, local_addr=here)
        try:
            writer.write(raw)
            answer = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        return _reply(head, body)

    async def request(
        self,
        method: str,
        target: str,
        document: Any = _ABSENT,
        *,
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
    ) -> Reply:
        """Send a request, with a JSON document or with bytes said to be one."""
        if document is not _ABSENT:
            body = json.dumps(document).encode()
        given = dict(headers)
        fields = {"Host": f"127.0.0.1:{self.port}"} | self._always
        if body:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{name}: {value}" for name, value in (fields | given).items()]
        return await self.ask(f"{method} {target} HTTP/1.1", lines, body)

    async def ask(self, line: str, fields: list[str], body: bytes) -> Reply:
        """Send a request line, with these fields and that body."""
        head = "\r\n".join((line, *fields, "Connection: close", "", ""))
        return await self.send(head.encode() + body)

    async def get(self, target: str, **headers: str) -> Reply:
        return await self.request("GET", target, headers=_named(headers))

    async def post(self, target: str, document: Any, **headers: str) -> Reply:
        return await self.request("POST", target, document, headers=_named(headers))

    async def put(self, target: str, document: Any) -> Reply:
        return await self.request("PUT", target, document)

    async def delete(self, target: str) -> Reply:
        return await self.request("DELETE", target)

    @property
    def state(self) -> tuple[VersionVector, int]:
        """What the replica has seen and shows: what a refused request must not change."""
        return self.service.seen, self.service.database.digest().digest


class WireAgain(Wire):
    """Asks for everything three times, over one connection, and takes the last answer.

    What is read twice may be kept, so the third answer is a kept one wherever that can be. Those
    about the same state of the object must say the same.
    """

    async def ask(self, line: str, fields: list[str], body: bytes) -> Reply:
        if not line.startswith(("GET ", "HEAD ")):
            return await super().ask(line, fields, body)
        request = "\r\n".join((line, *fields, "", "")).encode() + body
        reader, writer = await asyncio.open_connection(self.address, self.port)
        try:
            replies = []
            for _ in range(3):
                writer.write(request)
                replies.append(await self._answer(reader, has_body=line.startswith("GET ")))
                if replies[-1].headers.get("connection") == "close":
                    return replies[-1]
        finally:
            writer.close()
            await writer.wait_closed()
        last = _lasting(replies[-1])
        for reply in map(_lasting, replies):
            # Somebody else may have written in between.
            assert reply == last or reply.headers.get("etag") != last.headers.get("etag")
        return replies[-1]

    async def _answer(self, reader: asyncio.StreamReader, *, has_body: bool) -> Reply:
        head = await reader.readuntil(b"\r\n\r\n")
        reply = _reply(head.removesuffix(b"\r\n\r\n"), b"")
        length = int(reply.headers.get("content-length", 0)) if has_body else 0
        return reply._replace(body=await reader.readexactly(length))


def _lasting(reply: Reply) -> Reply:
    """What does not change from one answer to the next."""
    passing = {"date", "x-request-id"}
    fields = {name: value for name, value in reply.headers.items() if name not in passing}
    return reply._replace(headers=fields)


def _reply(head: bytes, body: bytes) -> Reply:
    status, *lines = head.decode().split("\r\n")
    fields = (line.partition(": ") for line in lines)
    return Reply(int(status.split()[1]), {n.lower(): v for n, _, v in fields}, body)


def _named(headers: dict[str, str]) -> list[tuple[str, str]]:
    return [(name.replace("_", "-"), value) for name, value in headers.items()]
