"""The order-preserving address of a record: where it is stored and what a scan finds beside it.

All data lives in one sorted space of byte strings. The layout puts what is read, listed or removed
together next to each other: the objects of a bucket, the keys of a type, the members of a set each
are one range, so a listing is a range scan and a removal one *cut* over a prefix. Addresses are on
disk and between replicas, hence **frozen**::

    10 | bucket | 00 | type | 00 | key | 00 | tail      a record of an object
    08 | the first bytes of such an address             the cut over everything that starts so

Names are UTF-8 and hold no U+0000, so they need no escaping. A tail begins with its kind:

== ========= ================================================================================
02 OWN       nothing more: the object's own record
03 EXPIRY    nothing more: the object's deadline
04 BASE      nothing more: the base of an op-based object
05 OPERATION one operation: incarnation, counter (8 bytes each, big-endian)
06 MEMBER    one member or element: its `crdtdb.jsonbytes.encode`
07 LEAF      one leaf of a map: its field path, `crdtdb.jsonbytes.encode` of a list of strings;
             the leaf's type; 00; the tail (02, 04, 05, 06) that its record would have by itself
== ========= ================================================================================

A cut may end after the bucket, the type, any character of the key, the key, the kind, the type of
a leaf or the tail.

Reading (`parse`, `name_of`, `member_value`, …) raises `ValueError` on anything else, because
addresses arrive from peers. `check_bucket` and `check_key` are for what arrives from users.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from crdtdb import jsonbytes
from crdtdb.errors import BadRequest, Field, TooLarge
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS

__all__ = [
    "BASE",
    "CUTS",
    "DATA",
    "EXPIRY",
    "LEAF",
    "MEMBER",
    "OPERATION",
    "OWN",
    "USER_BUCKET",
    "CutAddress",
    "Leaf",
    "ObjectName",
    "Parsed",
    "RecordAddress",
    "after",
    "base",
    "bucket_prefix",
    "check_bucket",
    "check_key",
    "check_members",
    "check_object",
    "check_path",
    "cut",
    "cut_prefix",
    "is_base",
    "is_cut",
    "is_expiry",
    "key_prefix",
    "leaf",
    "leaf_of",
    "leaves_at",
    "leaves_below",
    "member",
    "member_value",
    "member_values",
    "name_of",
    "object_prefix",
    "operation",
    "operation_dot",
    "operation_in",
    "own",
    "parse",
    "split_leaf",
    "split_object",
    "type_prefix",
]

#: Namespaces: the first byte of an address.
CUTS: Final = b"\x08"
DATA: Final = b"\x10"

#: Kinds: the first byte of a tail.
OWN: Final = b"\x02"
EXPIRY: Final = b"\x03"
BASE: Final = b"\x04"
OPERATION: Final = b"\x05"
MEMBER: Final = b"\x06"
LEAF: Final = b"\x07"

#: How the tail of a member that is a string begins.
_STRING_MEMBER: Final = MEMBER + jsonbytes.encode("")[:1]

_DOT: Final = struct.Struct(">QQ")

_BUCKET: Final = rb"\x10([a-z0-9_][a-z0-9._-]{0,%d})\x00" % (LIMITS.bucket_bytes - 1)
_TYPE: Final = rb"([a-z]{1,16})\x00"
_BUCKET_START: Final = re.compile(_BUCKET)
_TYPE_START: Final = re.compile(_BUCKET + _TYPE)
_OBJECT_START: Final = re.compile(
    _BUCKET + _TYPE + rb"(?!\.{1,2}\x00)([^\x00]{1,%d})\x00" % LIMITS.key_bytes
)
_LEAF_TYPE: Final = re.compile(rb"([a-z]{1,16})\x00")
#: What a user may call a bucket, as a regular expression; besides, its length is bounded.
USER_BUCKET: Final = "[a-z0-9][a-z0-9._-]*"
_USER_BUCKET: Final = re.compile(USER_BUCKET)


class ObjectName(NamedTuple):
    """What a user addresses."""

    bucket: str
    type: str
    key: str

    @property
    def prefix(self) -> bytes:
        """What the addresses of all records of this object start with, and no others."""
        return object_prefix(self.bucket, self.type, self.key)


class RecordAddress(NamedTuple):
    """The address of a record of an object, taken apart."""

    name: ObjectName
    tail: bytes


class Leaf(NamedTuple):
    """The tail of a record of a map, taken apart."""

    path: tuple[str, ...]
    type: str
    #: The tail it would have in an object of that type.
    tail: bytes


class CutAddress(NamedTuple):
    """The address of a cut: the prefix it covers."""

    prefix: bytes


Parsed: TypeAlias = RecordAddress | CutAddress


def bucket_prefix(bucket: str) -> bytes:
    return f"\x10{bucket}\0".encode()


def type_prefix(bucket: str, type_name: str) -> bytes:
    return f"\x10{bucket}\0{type_name}\0".encode()


def key_prefix(bucket: str, type_name: str, key_start: str) -> bytes:
    """What the addresses of all objects start with whose key starts with `key_start`."""
    return f"\x10{bucket}\0{type_name}\0{key_start}".encode()


def object_prefix(bucket: str, type_name: str, key: str) -> bytes:
    return f"\x10{bucket}\0{type_name}\0{key}\0".encode()


def own(name: ObjectName) -> bytes:
    return name.prefix + OWN


def is_expiry(address: bytes) -> bool:
    """Is this the deadline of an object? (Some members' addresses end like one.)"""
    return address.endswith(EXPIRY) and not is_cut(address) and split_object(address)[1] == EXPIRY


def base(name: ObjectName) -> bytes:
    return name.prefix + BASE


def operation(name: ObjectName, dot: tuple[int, int]) -> bytes:
    return operation_in(name.prefix, dot)


def operation_in(prefix: bytes, dot: tuple[int, int]) -> bytes:
    """The address of an operation in the log of an object, or of a leaf, with this prefix."""
    return prefix + OPERATION + _DOT.pack(*dot)


def member(name: ObjectName, value: JsonValue) -> bytes:
    return name.prefix + MEMBER + jsonbytes.encode(value)


def leaves_at(path: Sequence[str]) -> bytes:
    """What the tails of all leaves at a field path start with, and no others."""
    return LEAF + jsonbytes.encode(list(path))


def leaves_below(path: Sequence[str]) -> bytes:
    """What the tails of all leaves at a field path or below it start with, and no others."""
    return leaves_at(path)[:-1]  # without the end of the list


def leaf(path: Sequence[str], type_name: str, tail: bytes = b"") -> bytes:
    """The tail of a leaf's record; without `tail`, what the tails of its records start with."""
    return b"%b%b\0%b" % (leaves_at(path), type_name.encode(), tail)


def cut(prefix: bytes) -> bytes:
    return CUTS + prefix


def is_cut(address: bytes) -> bool:
    return address.startswith(CUTS)


def is_base(address: bytes) -> bool:
    """Is this the base of an op-based object or leaf? (Some members' addresses end like one.)"""
    if not address.endswith(BASE) or is_cut(address):
        return False
    tail = split_object(address)[1]
    if not tail.startswith(LEAF):
        return tail == BASE
    try:
        return split_leaf(tail).tail == BASE
    except ValueError:
        return False


def cut_prefix(address: bytes) -> bytes:
    """The prefix that a cut's address covers."""
    if not is_cut(address):
        raise ValueError("not the address of a cut")
    return address[1:]


def split_object(address: bytes) -> tuple[bytes, bytes]:
    """A record's address as the prefix of its object and its tail, names unchecked (hot path)."""
    if not address.startswith(DATA):
        raise ValueError("not the address of a record")
    _bucket, _type, _key, tail = address.split(b"\0", 3)
    return address[: len(address) - len(tail)], tail


def name_of(prefix: bytes) -> ObjectName:
    """The object with this prefix."""
    match = _OBJECT_START.fullmatch(prefix)
    if match is None:
        raise ValueError("not the prefix of an object")
    return _name(match)


def _name(match: re.Match[bytes]) -> ObjectName:
    bucket, type_name, key = match.groups()
    return ObjectName(bucket.decode(), type_name.decode(), key.decode())


def member_value(tail: bytes) -> JsonValue:
    if not tail.startswith(MEMBER):
        raise ValueError("not the tail of a member")
    value, end = jsonbytes.decode(tail, 1)
    if end != len(tail):
        raise ValueError("something follows the member")
    return value


def member_values(addresses: Sequence[bytes], prefix_bytes: int) -> list[JsonValue]:
    """The members at some addresses that are known to be members', behind their prefix."""
    return jsonbytes.decode_each(addresses, prefix_bytes + len(MEMBER))


def leaf_of(tail: bytes) -> Leaf:
    """Take the tail of a record of a map apart, checking every part of it."""
    leaf = split_leaf(tail)
    if leaf.tail.startswith(OPERATION):
        operation_dot(leaf.tail)
    elif leaf.tail not in (OWN, BASE):
        member_value(leaf.tail)
    return leaf


def split_leaf(tail: bytes) -> Leaf:
    """The same, but what follows the leaf's type may be anything, or nothing."""
    if not tail.startswith(LEAF):
        raise ValueError("not the tail of a leaf")
    path, end = jsonbytes.decode(tail, 1)
    if not isinstance(path, list) or not 1 <= len(path) <= LIMITS.map_depth:
        raise ValueError("a field is a list of strings, neither empty nor too deep")
    fields = tuple(part for part in path if isinstance(part, str))
    match = _LEAF_TYPE.match(tail, end)
    if match is None or len(fields) < len(path):
        raise ValueError("a leaf has a field of strings, and a type")
    return Leaf(fields, match[1].decode(), tail[match.end() :])


def operation_dot(tail: bytes) -> tuple[int, int]:
    if not tail.startswith(OPERATION) or len(tail) != 1 + _DOT.size:
        raise ValueError("not the tail of an operation")
    incarnation, counter = _DOT.unpack_from(tail, 1)
    if counter == 0:
        raise ValueError("dots count from 1")
    return incarnation, counter


def parse(address: bytes) -> Parsed:
    """Take an address apart, checking every part of it."""
    if is_cut(address):
        prefix = cut_prefix(address)
        _check_cut(prefix)
        return CutAddress(prefix)
    match = _OBJECT_START.match(address)
    if match is None:
        raise ValueError("not an address")
    tail = address[match.end() :]
    _check_tail(tail)
    return RecordAddress(_name(match), tail)


def check_object(address: bytes) -> tuple[bytes, bytes]:
    """The prefix of the object that a record's address belongs to, checked; and its type's name."""
    match = _OBJECT_START.match(address)
    if match is None:
        raise ValueError("not an address")
    prefix, type_name, key = match.group(0, 2, 3)
    key.decode()
    return prefix, type_name


def check_members(tails: Sequence[bytes]) -> None:
    """Check the tails of members; strings without escapes all together."""
    if {tail[:2] for tail in tails} == {_STRING_MEMBER} and {tail[-1:] for tail in tails} == {
        b"\0"
    }:
        texts = b"\0".join([tail[2:-1] for tail in tails])
        if b"\1" not in texts and texts.count(b"\0") == len(tails) - 1:
            texts.decode()
            return
    for tail in tails:
        member_value(tail)


def _check_tail(tail: bytes) -> None:
    kind = tail[:1]
    if kind == MEMBER:
        member_value(tail)
    elif kind == LEAF:
        leaf_of(tail)
    elif kind == OPERATION:
        operation_dot(tail)
    elif tail not in (OWN, EXPIRY, BASE):
        raise ValueError(f"no record has the tail {tail[:8].hex() or 'nothing'}")


def _check_cut(prefix: bytes) -> None:
    if match := _OBJECT_START.match(prefix):
        _name(match)
        tail = prefix[match.end() :]
        is_leaf = tail.startswith(LEAF) and tail != LEAF and not split_leaf(tail).tail
        if tail not in (b"", OPERATION, MEMBER, LEAF) and not is_leaf:
            _check_tail(tail)
    elif match := _TYPE_START.match(prefix):
        key_start = prefix[match.end() :]
        if b"\0" in key_start or len(key_start) > LIMITS.key_bytes:
            raise ValueError("a cut ends in an impossible key")
        key_start.decode()
    elif not _BUCKET_START.fullmatch(prefix):
        raise ValueError("not the prefix of an address")


def after(prefix: bytes) -> bytes | None:
    """The least byte string above everything that starts with `prefix`; None if there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


@lru_cache(maxsize=256)
def check_bucket(name: str) -> None:
    """Refuse what a user may not name a bucket."""
    if name.startswith("_"):
        raise _bad_name("bucket", "names that start with _ are reserved")
    if len(name) > LIMITS.bucket_bytes:
        raise _bad_name("bucket", "too long", LIMITS.bucket_bytes)
    if not _USER_BUCKET.fullmatch(name):
        raise _bad_name("bucket", "must be a-z 0-9 . _ - and start with a letter or a digit")


def check_key(key: str) -> None:
    """Refuse what a user may not name an object."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise _bad_name("key", "a lone surrogate is not a character") from None
    if size > LIMITS.key_bytes:
        raise _bad_name("key", "too many bytes of UTF-8", LIMITS.key_bytes)
    if size == 0:
        raise _bad_name("key", "must not be empty")
    if "\0" in key:
        raise _bad_name("key", "must not contain U+0000")
    if key in (".", ".."):
        raise _bad_name("key", 'must not be "." or ".."')


def check_path(path: Sequence[str], field: str) -> None:
    """Refuse the names of a field that no map has. Raises BadRequest or TooLarge naming `field`."""
    try:
        size = len(leaves_at(path))
    except UnicodeEncodeError:
        raise _bad_name(field, "a lone surrogate is not a character") from None
    if size > LIMITS.field_bytes:
        raise TooLarge(
            f"the {field} takes {size} bytes; keep it within {LIMITS.field_bytes}",
            Field(field, "too large", LIMITS.field_bytes),
        )


def _bad_name(field: str, message: str, limit: int | None = None) -> BadRequest:
    return BadRequest(f"The {field} is refused: {message}.", Field(field, message, limit))
