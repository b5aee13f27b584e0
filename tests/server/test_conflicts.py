"""`GET /v1/conflicts`: what lost to concurrent writes, and how it is asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crdtdb import Database
from crdtdb_server.app import serving
from crdtdb_server.service import Options, Service
from livecluster import eventually, live_cluster
from replicas import START_MS, Replica, exchange
from wireclient import Wire

_JOURNAL = "/v1/conflicts"


def _contended(*keys: str) -> Replica:
    """A replica that lost the value of each of these registers to another, one by one."""
    here, there = Replica(1), Replica(2, now_ms=START_MS + 7)
    for key in keys:
        for replica in (here, there):
            replica.do("register", "set", key=key, value=[replica.number])
        exchange(here, there)
    return here


@pytest.fixture
def database() -> Iterator[Database]:
    with Database(_contended("a", "b", "c/d").store, replica="eu-1") as database:
        yield database


async def _keys(wire: Wire, query: str = "") -> list[str]:
    document = (await wire.get(f"{_JOURNAL}?{query}")).document
    return [conflict["object"]["key"] for conflict in document["conflicts"]]


async def test_each_says_what_was_kept_and_what_was_lost(wire: Wire) -> None:
    reply = await wire.get(f"{_JOURNAL}?key=a")
    assert reply.document == {
        "conflicts": [
            {
                "object": {"bucket": "shop", "type": "register", "key": "a"},
                "at_ms": START_MS,
                "kept": [2],
                "lost": [{"value": [1], "replica": "eu-1", "at_ms": START_MS}],
            }
        ]
    }


async def test_the_latest_come_first_of_what_is_asked_for(wire: Wire) -> None:
    assert await _keys(wire) == ["c/d", "b", "a"]
    assert await _keys(wire, "bucket=shop&type=register") == ["c/d", "b", "a"]
    assert await _keys(wire, "bucket=shop&type=register&key=c%2Fd") == ["c/d"]
    assert await _keys(wire, "bucket=other") == await _keys(wire, "type=set") == []


async def test_pages_go_on_behind_the_last_also_when_more_is_lost(wire: Wire) -> None:
    first = (await wire.get(f"{_JOURNAL}?limit=2")).document
    assert [conflict["object"]["key"] for conflict in first["conflicts"]] == ["c/d", "b"]
    rest = (await wire.get(f"{_JOURNAL}?limit=2&after={first['next']}")).document
    assert [conflict["object"]["key"] for conflict in rest["conflicts"]] == ["a"]
    assert "next" not in rest
    assert "next" not in (await wire.get(f"{_JOURNAL}?limit=3")).document


@pytest.mark.parametrize(
    ("query", "status", "code", "field"),
    [
        ("bucket=Shop", 400, "bad-request", "bucket"),
        ("bucket=_system", 400, "bad-request", "bucket"),
        ("type=nonsense", 404, "unknown-type", "type"),
        ("key=", 400, "bad-request", "key"),
        ("key=..", 400, "bad-request", "key"),
        ("limit=0", 400, "bad-request", "limit"),
        ("limit=1001", 400, "bad-request", "limit"),
        ("limit=x", 400, "bad-request", "limit"),
        ("after=", 400, "bad-request", "after"),
        ("after=AAAA", 400, "bad-request", "after"),
        ("after=!", 400, "bad-request", "after"),
        ("since=now", 400, "bad-request", "since"),
        ("bucket=a&bucket=b", 400, "bad-request", "bucket"),
    ],
)
async def test_what_is_wrong_is_named(
    wire: Wire, query: str, status: int, code: str, field: str
) -> None:
    reply = await wire.get(f"{_JOURNAL}?{query}")
    assert (reply.status, reply.document["code"]) == (status, code)
    assert [wrong["field"] for wrong in reply.document["errors"]] == [field]


async def test_a_cursor_is_of_its_query_and_its_replica(wire: Wire) -> None:
    following = (await wire.get(f"{_JOURNAL}?limit=1&bucket=shop")).document["next"]
    same = await wire.get(f"{_JOURNAL}?limit=2&bucket=shop&after={following}")
    assert [conflict["object"]["key"] for conflict in same.document["conflicts"]] == ["b", "a"]
    for query in ("", "bucket=other", "bucket=shop&type=register"):
        reply = await wire.get(f"{_JOURNAL}?{query}&after={following}".replace("?&", "?"))
        assert (reply.status, reply.document["errors"][0]["field"]) == (400, "after")
    copied = _contended("a", "b").store.copy(b"elsewhere")
    with Database(copied, replica="us-1") as other:
        async with serving(Service(other, Options(port=0))) as url:
            elsewhere = Wire(wire.service, int(url.rpartition(":")[2]))
            reply = await elsewhere.get(f"{_JOURNAL}?bucket=shop&after={following}")
            assert (reply.status, reply.document["errors"][0]["field"]) == (400, "after")


async def test_other_methods_are_refused(wire: Wire) -> None:
    assert (await wire.delete(_JOURNAL)).status == 405
    assert (await wire.request("HEAD", _JOURNAL)).status == 200


async def test_live_replicas_tell_of_each_other_by_name() -> None:
    at = "/v1/buckets/shop/register/k"
    async with live_cluster("eu-1", "us-1") as (eu, us):
        eu.cut(us)
        us.cut(eu)
        await eu.put(at, "here")
        await us.put(at, "there")
        assert await _keys(eu) == await _keys(us) == []
        eu.mend(us)
        us.mend(eu)
        await eventually("both have both", lambda: eu.service.seen == us.service.seen)
        kept = (await eu.get(at)).document["value"]
        for wire in (eu, us):
            (conflict,) = (await wire.get(_JOURNAL)).document["conflicts"]
            (lost,) = conflict["lost"]
            assert conflict["kept"] == kept
            assert {kept, lost["value"]} == {"here", "there"}
            assert lost["replica"] == {"here": "eu-1", "there": "us-1"}[lost["value"]]
            assert lost["at_ms"] <= conflict["at_ms"]
