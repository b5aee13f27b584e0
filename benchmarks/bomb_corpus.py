"""Requests that are meant to hurt, as bytes: what `bombs.py` throws at a replica."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import Final, NamedTuple

import zstandard

from crdtdb.limits import LIMITS

__all__ = ["CORPUS", "Bomb"]

_AT: Final = "/v1/buckets/shop/register/k"
_MIB: Final = 2**20
#: The longest body of a data route.
_BODY_BYTES: Final = LIMITS.body_bytes


class Bomb(NamedTuple):
    """Bytes to send, piece by piece, and the statuses that are a refusal."""

    name: str
    pieces: Sequence[bytes]
    statuses: frozenset[int]


def _whole(
    name: str,
    body: bytes,
    *statuses: int,
    fields: str = "",
    target: str = _AT,
    method: str = "POST",
) -> Bomb:
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"{fields}Content-Length: {len(body)}\r\n\r\n"
    )
    return Bomb(name, [head.encode() + body], frozenset(statuses or (400,)))


def _set(value: bytes) -> bytes:
    return b'{"op":"set","value":%b}' % value


def _long(unit: bytes, least: int = _BODY_BYTES - 64) -> bytes:
    """So many of the unit that a body is about as long as it may be."""
    return unit * (least // len(unit))


def _chunked(name: str, chunks: Sequence[bytes], *statuses: int) -> Bomb:
    head = (
        f"POST {_AT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    return Bomb(name, [head.encode(), *chunks], frozenset(statuses or (400,)))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _raw(name: str, *pieces: bytes, statuses: Sequence[int] = (400,)) -> Bomb:
    return Bomb(name, pieces, frozenset(statuses))


def _get(name: str, target: str, *statuses: int, fields: str = "") -> Bomb:
    head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n"
    return Bomb(name, [head.encode("utf-8", "surrogateescape")], frozenset(statuses or (400,)))


_ZEROS: Final = _set(b'"' + bytes(b"0" * (64 * _MIB)) + b'"')

CORPUS: Final[Sequence[Bomb]] = (
    # Compressed: nothing is unpacked that was not asked for.
    _whole("gzip bomb", gzip.compress(_ZEROS), 415, fields="Content-Encoding: gzip\r\n"),
    _whole(
        "gzip bomb within a gzip bomb",
        gzip.compress(gzip.compress(_ZEROS)),
        415,
        fields="Content-Encoding: gzip, gzip\r\n",
    ),
    _whole(
        "zstd bomb",
        zstandard.compress(_ZEROS),
        415,
        fields="Content-Encoding: zstd\r\n",
    ),
    _whole(
        "zstd bomb for the other replicas' door",
        zstandard.compress(bytes(64 * _MIB)),
        400,
        401,
        403,
        415,
        target="/replication/v1/frames",
    ),
    # Deep: of those that are long, the elements are too many already.
    _whole("brackets and nothing else", _set(_long(b"[")), 413),
    _whole(
        "brackets that close",
        _set(_long(b"[", _BODY_BYTES // 2 - 64) + _long(b"]", _BODY_BYTES // 2 - 64)),
        413,
    ),
    _whole("deep objects", _set(_long(b'{"a":') + b"1"), 413),
    _whole("as many brackets as may be", _set(b"[" * 49_990)),
    _whole("one level too deep", _set(b"[" * 65 + b"]" * 65)),
    _whole("deep outside of a value", _long(b"["), 413),
    # Wide.
    _whole("numbers and nothing else", _set(b"[" + _long(b"1,") + b"1]"), 413),
    _whole("numbers that are not written canonically", _set(b"[" + _long(b"1e0,") + b"1]"), 413),
    _whole("empty arrays", _set(b"[" + _long(b"[],") + b"1]"), 413),
    _whole("empty objects", _set(b"[" + _long(b"{},") + b"1]"), 413),
    _whole("objects of one field", _set(b"[" + _long(b'{"":0},') + b"1]"), 413),
    _whole("empty strings", _set(b"[" + _long(b'"",') + b'""]'), 413),
    _whole(
        "as many keys as may be, the last one twice",
        _set(b"{" + b",".join(b'"%060d":0' % n for n in [*range(49_990), 49_989]) + b"}"),
    ),
    _whole(
        "as many objects as may be, and then a mistake",
        _set(b"[" + b",".join([b'{"":1e0}'] * 24_990) + b",]"),
    ),
    _whole(
        "half a million keys, the last one twice",
        _set(b"{" + b",".join(b'"%d":0' % n for n in [*range(500_000), 499_999]) + b"}"),
        413,
    ),
    _whole("one key a million times", _set(b"{" + _long(b'"a":0,') + b'"a":0}'), 413),
    _whole("a value that is too long", _set(b'"' + _long(b"x") + b'"'), 400, 413),
    _whole("a body that is too long", bytes(2 * _BODY_BYTES), 413),
    _whole("too many operations", b"[" + _long(b'{"op":"set","value":1},') + b"1]", 413),
    _whole(
        "a few too many operations",
        b"[" + b",".join([b'{"op":"set","value":1}'] * 16_000) + b"]",
    ),
    _whole(
        "operations of which the last one is none",
        b"[" + b",".join([b'{"op":"add","values":[%b0]}' % (b"0," * 45)] * 999) + b",1]",
        target="/v1/buckets/shop/set/k",
    ),
    # Numbers.
    _whole("2^64", _set(b"18446744073709551616")),
    _whole("-2^63 - 1", _set(b"-9223372036854775809")),
    _whole("a number of millions of digits", _set(_long(b"9"))),
    _whole("an exponent out of range", _set(b"1e999")),
    _whole("an exponent of millions of digits", _set(b"1e" + _long(b"9"))),
    _whole("NaN", _set(b"NaN")),
    _whole("infinity", _set(b"-Infinity")),
    _whole("leading zeros", _set(b"00")),
    # Texts.
    _whole("bad UTF-8", _set(b'"\xff\xfe"')),
    _whole("overlong UTF-8", _set(b'"\xc0\xaf"')),
    _whole("a lone surrogate", _set(b'"\\ud800"')),
    _whole("lone surrogates and nothing else", _set(b'"' + _long(b"\\ud800") + b'"')),
    _whole("a byte order mark", b"\xef\xbb\xbf" + _set(b"1")),
    _whole("a key that never ends", _set(b'{"' + _long(b"k"))),
    _whole("escapes that say nothing", _set(b'"' + _long(b"\\/") + b'"'), 400, 413),
    _whole("half an escape, very late", _set(b'"' + _long(b"\\n") + b"\\")),
    _whole("comments", b"/*" + _long(b"*")),
    _whole("spaces and nothing else", _long(b" ")),
    # Framing.
    _raw(
        "two lengths",
        f"POST {_AT} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        "Content-Length: 2\r\n\r\n12".encode(),
    ),
    _raw(
        "length and chunks",
        f"POST {_AT} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode(),
    ),
    _raw(
        "a length that is no number",
        f"POST {_AT} HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n1".encode(),
    ),
    _raw(
        "a field that is folded", b"GET /v1 HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", statuses=(400, 403)
    ),
    _raw("a space before the colon", b"GET /v1 HTTP/1.1\r\nHost : a\r\n\r\n"),
    _raw("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9 + b"\r\n\r\n"),
    _raw(
        "a head of a megabyte",
        b"GET /v1 HTTP/1.1\r\nHost: a\r\n",
        b"X: " + _long(b"x", _MIB) + b"\r\n\r\n",
    ),
    _raw(
        "ten thousand fields",
        b"GET /v1 HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)),
        b"\r\n",
        statuses=(400, 431, 403),
    ),
    _chunked("a storm of chunks", [b"".join([_chunk(b" ")] * 100_000), b"0\r\n\r\n"]),
    _chunked(
        "chunks with extensions of a megabyte",
        [b"1;" + _long(b"e", _MIB) + b"\r\nx\r\n", b"0\r\n\r\n"],
    ),
    # Addresses and fields.
    _get("a path of a megabyte", "/v1/buckets/" + "x" * _MIB, 400, 414),
    _get("a million slashes", "/" * _MIB, 400, 404, 414),
    _get("dots and slashes", "/v1/buckets/../../etc/passwd", 400, 404),
    _get("an escape that is cut short", f"{_AT}%2"),
    _get("an escaped zero", f"{_AT}%00"),
    _get("escapes that are no UTF-8", f"{_AT}%ff"),
    _get("a query of a thousand parameters", f"{_AT}?" + "&".join(f"a{n}=1" for n in range(1_000))),
    _get("a thousand tokens", _AT, fields="Crdtdb-Context: " + ",".join(["x"] * 1_000) + "\r\n"),
    _get("a token that is none", _AT, fields=f"Crdtdb-Context: {'A' * 8_000}\r\n"),
    _get("a cursor that is none", f"/v1/buckets/shop/set/k?after={'A' * 8_000}"),
    _get("a foreign host", _AT, 400, 403, fields="Host: evil.example\r\n"),
    _get("a wait for ever", _AT, fields="Prefer: wait=99999999999\r\n"),
)
