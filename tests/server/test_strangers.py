"""Peers that are not what their URL or name says: told once, in one clear line, and survived."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web

from crdtdb import Database
from crdtdb_server.config import Settings
from crdtdb_server.peers.envelope import PATH
from crdtdb_server.ports import free_ports
from crdtdb_server.serve import live
from livecluster import LiveWire, eventually, live_cluster

FAULTS = "/v1/faults/links"


async def test_only_a_known_link_can_be_broken() -> None:
    async with live_cluster("eu-1", "us-1", "asia-1") as (eu, _, _):
        wrong = await eu.put(f"{FAULTS}/NOSUCH", {"drop": True})
        assert (wrong.status, wrong.document["code"]) == (404, "unknown-replica")
        assert "'NOSUCH'" in wrong.document["detail"]
        assert "asia-1, us-1" in wrong.document["detail"]
        assert (await eu.get(FAULTS)).document == {"links": {}}
        assert (await eu.put(f"{FAULTS}/us-1", {"drop": True})).status == 200
        itself = await eu.put(f"{FAULTS}/eu-1", {"drop": True})
        assert itself.status == 400


@pytest.mark.parametrize("status", [200, 404, 502])
async def test_another_web_server_is_named_without_its_page(status: int) -> None:
    """Its page once stood in the log, and was as long as it liked."""
    here, there = free_ports(2)

    async def page(request: web.Request) -> web.Response:
        text = "<html>\n" + "<b>welcome</b>\n" * 1_000
        return web.Response(status=status, text=text, content_type="text/html")

    app = web.Application()
    app.router.add_post(PATH, page)
    url = f"http://127.0.0.1:{there}"
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", there).start()
        settings = Settings(data_dir=Path("unused"), listen=f"127.0.0.1:{here}", peers=(url,))
        logged = stack.enter_context(structlog.testing.capture_logs())
        replica = await stack.enter_async_context(
            live(Database.in_memory(replica="eu-1"), settings)
        )
        wire = LiveWire(replica)
        await eventually("it serves", lambda: wire.service.state() == "serving")
        await eventually("it is told", lambda: replica.network.links[url].trouble is not None)
        troubles = (await wire.get("/v1/cluster")).document["troubles"]
    why = troubles[url]
    assert why == f"answered {status} with text/html: no replica is there, but another server, " + (
        "or a proxy that cannot reach it"
    )
    assert [entry["why"] for entry in logged if entry.get("endpoint") == url] == [why]
    assert "welcome" not in str(logged)


async def test_two_replicas_of_one_name_are_told_of_once() -> None:
    urls = [f"http://127.0.0.1:{port}" for port in free_ports(2)]
    async with AsyncExitStack() as stack:
        logged: list[Any] = stack.enter_context(structlog.testing.capture_logs())
        wires = []
        for url, other in (urls, urls[::-1]):
            settings = Settings(
                data_dir=Path("unused"), listen=url.removeprefix("http://"), peers=(other,)
            )
            database = Database.in_memory(replica="eu-1")
            wires.append(LiveWire(await stack.enter_async_context(live(database, settings))))
        first, second = wires
        machine = first.network.replication
        await eventually("they have met", lambda: all(len(_told(wire)) == 2 for wire in wires))
        await eventually("both logs have it", lambda: len(_said(logged)) == 2)
        why = machine.namesakes()[urls[0]]
        assert "several members are called 'eu-1'" in why
        assert all(url in why for url in urls)
        troubles = (await second.get("/v1/cluster")).document["troubles"]
        assert troubles == dict.fromkeys(urls, why)
        beats = machine.peers[second.network.me.incarnation].last_contact_ms
        await eventually(
            "they go on talking",
            lambda: machine.peers[second.network.me.incarnation].last_contact_ms > beats,
        )
    assert _said(logged) == [why, why], "each says it once"


def _told(wire: LiveWire) -> dict[str, str]:
    return wire.network.replication.namesakes()


def _said(logged: list[Any]) -> list[str]:
    return [entry["why"] for entry in logged if entry["event"] == "two replicas with one name"]
