"""Addresses: names in, bytes out and back; what lies beside what; and the frozen layout."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdtdb import address
from crdtdb.address import CutAddress, ObjectName, RecordAddress
from crdtdb.errors import BadRequest
from crdtdb.jsonbytes import encode
from crdtdb.jsonvalue import JsonValue, normalise

# Addresses ----------------------------------------------------------------------------------------

buckets = st.from_regex(r"[a-z0-9_][a-z0-9._-]{0,62}", fullmatch=True)
types = st.from_regex(r"[a-z]{1,16}", fullmatch=True)
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
keys = st.text(characters, min_size=1, max_size=8).filter(lambda key: key not in (".", ".."))
names = st.builds(ObjectName, buckets, types, keys)
#: Few and close to each other, so that pairs of them often share a prefix.
close_names = st.builds(
    ObjectName,
    st.sampled_from(["a", "ab", "a-"]),
    st.sampled_from(["set", "sets", "map"]),
    st.text("\x01ab\U0010ffff", min_size=1, max_size=3),
)
members: st.SearchStrategy[JsonValue] = (
    st.none() | st.integers(-300, 300) | st.text(max_size=4) | st.lists(st.integers(0, 9))
)
dots = st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 2**64 - 1))


def records(of: st.SearchStrategy[ObjectName]) -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.builds(address.own, of),
        st.builds(address.base, of),
        st.builds(address.operation, of, dots),
        st.builds(address.member, of, members),
    )


@st.composite
def prefixes(draw: st.DrawFn, of: st.SearchStrategy[ObjectName]) -> bytes:
    """Whatever a cut may cover."""
    name = draw(of)
    return draw(
        st.sampled_from(
            [
                address.bucket_prefix(name.bucket),
                address.type_prefix(name.bucket, name.type),
                address.key_prefix(name.bucket, name.type, name.key[:1]),
                name.prefix,
                name.prefix + address.OPERATION,
                name.prefix + address.MEMBER,
                draw(records(st.just(name))),
            ]
        )
    )


@given(names)
def test_a_name_is_read_back_from_its_prefix(name: ObjectName) -> None:
    assert name.prefix == address.object_prefix(*name)
    assert address.name_of(name.prefix) == name


@given(names, members, dots)
def test_a_record_address_is_taken_apart(
    name: ObjectName, member: JsonValue, dot: tuple[int, int]
) -> None:
    tails = {
        address.own(name): address.OWN,
        address.base(name): address.BASE,
        address.operation(name, dot): address.operation(name, dot)[len(name.prefix) :],
        address.member(name, member): address.MEMBER + encode(member),
    }
    for record, tail in tails.items():
        assert not address.is_cut(record)
        assert address.parse(record) == RecordAddress(name, tail)
        assert address.split_object(record) == (name.prefix, tail)
    assert address.operation_dot(tails[address.operation(name, dot)]) == dot
    assert address.member_value(tails[address.member(name, member)]) == normalise(member)


@given(prefixes(names))
def test_a_cut_address_is_taken_apart(prefix: bytes) -> None:
    cut = address.cut(prefix)
    assert address.is_cut(cut)
    assert address.cut_prefix(cut) == prefix
    assert address.parse(cut) == CutAddress(prefix)


# Order --------------------------------------------------------------------------------------------


@given(close_names, close_names)
def test_objects_are_ordered_by_bucket_type_and_key_and_never_overlap(
    a: ObjectName, b: ObjectName
) -> None:
    assert (a.prefix < b.prefix) == (a < b)
    assert a == b or not b.prefix.startswith(a.prefix)


@given(close_names, dots, dots)
def test_operations_are_ordered_by_dot(
    name: ObjectName, a: tuple[int, int], b: tuple[int, int]
) -> None:
    assert (address.operation(name, a) < address.operation(name, b)) == (a < b)


@given(close_names, members, members)
def test_members_are_ordered_by_value(name: ObjectName, a: JsonValue, b: JsonValue) -> None:
    assert (address.member(name, a) < address.member(name, b)) == (encode(a) < encode(b))


@given(prefixes(close_names), records(close_names))
def test_a_prefix_covers_one_range(prefix: bytes, record: bytes) -> None:
    end = address.after(prefix)
    assert end is not None
    assert (prefix <= record < end) == record.startswith(prefix)


@given(st.binary(max_size=4), st.binary(max_size=6))
@example(b"\xff", b"\xff\xff\xff")
@example(b"a\xff\xff", b"b")
def test_after_is_the_least_upper_bound_of_a_prefix(prefix: bytes, other: bytes) -> None:
    end = address.after(prefix)
    if end is None:
        assert prefix == b"\xff" * len(prefix)
    else:
        assert prefix + b"\xff" * 8 < end
        assert (prefix <= other < end) == other.startswith(prefix)


def test_cuts_lie_apart_from_the_records_they_cover() -> None:
    last = address.cut(b"\x10" + b"\xff" * 9)
    assert last < address.bucket_prefix("-")


# Hostile ------------------------------------------------------------------------------------------

OBJECT = b"\x10shop\x00set\x00cart:42\x00"

MALFORMED: list[bytes] = [
    b"",
    b"\x10",
    b"\x11shop\x00set\x00k\x00\x02",
    OBJECT,  # no tail
    OBJECT + b"\x01",
    OBJECT + b"\x02\x00",
    OBJECT + b"\x01",
    OBJECT + b"\x04\x00",
    OBJECT + b"\x05" + b"\x01" * 15,
    OBJECT + b"\x05" + b"\x01" * 17,
    OBJECT + b"\x05" + b"\x01" * 8 + bytes(8),  # a dot that counts from 0
    OBJECT + b"\x06",
    OBJECT + b"\x06\x10\x10",
    OBJECT + b"\x06\x30\x01\x00",
    OBJECT + b"\x07a",
    b"\x10\x00set\x00k\x00\x02",
    b"\x10-shop\x00set\x00k\x00\x02",
    b"\x10Shop\x00set\x00k\x00\x02",
    b"\x10shop\n\x00set\x00k\x00\x02",
    b"\x10" + b"b" * 64 + b"\x00set\x00k\x00\x02",
    b"\x10shop\x00\x00k\x00\x02",
    b"\x10shop\x00Set\x00k\x00\x02",
    b"\x10shop\x00" + b"t" * 17 + b"\x00k\x00\x02",
    b"\x10shop\x00set\x00\x00\x02",
    b"\x10shop\x00set\x00.\x00\x02",
    b"\x10shop\x00set\x00..\x00\x02",
    b"\x10shop\x00set\x00\xff\x00\x02",
    b"\x10shop\x00set\x00\xed\xa0\x80\x00\x02",
    b"\x10shop\x00set\x00" + b"k" * 1_025 + b"\x00\x02",
    b"\x08",
    b"\x08\x10",
    b"\x08\x10shop",
    b"\x08\x08\x10shop\x00",
    b"\x08\x10Shop\x00",
    b"\x08\x10shop\x00se",
    b"\x08\x10shop\x00set\x00" + b"k" * 1_025,
    b"\x08\x10shop\x00set\x00\xc3",
    b"\x08\x10shop\x00set\x00\x00",
    b"\x08\x10shop\x00set\x00.\x00",
    b"\x08\x10shop\x00set\x00\xff\x00",
    b"\x08" + OBJECT + b"\x01",
    b"\x08" + OBJECT + b"\x05\x01",
    b"\x08" + OBJECT + b"\x06\x30a",
]


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_address_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract
        address.parse(data)


def test_the_longest_and_the_oddest_names_are_accepted() -> None:
    for name in (
        ObjectName("b" * 63, "t" * 16, "k" * 1_024),
        ObjectName("_", "a", "..."),
        ObjectName("0.-_", "a", ".\n"),
        ObjectName("a", "a", "\U0010ffff" * 256),
    ):
        assert address.parse(address.own(name)) == RecordAddress(name, address.OWN)
    assert address.parse(b"\x08\x10b\x00set\x00.") == CutAddress(b"\x10b\x00set\x00.")


@pytest.mark.parametrize("data", [b"", b"\x10", OBJECT[:-1], b"\x08" + OBJECT])
def test_the_quick_readers_refuse_what_is_not_theirs(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract
        address.split_object(data)
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract
        address.name_of(data)


def test_a_tail_or_a_cut_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="not the address of a cut"):
        address.cut_prefix(OBJECT + address.OWN)
    with pytest.raises(ValueError, match="not the prefix of an object"):
        address.name_of(OBJECT + address.OWN)
    with pytest.raises(ValueError, match="not the tail of a member"):
        address.member_value(address.OWN)
    with pytest.raises(ValueError, match="not the tail of an operation"):
        address.operation_dot(address.MEMBER + b"\x10")


def check_parse(data: bytes) -> None:
    """Anything is either refused with ValueError or exactly what this module would have built."""
    try:
        parsed = address.parse(data)
    except ValueError:
        return
    match parsed:
        case CutAddress(prefix):
            assert address.cut(prefix) == data
        case RecordAddress(name, tail):
            assert name.prefix + tail == data


@given(st.binary())
def test_random_bytes_are_no_address_or_a_sound_one(data: bytes) -> None:
    check_parse(data)
    check_parse(address.DATA + data)
    check_parse(address.CUTS + address.DATA + data)


@given(records(close_names) | prefixes(close_names).map(address.cut), st.data())
def test_a_damaged_address_is_no_address_or_a_sound_one(whole: bytes, data: Any) -> None:
    at = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(at, min(at + 2, len(whole))))
    filling = data.draw(st.binary(max_size=2) | st.sampled_from([b"\x00", b"\x02", b"\x06"]))
    check_parse(whole[:at] + filling + whole[end:])


# Users --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bucket", ["a", "0", "shop", "a._-", "b" * 63])
def test_a_user_may_name_a_bucket(bucket: str) -> None:
    address.check_bucket(bucket)


@pytest.mark.parametrize(
    ("bucket", "message", "limit"),
    [
        ("", "must be", None),
        ("_system", "names that start with _ are reserved", None),
        (".a", "must be", None),
        ("-a", "must be", None),
        ("Shop", "must be", None),
        ("a/b", "must be", None),
        ("a\n", "must be", None),
        ("a\0", "must be", None),
        ("é", "must be", None),
        ("\ud800", "must be", None),
        ("b" * 64, "too long", 63),
    ],
)
def test_a_user_may_not_name_a_bucket(bucket: str, message: str, limit: int | None) -> None:
    with pytest.raises(BadRequest) as caught:
        address.check_bucket(bucket)
    (field,) = caught.value.fields
    assert (field.field, field.limit) == ("bucket", limit)
    assert field.message.startswith(message)


@pytest.mark.parametrize("key", ["a", "...", "_a", "cart:42", "a/b", "{}", "é" * 512, "\n"])
def test_a_user_may_name_a_key(key: str) -> None:
    address.check_key(key)


@pytest.mark.parametrize(
    ("key", "message", "limit"),
    [
        ("", "must not be empty", None),
        (".", "must not be", None),
        ("..", "must not be", None),
        ("a\0b", "must not contain U+0000", None),
        ("a\udc00", "a lone surrogate", None),
        ("é" * 513, "too many bytes", 1_024),
    ],
)
def test_a_user_may_not_name_a_key(key: str, message: str, limit: int | None) -> None:
    with pytest.raises(BadRequest) as caught:
        address.check_key(key)
    (field,) = caught.value.fields
    assert (field.field, field.limit) == ("key", limit)
    assert field.message.startswith(message)


@given(st.text(st.characters()), st.text(st.characters()))
def test_what_a_user_may_name_is_an_address(bucket: str, key: str) -> None:
    try:
        address.check_bucket(bucket)
    except BadRequest:
        bucket = "b"
    try:
        address.check_key(key)
    except BadRequest:
        return
    name = ObjectName(bucket, "set", key)
    assert address.parse(address.own(name)) == RecordAddress(name, address.OWN)


# Frozen -------------------------------------------------------------------------------------------


def build(vector: dict[str, Any]) -> bytes:
    match vector:
        case {"kind": "own", "name": name}:
            return address.own(ObjectName(*name))
        case {"kind": "base", "name": name}:
            return address.base(ObjectName(*name))
        case {"kind": "operation", "name": name, "dot": [incarnation, counter]}:
            return address.operation(ObjectName(*name), (incarnation, counter))
        case {"kind": "member", "name": name, "member": member}:
            return address.member(ObjectName(*name), member)
        case {"kind": "leaf", "name": name, "path": path, "type": type_name, **rest}:
            return ObjectName(*name).prefix + address.leaf(path, type_name, _inner(rest))
        case {"kind": "cut", "name": name, "path": path, "leaf_type": type_name}:
            return address.cut(ObjectName(*name).prefix + address.leaf(path, type_name))
        case {"kind": "cut", "name": name}:
            return address.cut(ObjectName(*name).prefix)
        case {"kind": "cut", "key_start": start}:
            return address.cut(address.key_prefix(*start))
        case {"kind": "cut", "type": names}:
            return address.cut(address.type_prefix(*names))
        case {"kind": "cut", "bucket": bucket}:
            return address.cut(address.bucket_prefix(bucket))
    raise AssertionError(vector)


def _inner(rest: dict[str, Any]) -> bytes:
    """What the tail of a leaf's record ends with."""
    match rest:
        case {"member": member}:
            return address.MEMBER + encode(member)
        case {"dot": [incarnation, counter]}:
            return address.operation_in(b"", (incarnation, counter))
        case {"base": True}:
            return address.BASE
    return address.OWN


def take_apart(data: bytes) -> dict[str, Any]:
    """The vector of a record's address of which only the bytes are known."""
    match address.parse(data):
        case RecordAddress(name, address.OWN):
            return {"kind": "own", "name": list(name)}
        case RecordAddress(name, address.BASE):
            return {"kind": "base", "name": list(name)}
        case RecordAddress(name, tail) if tail.startswith(address.OPERATION):
            return {"kind": "operation", "name": list(name), "dot": [*address.operation_dot(tail)]}
        case RecordAddress(name, tail) if tail.startswith(address.LEAF):
            path, type_name, inner = address.leaf_of(tail)
            vector: dict[str, Any] = {"kind": "leaf", "name": list(name), "path": list(path)}
            vector["type"] = type_name
            if inner == address.BASE:
                vector["base"] = True
            elif inner.startswith(address.OPERATION):
                vector["dot"] = [*address.operation_dot(inner)]
            elif inner != address.OWN:
                vector["member"] = address.member_value(inner)
            return vector
        case RecordAddress(name, tail):
            return {"kind": "member", "name": list(name), "member": address.member_value(tail)}
    raise AssertionError(data)


def test_the_layout_never_changes() -> None:
    lines = (Path(__file__).parent / "wire" / "address.jsonl").read_text().splitlines()
    vectors = [json.loads(line) for line in lines]
    for vector in vectors:
        expected = bytes.fromhex(vector.pop("hex"))
        assert build(vector) == expected
        if vector["kind"] == "cut":
            assert address.parse(expected) == CutAddress(expected[1:])
        else:
            assert take_apart(expected) == vector
    for lower, higher in pairwise(vectors):
        assert build(lower) < build(higher)
