"""Maps over HTTP: what is asked by `field` and `prefix`, and what is refused."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from wireclient import Wire

_AT = "/v1/buckets/shop/map/cart"


def _update(field: list[str], **do: Any) -> dict[str, Any]:
    return {"op": "update", "field": field, "do": do}


def _asking(**parameters: Any) -> str:
    return "&".join(f"{name}={quote(json.dumps(value))}" for name, value in parameters.items())


async def test_one_field(wire: Wire) -> None:
    await wire.post(_AT, _update(["a", "n"], type="counter", op="increment"))
    document = (await wire.get(f"{_AT}?{_asking(field=['a', 'n'])}")).document
    assert document.pop("seen")
    assert document == {"field": ["a", "n"], "type": "counter", "value": 1}


async def test_several_operations_on_a_map_take_effect_together(wire: Wire) -> None:
    step = _update(["n"], type="counter", op="increment")
    wrong = _update(["n"], type="counter", op="increment", by=0)
    refused = await wire.post(_AT, [step, wrong])
    assert refused.status == 400
    assert refused.document["errors"][0]["field"] == "[1].do.by"
    assert (await wire.get(_AT)).document["exists"] is False
    assert (await wire.post(_AT, [step, step])).document == {"size": 1, "changed": True}


async def test_a_transaction_reads_fields_and_updates_them(wire: Wire) -> None:
    name = {"bucket": "shop", "type": "map", "key": "cart"}
    step = {**name, **_update(["a", "n"], type="counter", op="increment")}
    reads = [
        {**name, "field": ["a", "n"]},
        {**name, "prefix": ["a"], "limit": 5},
    ]
    first = await wire.post("/v1/transactions", {"reads": reads, "updates": [step]})
    assert [read["value"] for read in first.document["reads"]] == [None, []]
    second = await wire.post("/v1/transactions", {"reads": reads, "updates": [step]})
    assert [read["value"] for read in second.document["reads"]] == [
        1,
        [{"field": ["a", "n"], "type": "counter", "value": 1}],
    ]
    assert second.document["results"] == [{"size": 1, "changed": True}]
    wrong = await wire.post("/v1/transactions", {"reads": [{**name, "field": "a"}]})
    assert wrong.document["errors"][0]["field"] == "reads[0].field"


@pytest.mark.parametrize(
    ("parameters", "status", "field"),
    [
        ({"field": []}, 400, "field"),
        ({"field": "a"}, 400, "field"),
        ({"field": ["a", 1]}, 400, "field"),
        ({"field": ["a"] * 17}, 400, "field"),
        ({"field": ["a" * 2_048]}, 413, "field"),
        ({"field": ["a"], "limit": 5}, 400, "field"),
        ({"prefix": "a"}, 400, "prefix"),
        ({"member": "a"}, 422, "member"),
        ({"from": "a"}, 422, "from"),
        ({"reverse": True}, 422, "reverse"),
    ],
)
async def test_what_no_map_is_asked_is_refused(
    wire: Wire, parameters: dict[str, Any], status: int, field: str
) -> None:
    refused = await wire.get(f"{_AT}?{_asking(**parameters)}")
    assert refused.status == status
    assert refused.document["errors"][0]["field"] == field


@pytest.mark.parametrize("name", ["field", "prefix"])
async def test_no_other_type_has_fields(wire: Wire, name: str) -> None:
    refused = await wire.get(f"/v1/buckets/shop/set/cart?{_asking(**{name: ['a']})}")
    assert refused.status == 422
    assert refused.document["errors"][0]["field"] == name
