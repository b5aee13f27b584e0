"""More writes than a replica can take: told to come again, at once and in good order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from threading import Event

import pytest

from crdtdb import Database
from crdtdb.store.memory import MemoryStore
from crdtdb_server.app import serving
from crdtdb_server.bounds import Bounds
from crdtdb_server.config import Settings
from crdtdb_server.service import Options, Service
from crdtdb_server.writer import RETURN_S
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


def test_the_bound_is_a_setting(tmp_path_factory: pytest.TempPathFactory) -> None:
    given = Settings(data_dir=tmp_path_factory.getbasetemp(), max_waiting_writes=7)
    assert given.bounds.waiting_writes == 7
    with pytest.raises(ValueError, match="--max-waiting-writes is 0; it can be 1 to 4096"):
        Settings(data_dir=given.data_dir, max_waiting_writes=0).check()
