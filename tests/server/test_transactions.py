"""Several objects at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crdtdb.limits import Limits
from wireclient import Wire

AT = "/v1/transactions"


def _at(type_name: str, key: Any = "k", **rest: Any) -> dict[str, Any]:
    return {"bucket": "shop", "type": type_name, "key": key, **rest}


async def test_reads_show_the_state_before_the_updates(wire: Wire) -> None:
    request = {
        "reads": [_at("counter"), _at("set")],
        "updates": [
            _at("counter", op="increment", by=3),
            _at("set", op="add", values=[1, 2]),
            _at("counter", op="decrement"),
        ],
    }
    first = (await wire.post(AT, request)).document
    assert [read["exists"] for read in first["reads"]] == [False, False]
    assert first["results"] == [
        {"value": 3, "changed": True},
        {"size": 2, "changed": True},
        {"value": 2, "changed": True},
    ]
    second = (await wire.post(AT, request)).document
    assert [read["value"] for read in second["reads"]] == [2, [1, 2]]


async def test_reads_only_is_a_batch_of_reads(wire: Wire) -> None:
    await wire.post("/v1/buckets/shop/set/k", {"op": "add", "values": [1, 2, 3]})
    before = wire.state
    reads = [
        _at("set", limit=2),
        _at("set", member=3),
        _at("set", member=None),
        {**_at("set", reverse=True), "from": 2},
    ]
    done = (await wire.post(AT, {"reads": reads})).document
    assert done["results"] == []
    assert [read["value"] for read in done["reads"]] == [[1, 2], True, False, [3, 2]]
    following = done["reads"][0]["next"]
    rest = (await wire.post(AT, {"reads": [_at("set", limit=2, after=following)]})).document
    assert rest["reads"][0]["value"] == [3]
    assert wire.state == before


async def test_scores_and_ranks_are_read_with_the_rest(wire: Wire) -> None:
    adds = [_at("zset", op="add", member=member, score=score) for member, score in ((1, 5), (2, 3))]
    reads = [
        _at("zset", member=1),
        _at("zset", member=3),
        {**_at("zset", order="score", limit=1, reverse=True), "to": 5},
    ]
    first = (await wire.post(AT, {"updates": adds, "reads": reads})).document
    assert first["reads"][0] == {"value": None, "rank": None}
    done = (await wire.post(AT, {"reads": reads})).document["reads"]
    assert done[:2] == [{"value": 5, "rank": 1}, {"value": None, "rank": None}]
    assert done[2]["value"] == [{"member": 2, "score": 3}]


async def test_all_or_nothing(wire: Wire) -> None:
    before = wire.state
    updates = [
        _at("counter", op="increment"),
        _at("set", op="add", values=["x" * 5_000]),
    ]
    refused = await wire.post(AT, {"updates": updates})
    assert (refused.status, refused.document["code"]) == (413, "too-large")
    assert wire.state == before


async def test_no_increment_is_lost_between_a_read_and_its_update(wire: Wire) -> None:
    """Every transaction reads exactly the state that its own updates apply to."""
    request = {"reads": [_at("counter")], "updates": [_at("counter", op="increment")]}
    replies = await asyncio.gather(*(wire.post(AT, request) for _ in range(20)))
    pairs = [(r.document["reads"][0]["value"], r.document["results"][0]["value"]) for r in replies]
    assert sorted(pairs) == [(n, n + 1) for n in range(20)]


async def test_a_wrong_read_refuses_the_updates_too(wire: Wire) -> None:
    before = wire.state
    request = {
        "reads": [_at("set", after="AAAA")],
        "updates": [_at("counter", op="increment")],
    }
    refused = await wire.post(AT, request)
    assert (refused.status, refused.document["errors"][0]["field"]) == (400, "reads[0].after")
    assert wire.state == before


async def test_an_answer_has_a_bound_too(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    await wire.put("/v1/buckets/shop/register/k", "x" * 100)
    monkeypatch.setattr("crdtdb_server.documents.LIMITS", Limits(body_bytes=300))
    assert (await wire.post(AT, {"reads": [_at("register")]})).status == 200
    refused = await wire.post(AT, {"reads": [_at("register")] * 2})
    assert (refused.status, refused.document["code"]) == (413, "too-large")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], ""),
        ({}, "updates"),
        ({"updates": []}, "updates"),
        ({"reads": {}}, "reads"),
        ({"updates": "x"}, "updates"),
        ({"writes": []}, "writes"),
        ({"reads": [1]}, "reads[0]"),
        ({"reads": [{"bucket": "shop", "type": "set"}]}, "reads[0].key"),
        ({"reads": [_at("set", key=1)]}, "reads[0].key"),
        ({"reads": [_at("set", limit=0)]}, "reads[0].limit"),
        ({"reads": [_at("set", limit="1")]}, "reads[0].limit"),
        ({"reads": [_at("set", limit=True)]}, "reads[0].limit"),
        ({"reads": [_at("set", colour=1)]}, "reads[0].colour"),
        ({"reads": [_at("set", member=1, limit=1)]}, "reads[0].member"),
        ({"updates": [_at("set")]}, "updates[0].op"),
        (
            {"updates": [_at("set", op="add", value=1), _at("set", op="add", colour=1)]},
            "updates[1].colour",
        ),
        ({"updates": [_at("counter", op="increment")] * 1_001}, "updates"),
    ],
)
async def test_what_does_not_fit_is_named(wire: Wire, document: Any, field: str) -> None:
    before = wire.state
    refused = await wire.post(AT, document)
    assert (refused.status, refused.document["code"]) == (400, "bad-request")
    assert refused.document["errors"][0]["field"] == field
    assert wire.state == before


@pytest.mark.parametrize(
    ("entry", "status", "slug"),
    [
        (_at("nope", op="x"), 404, "unknown-type"),
        ({**_at("set", op="add", value=1), "bucket": "_system"}, 400, "bad-request"),
        (_at("counter", op="add"), 422, "invalid-operation"),
        (_at("set", op="clear", seen="AAAA"), 400, "bad-token"),
    ],
)
async def test_updates_are_checked_like_single_ones(
    wire: Wire, entry: dict[str, Any], status: int, slug: str
) -> None:
    before = wire.state
    refused = await wire.post(AT, {"updates": [entry]})
    assert (refused.status, refused.document["code"]) == (status, slug)
    assert wire.state == before


async def test_a_page_of_what_has_no_members_is_refused(wire: Wire) -> None:
    refused = await wire.post(AT, {"reads": [_at("counter", limit=1)]})
    assert (refused.status, refused.document["code"]) == (422, "invalid-operation")
    assert refused.document["errors"][0]["field"] == "reads[0].limit"
