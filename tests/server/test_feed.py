"""The change feed: resumable at any replica, never a gap, latest state only."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from crdtdb import Database
from crdtdb.address import ObjectName
from crdtdb.reclaim import Walk
from crdtdb.store.memory import MemoryStore
from crdtdb.token import TokenKind, read_token
from crdtdb.transaction import Transaction
from crdtdb_server import feed
from crdtdb_server.access import EVERYBODY
from crdtdb_server.app import serving
from crdtdb_server.exchange import Request
from crdtdb_server.service import Options, Service
from processes import DEADLINE_S
from replicas import missing, update
from wireclient import Wire


async def _all(wire: Wire, query: str = "") -> tuple[list[dict[str, Any]], str]:
    """Every change after a query, page by page."""
    changes: list[dict[str, Any]] = []
    since = ""
    while True:
        page = (await wire.get(f"/v1/changes?limit=2{query}{since}")).document
        changes += page["changes"]
        since = f"&since={page['cursor']}"
        if not page["more"]:
            return changes, page["cursor"]


def _brief(change: dict[str, Any]) -> tuple[Any, ...]:
    return change["type"], change["key"], change.get("member"), change["deleted"]


async def test_one_event_per_changed_record_with_its_latest_state(
    wire: Wire, database: Database
) -> None:
    for _ in range(5):
        database.counter("shop", "views").increment()
    database.set("shop", "cart").add("apple", "pear")
    database.set("shop", "cart").remove("apple")
    changes, cursor = await _all(wire)
    assert [_brief(change) for change in changes] == [
        ("counter", "views", None, False),
        ("set", "cart", "pear", False),
        ("set", "cart", "apple", True),
    ]
    again, _ = await _all(wire, f"&since={cursor}")
    assert again == []


async def test_a_cursor_from_before_a_reclaimed_delete_is_refused(
    wire: Wire, database: Database
) -> None:
    database.set("shop", "cart").add("apple", "pear")
    _, cursor = await _all(wire)
    database.set("shop", "cart").remove("apple")
    engine = database.engine
    engine.reclaim(Walk(engine.state.seen), 100)
    for feed_kind in ("", "&feed=longpoll", "&feed=sse"):
        answer = await wire.get(f"/v1/changes?since={cursor}{feed_kind}")
        assert (answer.status, answer.document["type"].rsplit("/", 1)[1]) == (410, "cursor-expired")
    changes, _ = await _all(wire)
    assert [_brief(change) for change in changes] == [("set", "cart", "pear", False)]
    metrics = (await wire.get("/metrics")).body.decode()
    assert "crdtdb_reclaimed_records_total 1.0" in metrics


async def test_every_event_carries_a_cursor_to_go_on_from(wire: Wire, database: Database) -> None:
    database.set("shop", "cart").add(*range(7))
    changes, _ = await _all(wire)
    for position, change in enumerate(changes):
        page = (await wire.get(f"/v1/changes?since={change['cursor']}")).document
        assert [c["member"] for c in page["changes"]] == list(range(position + 1, 7))


async def test_a_deleted_object_is_one_event(wire: Wire, database: Database) -> None:
    database.set("shop", "cart").add("apple", "pear")
    _, cursor = await _all(wire)
    database.set("shop", "cart").delete()
    changes, _ = await _all(wire, f"&since={cursor}")
    assert [_brief(change) for change in changes] == [("set", "cart", None, True)]


async def test_filters_and_values(wire: Wire, database: Database) -> None:
    database.register("shop", "name").set({"a": 1})
    database.register("shop", "other").set(2)
    database.counter("bar", "name").increment(3)
    changes, _ = await _all(wire, "&bucket=shop&key=name&include=value")
    assert [change["value"] for change in changes] == [{"a": 1}]
    changes, _ = await _all(wire, "&type=counter")
    assert [change["bucket"] for change in changes] == ["bar"]


async def test_now_shows_only_what_comes(wire: Wire, database: Database) -> None:
    database.counter("shop", "views").increment()
    page = (await wire.get("/v1/changes?since=now")).document
    assert page["changes"] == []
    database.counter("shop", "sold").increment()
    page = (await wire.get(f"/v1/changes?since={page['cursor']}")).document
    assert [change["key"] for change in page["changes"]] == ["sold"]


async def test_a_long_poll_ends_with_the_change_it_waited_for(wire: Wire) -> None:
    cursor = (await wire.get("/v1/changes?since=now")).document["cursor"]
    poll = asyncio.create_task(wire.get(f"/v1/changes?since={cursor}&feed=longpoll&timeout=60"))
    await wire.post("/v1/buckets/shop/counter/views", {"op": "increment"})
    page = (await poll).document
    assert [change["key"] for change in page["changes"]] == ["views"]


async def test_a_long_poll_for_nothing_gives_a_cursor(wire: Wire) -> None:
    page = (await wire.get("/v1/changes?since=now&feed=longpoll&timeout=0")).document
    assert page["changes"] == []
    assert page["cursor"]


@asynccontextmanager
async def _listening(wire: Wire, target: str, *headers: str) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection(wire.address, wire.port)
    lines = [f"GET {target} HTTP/1.1", f"Host: 127.0.0.1:{wire.port}", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    try:
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


async def _next_event(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next event of a stream; chunk lines and comments in between do not matter here."""
    while True:
        line = (await reader.readline()).decode()
        assert line, "the stream has ended"
        if line.startswith("data: "):
            document: dict[str, Any] = json.loads(line.removeprefix("data: "))
            return document


async def test_a_stream_goes_on_and_resumes_where_it_was_left(wire: Wire) -> None:
    async with _listening(wire, "/v1/changes?feed=sse&since=now") as reader:
        assert b"200" in await reader.readline()
        await wire.post("/v1/buckets/shop/counter/a", {"op": "increment"})
        first = await _next_event(reader)
        assert first["key"] == "a"
    await wire.post("/v1/buckets/shop/counter/b", {"op": "increment"})
    resumed = f"Last-Event-ID: {first['cursor']}"
    async with _listening(wire, "/v1/changes?feed=sse", resumed) as reader:
        assert (await _next_event(reader))["key"] == "b"


async def test_none_is_left_out_behind_any_event_of_an_erase(
    wire: Wire, database: Database
) -> None:
    """It changes many objects at one place of the sequence; a reader may have got only some."""
    for key in "abc":
        database.register("shop", key).set(1)
    _, cursor = await _all(wire)
    await wire.delete("/v1/buckets/shop")

    async def after(cursor: str) -> list[dict[str, Any]]:
        document = (await wire.get(f"/v1/changes?limit=1000&since={cursor}")).document
        changes: list[dict[str, Any]] = document["changes"]
        return changes

    changes = await after(cursor)
    keys = [change["key"] for change in changes]
    assert sorted(keys) == ["a", "b", "c"]
    for position, change in enumerate(changes):
        rest = await after(change["cursor"])
        assert {one["key"] for one in rest} >= set(keys[position + 1 :])
    assert rest == []


async def test_values_beyond_64_bits_are_shown(wire: Wire, database: Database) -> None:
    for _ in range(1_200):
        database.counter("shop", "huge").increment(2**53 - 1)
    changes, _ = await _all(wire, "&include=value")
    assert changes[0]["value"] == 1_200 * (2**53 - 1) > 2**63


async def test_long_values_come_in_pages_of_bounded_size(wire: Wire, database: Database) -> None:
    for number in range(20):
        database.register("shop", f"{number:02}").set("x" * 100_000)
    page = (await wire.get("/v1/changes?include=value")).document
    assert 1 < len(page["changes"]) < 5
    changes, _ = await _all(wire, "&include=value")
    assert [change["key"] for change in changes] == [f"{number:02}" for number in range(20)]


async def test_a_reader_that_stops_is_dropped_and_goes_on_without_a_gap(
    wire: Wire, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crdtdb_server.front._TAKEN_S", 0.3)
    dropped = asyncio.Event()

    async def watched(*arguments: Any) -> AsyncGenerator[bytes, None]:
        try:
            async for part in stream(*arguments):
                yield part
        finally:
            dropped.set()

    stream = feed._stream
    monkeypatch.setattr(feed, "_stream", watched)
    text = "x" * 50_000
    for number in range(400):  # 20 MB: more than the buffers of two sockets
        database.register("shop", f"{number:03}").set(text)
    target = "/v1/changes?feed=sse&include=value"
    got: list[str] = []
    tracemalloc.start(1)
    try:
        async with _listening(wire, target) as reader:
            last = await _next_event(reader)
            got.append(last["key"])
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            # It takes nothing more. The server gives up; what it had sent can still be read.
            await dropped.wait()
            monkeypatch.setattr("crdtdb_server.front._TAKEN_S", DEADLINE_S)
            held = tracemalloc.get_traced_memory()[1] - before
        assert held < 5_000_000
    finally:
        tracemalloc.stop()
    async with _listening(wire, target, f"Last-Event-ID: {last['cursor']}") as reader:
        while len(got) < 400:
            got.append((await _next_event(reader))["key"])
    assert got == [f"{number:03}" for number in range(400)]


async def test_a_cursor_is_valid_at_another_replica(wire: Wire, database: Database) -> None:
    database.set("shop", "cart").add("old")
    _, cursor = await _all(wire)
    with Database.in_memory(replica="us-1") as other:
        async with serving(Service(other, Options(port=0))) as url:
            there = Wire(Service(other), int(url.rpartition(":")[2]))
            _copy(database, other)
            changes, _ = await _all(there, f"&since={cursor}")
            assert changes == [], "what the cursor covers is not shown again"
            other.set("shop", "cart").add("new")
            changes, _ = await _all(there, f"&since={cursor}")
            assert [change["member"] for change in changes] == ["new"]


def _copy(donor: Database, taker: Database) -> None:
    store = donor.engine.store
    assert isinstance(store, MemoryStore)
    records = missing(store, taker.engine.state.seen)
    taker.engine.merge(records, donor.engine.state.seen, donor.engine.state.time)


async def test_what_is_wrong_is_named(wire: Wire) -> None:
    for query, slug, field in (
        ("since=garbled", "bad-token", "since"),
        ("feed=smoke", "bad-request", "feed"),
        ("include=all", "bad-request", "include"),
        ("limit=0", "bad-request", "limit"),
        ("timeout=61&feed=longpoll", "bad-request", "timeout"),
        ("type=nothing", "unknown-type", None),
    ):
        reply = await wire.get(f"/v1/changes?{query}")
        assert 400 <= reply.status < 500
        assert reply.document["code"] == slug
        if field is not None:
            assert reply.document["errors"][0]["field"] == field
    resumed = [("Last-Event-ID", "garbled")]
    reply = await wire.request("GET", "/v1/changes?feed=sse", headers=resumed)
    assert (reply.status, reply.document["errors"][0]["field"]) == (400, "Last-Event-ID")


async def test_a_stream_misses_nothing_that_comes_while_its_reader_is_slow(wire: Wire) -> None:
    """Not even until the next sign of life: it would be told much too late."""
    query = {"since": "now", "feed": "sse"}
    request = Request("GET", "/v1/changes", (), query, {}, 0.0, EVERYBODY)
    stream = (await feed.get_changes(wire.service, request)).stream
    assert stream is not None
    async with aclosing(stream):
        assert await anext(stream) == b": changes\n\n"
        await wire.post("/v1/buckets/shop/counter/views", {"op": "increment"})
        async with asyncio.timeout(DEADLINE_S):
            assert b'"views"' in await anext(stream)


async def test_the_token_covers_a_change_that_is_shown_before_it_is_installed(
    wire: Wire, database: Database
) -> None:
    """What has just become durable is read already, and not yet part of the replica's state."""
    engine = database.engine
    drafted = engine.draft(
        [Transaction((update(ObjectName("shop", "counter", "views"), {"op": "increment"}),))]
    )
    engine.persist(drafted)
    page = await wire.get("/v1/changes")
    engine.install(drafted)
    assert [_brief(change) for change in page.document["changes"]] == [
        ("counter", "views", None, False)
    ]
    shown = read_token(TokenKind.SESSION, database.cluster, page.token)
    assert shown.includes(engine.state.seen)
