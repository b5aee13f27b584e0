"""The bytes of a JSON value that compare as the values do.

`encode` writes a normalised value so that comparing the bytes compares the values:
`encode(a) < encode(b)` exactly when a < b (`crdtdb.jsonvalue` has the order), and no encoding is a
prefix of another. It is part of addresses on disk and between replicas, hence **frozen**:

======== ===== ===================================================================================
value    tag   what follows
======== ===== ===================================================================================
null     10
false    11
true     12
number   20    the greatest double d ≤ number, 8 bytes big-endian, with the sign bit flipped when
               d ≥ 0 and every bit flipped when d < 0; where integers are denser than doubles
               (|d| ≥ 2^53 and -2^63 ≤ d < 2^64) also number - d, 2 bytes big-endian
string   30    UTF-8 with 00 written as 01 01 and 01 written as 01 02; then 00
array    40    the elements; then 00
object   50    for each key, in UTF-8 order: the key as a string (with its tag), the value; then 00
======== ===== ===================================================================================

The end mark 00 is below every tag and, thanks to the escapes, below every byte of a string, so
that what ends first sorts first, wherever it is nested.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from crdtdb.jsonvalue import INT_MAX, INT_MIN, JsonValue
from crdtdb.limits import LIMITS

__all__ = ["decode", "decode_each", "encode"]

_NULL: Final = b"\x10"
_FALSE: Final = b"\x11"
_TRUE: Final = b"\x12"
_NUMBER: Final = b"\x20"
_STRING: Final = b"\x30"
_ARRAY: Final = b"\x40"
_OBJECT: Final = b"\x50"
_END: Final = b"\x00"

_DOUBLE: Final = struct.Struct(">d")
_BITS: Final = struct.Struct(">Q")
_RESIDUAL: Final = struct.Struct(">H")
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1
#: From here on neighbouring doubles are integers, later more than 1 apart.
_DENSE: Final = 2.0**53


def encode(value: JsonValue) -> bytes:
    """The order-preserving form of a normalised value (the table above)."""
    if isinstance(value, str):
        return _STRING + _escaped(value) + _END
    if value is None:
        return _NULL
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, list):
        return b"".join((_ARRAY, *map(encode, value), _END))
    if isinstance(value, dict):
        pairs = (encode(key) + encode(value[key]) for key in sorted(value))
        return b"".join((_OBJECT, *pairs, _END))
    return _encoded_number(value)


def _escaped(text: str) -> bytes:
    return text.encode().replace(b"\x01", b"\x01\x02").replace(b"\x00", b"\x01\x01")


def _floor(value: int | float) -> float:
    """The greatest double that is not above `value`."""
    double = float(value)
    return double if double <= value else math.nextafter(double, -math.inf)


def _has_residual(double: float) -> bool:
    return abs(double) >= _DENSE and INT_MIN <= double <= INT_MAX


def _encoded_number(value: int | float) -> bytes:
    double = _floor(value)
    (bits,) = _BITS.unpack(_DOUBLE.pack(double))
    sortable = _BITS.pack(~bits & _ALL if bits & _SIGN else bits | _SIGN)
    if _has_residual(double):
        return _NUMBER + sortable + _RESIDUAL.pack(int(value) - int(double))
    return _NUMBER + sortable


def decode(data: bytes, start: int = 0) -> tuple[JsonValue, int]:
    """The value whose encoding begins at `start`, and where that encoding ends.

    Only what `encode` writes is read back; anything else is a `ValueError`.
    """
    return _decoded(data, start, 0)


def decode_each(encoded: Sequence[bytes], start: int) -> list[JsonValue]:
    """The value whose encoding begins at `start` in each of these and ends with it.

    They are known to be encodings, in their order or its reverse; strings without escapes are read
    all together.
    """
    if not encoded:
        return []
    if encoded[0][start] == encoded[-1][start] == _STRING[0]:  # so between them are only strings
        texts = b"\0".join(map(itemgetter(slice(start + 1, -1)), encoded))
        if b"\1" not in texts:
            return list(texts.decode().split("\0"))
    return [decode(data, start)[0] for data in encoded]


def _decoded(data: bytes, start: int, depth: int) -> tuple[JsonValue, int]:
    tag, at = data[start : start + 1], start + 1
    if tag == _STRING:
        return _decoded_string(data, at)
    if tag == _NUMBER:
        return _decoded_number(data, at)
    if tag == _NULL:
        return None, at
    if tag == _FALSE:
        return False, at
    if tag == _TRUE:
        return True, at
    if tag not in (_ARRAY, _OBJECT):
        raise ValueError(f"no JSON value has the tag {tag.hex() or 'nothing'}")
    if depth == LIMITS.json_depth:
        raise ValueError("a JSON value is nested too deep")
    return (_decoded_array if tag == _ARRAY else _decoded_object)(data, at, depth + 1)


def _decoded_string(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(_END, at)
    body = data[at:end]
    if b"\x01" not in body:
        return body.decode(), end + 1
    text = body.replace(b"\x01\x01", b"\x00").replace(b"\x01\x02", b"\x01").decode()
    if _escaped(text) != body:
        raise ValueError("a string is not escaped as it must be")
    return text, end + 1


def _decoded_number(data: bytes, at: int) -> tuple[int | float, int]:
    end = at + _BITS.size
    if end > len(data):
        raise ValueError("a number is cut short")
    (sortable,) = _BITS.unpack_from(data, at)
    bits = sortable ^ _SIGN if sortable & _SIGN else ~sortable & _ALL
    (double,) = _DOUBLE.unpack(_BITS.pack(bits))
    if not math.isfinite(double) or bits == _SIGN:
        raise ValueError("NaN, infinities and negative zero are not JSON values")
    if not _has_residual(double):
        return (int(double) if double.is_integer() and abs(double) < _DENSE else double), end
    if end + _RESIDUAL.size > len(data):
        raise ValueError("a number is cut short")
    (residual,) = _RESIDUAL.unpack_from(data, end)
    value = int(double) + residual
    if _floor(value) != double:
        raise ValueError("the residual of a number is too large")
    return value, end + _RESIDUAL.size


def _decoded_array(data: bytes, at: int, depth: int) -> tuple[list[JsonValue], int]:
    items: list[JsonValue] = []
    while data[at : at + 1] != _END:
        item, at = _decoded(data, at, depth)
        items.append(item)
    return items, at + 1


def _decoded_object(data: bytes, at: int, depth: int) -> tuple[dict[str, JsonValue], int]:
    members: dict[str, JsonValue] = {}
    last: str | None = None
    while data[at : at + 1] != _END:
        if data[at : at + 1] != _STRING:
            raise ValueError("an object key is not a string")
        key, at = _decoded_string(data, at + 1)
        if last is not None and key <= last:
            raise ValueError("object keys are not in order")
        members[key], at = _decoded(data, at, depth)
        last = key
    return members, at + 1
