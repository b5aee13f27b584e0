"""`?explain=true`: why an object reads as it does."""

from __future__ import annotations

from livecluster import eventually, live_cluster
from wireclient import Wire

_AT = "/v1/buckets/shop/register/k"


async def test_it_is_part_of_the_document_when_asked_for(wire: Wire) -> None:
    await wire.put(_AT, "v")
    plain = (await wire.get(_AT)).document
    assert "explain" not in plain
    assert (await wire.get(f"{_AT}?explain=false")).document == plain
    explained = (await wire.get(f"{_AT}?explain=true")).document
    explanation = explained.pop("explain")
    assert explained == plain
    (record,) = explanation["records"]
    (entry,) = record["entries"]
    assert (entry["state"], entry["value"]) == ("wins", "v")
    assert explanation["replicas"] == {entry["dot"].partition(":")[0]: "eu-1"}


async def test_members_of_the_page_or_the_one_asked_for(wire: Wire) -> None:
    at = "/v1/buckets/shop/set/k"
    await wire.post(at, {"op": "add", "values": [1, 2, 3]})

    async def members(query: str) -> list[int]:
        document = (await wire.get(f"{at}?explain=true&{query}")).document
        return [record["member"] for record in document["explain"]["records"]]

    assert await members("limit=2") == [1, 2]
    assert await members("member=2") == [2]
    assert await members("member=4") == []
    following = (await wire.get(f"{at}?limit=2")).document["next"]
    assert await members(f"limit=2&after={following}") == [3]


async def test_replicas_are_called_by_their_names() -> None:
    async with live_cluster("eu-1", "us-1") as (eu, us):
        eu.cut(us)
        us.cut(eu)
        await eu.put(_AT, "here")
        await us.put(_AT, "there")
        eu.mend(us)
        us.mend(eu)
        await eventually(
            "both have both",
            lambda: eu.service.seen == us.service.seen and len(eu.service.seen) == 2,
        )
        for wire in (eu, us):
            explanation = (await wire.get(f"{_AT}?explain=true")).document["explain"]
            assert sorted(explanation["replicas"].values()) == ["eu-1", "us-1"]
            (record,) = explanation["records"]
            entries = {entry["state"]: entry for entry in record["entries"]}
            assert entries.keys() == {"wins", "loses"}
            assert entries["wins"]["time"] >= entries["loses"]["time"]
