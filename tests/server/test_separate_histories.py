"""Two replicas that evicted each other and went on alone for long: what people are told, and do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from crdtdb import Database, replication
from crdtdb.engine import Engine
from crdtdb.store.memory import MemoryStore
from crdtdb_server.config import Settings
from crdtdb_server.ports import free_ports
from crdtdb_server.serve import live
from livecluster import LiveWire, eventually

SEEN = "/v1/buckets/shop/opcounter/seen"
CART = "/v1/buckets/shop/set/cart"


def _has_folded(engine: Engine) -> bool:
    return engine.reclaimed.records >= 2


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def test_who_is_given_up_begins_again_with_an_empty_directory(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has folded what the other never saw, which nobody can take apart again.

    So nothing is joined, both go on serving, and both say what is to be done.
    """
    monkeypatch.setattr(replication.reclaiming, "FEED_MS", 0)
    eu_url, us_url = (f"http://127.0.0.1:{port}" for port in free_ports(2))

    async def start(name: str, url: str, peer: str, within: AsyncExitStack) -> LiveWire:
        database = Database(MemoryStore(), replica=name)
        settings = Settings(
            data_dir=Path("unused"),
            listen=url.removeprefix("http://"),
            peers=(peer,),
            allow_fault_injection=True,
        )
        return LiveWire(await within.enter_async_context(live(database, settings)))

    given_up = await stack.enter_async_context(AsyncExitStack())
    eu = await start("eu-1", eu_url, us_url, stack)
    us = await start("us-1", us_url, eu_url, given_up)
    await eventually("a cluster", lambda: eu.is_whole and us.is_whole)
    await eu.post(SEEN, {"op": "increment", "by": 1})
    await eventually("both have it", lambda: eu.service.seen == us.service.seen)

    eu.cut(us)
    us.cut(eu)
    assert (await eu.delete("/v1/cluster/members/us-1")).status == 200
    assert (await us.delete("/v1/cluster/members/eu-1")).status == 200
    for wire, by in ((eu, 2), (us, 4)):
        assert (await wire.post(SEEN, {"op": "increment", "by": by})).status == 200
        assert (await wire.post(CART, {"op": "add", "value": by})).status == 200
    for engine in (eu.service.database.engine, us.service.database.engine):
        await eventually("it is folded", partial(_has_folded, engine))
    eu.mend(us)
    us.mend(eu)
    alone = {wire.network.replication.incarnation for wire in (eu, us)}

    def told() -> list[LiveWire]:
        return [wire for wire in (eu, us) if wire.network.replication.is_evicted]

    while alone & {wire.network.replication.incarnation for wire in (eu, us)}:
        await eventually("one is told, at least", lambda: bool(told()))
        for wire in told():
            assert (await wire.request("POST", "/v1/cluster/rejoin")).status == 200

    def refused(wire: LiveWire) -> int:
        return wire.network.replication.refusals["separate-histories"]

    await eventually("it is refused", lambda: refused(eu) > 0 and refused(us) > 0)
    for wire, other, by in ((eu, us_url, 2), (us, eu_url, 4)):
        cluster = (await wire.get("/v1/cluster")).document
        assert "empty directory" in cluster["troubles"][other]
        assert (await wire.get("/readyz")).status == 200
        assert (await wire.get(SEEN)).document["value"] == 1 + by
        assert (await wire.get(CART)).document["value"] == [by]

    await given_up.aclose()
    us = await start("us-1", us_url, eu_url, stack)
    await eventually("one cluster again", lambda: eu.is_whole and us.is_whole)
    await eventually("they are equal", lambda: eu.service.seen == us.service.seen)
    for wire in (eu, us):
        assert (await wire.get(SEEN)).document["value"] == 3
        assert (await wire.get(CART)).document["value"] == [2]
        members = wire.network.replication.members.values()
        assert sorted(member.name for member in members) == ["eu-1", "us-1"]
    await eventually("nothing is wrong any more", lambda: eu.network.links[us_url].refused is None)
    assert us_url not in (await eu.get("/v1/cluster")).document["troubles"]
