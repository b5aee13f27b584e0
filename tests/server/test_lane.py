"""The fast lane: what it takes, in which order it answers, and what it leaves to aiohttp."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtdb_server import lane
from crdtdb_server.dispatch import Dispatcher
from crdtdb_server.plain import BODY_BYTES, HEAD_BYTES, Head, HeadReader, NotPlain
from wireclient import Wire

_AT = "/v1/buckets/shop/counter/k"
_STEP = b'{"op":"increment"}'
_HOST = b"Host: localhost\r\n"


def _get(target: str = _AT, fields: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (target.encode(), _HOST, fields)


def _post(fields: bytes = b"", body: bytes = _STEP) -> bytes:
    return b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\n%b%b\r\n%b" % (
        _AT.encode(),
        _HOST,
        b"Content-Length: %d\r\n" % len(body),
        fields,
        body,
    )


class _Line:
    """One connection that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, bytes]:
        """The next answer: status and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        fields = dict(
            line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line
        )
        body = await self.reader.readexactly(int(fields[b"content-length"]))
        return int(head.split()[1]), body

    async def ask(self, raw: bytes) -> tuple[int, bytes]:
        self.writer.write(raw)
        return await self.answer()


@asynccontextmanager
async def _line(wire: Wire) -> AsyncIterator[_Line]:
    reader, writer = await asyncio.open_connection(wire.address, wire.port)
    try:
        yield _Line(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


# -- the connection -------------------------------------------------------------------------------


async def test_a_connection_goes_on(wire: Wire) -> None:
    async with _line(wire) as line:
        for n in (1, 2, 3):
            assert await line.ask(_post()) == (200, b'{"value":%d,"changed":true}' % n)


async def test_requests_leave_nothing_to_the_collector_of_cycles(wire: Wire) -> None:
    async with _line(wire) as line:
        await line.ask(_post())
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await line.ask(_post())
                await line.ask(_get())
            assert gc.collect() < 50
        finally:
            gc.enable()


async def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    async with _line(wire) as line:
        line.writer.write(_post() * 200)
        values = [(await line.answer())[1] for _ in range(200)]
    assert values == [b'{"value":%d,"changed":true}' % n for n in range(1, 201)]


async def test_a_request_may_arrive_byte_by_byte(wire: Wire) -> None:
    async with _line(wire) as line:
        for i in range(len(raw := _post() + _get("/healthz"))):
            line.writer.write(raw[i : i + 1])
            await line.writer.drain()
        assert await line.answer() == (200, b'{"value":1,"changed":true}')
        assert (await line.answer())[0] == 200


async def test_a_connection_that_aiohttp_took_over_still_answers_everything(wire: Wire) -> None:
    async with _line(wire) as line:
        line.writer.write(_post() + _get("/healthz") + _post() + _get("/nothing") + _post())
        answers = [await line.answer() for _ in range(5)]
    assert [status for status, _ in answers] == [200, 200, 200, 404, 200]
    assert answers[4][1] == b'{"value":3,"changed":true}'


async def test_what_takes_longer_is_left_to_aiohttp(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "PATIENCE_S", 0.0)
    raw = _post()
    async with _line(wire) as line:
        line.writer.write(raw[:-4])
        assert await line.ask(raw[-4:]) == (
            200,
            b'{"value":1,"changed":true}',
        )
        assert (await line.ask(_get()))[0] == 200


async def test_an_unused_connection_is_closed(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "KEEPALIVE_S", 0.0)
    async with _line(wire) as line:
        assert await line.reader.read() == b""


async def test_close_is_kept(wire: Wire) -> None:
    async with _line(wire) as line:
        line.writer.write(_get(fields=b"Connection: close\r\n"))
        assert b"Connection: close\r\n" in await line.reader.read()


async def test_a_client_that_leaves_is_not_waited_for(wire: Wire) -> None:
    wire.service.writer.hold()
    async with _line(wire) as line:
        line.writer.write(_post())
        while not wire.service.writer.held_transactions:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0)
    wire.service.writer.open()
    assert (await wire.get("/healthz")).status == 200


class _Socket(asyncio.Transport):
    """Takes what is written, until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = b""
        self._closing = False

    def write(self, data: Any) -> None:
        self.taken += data

    def close(self) -> None:
        self._closing = True

    abort = close

    def is_closing(self) -> bool:
        return self._closing


async def test_what_was_answered_just_before_the_server_stops_is_sent(wire: Wire) -> None:
    """It may say that a write is durable."""
    fast = lane.FastLane(Dispatcher(wire.service, ()), asyncio.Protocol)
    connection = cast(lane._Connection, fast())
    socket = _Socket()
    connection.connection_made(socket)
    fast.send(connection, b"an answer", last=False)
    await fast.close(0)
    assert socket.taken == b"an answer"


async def test_head_has_the_length_and_no_body(wire: Wire) -> None:
    reply = await wire.request("HEAD", _AT)
    assert (reply.status, reply.body) == (200, b"")


# -- smuggling ------------------------------------------------------------------------------------

_HIDDEN = _post(b"Connection: close\r\n")


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Content-Length: 0\r\nContent-Length: 18\r\n",
        b"Content-Length: 0, 18\r\n",
        b"Content-Length: +0\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 0x0\r\n",
        b"Content-Length: 0 0\r\n",
        b"Content-Length : 0\r\n",
        b"Content-Length:\r\n 0\r\n",
        b"X: y\n\n",
        b"X: y\r\rZ: w\r\n",
        b"X: a\x00b\r\n",
        b"X y\r\n",
    ],
)
async def test_a_head_with_two_meanings_hides_no_request(wire: Wire, head: bytes) -> None:
    before = wire.state
    raw = b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\n%b\r\n%b" % (
        _AT.encode(),
        _HOST,
        head,
        _HIDDEN,
    )
    reply = await wire.send(raw)
    assert reply.status == 400
    assert wire.state == before, "the request within the request was carried out"


# -- plain or not ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        _get("/healthz"),
        _get("http://localhost" + _AT),
        _get(fields=b"Expect: 100-continue\r\n"),
        _get(fields=b"Upgrade: h2c\r\nConnection: upgrade\r\n"),
        _get(fields=b"Content-Encoding: gzip\r\n"),
        _get(fields=b"X: " + b"x" * HEAD_BYTES + b"\r\n"),
        _get(fields=b"Content-Length: %d\r\n" % (BODY_BYTES + 1)),
        _get().replace(b"HTTP/1.1", b"HTTP/1.0"),
        _get().replace(b"GET", b"PATCH"),
        _get("/v1/buckets/b/set/\u00fc"),
        b"nonsense\r\n\r\n",
    ],
)
def test_what_is_not_plain(raw: bytes) -> None:
    with pytest.raises(NotPlain):
        HeadReader().read(raw)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.data())
def test_heads_are_found_however_the_bytes_are_cut(
    bodies: list[bytes], data: st.DataObject
) -> None:
    raw = b"".join(_post(b"N: %d\r\n" % i, body) for i, body in enumerate(bodies))
    reader, rest, heads = HeadReader(), b"", list[Head]()
    read = list[bytes]()
    while raw:
        cut = data.draw(st.integers(1, len(raw)))
        rest, raw = rest + raw[:cut], raw[cut:]
        while (head := _whole(reader, rest, heads)) is not None:
            body = rest[head.head_bytes : head.request_bytes]
            reader.skip(body)
            read.append(body)
            rest = rest[head.request_bytes :]
    assert read == bodies
    assert [head.headers["n"] for head in heads] == [str(i) for i in range(len(bodies))]
    assert rest == b""


def _whole(reader: HeadReader, data: bytes, heads: list[Head]) -> Head | None:
    """The head of a request that is whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    length = int(data.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    if len(data) < end + 4 + length:
        return None
    head = reader.read(data)
    assert head is not None
    heads.append(head)
    return head


_heads = st.builds(
    lambda method, target, version, fields: (
        b"%b %b %b\r\n%b\r\n" % (method, target, version, fields)
    ),
    st.sampled_from([b"GET", b"POST", b"HEAD", b"get", b"OPTIONS", b" GET"]),
    st.sampled_from(
        [
            b"/v1/buckets/shop/counter/k",
            b"/v1/buckets/shop/counter/k%2F?limit=1&after=x",
            b"/v1/transactions",
            b"/v1/buckets/shop/counter/\xc3\xa9",
            b"/v1/buckets/a b",
            b'/v1/buckets/"<>',
            b"/v1/buckets/x\x00",
            b"/healthz",
            b"http://localhost/v1/buckets/",
        ]
    ),
    st.sampled_from([b"HTTP/1.1"] * 4 + [b"HTTP/1.0", b"HTTP/1.1 ", b"HTTP/2.0"]),
    st.sampled_from(
        [
            _HOST,
            _HOST + b"Content-Length: 3\r\n",
            _HOST + b"Connection: close\r\n",
            _HOST + b"Transfer-Encoding: chunked\r\n",
        ]
    ),
)


@given(st.lists(_heads, min_size=2, max_size=6))
def test_fields_that_are_read_once_read_the_same(heads: list[bytes]) -> None:
    """A reader that has seen requests before finds in each what a new one finds."""

    def read(reader: HeadReader, head: bytes) -> Head | None:
        try:
            found = reader.read(head)
        except NotPlain:
            return None
        if found is not None and found.request_bytes > found.head_bytes:
            reader.skip(b"x" * (found.request_bytes - found.head_bytes))
        return found

    reader = HeadReader()
    for head in heads:
        found = read(reader, head)
        assert found == read(HeadReader(), head)
        if found is None or not found.keep_alive:
            return  # the connection is aiohttp's, or ends
