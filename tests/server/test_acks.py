"""`Crdtdb-Ack`: answered when others hold the write too, or when the time is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from crdtdb.address import ObjectName
from crdtdb.jsonvalue import JsonValue
from livecluster import LiveWire, eventually, live_cluster
from wireclient import Reply, Wire

_AT = "/v1/buckets/shop/counter/k"
_STEP = {"op": "increment"}


@pytest.fixture
async def cluster() -> AsyncIterator[list[LiveWire]]:
    async with live_cluster("eu-1", "eu-2", "us-1") as wires:
        yield wires


def _value(wire: LiveWire) -> JsonValue:
    value: JsonValue = wire.service.database.read(ObjectName("shop", "counter", "k")).value
    return value


def _acked(reply: Reply) -> tuple[int, int]:
    return reply.status, int(reply.headers["crdtdb-acked"])


async def test_nothing_is_said_unless_asked(wire: Wire) -> None:
    assert "crdtdb-acked" not in (await wire.post(_AT, _STEP)).headers


async def test_alone_there_is_nothing_to_wait_for(wire: Wire) -> None:
    for wanted, outcome in {
        "local": (200, 1),
        "1": (200, 1),
        "all": (200, 1),
        "regions=1": (200, 1),
        "2": (202, 1),
        "regions=2": (202, 1),
    }.items():
        began = time.monotonic()
        reply = await wire.post(_AT, _STEP, Crdtdb_Ack=wanted, Prefer="wait=60")
        assert _acked(reply) == outcome, wanted
        assert time.monotonic() - began < 30
    assert reply.document == {"value": 6, "changed": True}
    assert reply.headers["etag"]


async def test_who_acknowledged_has_it(cluster: list[LiveWire]) -> None:
    eu, *others = cluster
    for value in range(1, 11):
        reply = await eu.post(_AT, _STEP, Crdtdb_Ack="all", Prefer="wait=60")
        assert _acked(reply) == (200, 3)
        assert [_value(other) for other in others] == [value, value]


async def test_every_kind_of_write_can_be_waited_for(cluster: list[LiveWire]) -> None:
    eu, _, us = cluster
    update = {"bucket": "shop", "type": "counter", "key": "k", **_STEP}
    headers = [("Crdtdb-Ack", "all"), ("Prefer", "wait=60")]
    for method, target, *body in (
        ("POST", "/v1/transactions", {"updates": [update]}),
        ("PUT", "/v1/buckets/shop/register/k", 1),
        ("DELETE", _AT),
        ("DELETE", "/v1/buckets/shop"),
    ):
        reply = await eu.request(method, target, *body, headers=headers)
        assert _acked(reply) == (200, 3), (method, target)
        assert us.service.seen.includes(eu.service.seen)


async def test_an_unreachable_region_is_not_waited_for_longer_than_asked(
    cluster: list[LiveWire],
) -> None:
    eu, near, us = cluster
    us.cut(eu, near)
    began = time.monotonic()
    reply = await eu.post(_AT, _STEP, Crdtdb_Ack="all", Prefer="wait=3")
    assert 2.9 < time.monotonic() - began < 30
    assert _acked(reply) == (202, 2)
    assert _acked(await eu.post(_AT, _STEP, Crdtdb_Ack="2", Prefer="wait=60")) == (200, 2)
    regions = await eu.post(_AT, _STEP, Crdtdb_Ack="regions=2", Prefer="wait=0")
    assert _acked(regions) == (202, 1)
    assert _value(eu) == 3

    waiting = asyncio.create_task(eu.post(_AT, _STEP, Crdtdb_Ack="regions=2", Prefer="wait=60"))
    await eventually("written here", lambda: _value(eu) == 4)
    assert not waiting.done()
    us.mend(eu, near)
    assert _acked(await waiting) == (200, 2)
    assert _value(us) == 4


async def test_a_repeated_write_waits_for_the_first_one(cluster: list[LiveWire]) -> None:
    eu, near, us = cluster
    us.cut(eu, near)
    await eu.post(_AT, _STEP, Idempotency_Key="k")
    missing = await eu.post(_AT, _STEP, Idempotency_Key="k", Crdtdb_Ack="all", Prefer="wait=0")
    assert missing.status == 202
    us.mend(eu, near)
    again = await eu.post(_AT, _STEP, Idempotency_Key="k", Crdtdb_Ack="all", Prefer="wait=60")
    assert _acked(again) == (200, 3)
    assert _value(us) == 1


async def test_a_write_in_vain_waits_for_what_made_it_so(cluster: list[LiveWire]) -> None:
    eu = cluster[0]
    headers = [("Crdtdb-Ack", "all"), ("Prefer", "wait=60")]
    reply = await eu.request("DELETE", _AT, headers=headers)
    assert reply.document["changed"] is False
    assert _acked(reply) == (200, 3)


async def test_a_server_that_stops_does_not_wait() -> None:
    async with live_cluster("eu-1", "us-1") as (eu, us):
        us.cut(eu)
        waiting = asyncio.create_task(eu.post(_AT, _STEP, Crdtdb_Ack="all", Prefer="wait=60"))
        await eventually("written here", lambda: _value(eu) == 1)
    assert _acked(await waiting) == (202, 1)
