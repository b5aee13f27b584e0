"""One object over HTTP: every type, every method."""

from __future__ import annotations

import json
import threading
from typing import Any
from urllib.parse import quote

import pytest

from crdtdb import Database
from crdtdb.types import CATALOGUE
from operations import Plain, creation
from oracle.events import Event, EventId
from oracle.specification import show
from wireclient import Wire


def shown(type_name: str, *operations: Plain) -> Any:
    """What is read of an object of which these operations are all that ever was."""
    name = ("shop", type_name, "k")
    first: frozenset[EventId] = frozenset()
    events = [Event((1, 1), name, operation, first, first, 0) for operation in operations]
    return json.loads(show(name, events).text)


@pytest.mark.parametrize("type_name", CATALOGUE)
async def test_write_then_read(wire: Wire, type_name: str) -> None:
    at = f"/v1/buckets/shop/{type_name}/k"
    operation = creation(type_name)
    value = shown(type_name, operation)
    written = await wire.post(at, operation)
    assert written.status == 200
    answer = {"size": len(value)} if CATALOGUE[type_name].sized else {"value": value}
    assert written.document == {**answer, "changed": True}

    read = await wire.get(at)
    document = read.document
    removable = "seen" in document
    assert removable == (await wire.get("/v1")).document["types"][type_name]["removable"]
    document.pop("seen", None)
    if type_name == "list":  # the specification knows no incarnation of this replica
        for entry in (*document["value"], *value):
            del entry["id"]
    expected = {"bucket": "shop", "type": type_name, "key": "k", "value": value, "exists": True}
    if CATALOGUE[type_name].collection:
        expected["size"] = len(value)
    assert document == expected
    assert read.headers["crdtdb-exists"] == "true"
    assert read.headers["content-type"] == "application/json"


@pytest.mark.parametrize("type_name", [n for n, kind in CATALOGUE.items() if kind.deletable])
async def test_delete_leaves_the_bottom(wire: Wire, type_name: str) -> None:
    at = f"/v1/buckets/shop/{type_name}/k"
    await wire.post(at, creation(type_name))
    deleted = await wire.delete(at)
    assert deleted.status == 200
    assert deleted.document["changed"] is True
    assert (await wire.delete(at)).document["changed"] is False
    document = (await wire.get(at)).document
    assert (document["exists"], document["value"]) == (False, shown(type_name))


async def test_what_nobody_wrote_is_no_error_and_other_types_are_named(wire: Wire) -> None:
    await wire.post("/v1/buckets/shop/counter/k", {"op": "increment"})
    read = await wire.get("/v1/buckets/shop/set/k")
    assert read.status == 200
    assert read.headers["crdtdb-exists"] == "false"
    assert read.document["also"] == ["counter"]
    assert read.document["value"] == []


async def test_a_list_of_operations_is_atomic(wire: Wire) -> None:
    at = "/v1/buckets/shop/counter/k"
    done = await wire.post(at, [{"op": "increment", "by": 7}, {"op": "decrement", "by": 2}])
    assert done.document == {"value": 5, "changed": True}
    before = wire.state
    refused = await wire.post(at, [{"op": "increment"}, {"op": "increment", "by": 0}])
    assert refused.status == 400
    assert refused.document["errors"][0]["field"] == "[1].by"
    assert wire.state == before


async def test_an_integer_beyond_64_bits_is_exact(wire: Wire) -> None:
    at = "/v1/buckets/shop/counter/k"
    step = {"op": "increment", "by": 2**53 - 1}
    for _ in range(3):
        done = await wire.post(at, [step] * 1_000)
    total = 3_000 * (2**53 - 1)
    assert total > 2**64
    assert done.document == {"value": total, "changed": True}
    assert (await wire.get(at)).document["value"] == total
    listed = await wire.get("/v1/buckets/shop/counter?values=true")
    assert listed.document["objects"][0]["value"] == total


async def test_put_sets_a_register(wire: Wire) -> None:
    at = "/v1/buckets/shop/register/k"
    assert (await wire.put(at, None)).document == {"value": None, "changed": True}
    assert (await wire.put(at, [1.0, "ü"])).document == {"value": [1, "ü"], "changed": True}
    assert (await wire.get(at)).document["value"] == [1, "ü"]


async def test_put_brings_a_value_into_an_extreme(wire: Wire) -> None:
    at = "/v1/buckets/shop/max/k"
    assert (await wire.put(at, 5)).document == {"value": 5, "changed": True}
    assert (await wire.put(at, 4)).document == {"value": 5, "changed": False}
    seen = (await wire.get(at)).document["seen"]
    assert (await wire.delete(f"{at}?seen={seen}")).document == {"value": None, "changed": True}
    refused = await wire.put("/v1/buckets/shop/hll/k", 5)
    assert (refused.status, refused.document["code"]) == (422, "invalid-operation")
    assert "max, min" in refused.document["errors"][0]["limit"]


async def test_put_and_delete_with_a_read_context_keep_what_it_did_not_show(
    wire: Wire, database: Database
) -> None:
    at = "/v1/buckets/shop/mvregister/k"
    await wire.put(at, "old")
    seen = (await wire.get(at)).document["seen"]
    await wire.put(at, "unseen")
    assert (await wire.put(f"{at}?seen={seen}", "new")).document["value"] == ["new", "unseen"]
    await wire.delete(f"{at}?seen={seen}")
    assert (await wire.get(at)).document["value"] == ["new", "unseen"]
    await wire.delete(at)
    assert (await wire.get(at)).document["exists"] is False


async def test_pages_follow_each_other(wire: Wire) -> None:
    at = "/v1/buckets/shop/set/k"
    await wire.post(at, {"op": "add", "values": list(range(25))})
    for reverse in ("false", "true"):
        members: list[int] = []
        target = f"{at}?limit=10&reverse={reverse}"
        page = (await wire.get(target)).document
        while True:
            members += page["value"]
            assert page["size"] == 25
            if "next" not in page:
                break
            page = (await wire.get(f"{target}&after={page['next']}")).document
        assert members == sorted(range(25), reverse=reverse == "true")


async def test_from_is_included_and_to_is_not(wire: Wire) -> None:
    at = "/v1/buckets/shop/set/k"
    await wire.post(at, {"op": "add", "values": [1, 2, 3, 4, "a", [1]]})

    async def members(query: str) -> Any:
        return (await wire.get(f"{at}?{query}")).document["value"]

    assert await members("from=2&to=4") == [2, 3]
    assert await members("from=2&to=4&reverse=true") == [3, 2]
    assert await members("from=%22a%22") == ["a", [1]]
    assert await members("to=1.0") == []
    assert await members("from=4&to=2") == []
    assert await members("from=2&to=2") == []


async def test_a_single_member(wire: Wire) -> None:
    at = "/v1/buckets/shop/set/k"
    await wire.post(at, {"op": "add", "values": [1, "a b+c", None]})

    async def contains(member: str) -> Any:
        return (await wire.get(f"{at}?member={member}")).document

    assert await contains("1.0") == {"value": True}
    assert await contains("true") == {"value": False}
    assert await contains("null") == {"value": True}
    assert await contains("%22a%20b%2Bc%22") == {"value": True}
    assert await contains("%22a+b%2Bc%22") == {"value": True}
    assert await contains("%22a+b+c%22") == {"value": False}


async def test_head_says_whether_it_exists_without_the_value(wire: Wire) -> None:
    at = "/v1/buckets/shop/flag/k"
    missing = await wire.request("HEAD", at)
    assert (missing.status, missing.body) == (200, b"")
    assert missing.headers["crdtdb-exists"] == "false"
    await wire.post(at, {"op": "enable"})
    there = await wire.request("HEAD", at)
    assert there.headers["crdtdb-exists"] == "true"
    assert there.headers["etag"] == (await wire.get(at)).headers["etag"]
    assert "content-length" not in there.headers


@pytest.mark.parametrize(
    "key",
    [
        "a/b",
        "%",
        "%2F",
        "ключ",
        "{key}",
        " ",
        "+",
        "?",
        "#",
        "a\x01b",
        "...",
        "\u00e9",
        "e\u0301",
        "x" * 1024,
    ],
)
async def test_any_key_is_possible_and_stays_itself(wire: Wire, key: str) -> None:
    at = "/v1/buckets/shop/register/" + quote(key, safe="")
    await wire.put(at, key)
    assert (await wire.get(at)).document["key"] == key
    assert (await wire.get("/v1/buckets/shop/register")).document["keys"] == [key]


async def test_ranking_many_members_is_no_work_for_the_event_loop(
    wire: Wire, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = "/v1/buckets/shop/zset/k"
    await wire.post(at, [{"op": "add", "member": n, "score": -n} for n in range(5)])
    threads: list[threading.Thread] = []
    load = database._rankings._load

    def noted(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return load(*arguments)

    monkeypatch.setattr(database._rankings, "_load", noted)
    page = (await wire.get(f"{at}?order=rank&limit=2&reverse=true")).document
    assert page["value"] == [
        {"member": 0, "score": 0, "rank": 4},
        {"member": 1, "score": -1, "rank": 3},
    ]
    await wire.post(at, {"op": "increment", "member": 4, "by": 9.5})
    assert (await wire.get(f"{at}?member=4")).document == {"value": 5.5, "rank": 4}
    assert (await wire.get(f"{at}?member=9")).document == {"value": None, "rank": None}
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


#: As deep as values are, and a level too many.
_DEEPEST = "[" * 64 + "]" * 64
_TOO_DEEP = f"[{_DEEPEST}]"


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("PUT", "/v1/buckets/shop/register/k", "{value}"),
        ("POST", "/v1/buckets/shop/mvregister/k", '{{"op":"set","value":{value}}}'),
        ("POST", "/v1/buckets/shop/set/k", '[{{"op":"add","values":[{value}]}}]'),
        ("POST", "/v1/buckets/shop/zset/k", '{{"op":"add","member":{value},"score":1}}'),
        ("POST", "/v1/buckets/shop/hll/k", '{{"op":"add","value":{value}}}'),
        ("POST", "/v1/buckets/shop/list/k", '{{"op":"insert","index":0,"values":[{value}]}}'),
        (
            "POST",
            "/v1/transactions",
            '{{"updates":[{{"bucket":"shop","type":"map","key":"k","op":"update","field":["a"],'
            '"do":{{"type":"rwset","op":"add","values":[{value}]}}}}]}}',
        ),
    ],
)
async def test_a_value_may_be_as_deep_in_any_place(
    wire: Wire, method: str, target: str, body: str
) -> None:
    refused = await wire.request(method, target, body=body.format(value=_TOO_DEEP).encode())
    assert (refused.status, refused.document["code"]) == (400, "bad-request")
    assert refused.document["errors"][0]["limit"] == 64
    taken = await wire.request(method, target, body=body.format(value=_DEEPEST).encode())
    assert taken.status == 200
