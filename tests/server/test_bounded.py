"""Bounded counters over HTTP: what is refused, and how rights come to where they are needed."""

from __future__ import annotations

from livecluster import LiveWire, eventually, live_cluster
from wireclient import Wire

_AT = "/v1/buckets/shop/bcounter/stock"


async def test_a_bound_that_is_reached_is_a_conflict(wire: Wire) -> None:
    await wire.post(_AT, [{"op": "create", "max": 10}, {"op": "increment", "by": 8}])
    refused = await wire.post(_AT, {"op": "increment", "by": 3})
    assert (refused.status, refused.document["code"]) == (409, "out-of-bounds")
    assert refused.document["errors"] == [{"field": "by", "message": "beyond `max`", "limit": 2}]
    other = await wire.post(_AT, {"op": "create", "max": 11})
    assert (other.status, other.document["code"]) == (409, "conflicting-bounds")
    assert (await wire.get(_AT)).document["value"] == 8


async def test_it_cannot_be_deleted_nor_can_its_bucket(wire: Wire) -> None:
    await wire.post(_AT, {"op": "create"})
    for at in (_AT, "/v1/buckets/shop", "/v1/buckets/shop/bcounter?prefix=st"):
        refused = await wire.delete(at)
        assert (refused.status, refused.document["code"]) == (422, "invalid-operation")
    assert (await wire.post(_AT, {"op": "delete"})).status == 422
    assert (await wire.delete("/v1/buckets/shop/bcounter/other")).status == 422
    assert (await wire.get(_AT)).document["exists"] is True


async def test_a_transaction_that_has_no_rights_changes_nothing(wire: Wire) -> None:
    order = {"bucket": "shop", "type": "counter", "key": "sold", "op": "increment"}
    stock = {"bucket": "shop", "type": "bcounter", "key": "stock", "op": "decrement"}
    await wire.post(_AT, {"op": "create"})
    refused = await wire.post("/v1/transactions", {"updates": [order, stock]})
    assert (refused.status, refused.document["code"]) == (409, "out-of-bounds")
    assert (await wire.get("/v1/buckets/shop/counter/sold")).document["exists"] is False


async def test_rights_move_to_a_region_by_themselves_and_by_hand() -> None:
    async with live_cluster("eu-1", "us-1") as (eu, us):
        await eu.post(_AT, [{"op": "create", "max": 100}, {"op": "increment", "by": 60}])
        await eventually("shared", lambda: _held(us) == (30, 20))
        eu.cut(us)
        us.cut(eu)
        assert (await us.post(_AT, {"op": "decrement", "by": 30})).document["value"] == 30
        refused = await us.post(_AT, {"op": "decrement"})
        assert (refused.status, refused.document["code"]) == (409, "no-rights")
        assert refused.document["errors"] == [
            {"field": "by", "message": "more than is held here", "limit": 0},
            {"field": "by", "message": "held by eu-1", "limit": 30},
        ]
        given = await eu.post(_AT, {"op": "transfer", "to": "us-1", "amount": 30})
        assert given.status == 200
        assert (await eu.post(_AT, {"op": "decrement"})).document["code"] == "no-rights"
        eu.mend(us)
        us.mend(eu)
        await eventually("given", lambda: _held(us)[0] >= 15)
        explanation = (await us.get(f"{_AT}?explain=true")).document["explain"]
        assert sorted(explanation["replicas"].values()) == ["eu-1", "us-1"]


def _held(wire: LiveWire) -> tuple[int, int | None]:
    """Rights to decrement and to increment that a replica knows it holds."""
    database = wire.service.database
    held = {one.replica: one for one in database.bcounter("shop", "stock").rights().held}
    own = held.get(database.replica)
    return (0, 0) if own is None else (own.decrement, own.increment)
