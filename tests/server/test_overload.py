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


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "at once"])
async def test_who_comes_back_at_once_is_read_later(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    """To refuse costs a third of a write: who pressed on kept waiting who had been let in."""
    monkeypatch.setattr(lane, "_REFUSED_S", DEADLINE_S)
    wire.service.writer.take_at_most(0)
    body = b'{"op":"increment"}'
    host = f"Host: 127.0.0.1:{wire.port}\r\n".encode()
    write = b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    write %= (_COUNTER.encode(), host, len(body), body)
    read = b"GET %b HTTP/1.1\r\n%b\r\n" % (_COUNTER.encode(), host)
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    try:
        writer.write(write + read if together else write)
        assert (await reader.readline()).startswith(b"HTTP/1.1 429 ")
        await reader.readuntil(b'slow down"}')
        writer.write(b"" if together else read)
        again = asyncio.create_task(reader.readline())
        for _ in range(5):
            assert (await wire.get(_COUNTER)).status == 200, "others are answered"
        assert not again.done()
        again.cancel()
    finally:
        writer.close()


async def test_who_waited_is_answered(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "_REFUSED_S", 0.01)
    most = wire.service.writer.take_at_most
    lines = [f"Host: 127.0.0.1:{wire.port}", "Content-Type: application/json", "Content-Length: 18"]
    request = "\r\n".join((f"POST {_COUNTER} HTTP/1.1", *lines, "", '{"op":"increment"}')).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    try:
        for status in (b"429", b"429", b"200"):
            most(_WAITING if status == b"200" else 0)
            writer.write(request)
            assert (await reader.readuntil(b"}")).split()[1] == status
    finally:
        writer.close()


def test_the_bound_is_a_setting(tmp_path_factory: pytest.TempPathFactory) -> None:
    given = Settings(data_dir=tmp_path_factory.getbasetemp(), max_waiting_writes=7)
    assert given.bounds.waiting_writes == 7
    with pytest.raises(ValueError, match="--max-waiting-writes is 0; it can be 1 to 4096"):
        Settings(data_dir=given.data_dir, max_waiting_writes=0).check()
