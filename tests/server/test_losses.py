"""Over HTTP: what is damaged and waits for a peer, and accepting the loss of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import structlog

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import format_incarnation
from crdtdb.store.base import Table
from livecluster import LiveWire, eventually, live_cluster

DAMAGE = "/v1/damage"
LOSSES = "/v1/damage/losses"
SET = "/v1/buckets/shop/set/cart"
CART = {"bucket": "shop", "type": "set", "key": "cart"}


@pytest.fixture
async def cluster() -> AsyncIterator[list[LiveWire]]:
    async with live_cluster("eu-1", "us-1") as wires:
        yield wires


def flip(wire: LiveWire, at: bytes) -> None:
    """Damage a stored record beyond what it says of itself."""
    store = wire.service.database.engine.store
    with store.snapshot() as snapshot:
        row = snapshot.get(Table.RECORDS, at)
    assert row is not None
    store.commit({Table.RECORDS: {at: row[:-1] + bytes([row[-1] ^ 0x41])}})


async def test_a_loss_is_named_and_accepted(cluster: list[LiveWire]) -> None:
    eu, us = cluster
    await eu.post(SET, {"op": "add", "value": "bread"})
    await eventually("us has it", lambda: us.service.seen.includes(eu.service.seen))
    eu.cut(us)
    await eu.post(SET, {"op": "add", "value": "milk"})
    flip(eu, address.member(ObjectName("shop", "set", "cart"), "milk"))
    await eu.post("/v1/buckets/shop/counter/views", {"op": "increment"})

    dry = await eu.post(f"{LOSSES}?dry_run=true", CART)  # it is looked at, walk or no walk
    assert dry.status == 200
    counter = eu.service.seen.get(eu.network.replication.incarnation) - 1
    lost = CART | {
        "records": 1,
        "parts": [{"of": "member", "member": "milk"}],
        "loses": "parts",
        "known_to": [],
        "unreported": [
            {
                "incarnation": format_incarnation(eu.network.replication.incarnation),
                "first": counter,
                "last": counter,
            }
        ],
    }
    assert dry.document == {
        "dry_run": True,
        "objects": 1,
        "records": 1,
        "lost": [lost],
        "refused": [],
    }
    assert (await eu.get("/readyz")).document["state"] == "damaged"
    assert (await eu.get(DAMAGE)).document == {"objects": 1, "records": 1, "waiting": [lost]}
    eu.mend(us)

    with structlog.testing.capture_logs() as logged:
        done = await eu.post(LOSSES, CART)
    assert done.document == dry.document | {"dry_run": False}
    (told,) = (entry for entry in logged if entry["event"] == "a loss was accepted")
    assert (told["key"], told["parts"]) == ("cart", lost["parts"])
    await eventually("us has all", lambda: us.service.seen.includes(eu.service.seen))
    for wire in (eu, us):
        assert (await wire.get(SET)).document["value"] == ["bread"]
        assert (await wire.get("/v1/buckets/shop/counter/views")).document["value"] == 1
        assert (await wire.get("/readyz")).document["state"] == "serving"
    assert (await eu.get(DAMAGE)).document == {"objects": 0, "records": 0, "waiting": []}
    integrity = (await eu.get("/v1/cluster")).document["integrity"]
    assert (integrity["damaged"], integrity["accepted"]) == (0, 1)
    metrics = (await eu.get("/metrics")).body.decode()
    assert "crdtdb_damage_accepted_total 1.0" in metrics


async def test_everything_at_once_but_what_cannot_be(cluster: list[LiveWire]) -> None:
    eu, us = cluster
    eu.cut(us)
    await eu.post(SET, {"op": "add", "value": "milk"})
    await eu.post("/v1/buckets/shop/text/note", {"op": "insert", "index": 0, "text": "x"})
    fields = {"op": "update", "field": ["a"], "do": {"type": "set", "op": "add", "value": 1}}
    await eu.post("/v1/buckets/shop/map/m", fields)
    await eu.post("/v1/buckets/shop/opcounter/n", {"op": "increment"})
    with eu.service.database.engine.store.snapshot() as snapshot:
        below = address.bucket_prefix("shop")
        found = [at for at, _ in snapshot.scan(Table.RECORDS, below, address.after(below))]
    for at in found:
        flip(eu, at)
    for kind, key in (("set", "cart"), ("text", "note"), ("map", "m"), ("opcounter", "n")):
        await eu.post(f"{LOSSES}?dry_run=true", {"bucket": "shop", "type": kind, "key": key})
    done = (await eu.post(LOSSES, {"everything": True})).document
    assert {(one["type"], one["loses"]) for one in done["lost"]} == {
        ("set", "parts"),
        ("map", "parts"),
        ("opcounter", "everything"),
    }
    parts = {one["type"]: one["parts"] for one in done["lost"]}
    assert parts["map"] == [{"of": "member", "field": ["a"], "type": "set", "member": 1}]
    assert parts["opcounter"] == [{"of": "operations"}]
    (refused,) = done["refused"]
    assert (refused["type"], refused["loses"]) == ("text", None)
    assert "empty directory" in refused["refusal"]
    assert (await eu.get(DAMAGE)).document["objects"] == 1


async def test_a_damaged_cut_of_several(cluster: list[LiveWire]) -> None:
    eu, us = cluster
    eu.cut(us)
    await eu.post(SET, {"op": "add", "value": "milk"})
    assert (await eu.delete("/v1/buckets/shop/set?prefix=ca")).status == 200
    flip(eu, address.cut(address.key_prefix("shop", "set", "ca")))
    walk = eu.network.replication.mending
    walk.look_below(address.CUTS)
    (one,) = (await eu.get(DAMAGE)).document["waiting"]
    assert (one["bucket"], one["type"], one["key"], one["prefix"]) == ("shop", "set", None, "ca")
    assert one["parts"] == [{"of": "deletes"}]
    assert (await eu.post(LOSSES, {"everything": True})).document["records"] == 1


async def test_refusals(cluster: list[LiveWire]) -> None:
    eu, _ = cluster
    sound = await eu.post(LOSSES, CART)
    assert (sound.status, sound.document["code"]) == (422, "invalid-operation")
    assert "damaged" in sound.document["detail"]
    assert (await eu.post(LOSSES, {})).status == 400
    assert (await eu.post(LOSSES, CART | {"member": 1})).status == 400
    assert (await eu.post(LOSSES, {"everything": 1})).status == 400
    assert (await eu.post(f"{LOSSES}?dry_run=maybe", CART)).status == 400
    text = {"bucket": "shop", "type": "text", "key": "note"}
    await eu.post("/v1/buckets/shop/text/note", {"op": "insert", "index": 0, "text": "x"})
    prefix = ObjectName(**text).prefix
    with eu.service.database.engine.store.snapshot() as snapshot:
        (at, _) = next(iter(snapshot.scan(Table.RECORDS, prefix, address.after(prefix))))
    flip(eu, at)
    refused = await eu.post(LOSSES, text)
    assert (refused.status, refused.document["code"]) == (422, "invalid-operation")
    assert "empty directory" in refused.document["detail"]
