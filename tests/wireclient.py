"""A client for tests of the HTTP interface, which sends exactly the bytes it is told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from crdtdb.causal import VersionVector
from crdtdb_server.service import Service

__all__ = ["Reply", "Wire"]

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
        #: Fields of every `request`.
        self._always = dict(always or {})

    async def send(self, raw: bytes) -> Reply:
        """Send bytes; read until the server closes the connection."""
        reader, writer = await asyncio.open_connection(self.address, self.port)
        try:
            writer.write(raw)
            answer = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        fields = (line.partition(": ") for line in lines)
        return Reply(int(status.split()[1]), {n.lower(): v for n, _, v in fields}, body)

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
        fields = {"Host": f"127.0.0.1:{self.port}", "Connection": "close"} | self._always
        if body:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{name}: {value}" for name, value in (fields | given).items()]
        head = "\r\n".join((f"{method} {target} HTTP/1.1", *lines, "", ""))
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


def _named(headers: dict[str, str]) -> list[tuple[str, str]]:
    return [(name.replace("_", "-"), value) for name, value in headers.items()]
