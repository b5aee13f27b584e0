"""Hostile and careless requests: each is refused with the right problem, and changes nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from crdtdb.limits import LIMITS
from crdtdb.types import CATALOGUE
from wireclient import Wire

_COUNTER = "/v1/buckets/shop/counter/k"
_SET = "/v1/buckets/shop/set/k"
_REGISTER = "/v1/buckets/shop/register/k"
_ZSET = "/v1/buckets/shop/zset/k"
_STEP = b'{"op":"increment"}'
_INCREMENTS = b'{"updates":[{"bucket":"shop","type":"counter","key":"k","op":"increment"}]}'
_NONE: Any = object()
#: However long what was sent, so short is what is said of it.
_SHORT = 2_000
_LONG = "x" * 12_000


class Bad(NamedTuple):
    """A request, and what must be said about it."""

    name: str
    method: str
    target: str
    status: int
    slug: str
    #: Of the first error; `_NONE`: there is none.
    field: Any = _NONE
    limit: Any = _NONE
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


def _post(
    name: str,
    target: str,
    body: bytes,
    status: int,
    slug: str,
    field: Any = _NONE,
    limit: Any = _NONE,
) -> Bad:
    return Bad(name, "POST", target, status, slug, field, limit, body)


def _get(name: str, target: str, status: int, slug: str, *what: Any) -> Bad:
    return Bad(name, "GET", target, status, slug, *what)


def _body(name: str, header: str, value: str) -> Bad:
    """A body of the wrong kind, by a header."""
    slug = "unsupported-media-type"
    return Bad(name, "POST", _COUNTER, 415, slug, header, body=_STEP, headers={header: value})


def _header(name: str, header: str, value: str, status: int, slug: str, limit: Any = _NONE) -> Bad:
    """A bad header."""
    return Bad(name, "GET", _SET, status, slug, header, limit, headers={header: value})


def _condition(
    name: str, header: str, value: str, target: str = _COUNTER, body: bytes = _STEP
) -> Bad:
    """A bad header of a write."""
    slug = "bad-header"
    return Bad(name, "POST", target, 400, slug, header, body=body, headers={header: value})


BODIES = [
    _post("no JSON", _COUNTER, b"{", 400, "bad-request", "$"),
    _post("nothing", _COUNTER, b" ", 400, "bad-request", "$"),
    _post("two values", _COUNTER, _STEP * 2, 400, "bad-request", "$"),
    _post("no object", _COUNTER, b"5", 400, "bad-request", ""),
    _post("empty list", _COUNTER, b"[]", 400, "bad-request", ""),
    _post("list in list", _COUNTER, b"[[]]", 400, "bad-request", "[0]"),
    _post("no op", _COUNTER, b"{}", 400, "bad-request", "op"),
    _post("op of wrong type", _COUNTER, b'{"op":1}', 400, "bad-request", "op"),
    _post("unknown op", _COUNTER, b'{"op":"add"}', 422, "invalid-operation", "op"),
    _post("unknown field", _COUNTER, b'{"op":"increment","BY":1}', 400, "bad-request", "BY"),
    _post("missing field", _REGISTER, b'{"op":"set"}', 400, "bad-request", "value"),
    _post("string for number", _COUNTER, b'{"op":"increment","by":"1"}', 400, "bad-request", "by"),
    _post("true for number", _COUNTER, b'{"op":"increment","by":true}', 400, "bad-request", "by"),
    _post("half a step", _COUNTER, b'{"op":"increment","by":0.5}', 400, "bad-request", "by"),
    _post(
        "number with a point", _COUNTER, b'{"op":"increment","by":1.0}', 400, "bad-request", "by"
    ),
    _post("exponent", _COUNTER, b'[{"op":"increment","by":1e0}]', 400, "bad-request", "[0].by"),
    _post(
        "number with a point in a transaction",
        "/v1/transactions",
        _INCREMENTS.replace(b'"increment"', b'"increment","by":2.0'),
        400,
        "bad-request",
        "updates[0].by",
    ),
    _post(
        "page size with a point",
        "/v1/transactions",
        b'{"reads":[{"bucket":"shop","type":"set","key":"k","limit":1.0}]}',
        400,
        "bad-request",
        "reads[0].limit",
        LIMITS.page_items,
    ),
    _post("no score", _ZSET, b'{"op":"add","member":1}', 400, "bad-request", "score"),
    _post(
        "true for score",
        _ZSET,
        b'{"op":"add","member":1,"score":true}',
        400,
        "bad-request",
        "score",
    ),
    _post(
        "score beyond doubles",
        _ZSET,
        b'{"op":"add","member":1,"score":1e309}',
        400,
        "bad-request",
        "$.score",
    ),
    _post(
        "sum beyond doubles",
        _ZSET,
        b'[{"op":"add","member":1,"score":1.7e308},{"op":"increment","member":1,"by":1e308}]',
        422,
        "invalid-operation",
        "by",
    ),
    _post("step of zero", _COUNTER, b'{"op":"increment","by":0}', 400, "bad-request", "by", 1),
    _post(
        "step too large",
        _COUNTER,
        b'{"op":"increment","by":9007199254740992}',
        400,
        "bad-request",
        "by",
        2**53 - 1,
    ),
    _post(
        "integer beyond 64 bits",
        _SET,
        b'{"op":"add","value":18446744073709551616}',
        400,
        "bad-request",
        "$.value",
        "-2^63 … 2^64-1",
    ),
    _post(
        "integer of a million digits",
        _SET,
        b'{"op":"add","value":%b}' % (b"9" * 1_000_000),
        400,
        "bad-request",
        "$.value",
    ),
    _post("NaN", _SET, b'{"op":"add","value":NaN}', 400, "bad-request", "$.value"),
    _post("infinity", _SET, b'{"op":"add","value":1e999}', 400, "bad-request", "$.value"),
    _post(
        "duplicate key", _SET, b'{"op":"add","value":{"a":1,"a":2}}', 400, "bad-request", "$.value"
    ),
    _post("duplicate op", _SET, b'{"op":"add","op":"add","value":1}', 400, "bad-request", "$"),
    _post("not UTF-8", _SET, b'{"op":"add","value":"\xff"}', 400, "bad-request", "$"),
    _post("lone surrogate", _SET, b'{"op":"add","value":"\\ud800"}', 400, "bad-request", "$.value"),
    _post("byte order mark", _SET, b"\xef\xbb\xbf" + _STEP, 400, "bad-request", "$"),
    _post(
        "too deep",
        _SET,
        b'{"op":"add","value":%b}' % (b"[" * 65 + b"]" * 65),
        400,
        "bad-request",
    ),
    _post("far too deep", _SET, b"[" * 50_000, 400, "bad-request"),
    _post("too many elements", _SET, b"[" * 50_001, 413, "too-large", ""),
    _post("neither value nor values", _SET, b'{"op":"add"}', 400, "bad-request", "value"),
    _post("both", _SET, b'{"op":"add","value":1,"values":[2]}', 400, "bad-request", "value"),
    _post("no values", _SET, b'{"op":"add","values":[]}', 400, "bad-request", "values"),
    _post(
        "too many values",
        _SET,
        b'{"op":"add","values":[%b1]}' % (b"1," * LIMITS.operation_values),
        400,
        "bad-request",
        "values",
        LIMITS.operation_values,
    ),
    _post(
        "member too large",
        _SET,
        b'{"op":"add","value":"%b"}' % (b"x" * LIMITS.member_bytes),
        413,
        "too-large",
        "value",
        LIMITS.member_bytes,
    ),
    _post(
        "register too large",
        _REGISTER,
        b'{"op":"set","value":"%b"}' % (b"x" * LIMITS.value_bytes),
        413,
        "too-large",
        "value",
        LIMITS.value_bytes,
    ),
    _post(
        "too many operations",
        _COUNTER,
        b"[%b]" % b",".join([_STEP] * (LIMITS.transaction_operations + 1)),
        400,
        "bad-request",
        "updates",
        LIMITS.transaction_operations,
    ),
    _post("garbled read context", _SET, b'{"op":"clear","seen":"!"}', 400, "bad-token", "seen"),
    _post(
        "garbled read context in a list",
        _SET,
        b'[{"op":"clear"},{"op":"clear","seen":"!"}]',
        400,
        "bad-token",
        "[1].seen",
    ),
    _post(
        "long read context",
        _SET,
        b'{"op":"clear","seen":"%b"}' % (b"x" * 5_000),
        400,
        "bad-token",
        "seen",
        LIMITS.token_bytes,
    ),
    _post("long op", _SET, b'{"op":"%b"}' % (b"x" * 1_000_000), 422, "invalid-operation", "op"),
    _post("long field", _SET, b'{"op":"clear","%b":1}' % (b"x" * 1_000_000), 400, "bad-request"),
    _post(
        "long member name", "/v1/transactions", b'{"%b":1}' % (b"x" * 99_999), 400, "bad-request"
    ),
    _post(
        "bucket in a transaction",
        "/v1/transactions",
        b'{"updates":[{"bucket":"Shop","type":"counter","key":"k","op":"increment"}]}',
        400,
        "bad-request",
        "updates[0].bucket",
    ),
    _post(
        "type in a transaction",
        "/v1/transactions",
        b'{"reads":[{"bucket":"shop","type":"nope","key":"k"}]}',
        404,
        "unknown-type",
        "reads[0].type",
        ", ".join(CATALOGUE),
    ),
    Bad("body of a GET", "GET", _SET, 400, "bad-request", "", body=b"{}"),
    Bad("body of a DELETE", "DELETE", _SET, 400, "bad-request", "", body=b'{"seen":"x"}'),
    Bad("body of a listing", "GET", "/v1/buckets", 400, "bad-request", "", body=b"{}"),
    Bad("body of a health check", "GET", "/healthz", 400, "bad-request", "", body=b"{}"),
    _post(
        "read context of wrong type", _SET, b'{"op":"clear","seen":1}', 400, "bad-request", "seen"
    ),
    Bad("PUT of a counter", "PUT", _COUNTER, 422, "invalid-operation", "type", body=b"1"),
    Bad("PUT of no JSON", "PUT", _REGISTER, 400, "bad-request", "$", body=b"x"),
    Bad("seen for a register", "PUT", _REGISTER + "?seen=x", 400, "bad-request", "seen", body=b"1"),
]

PATHS = [
    _get("unknown route", "/v2", 404, "unknown-route"),
    _get("no route", "/", 404, "unknown-route"),
    _get("route too long", _SET + "/x", 404, "unknown-route"),
    _get("literal in disguise", "/%6detrics", 404, "unknown-route"),
    _get("dots are not resolved", "/v1/../metrics", 404, "unknown-route"),
    _get("bad escape in no route", "/%zz", 400, "bad-request", "path"),
    _get("unknown type", "/v1/buckets/shop/nope/k", 404, "unknown-type", "type"),
    _get("unknown type of a listing", "/v1/buckets/shop/nope", 404, "unknown-type", "type"),
    _get("long type", f"/v1/buckets/shop/{_LONG}/k", 404, "unknown-type", "type"),
    _get("long route", f"/{_LONG}", 404, "unknown-route", "path"),
    _get("long slug", f"/problems/{_LONG}", 404, "unknown-route", "slug"),
    _get("empty key", "/v1/buckets/shop/set/", 400, "bad-request", "key"),
    _get("empty bucket", "/v1/buckets//set/k", 400, "bad-request", "bucket"),
    _get("reserved bucket", "/v1/buckets/_system/set/k", 400, "bad-request", "bucket"),
    _get("capital bucket", "/v1/buckets/Shop/set/k", 400, "bad-request", "bucket"),
    _get("long bucket", f"/v1/buckets/{'b' * 64}/set/k", 400, "bad-request", "bucket", 63),
    _get("long key", f"/v1/buckets/shop/set/{'k' * 1025}", 400, "bad-request", "key", 1024),
    _get("bytes count", f"/v1/buckets/shop/set/{'%C3%BC' * 513}", 400, "bad-request", "key", 1024),
    _get("key with NUL", "/v1/buckets/shop/set/a%00b", 400, "bad-request", "key"),
    _get("dot", "/v1/buckets/shop/set/.", 400, "bad-request", "key"),
    _get("two dots", "/v1/buckets/shop/set/..", 400, "bad-request", "key"),
    _get("escaped dots", "/v1/buckets/shop/set/%2e%2E", 400, "bad-request", "key"),
    _get("lone percent", "/v1/buckets/shop/set/100%", 400, "bad-request", "key"),
    _get("half an escape", "/v1/buckets/shop/set/%f", 400, "bad-request", "key"),
    _get("no hexadecimal", "/v1/buckets/shop/set/%+1", 400, "bad-request", "key"),
    _get("not UTF-8", "/v1/buckets/shop/set/%ff%fe", 400, "bad-request", "key"),
    _get("surrogate", "/v1/buckets/shop/set/%ED%A0%80", 400, "bad-request", "key"),
    _get("overlong UTF-8", "/v1/buckets/shop/set/%C0%AF", 400, "bad-request", "key"),
    _get("bucket not UTF-8", "/v1/buckets/%ff/set/k", 400, "bad-request", "bucket"),
    Bad(
        "method", "PATCH", _SET, 405, "method-not-allowed", "method", "GET, HEAD, POST, PUT, DELETE"
    ),
    Bad("OPTIONS", "OPTIONS", "/v1", 405, "method-not-allowed", "method", "GET, HEAD"),
    Bad(
        "POST to a listing", "POST", "/v1/buckets", 405, "method-not-allowed", "method", "GET, HEAD"
    ),
]

QUERIES = [
    _get("unknown parameter", _SET + "?colour=1", 400, "bad-request", "colour"),
    _get("long parameter", f"{_SET}?{_LONG}=1", 400, "bad-request"),
    _get("case matters", _SET + "?Limit=1", 400, "bad-request", "Limit"),
    _get("empty parameter", _SET + "?", 200, ""),
    _get("nameless parameter", _SET + "?=1", 400, "bad-request", ""),
    _get("stray ampersand", _SET + "?limit=1&", 400, "bad-request", ""),
    _get("repeated", _SET + "?limit=1&limit=1", 400, "bad-request", "limit"),
    _get("repeated in disguise", _SET + "?limit=1&%6cimit=1", 400, "bad-request", "limit"),
    _get("bad escape", _SET + "?after=%", 400, "bad-request", "after"),
    _get("not UTF-8", _SET + "?after=%ff", 400, "bad-request", "after"),
    _get("unknown order", _ZSET + "?order=size", 400, "bad-request", "order"),
    _get("order without scores", _SET + "?order=score", 422, "invalid-operation", "order"),
    _get("no score", _ZSET + '?order=score&from="a"', 400, "bad-request", "from"),
    _get("no rank", _ZSET + "?order=rank&to=1.5", 400, "bad-request", "to"),
    _get("negative rank", _ZSET + "?order=rank&from=-1", 400, "bad-request", "from"),
    _get("member in order", _ZSET + "?order=rank&member=1", 400, "bad-request", "member"),
    _get("order explained", _ZSET + "?order=rank&explain=true", 400, "bad-request", "order"),
    _get("limit 0", _SET + "?limit=0", 400, "bad-request", "limit", LIMITS.page_items),
    _get("limit 1001", _SET + "?limit=1001", 400, "bad-request", "limit", LIMITS.page_items),
    _get("limit -1", _SET + "?limit=-1", 400, "bad-request", "limit", LIMITS.page_items),
    _get("limit empty", _SET + "?limit=", 400, "bad-request", "limit"),
    _get("limit 1.0", _SET + "?limit=1.0", 400, "bad-request", "limit"),
    _get("limit in Arabic digits", _SET + "?limit=%D9%A1", 400, "bad-request", "limit"),
    _get("limit of many digits", _SET + "?limit=" + "9" * 5_000, 400, "bad-request", "limit"),
    _get("explain", _SET + "?explain=1", 400, "bad-request", "explain"),
    _get("reverse", _SET + "?reverse=1", 400, "bad-request", "reverse"),
    _get("made-up cursor", _SET + "?after=AAAA", 400, "bad-request", "after"),
    _get("cursor that is no base64", _SET + "?after=!", 400, "bad-request", "after"),
    _get("member that is no JSON", _SET + "?member=apple", 400, "bad-request", "member"),
    _get("member with a limit", _SET + "?member=1&limit=1", 400, "bad-request", "member"),
    _get("bound that is no JSON", _SET + "?from=a", 400, "bad-request", "from"),
    _get(
        "member too large", f"{_SET}?member=%22{'x' * 5_000}%22", 413, "too-large", "member", 4096
    ),
    _get("bound too large", f"{_SET}?to=%22{'x' * 5_000}%22", 413, "too-large", "to", 4096),
    _get("page of a counter", _COUNTER + "?limit=1", 422, "invalid-operation", "limit"),
    _get("member of a counter", _COUNTER + "?member=1", 422, "invalid-operation", "member"),
    _get("listing limit", "/v1/buckets?limit=0", 400, "bad-request", "limit"),
    _get("listing cursor", "/v1/buckets?after=AAAA", 400, "bad-request", "after"),
    _get("listing prefix", "/v1/buckets/shop/set?prefix=%00", 400, "bad-request", "prefix"),
    _get("listing values", "/v1/buckets/shop/set?values=yes", 400, "bad-request", "values"),
    _get("readiness for nothing", "/readyz?for=reads", 400, "bad-request", "for", "write"),
    _get("bucket of changes", "/v1/changes?bucket=Shop", 400, "bad-request", "bucket"),
    _get("cursor of changes", "/v1/changes?since=x", 400, "bad-token", "since"),
    _get("long poll of a day", "/v1/changes?timeout=86400", 400, "bad-request", "timeout", 60),
    Bad("delete context", "DELETE", _SET + "?seen=x", 400, "bad-token", "seen"),
    Bad("dry run", "DELETE", "/v1/buckets/shop?dry_run=1", 400, "bad-request", "dry_run"),
]

HEADERS = [
    _body("no content type", "Content-Type", ""),
    _body("text", "Content-Type", "text/plain"),
    _body("form", "Content-Type", "application/x-www-form-urlencoded"),
    _body("other charset", "Content-Type", "application/json; charset=latin-1"),
    _body("compressed", "Content-Encoding", "gzip"),
    _header("long host", "Host", _LONG, 403, "bad-host"),
    _header("other host", "Host", "evil.example", 403, "bad-host"),
    _header("address of another", "Host", "10.0.0.1:7460", 403, "bad-host"),
    _header("host below localhost", "Host", "localhost.evil.example", 403, "bad-host"),
    _header("no host", "Host", "", 400, "bad-header"),
    _header("two hosts", "Host", "localhost, localhost", 400, "bad-header"),
    _header("host with user", "Host", "localhost@evil.example", 400, "bad-header"),
    _header("garbled token", "Crdtdb-Context", "x", 400, "bad-token"),
    _header("empty token", "Crdtdb-Context", "", 400, "bad-token"),
    _header("huge token", "Crdtdb-Context", "A" * 4_097, 400, "bad-token"),
    _header("many tokens", "Crdtdb-Context", "x," * 64, 400, "bad-token", 64),
    _header("wait in words", "Prefer", "wait=long", 400, "bad-header", 60),
    _header("wait for ever", "Prefer", "wait=61", 400, "bad-header", 60),
    _header("wait half a second", "Prefer", "wait=0.5", 400, "bad-header", 60),
    _header("negative wait", "Prefer", "respond-async, wait=-1", 400, "bad-header", 60),
    _header("no tag", "If-None-Match", "", 400, "bad-header"),
    _header("bare tag", "If-None-Match", "1.2", 400, "bad-header"),
    _header("tag of another system", "If-None-Match", '"abc"', 400, "bad-header"),
    _header("tag among garbage", "If-None-Match", f'W/"{0:016x}.1", x', 400, "bad-header"),
    _header("star among tags", "If-None-Match", f'*, W/"{0:016x}.1"', 400, "bad-header"),
    _condition("garbled condition", "If-Match", 'W/"1"'),
    _condition("condition for reads", "If-None-Match", "*"),
    _condition("condition over several", "If-Match", "*", "/v1/transactions", _INCREMENTS),
    *(
        _condition(f"acknowledgement {text!r}", "Crdtdb-Ack", text)
        for text in ("", "0", "-1", "1000", "most", "ALL", "regions=", "regions=0", "all, all")
    ),
    _condition("empty key", "Idempotency-Key", ""),
    _condition("key with a space", "Idempotency-Key", "a b"),
    _condition("two keys", "Idempotency-Key", "a, b"),
    _condition("key beyond ASCII", "Idempotency-Key", "ü"),
    _condition("long key", "Idempotency-Key", "k" * 129),
]


@pytest.mark.parametrize("bad", BODIES + PATHS + QUERIES + HEADERS, ids=lambda bad: bad.name)
async def test_refused(wire: Wire, bad: Bad) -> None:
    await wire.post(_COUNTER, {"op": "increment", "by": 5})
    before = wire.state
    reply = await wire.request(
        bad.method, bad.target, body=bad.body, headers=list(bad.headers.items())
    )
    assert reply.status == bad.status, reply.body
    assert wire.state == before
    for header in ("crdtdb-context", "crdtdb-replica", "x-request-id"):
        assert reply.headers[header]
    if bad.status == 200:
        return
    document = reply.document
    assert document["errors"], document
    assert len(reply.body) < _SHORT
    assert reply.headers["content-type"] == "application/problem+json"
    assert document["type"] == f"/problems/{bad.slug}"
    assert (document["code"], document["status"]) == (bad.slug, bad.status)
    assert document["title"]
    assert document["detail"]
    if bad.field is not _NONE:
        assert document["errors"][0]["field"] == bad.field
        assert document["errors"][0]["message"]
    if bad.limit is not _NONE:
        assert document["errors"][0]["limit"] == bad.limit
    if bad.status == 405:
        assert reply.headers["allow"] == bad.limit


@pytest.mark.parametrize(
    "rest",
    [
        "HEAD /v1/buckets HTTP/1.1\r\nContent-Length: 2",
        "DELETE /v1/buckets/shop/set/k HTTP/1.1\r\nTransfer-Encoding: chunked",
    ],
)
async def test_a_body_is_not_overlooked(wire: Wire, rest: str) -> None:
    before = wire.state
    body = "{}" if "Length" in rest else "2\r\n{}\r\n0\r\n\r\n"
    raw = f"{rest}\r\nHost: localhost\r\nConnection: close\r\n\r\n{body}"
    reply = await wire.send(raw.encode())
    assert (reply.status, wire.state) == (400, before)
    assert reply.headers["content-type"] == "application/problem+json"


async def test_no_body_in_so_many_words(wire: Wire) -> None:
    for method in ("GET", "DELETE"):
        reply = await wire.request(method, _SET, headers=[("Content-Length", "0")])
        assert reply.status == 200


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
    ],
)
async def test_json_in_its_spellings(wire: Wire, media_type: str) -> None:
    headers = [("Content-Type", media_type)]
    done = await wire.request("POST", _COUNTER, body=_STEP, headers=headers)
    assert done.document == {"value": 1, "changed": True}


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1:7460",
        "[::1]:7460",
        "[::1]",
        "eu.example",
        "EU.Example:4",
    ],
)
async def test_names_of_this_server(wire: Wire, host: str) -> None:
    assert (await wire.get("/healthz", Host=host)).status == 200
