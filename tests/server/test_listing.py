"""Buckets, types, keys; and deletes of whole ranges."""

from __future__ import annotations

from typing import Any

import pytest

from crdtdb.limits import Limits
from wireclient import Wire


@pytest.fixture
async def full(wire: Wire) -> Wire:
    """Three keys of two types in one bucket, one in another."""
    for at in ("shop/counter/a1", "shop/counter/a2", "shop/counter/b", "users/counter/x"):
        await wire.post(f"/v1/buckets/{at}", {"op": "increment"})
    await wire.post("/v1/buckets/shop/set/s", {"op": "add", "values": [1, 2]})
    return wire


async def _all(wire: Wire, target: str, field: str) -> list[Any]:
    """Everything that a listing gives, one entry a page."""
    found: list[Any] = []
    query = "&" if "?" in target else "?"
    page = (await wire.get(f"{target}{query}limit=1")).document
    while True:
        assert len(page[field]) == 1
        found += page[field]
        if "next" not in page:
            return found
        page = (await wire.get(f"{target}{query}limit=1&after={page['next']}")).document


async def test_listings(full: Wire) -> None:
    assert (await full.get("/v1/buckets")).document == {"buckets": ["shop", "users"]}
    bucket = await full.get("/v1/buckets/shop")
    assert bucket.document == {"bucket": "shop", "types": ["counter", "set"]}
    keys = await full.get("/v1/buckets/shop/counter")
    assert keys.document == {"bucket": "shop", "type": "counter", "keys": ["a1", "a2", "b"]}
    keys = await full.get("/v1/buckets/shop/counter?prefix=a")
    assert keys.document["keys"] == ["a1", "a2"]
    assert (await full.get("/v1/buckets/nobody")).document["types"] == []


async def test_listings_page_by_page(full: Wire) -> None:
    assert await _all(full, "/v1/buckets", "buckets") == ["shop", "users"]
    assert await _all(full, "/v1/buckets/shop/counter", "keys") == ["a1", "a2", "b"]
    assert await _all(full, "/v1/buckets/shop/counter?prefix=a", "keys") == ["a1", "a2"]
    objects = await _all(full, "/v1/buckets/shop/counter?values=true", "objects")
    assert [(one["key"], one["value"]) for one in objects] == [("a1", 1), ("a2", 1), ("b", 1)]


async def test_values_are_the_documents_of_single_reads(full: Wire) -> None:
    listed = (await full.get("/v1/buckets/shop/set?values=true")).document
    assert listed["objects"] == [(await full.get("/v1/buckets/shop/set/s")).document]
    assert "keys" not in listed


async def test_a_page_with_values_ends_before_it_grows_too_large(
    full: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crdtdb_server.listing.LIMITS", Limits(body_bytes=200))
    page = (await full.get("/v1/buckets/shop/counter?values=true")).document
    assert [one["key"] for one in page["objects"]] == ["a1", "a2"]
    rest = await full.get(f"/v1/buckets/shop/counter?values=true&after={page['next']}")
    assert [one["key"] for one in rest.document["objects"]] == ["b"]


async def test_a_cursor_belongs_to_its_listing(full: Wire) -> None:
    cursor = (await full.get("/v1/buckets/shop/counter?limit=1")).document["next"]
    for other in ("shop/counter?prefix=a&", "users/counter?", "shop/set?"):
        refused = await full.get(f"/v1/buckets/{other}after={cursor}")
        assert (refused.status, refused.document["errors"][0]["field"]) == (400, "after")


@pytest.mark.parametrize(
    ("target", "left"),
    [
        ("/v1/buckets/shop", {"users": ["x"]}),
        ("/v1/buckets/shop/counter", {"users": ["x"], "shop": []}),
        ("/v1/buckets/shop/counter?prefix=a", {"users": ["x"], "shop": ["b"]}),
    ],
)
async def test_delete_a_range(full: Wire, target: str, left: dict[str, list[str]]) -> None:
    dry_run = target + ("&" if "?" in target else "?") + "dry_run=true"
    before = full.state
    counted = (await full.delete(dry_run)).document
    assert full.state == before
    deleted = await full.delete(target)
    assert deleted.status == 200
    assert deleted.document == {"objects": counted["objects"], "changed": True}
    assert deleted.document["objects"] > 0
    for bucket, keys in left.items():
        assert (await full.get(f"/v1/buckets/{bucket}/counter")).document["keys"] == keys
    again = await full.delete(target)
    assert again.document == {"objects": 0, "changed": False}


async def test_a_delete_of_too_many_is_refused_also_when_only_counting(
    full: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crdtdb_server.listing.LIMITS", Limits(delete_objects=2))
    refused = await full.delete("/v1/buckets/shop/counter?dry_run=true")
    assert (refused.status, refused.document["code"]) == (413, "too-large")
