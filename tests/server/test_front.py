"""HTTP itself: what the front makes of bytes."""

from __future__ import annotations

import asyncio

import pytest

from crdtdb import Database
from crdtdb.errors import StartError
from crdtdb.limits import LIMITS
from crdtdb_server.app import serving
from crdtdb_server.service import Options, Service
from processes import DEADLINE_S
from wireclient import Wire

_AT = "/v1/buckets/shop/counter/k"
_STEP = b'{"op":"increment"}'
_HEAD = (
    f"POST {_AT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    "Content-Type: application/json\r\n"
).encode()


async def test_a_chunked_body(wire: Wire) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (_STEP[:5], _STEP[5:]))
    reply = await wire.send(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert reply.document == {"value": 1, "changed": True}


async def test_a_body_announced_as_too_large_is_not_awaited(wire: Wire) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(_HEAD + b"Content-Length: %d\r\n\r\n" % (LIMITS.body_bytes + 1))
    assert await reader.readline() == b"HTTP/1.1 413 Request Entity Too Large\r\n"
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"application/problem+json" in head
    writer.close()
    await writer.wait_closed()


async def test_a_chunked_body_is_read_no_further_than_the_limit(wire: Wire) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    chunks = chunk * (LIMITS.body_bytes // 65_536 + 1)
    raw = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    reply = await wire.send(raw)
    assert (reply.status, reply.document["code"]) == (413, "too-large")


async def test_a_body_of_the_largest_size_is_taken(wire: Wire) -> None:
    body = _STEP + b" " * (LIMITS.body_bytes - len(_STEP))
    reply = await wire.send(_HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert reply.document == {"value": 1, "changed": True}


#: Not for the fast lane, which bounds what waits by the writer's queue.
_NOT_PLAIN = (("TE", "trailers"),)


async def test_bodies_at_once_are_bounded(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb_server.dispatch.BODY_BYTES", 100)
    wire.service.writer.hold()
    first = asyncio.create_task(wire.request("POST", _AT, body=_STEP.ljust(60), headers=_NOT_PLAIN))
    while not wire.service.writer.held_transactions:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)
    refused = await wire.request("POST", _AT, body=_STEP.ljust(60), headers=_NOT_PLAIN)
    assert (refused.status, refused.document["code"]) == (429, "overloaded")
    assert refused.headers["retry-after"] == "1"
    wire.service.writer.open()
    assert (await first).status == 200
    assert (await wire.request("POST", _AT, body=_STEP.ljust(60), headers=_NOT_PLAIN)).document[
        "value"
    ] == 2


async def test_a_client_that_asks_first_may_go_on(wire: Wire) -> None:
    head = _HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(_STEP)
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(head)
    assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    writer.write(_STEP)
    assert b'{"value":1,"changed":true}' in await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_half_a_body_changes_nothing(wire: Wire) -> None:
    before = wire.state
    _, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(_HEAD + b"Content-Length: 100\r\n\r\n" + _STEP)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    # The same connection's requests are served in order, another's only prove the server lives.
    assert (await wire.get("/healthz")).status == 200
    assert wire.state == before


async def test_an_absolute_target_names_its_own_host(wire: Wire) -> None:
    def raw(target: str, host: str) -> bytes:
        return f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()

    assert (await wire.send(raw("http://localhost:1/healthz", "localhost"))).status == 200
    refused = await wire.send(raw("http://evil.example/healthz", "localhost"))
    assert (refused.status, refused.document["code"]) == (403, "bad-host")


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /v1/buckets/b/set/\xc3\xbc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /healthz#x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
async def test_what_is_not_proper_http_gets_400(wire: Wire, raw: bytes) -> None:
    reply = await wire.send(raw)
    assert reply.status == 400
    assert b"Traceback" not in reply.body
    assert (await wire.get("/healthz")).status == 200


async def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    post = (
        f"POST {_AT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(_STEP)}\r\n"
    ).encode()
    last = post + b"Connection: close\r\n\r\n" + _STEP
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write((post + b"\r\n" + _STEP) * 2 + last)
    answers = await reader.read()
    values = [answers.index(b'{"value":%d,' % value) for value in (1, 2, 3)]
    assert values == sorted(values)
    writer.close()
    await writer.wait_closed()


async def test_beyond_loopback_only_on_demand(database: Database) -> None:
    with pytest.raises(StartError, match="--insecure"):
        async with serving(Service(database, Options(host="0.0.0.0", port=0))):
            pytest.fail("it listens")
    async with serving(Service(database, Options(host="0.0.0.0", port=0, insecure=True))) as url:
        assert url.startswith("http://0.0.0.0:")


async def test_the_address_it_listens_on_is_a_name_of_the_server(database: Database) -> None:
    for listen, host, status in (
        ("127.0.0.2", "127.0.0.2", 200),
        ("127.0.0.2", "127.0.0.3", 403),
        ("0.0.0.0", "0.0.0.0", 403),
    ):
        service = Service(database, Options(host=listen, port=0, insecure=True))
        async with serving(service) as url:
            port = int(url.rpartition(":")[2])
            wire = Wire(service, port, listen if listen != "0.0.0.0" else "127.0.0.1")
            assert (await wire.get("/healthz", Host=f"{host}:{port}")).status == status


async def test_an_address_in_use_is_a_clear_error(wire: Wire, database: Database) -> None:
    with pytest.raises(StartError, match="another program listens there"):
        async with serving(Service(database, Options(port=wire.port))):
            pytest.fail("it listens")


async def test_requests_under_way_are_answered_before_the_server_stops(database: Database) -> None:
    service = Service(database, Options(port=0))
    async with serving(service) as url:
        wire = Wire(service, int(url.rpartition(":")[2]))
        service.writer.hold()
        request = asyncio.create_task(wire.request("POST", _AT, body=_STEP))
        while not service.writer.held_transactions:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
        service.writer.open()
    assert (await request).document == {"value": 1, "changed": True}


@pytest.mark.parametrize("target", ["/v1/changes?feed=sse", "/v1/export"])
async def test_head_of_a_stream_ends_with_its_head(
    wire: Wire, database: Database, target: str
) -> None:
    """Bytes of a body would be taken for the answer to the next request."""
    database.counter("shop", "views").increment()
    host = b"Host: localhost\r\n"
    head = f"HEAD {target} HTTP/1.1\r\n".encode() + host + b"\r\n"
    last = b"GET /healthz HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n"
    async with asyncio.timeout(DEADLINE_S):
        first = await wire.send(head + last)
    assert first.status == 200
    assert first.body.startswith(b"HTTP/1.1 200 OK\r\n")
    assert first.body.endswith(b'{"status":"ok"}')
