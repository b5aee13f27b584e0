"""Two live replicas with one name and one URL: said once, and clearly, where people look.

(That late frames of one replica are not taken for two: `tests/test_twins.py` and the simulation.)
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import structlog

from crdtdb import Database
from crdtdb.replication import twins
from crdtdb.store.memory import MemoryStore
from crdtdb_server.config import Settings
from crdtdb_server.ports import free_ports
from crdtdb_server.serve import live
from livecluster import LiveWire, eventually


async def test_the_one_that_is_not_there_is_refused_and_everybody_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    eu, copy, us = (f"http://127.0.0.1:{port}" for port in free_ports(3))
    async with AsyncExitStack() as stack:
        logged = stack.enter_context(structlog.testing.capture_logs())

        copies = await stack.enter_async_context(AsyncExitStack())

        async def start(
            name: str, url: str, peer: str, advertise: str, within: AsyncExitStack = stack
        ) -> LiveWire:
            database = Database(MemoryStore(url.encode()), replica=name)
            settings = Settings(
                data_dir=Path("unused"),
                listen=url.removeprefix("http://"),
                peers=(peer,),
                advertise=advertise,
            )
            return LiveWire(await within.enter_async_context(live(database, settings)))

        first = await start("eu-1", eu, us, eu)
        witness = await start("us-1", us, eu, us)
        await eventually("a cluster of two", lambda: first.is_whole and witness.is_whole)
        second = await start("eu-1", copy, us, eu, copies)

        await eventually("the second is refused", lambda: _trouble(second, us) != "")
        assert "answered 409: two live replicas say that they are 'eu-1'" in _trouble(second, us)
        assert _trouble(first, us) == ""
        document = (await witness.get("/v1/cluster")).document
        assert document["refusals"]["identity-conflict"] >= 1
        assert "of its own" in document["troubles"][eu]

        # It tries again and again; that is no news.
        refusals = witness.network.replication.refusals
        await eventually("some tries", lambda: refusals["identity-conflict"] >= 4)
        said = [entry for entry in logged if entry["event"] == "two replicas with one identity"]
        assert len(said) == 1
        reported = [e["event"] for e in logged if "two live replicas" in str(e.get("why", ""))]
        assert len(reported) == len(set(reported)), "each place says it once"

        await copies.aclose()
        monkeypatch.setattr(twins, "_ALIVE_MS", 500)
        await eventually("nothing is wrong", lambda: not witness.network.replication.twins())
        assert _trouble(first, us) == ""


def _trouble(wire: LiveWire, url: str) -> str:
    link = wire.network.links.get(url)
    return (link and link.trouble) or ""
