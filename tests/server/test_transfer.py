"""Import and export: lines of JSON, as many as one likes, in bounded memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from crdtdb import Database
from crdtdb.address import ObjectName
from crdtdb.datatype import SequenceType
from crdtdb.errors import NoSpace
from crdtdb.reading import ShortReading
from crdtdb.token import TokenKind, read_token
from crdtdb.transaction import Transaction
from crdtdb.types import CATALOGUE
from crdtdb_server.app import serving
from crdtdb_server.lines import split_lines
from crdtdb_server.service import Options, Service
from livecluster import eventually
from operations import EXPORTS
from wireclient import Reply, Wire

_IMPORT = "/v1/import"
_NDJSON = ("Content-Type", "application/x-ndjson")


def _line(type_name: str, key: str, value: Any, bucket: str = "shop") -> bytes:
    return json.dumps({"bucket": bucket, "type": type_name, "key": key, "value": value}).encode()


async def _send(wire: Wire, lines: Iterable[bytes], **headers: str) -> Reply:
    given = [_NDJSON, *((name.replace("_", "-"), value) for name, value in headers.items())]
    return await wire.request("POST", _IMPORT, body=b"\n".join(lines), headers=given)


async def _export(wire: Wire, query: str = "") -> list[dict[str, Any]]:
    reply = await wire.get(f"/v1/export{query}")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in _dechunked(reply.body).splitlines()]


def _dechunked(body: bytes) -> bytes:
    parts: list[bytes] = []
    while True:
        size, _, body = body.partition(b"\r\n")
        if int(size, 16) == 0:
            return b"".join(parts)
        parts.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]


EVERYTHING = [
    *(_line(type_name, "k", values[0]) for type_name, values in sorted(EXPORTS.items())),
    _line("counter", "large", 2**53),
    _line("register", "deep", json.loads("[" * 64 + "]" * 64)),
    _line("register", "ключ/{a}", {"deep": [None, 1.5]}),
]


async def test_what_was_exported_can_be_imported(wire: Wire) -> None:
    reply = await _send(wire, EVERYTHING)
    summary = reply.document
    assert reply.status == 200
    assert (summary["lines"], summary["failed"], summary["errors"]) == (len(EVERYTHING), 0, [])
    assert summary["written"]["counter"] == 2
    exported = await _export(wire)
    before = sorted(map(json.loads, EVERYTHING), key=lambda line: (line["type"], line["key"]))
    for line in (*exported, *before):
        kind = CATALOGUE[line["type"]]
        if kind.collection and not isinstance(kind, SequenceType):
            line["value"].sort(key=repr)
    assert exported == before
    with Database.in_memory(replica="copy") as copy:
        service = Service(copy, Options(port=0))
        async with serving(service) as url:
            other = Wire(service, int(url.rpartition(":")[2]))
            await _send(other, [json.dumps(line).encode() for line in exported])
            assert await _export(other) == await _export(wire)


async def test_bucket_and_key_prefix(wire: Wire) -> None:
    names = [("shop", "a1"), ("shop", "a2"), ("shop", "b1"), ("bar", "a1")]
    lines = [
        _line(kind, key, value, bucket)
        for bucket, key in names
        for kind, value in (("register", 1), ("set", [1]))
    ]
    await _send(wire, lines)

    async def found(query: str) -> list[tuple[str, str, str]]:
        return [(o["bucket"], o["type"], o["key"]) for o in await _export(wire, query)]

    assert len(await found("")) == 8
    assert await found("?bucket=bar") == [("bar", "register", "a1"), ("bar", "set", "a1")]
    assert len(await found("?bucket=shop&prefix=a")) == 4
    assert len(await found("?prefix=a")) == 6
    assert await found("?bucket=nobody") == []


async def test_only_what_exists_and_belongs_to_users_is_exported(
    wire: Wire, database: Database
) -> None:
    register = database.register("shop", "gone")
    register.set(1)
    register.delete()
    update = database.parse_update(ObjectName("shop", "counter", "x"), {"op": "increment"})
    hidden = update._replace(name=ObjectName("_system", "counter", "x"))
    database.commit([Transaction((hidden,))])
    assert await _export(wire) == []


async def test_a_large_collection_takes_several_lines_of_a_page_each(
    wire: Wire, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start in range(0, 2_500, 500):
        database.set("shop", "big").add(*range(start, start + 500))
    database.counter("shop", "total").increment()
    monkeypatch.setattr("crdtdb.exporting._PART_BYTES", 1)
    lines = await _export(wire)
    assert [len(line["value"]) for line in lines if line["type"] == "set"] == [1000, 1000, 500]
    members = [member for line in lines if line["type"] == "set" for member in line["value"]]
    assert members == list(range(2_500))
    assert [line["type"] for line in lines].count("counter") == 1


async def test_each_line_shows_a_state_of_its_own_while_writing_goes_on(
    wire: Wire, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crdtdb.exporting._PART_LINES", 1)
    for number in range(50):
        database.register("shop", f"{number:03}").set(number)
    database.register("shop", "999").set(0)

    async def change() -> None:
        for number in range(0, 50, 2):
            await wire.delete(f"/v1/buckets/shop/register/{number:03}")

    changing = asyncio.create_task(change())
    keys = [line["key"] for line in await _export(wire)]
    await changing
    assert keys == sorted(set(keys))
    assert {f"{number:03}" for number in range(1, 50, 2)} | {"999"} <= set(keys)


BAD_LINES: list[tuple[bytes, str, Any]] = [
    (b"{", "bad-request", "$"),
    (b"\xff", "bad-request", "$"),
    (b"[]", "bad-request", ""),
    (b'{"bucket":"shop","type":"set","key":"k"}', "bad-request", "value"),
    (_line("set", "k", [1])[:-1] + b',"op":1}', "bad-request", "op"),
    (b'{"bucket":"shop","type":"set","key":1,"value":[]}', "bad-request", "key"),
    (_line("set", "k", [1], "_system"), "bad-request", "bucket"),
    (_line("set", "..", [1]), "bad-request", "key"),
    (_line("nope", "k", 1), "unknown-type", "type"),
    (_line("counter", "k", "5"), "bad-request", "value"),
    (_line("counter", "k", 2**64), "bad-request", "$.value"),
    (_line("set", "k", ["x" * 5_000]), "too-large", "values[0]"),
    (_line("register", "k", "x" * 1_048_577), "too-large", "value"),
]


async def test_bad_lines_are_reported_by_number_and_the_others_go_on(wire: Wire) -> None:
    lines = [_line("counter", "good", 1)]
    for bad, _, _ in BAD_LINES:
        lines += [bad, _line("counter", "good", 1)]
    summary = (await _send(wire, lines)).document
    assert summary["lines"] == 2 * len(BAD_LINES) + 1
    assert summary["failed"] == len(BAD_LINES)
    assert summary["written"] == {"counter": len(BAD_LINES) + 1}
    reported = [(e["line"], e["code"], e.get("field")) for e in summary["errors"]]
    assert reported == [(2 * i + 2, slug, field) for i, (_, slug, field) in enumerate(BAD_LINES)]
    assert all(error["detail"] for error in summary["errors"])
    value = (await wire.get("/v1/buckets/shop/counter/good")).document["value"]
    assert value == len(BAD_LINES) + 1
    assert (await wire.get("/v1/buckets/shop/set/k")).document["exists"] is False


async def test_only_so_many_wrong_lines_are_told_of_one_by_one(wire: Wire) -> None:
    summary = (await _send(wire, [b"x"] * 2_500)).document
    assert (summary["lines"], summary["failed"], len(summary["errors"])) == (2_500, 2_500, 100)


async def test_blank_lines_and_windows_ends_do_no_harm(wire: Wire) -> None:
    lines = [b"", _line("counter", "k", 1) + b"\r", b"  ", _line("counter", "k", 1), b""]
    summary = (await _send(wire, lines)).document
    assert (summary["written"], summary["failed"]) == ({"counter": 2}, 0)


async def test_sent_again_under_its_key_nothing_counts_twice(tmp_path: Path) -> None:
    lines = [_line("counter", f"k{number % 7}", 1) for number in range(2_500)]
    summaries: list[dict[str, Any]] = []
    values: list[Any] = []
    for part in (lines[:1_300], lines, lines):
        with Database.open(tmp_path, replica="eu-1") as database:
            service = Service(database, Options(port=0))
            async with serving(service) as url:
                wire = Wire(service, int(url.rpartition(":")[2]))
                summaries.append((await _send(wire, part, Idempotency_Key="i-1")).document)
                listed = await wire.get("/v1/buckets/shop/counter?values=true")
                values.append([entry["value"] for entry in listed.document["objects"]])
    assert [summary["repeated"] for summary in summaries] == [0, 1_300, 2_500]
    assert summaries[1]["written"] == {"counter": 1_200}
    assert sum(values[1]) == 2_500
    assert values[2] == values[1]


async def test_another_line_under_the_same_key_and_number_is_refused(wire: Wire) -> None:
    await _send(wire, [_line("counter", "k", 1), _line("counter", "k", 1)], Idempotency_Key="i")
    changed = [_line("counter", "k", 1), _line("counter", "k", 2)]
    summary = (await _send(wire, changed, Idempotency_Key="i")).document
    assert summary["repeated"] == 1
    assert [(e["line"], e["code"]) for e in summary["errors"]] == [(2, "idempotency-mismatch")]


async def test_lines_are_written_while_the_body_arrives(wire: Wire, database: Database) -> None:
    head = (
        f"POST {_IMPORT} HTTP/1.1\r\nHost: 127.0.0.1:{wire.port}\r\nConnection: close\r\n"
        "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(wire.address, wire.port)

    def chunk(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data)

    line = _line("counter", "k", 1) + b"\n"
    writer.write(head.encode() + chunk(line * 1_001))
    counter = database.counter("shop", "k")
    await eventually("the first commit", lambda: counter.get().value == 1_000)
    writer.write(chunk(line[:9]) + chunk(line[9:]) + chunk(b""))
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200")
    assert counter.get().value == 1_002


async def test_a_body_that_breaks_off_leaves_what_was_committed(
    wire: Wire, database: Database
) -> None:
    head = (
        f"POST {_IMPORT} HTTP/1.1\r\nHost: 127.0.0.1:{wire.port}\r\n"
        "Content-Type: application/x-ndjson\r\nContent-Length: 1000000\r\n\r\n"
    )
    _, writer = await asyncio.open_connection(wire.address, wire.port)
    writer.write(head.encode() + (_line("counter", "k", 1) + b"\n") * 1_500)
    counter = database.counter("shop", "k")
    await eventually("the first commit", lambda: counter.get().value == 1_000)
    writer.close()
    await writer.wait_closed()
    await wire.get("/healthz")
    assert counter.get().value == 1_000


async def test_a_replica_that_cannot_write_ends_the_import_and_says_how_far_it_came(
    wire: Wire, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = database.engine.commit
    calls = iter(range(10))

    def failing(transactions: Any) -> Any:
        if next(calls):
            raise NoSpace("the disk is full")
        return commit(transactions)

    monkeypatch.setattr(database.engine, "commit", failing)
    reply = await _send(wire, [_line("counter", "k", 1)] * 2_500)
    assert (reply.status, reply.document["code"]) == (507, "no-space")
    assert "ended before line 1001" in reply.document["detail"]


@pytest.mark.parametrize(
    ("headers", "status", "slug"),
    [
        ([("Content-Type", "application/json")], 415, "unsupported-media-type"),
        ([_NDJSON, ("Content-Encoding", "gzip")], 415, "unsupported-media-type"),
        ([_NDJSON, ("If-Match", "*")], 400, "bad-header"),
        ([_NDJSON, ("Crdtdb-Ack", "all")], 400, "bad-header"),
        ([_NDJSON, ("Idempotency-Key", "a b")], 400, "bad-header"),
    ],
)
async def test_what_is_no_import_is_refused(
    wire: Wire, headers: list[tuple[str, str]], status: int, slug: str
) -> None:
    before = wire.state
    refused = await wire.request("POST", _IMPORT, body=_line("counter", "k", 1), headers=headers)
    assert (refused.status, refused.document["code"]) == (status, slug)
    assert wire.state == before


@pytest.mark.parametrize("query", ["?bucket=_system", "?bucket=A", "?prefix=%00", "?key=x"])
async def test_what_cannot_be_exported_is_refused(wire: Wire, query: str) -> None:
    assert (await wire.get(f"/v1/export{query}")).status == 400


async def test_an_empty_body_is_an_empty_import(wire: Wire) -> None:
    summary = (await _send(wire, [])).document
    assert (summary["lines"], summary["written"]) == (0, {})


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_lines_do_not_depend_on_how_the_body_is_cut(size: int) -> None:
    body = b"a\n\nbcd\nefghij\nkl\r\nm"

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    lines = [line async for line in split_lines(parts(), longest=4)]
    assert lines == [b"a", b"", b"bcd", None, b"kl\r", b"m"]


async def test_the_token_of_a_page_covers_what_it_shows(wire: Wire, database: Database) -> None:
    """Also what comes between the request and the reading."""
    reading = database.reading

    def late() -> ShortReading:
        database.counter("shop", "views").increment()
        return reading()

    with patch.object(database, "reading", late):
        page = await wire.get("/v1/export?paged=true")
    assert [line["value"] for line in page.document["lines"]] == [1]
    shown = read_token(TokenKind.SESSION, database.cluster, page.token)
    assert shown.includes(database.engine.state.seen)
