"""What is strict without being asked: slow callers, files that others may not read, redirects."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web

from crdtdb import Database
from crdtdb.store.memory import MemoryStore
from crdtdb_server import slices
from crdtdb_server.config import Settings
from crdtdb_server.dispatch import Dispatcher
from crdtdb_server.exchange import Incoming
from crdtdb_server.ports import free_ports
from crdtdb_server.routes import ROUTES
from crdtdb_server.serve import live
from crdtdb_server.service import Service
from livecluster import eventually
from wireclient import Wire

_HEAD = (
    b"POST /v1/buckets/shop/set/k HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\n"
    b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: 24\r\n\r\n"
)
_BODY = b'{"op":"add","value":"x"}'


@pytest.mark.parametrize(
    "begun", [b"GET /v1 HT", _HEAD[:-4], b"GET / HTTP/1.1\r\nX: " + b"x" * 9_000]
)
async def test_a_head_that_never_ends(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr("crdtdb_server.lane.PATIENCE_S", 0.01)
    monkeypatch.setattr(slices, "HEAD_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(begun)
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


async def test_who_is_slow_after_the_head_is_waited_for(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as for any body."""
    monkeypatch.setattr(slices, "HEAD_S", 0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(_HEAD)
    for byte in _BODY:
        writer.write(bytes((byte,)))
        await asyncio.sleep(0.025)
    assert (await reader.read())[:12] == b"HTTP/1.1 200"
    writer.close()


async def test_a_body_that_never_ends(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb_server.front._BODY_S", 0.05)
    before = wire.state
    reply = await wire.send(_HEAD + _BODY[:-1])
    assert (reply.status, reply.document["code"]) == (400, "bad-request")
    assert "did not arrive within" in reply.document["detail"]
    assert wire.state == before


async def test_an_answer_that_nobody_takes(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the fast lane: the connection is cut, and what waits behind it is not carried out."""
    monkeypatch.setattr("crdtdb_server.lane._TAKEN_S", 0.05)
    path = "/v1/buckets/shop/register/k"
    await wire.post(path, {"op": "set", "value": "x" * 1_000_000})
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port, limit=1_024)
    ask = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    writer.write(ask * 50)
    while not writer.transport.is_closing():
        writer.write(ask)  # a closed connection shows itself to who writes
        await asyncio.sleep(0.01)
    assert not reader.at_eof()
    writer.transport.abort()


async def test_a_refused_body_is_let_go(database: Database) -> None:
    """At once, not when the collector of cycles comes by: with large ones, that may be too late."""
    service = Service(database)
    dispatcher = Dispatcher(service, ROUTES)
    headers = {"host": "localhost", "content-type": "application/json"}
    kept: list[weakref.ref[Body]] = []

    async def refused() -> None:
        body = Body('{"op":"set","value":"%s"}' % ("x" * 1_100_000))
        kept.append(weakref.ref(body))
        incoming = Incoming("POST", "/v1/buckets/shop/register/k", headers, body)
        assert (await dispatcher.answer(incoming)).status == 413

    gc.collect()
    gc.disable()
    try:
        await refused()
        await asyncio.sleep(0)
        assert [one() for one in kept] == [None]
    finally:
        gc.enable()
    await service.writer.close()


class Body:
    """A body that arrives."""

    connection = None

    def __init__(self, text: str) -> None:
        self._text = text

    async def read(self, limit: int) -> bytes:
        return self._text.encode()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        yield self._text.encode()


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_only_its_user_reads_the_data(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "data"
    with Database.open(directory, replica="eu-1") as db:
        db.counter("shop", "views").increment(1)
        for made in (directory.parent, directory):
            assert made.stat().st_mode & 0o777 == 0o700
        assert any(directory.iterdir())


async def test_a_peer_that_sends_elsewhere_is_not_followed() -> None:
    """Neither is what it would be told, there."""
    lured: list[str] = []

    async def elsewhere(request: web.BaseRequest) -> web.Response:
        lured.append(request.path)
        return web.Response()

    target, fake, own = free_ports(3)

    async def redirect(request: web.BaseRequest) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"http://127.0.0.1:{target}{request.path}")

    runners = []
    for port, handler in ((target, elsewhere), (fake, redirect)):
        runners.append(web.ServerRunner(web.Server(handler)))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", port).start()
    peer = f"http://127.0.0.1:{fake}"
    settings = Settings(data_dir=Path("unused"), listen=f"127.0.0.1:{own}", peers=(peer,))
    with Database(MemoryStore(), replica="eu-1") as database:
        async with live(database, settings) as replica:
            links = replica.network.links
            await eventually("tried", lambda: peer in links and links[peer].trouble is not None)
            assert "answered 307" in (links[peer].trouble or "")
    for runner in runners:
        await runner.cleanup()
    assert not lured
