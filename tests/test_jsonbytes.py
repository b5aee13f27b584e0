"""Bytes that compare as JSON values do: in their order, read back, and frozen."""

from __future__ import annotations

import json
import math
import random
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdtdb.jsonbytes import decode, decode_each, encode
from crdtdb.jsonvalue import INT_MAX, INT_MIN, JsonValue, normalise
from crdtdb.limits import LIMITS
from jsonvalues import exactly, near_landmarks, nested, numbers, order, texts, values


def test_the_deepest_value_is_read_back() -> None:
    value = nested(LIMITS.json_depth)
    assert decode(encode(value)) == (value, 128)


@given(st.dictionaries(texts, values), st.randoms(use_true_random=False))
def test_equal_values_are_encoded_alike(members: dict[str, JsonValue], rng: random.Random) -> None:
    pairs = list(members.items())
    rng.shuffle(pairs)
    assert encode(dict(pairs)) == encode(members)


@given(values, values)
@example("a", "a\x00")
@example(["a"], ["a\x00"])
@example({"a": 1}, {"a\x00": 1})
@example([[], 1], [[None]])
@example(2**53, 2**53 + 1)
@example(-(2**53) - 1, -(2**53) - 2)
@example(2**64 - 1, 2.0**64)
@example(-(2**63), math.nextafter(-(2.0**63), -math.inf))
def test_encodings_compare_as_their_values_and_none_begins_another(
    a: JsonValue, b: JsonValue
) -> None:
    encoded_a, encoded_b = encode(a), encode(b)
    assert (encoded_a < encoded_b) == (order(a) < order(b))
    assert (encoded_a == encoded_b) == (order(a) == order(b))
    assert encoded_a == encoded_b or not encoded_b.startswith(encoded_a)


@given(numbers.map(normalise), numbers.map(normalise))
def test_numbers_compare_exactly(a: int | float, b: int | float) -> None:
    assert (encode(a) < encode(b)) == (a < b)
    assert (encode(a) == encode(b)) == (a == b)


@given(near_landmarks.filter(lambda number: INT_MIN <= number < INT_MAX))
def test_neighbouring_integers_are_told_apart(number: int) -> None:
    assert encode(number) < encode(number + 1)


@given(values, st.binary(max_size=3), st.binary(max_size=3))
def test_an_encoding_is_read_back_wherever_it_stands(
    value: JsonValue, before: bytes, behind: bytes
) -> None:
    encoded = encode(value)
    decoded, end = decode(before + encoded + behind, len(before))
    assert exactly(decoded) == exactly(value)
    assert end == len(before) + len(encoded)


@given(values)
def test_every_tag_is_within_its_reserved_range(value: JsonValue) -> None:
    assert 0x10 <= encode(value)[0] <= 0x7F


def check_decode(data: bytes) -> None:
    """Anything is either refused with ValueError or exactly what `encode` would have written."""
    try:
        value, end = decode(data)
    except ValueError:
        return
    assert encode(value) == data[:end]
    assert exactly(normalise(value)) == exactly(value)


@given(st.binary())
def test_random_bytes_are_no_value_or_a_canonical_one(data: bytes) -> None:
    check_decode(data)


@given(st.binary(min_size=8, max_size=10))
@example(struct.pack(">Q", 0x7FF << 52 | 1 << 63))  # infinity
@example(struct.pack(">Q", ~(1 << 63) & (1 << 64) - 1))  # negative zero
@example(encode(2**53)[1:9] + b"\x00\x02")  # belongs to the next double
@example(encode(2**64 - 1)[1:9] + b"\x08\x00")  # 2^64
@example(encode(-(2**53))[1:9] + b"\x00\x01")
def test_random_numbers_are_no_value_or_a_canonical_one(data: bytes) -> None:
    check_decode(b"\x20" + data)


@given(values, st.data())
def test_a_damaged_encoding_is_no_value_or_a_canonical_one(value: JsonValue, data: Any) -> None:
    encoded = encode(value)
    at = data.draw(st.integers(0, len(encoded)))
    end = data.draw(st.integers(at, min(at + 2, len(encoded))))
    filling = data.draw(st.binary(max_size=2) | st.sampled_from([b"\x00", b"\x01", b"\x30"]))
    check_decode(encoded[:at] + filling + encoded[end:])


NO_VALUE: list[bytes] = [
    b"",
    b"\x00",
    b"\x13",
    b"\x20" + bytes(7),
    b"\x20" + bytes(8),  # NaN
    encode(math.nextafter(0.0, -1.0))[:1] + b"\x7f" + b"\xff" * 7,  # negative zero
    encode(2**53)[:-1],
    encode(2**53)[:-1] + b"\x02",
    encode(2**64 - 1)[:-2] + b"\x08\x00",
    b"\x30",
    b"\x30a",
    b"\x30\x01\x00",
    b"\x30\x01\x03\x00",
    b"\x30\xff\x00",
    b"\x30\xed\xa0\x80\x00",
    b"\x40",
    b"\x40\x10",
    b"\x40" * 65 + bytes(65),
    b"\x40" * 1_000_000,
    b"\x50",
    b"\x50\x10\x10\x00",
    b"\x50\x30a\x00\x00",
    b"\x50\x30a\x00\x10\x30a\x00\x10\x00",  # a repeated key
    b"\x50\x30b\x00\x10\x30a\x00\x10\x00",  # keys out of order
]


@pytest.mark.parametrize("data", NO_VALUE, ids=range(len(NO_VALUE)))
def test_what_encode_never_writes_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract
        decode(data)


# Frozen -------------------------------------------------------------------------------------------


def test_the_encoding_never_changes() -> None:
    lines = (Path(__file__).parent / "wire" / "jsonvalue.jsonl").read_text().splitlines()
    vectors = [json.loads(line) for line in lines]
    for vector in vectors:
        data = bytes.fromhex(vector["hex"])
        assert encode(vector["value"]) == data
        decoded, end = decode(data)
        assert exactly(decoded) == exactly(vector["value"])
        assert end == len(data)
    for lower, higher in pairwise(vectors):
        assert lower["hex"] < higher["hex"]


@given(st.lists(st.one_of(texts, values)), st.binary(max_size=4))
@example(["a", "b\x00", "c\x01"], b"")
@example([True, "a"], b"")
@example(["a", []], b"")
def test_values_in_order_are_read_all_at_once(several: list[JsonValue], before: bytes) -> None:
    """What is between two strings is a string: only the first and the last are looked at."""
    encoded = sorted(before + encode(value) for value in several)
    one_by_one = [decode(data, len(before))[0] for data in encoded]
    assert exactly(decode_each(encoded, len(before))) == exactly(one_by_one)
    assert exactly(decode_each(encoded[::-1], len(before))) == exactly(one_by_one[::-1])
