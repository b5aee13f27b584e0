"""More writes than a replica can take: told to come again, at once and in good order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from threading import Event

import pytest

from crdtdb import Database
from crdtdb.store.memory import MemoryStore
from crdtdb_server import lane
from crdtdb_server.app import serving
from crdtdb_server.bounds import Bounds
from crdtdb_server.config import Settings
from crdtdb_server.service import Options, Service
from crdtdb_server.writer import RETURN_S
from processes import DEADLINE_S
from wireclient import Reply, Wire

_WAITING = 5
_COUNTER = "/v1/buckets/shop/counter/k"


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    with Database(MemoryStore(), replica="eu-1") as database:
        options = Options(port=0, bounds=Bounds(waiting_writes=_WAITING))
        service = Service(database, options)
        async with serving(service) as url:
            yield Wire(service, int(url.rpartition(":")[2]))


async def _crowd(wire: Wire, count: int) -> list[Reply]:
    """So many clients write while the commit thread is at work on something else."""
    begun, release = asyncio.Event(), Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        release.wait()

    call = asyncio.create_task(wire.service.writer.call(work, in_thread=True))
    await begun.wait()
    writes = [asyncio.create_task(wire.post(_COUNTER, {"op": "increment"})) for _ in range(count)]
    refused = 0
    while refused < count - _WAITING:
        await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
        refused = sum(write.done() for write in writes)
        await asyncio.sleep(0)
    assert (await wire.get(_COUNTER)).document["value"] == 0, "reads go on"
    release.set()
    await call
    return await asyncio.gather(*writes)


async def test_writes_beyond_the_bound_are_told_to_come_again(wire: Wire) -> None:
    replies = await _crowd(wire, 3 * _WAITING)
    assert [reply.status for reply in replies].count(200) == _WAITING
    refused = [reply for reply in replies if reply.status != 200]
    assert {(reply.status, reply.document["code"]) for reply in refused} == {(429, "overloaded")}
    returns = {int(reply.headers["retry-after"]) for reply in refused}
    assert returns == set(range(1, RETURN_S + 1)), "they do not all come back together"
    assert (await wire.get(_COUNTER)).document["value"] == _WAITING, "refused is not done"
    assert (await wire.post(_COUNTER, {"op": "increment"})).status == 200, "and it is over"


def _plain(method: str, path: str, body: bytes = b"") -> bytes:
    length = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()
    return head + (length if body else b"") + b"\r\n" + body


_WRITE = _plain("POST", _COUNTER, b'{"op":"increment"}')
_READ = _plain("GET", _COUNTER)
_TOGETHER = _plain(
    "POST",
    "/v1/transactions",
    b'{"updates":[{"bucket":"shop","type":"counter","key":"k","op":"increment"}]}',
)


@pytest.mark.parametrize(
    "request_bytes",
    [_WRITE, _WRITE + _READ, _READ + _WRITE, _TOGETHER],
    ids=["one by one", "before a read", "after a read", "several objects"],
)
async def test_who_is_refused_is_told_so_later(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, request_bytes: bytes
) -> None:
    """To refuse costs a third of a write: who came back at once kept waiting who was let in."""
    monkeypatch.setattr(lane, "_REFUSED_S", DEADLINE_S)
    wire.service.writer.take_at_most(0)
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    try:
        writer.write(request_bytes)
        if request_bytes.startswith(_READ):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
            await reader.readuntil(b"}")
        told = asyncio.create_task(reader.readline())
        for _ in range(5):
            assert (await wire.get(_COUNTER)).status == 200, "others are answered"
        assert not told.done()
        told.cancel()
    finally:
        writer.close()


@pytest.mark.parametrize("request_bytes", [_WRITE, _TOGETHER], ids=["one object", "several"])
async def test_what_comes_after_a_refusal_is_answered_in_order(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, request_bytes: bytes
) -> None:
    """It once waited, unread, for what the refusal before it should have waited for."""
    monkeypatch.setattr(lane, "_REFUSED_S", 0.01)
    most = wire.service.writer.take_at_most
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    try:
        for status in (b"429", b"429", b"200"):
            most(_WAITING if status == b"200" else 0)
            writer.write(request_bytes + _READ)
            for expected in (status, b"200"):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.split()[1] == expected
                length = next(line for line in head.split(b"\r\n") if b"Content-Length" in line)
                await reader.readexactly(int(length.split()[1]))
    finally:
        writer.close()


async def test_a_write_is_refused_before_its_body_is_looked_at(wire: Wire) -> None:
    """The operations of a transaction were all read, checked and made into updates before that."""
    wire.service.writer.take_at_most(0)
    unknown = {"op": "no such operation"}
    several = [{"bucket": "shop", "type": "counter", "key": "k", **unknown}] * 3
    replies = [
        await wire.post(_COUNTER, unknown),
        await wire.post("/v1/transactions", {"updates": several}),
    ]
    assert [reply.status for reply in replies] == [429, 429]
    reading = {"reads": [{"bucket": "shop", "type": "counter", "key": "k"}]}
    assert (await wire.post("/v1/transactions", reading)).status == 200, "reads go on"
    wire.service.writer.take_at_most(_WAITING)
    assert (await wire.post(_COUNTER, unknown)).status == 422


def test_the_bound_is_a_setting(tmp_path_factory: pytest.TempPathFactory) -> None:
    given = Settings(data_dir=tmp_path_factory.getbasetemp(), max_waiting_writes=7)
    assert given.bounds.waiting_writes == 7
    with pytest.raises(ValueError, match="--max-waiting-writes is 0; it can be 1 to 4096"):
        Settings(data_dir=given.data_dir, max_waiting_writes=0).check()
