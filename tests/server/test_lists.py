"""A list over HTTP: pages by position, in transactions, in the feed, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from wireclient import Wire

AT = "/v1/buckets/home/list/todo"
NAME = {"bucket": "home", "type": "list", "key": "todo"}


async def _filled(wire: Wire, *values: Any) -> list[str]:
    await wire.post(AT, {"op": "insert", "values": list(values)})
    return [entry["id"] for entry in (await wire.get(AT)).document["value"]]


def _values(document: Any) -> list[Any]:
    return [entry["value"] for entry in document["value"]]


async def test_pages_by_position(wire: Wire) -> None:
    await _filled(wire, *range(10))
    document = (await wire.get(f"{AT}?limit=3&from=2&to=7")).document
    assert (_values(document), document["size"]) == ([2, 3, 4], 10)
    query = f"{AT}?limit=3&from=2&to=7&after={document['next']}"
    document = (await wire.get(query)).document
    assert (_values(document), "next" in document) == ([5, 6], False)
    assert _values((await wire.get(f"{AT}?limit=2&reverse=true")).document) == [9, 8]
    assert (await wire.get(f"{AT}?member=7")).document == {"value": True}
    assert (await wire.get(f"{AT}?member=10")).document == {"value": False}


@pytest.mark.parametrize("query", ["from=-1", "to=1.5", 'from="a"', "from=true"])
async def test_a_bound_that_is_no_position(wire: Wire, query: str) -> None:
    await _filled(wire, 1)
    refused = await wire.get(f"{AT}?{query}")
    assert refused.status == 400
    assert refused.document["errors"][0]["field"] == query.partition("=")[0]


async def test_elements_by_id_and_the_whole(wire: Wire) -> None:
    first, _, last = await _filled(wire, "a", "b", "c")
    done = await wire.post(
        AT,
        [
            {"op": "insert", "after": first, "value": "x"},
            {"op": "delete", "ids": [first, last]},
        ],
    )
    assert done.document == {"size": 2, "changed": True}
    assert _values((await wire.get(AT)).document) == ["x", "b"]
    before = wire.state
    refused = await wire.post(AT, {"op": "insert", "before": last, "value": "y"})
    assert (refused.status, refused.document["code"]) == (410, "gone")
    assert refused.document["errors"][0]["field"] == "before"
    assert wire.state == before
    assert (await wire.delete(AT)).document == {"size": 0, "changed": True}


async def test_a_list_in_a_transaction_and_in_the_feed(wire: Wire) -> None:
    await _filled(wire, "a", "b")
    answer = await wire.post(
        "/v1/transactions",
        {
            "reads": [{**NAME, "limit": 1, "from": 1}],
            "updates": [
                {**NAME, "op": "insert", "index": 0, "value": "first"},
                {**NAME, "op": "delete", "index": 2},
            ],
        },
    )
    assert _values(answer.document["reads"][0]) == ["b"]
    assert [result["size"] for result in answer.document["results"]] == [3, 2]
    page = (await wire.get("/v1/changes?bucket=home")).document
    last = (page if isinstance(page, list) else page["changes"])[-1]
    assert {key: last[key] for key in NAME} == NAME
    assert last["deleted"] is False


async def test_why_a_list_reads_as_it_does(wire: Wire) -> None:
    first, _ = await _filled(wire, "a", "b")
    await wire.post(AT, {"op": "insert", "after": first, "value": "x"})
    await wire.post(AT, {"op": "delete", "ids": [first]})
    records = (await wire.get(f"{AT}?explain=true")).document["explain"]["records"]
    entries = [entry for record in records for entry in record["entries"]]
    assert [entry.get("values") or entry["deleted"] for entry in entries] == [
        *(["a", "b"], ["x"], [first])
    ]
