"""JSON values: what is refused, what is equal, what comes first, and the frozen encoding."""

from __future__ import annotations

import json
import math
import random
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdtdb import jsonvalue
from crdtdb.errors import BadRequest
from crdtdb.jsonvalue import (
    JsonValue,
    decode,
    dump,
    encode,
    has_more_elements,
    load,
    normalise,
    parse,
    parse_as_written,
)
from crdtdb.limits import LIMITS

INT_MIN, INT_MAX = -(2**63), 2**64 - 1

# Values -------------------------------------------------------------------------------------------

LANDMARKS = [0, 1, 2**52, 2**53, 2**54, 2**62, 2**63, 2**64, 10**19, 10**22]
in_range = st.integers(INT_MIN, INT_MAX)
finite = st.floats(allow_nan=False, allow_infinity=False)
near_landmarks = st.builds(
    lambda landmark, sign, offset: sign * landmark + offset,
    st.sampled_from(LANDMARKS),
    st.sampled_from([1, -1]),
    st.integers(-2050, 2050),
)
numbers = st.one_of(
    in_range,
    finite,
    near_landmarks.filter(lambda number: INT_MIN <= number <= INT_MAX),
    near_landmarks.map(float),
    st.sampled_from([5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -0.0, 0.5]),
)
#: Many short strings over the characters that the encoding treats in a special way.
texts = st.one_of(
    st.text("\x00\x01\x02\x10\x30ab", max_size=4),
    st.text("a\x7f\x80é\ud7ff\ue000\uffff\U00010000\U0010ffff", max_size=3),
    st.text(st.characters(exclude_categories=["Cs"])),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)


def containers(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=4) | st.dictionaries(texts, items, max_size=4)


raw_values: st.SearchStrategy[Any] = st.recursive(scalars, containers, max_leaves=8)
values: st.SearchStrategy[JsonValue] = raw_values.map(normalise)


def exactly(value: JsonValue) -> str:
    """Tells apart what Python's == does not (1, 1.0 and True), and nothing else."""
    return json.dumps(value, sort_keys=True)


def order(value: JsonValue) -> tuple[Any, ...]:
    """The order of values, in Python's own terms (which compares int with float exactly)."""
    match value:
        case None:
            return (0,)
        case False:
            return (1,)
        case True:
            return (2,)
        case int() | float():
            return (3, value)
        case str():
            return (4, value.encode())
        case list():
            return (5, [order(item) for item in value])
        case dict():
            pairs = sorted((key.encode(), order(item)) for key, item in value.items())
            return (6, pairs)


def nested(depth: int) -> JsonValue:
    value: JsonValue = []
    for _ in range(depth - 1):
        value = [value]
    return value


# Refused ------------------------------------------------------------------------------------------

REFUSED_TEXTS: list[tuple[bytes | str, str, str]] = [
    (b"", "$", "not JSON"),
    (b" \n", "$", "not JSON"),
    (b"1 2", "$", "not JSON: Extra data"),
    (b"[1,]", "$", "not JSON"),
    (b'{"a":1,}', "$", "not JSON"),
    (b"01", "$", "not JSON"),
    (b"1.", "$", "not JSON"),
    (b"+1", "$", "not JSON"),
    (b"'a'", "$", "not JSON"),
    (b"// x\n1", "$", "not JSON"),
    (b'"\x01"', "$", "not JSON"),
    (b'"\\x41"', "$", "not JSON"),
    ("\u0661", "$", "not JSON"),
    ("\u00a01", "$", "not JSON"),
    (b"\xef\xbb\xbf1", "$", "a byte order mark"),
    ("\ufeff1", "$", "a byte order mark"),
    (b'"ab\xff"', "$", "not UTF-8 at byte 3"),
    (b'"\xed\xa0\x80"', "$", "not UTF-8"),
    (b'"\xc0\x80"', "$", "not UTF-8"),
    ("1".encode("utf-16"), "$", "not UTF-8"),
    ("1".encode("utf-16-le"), "$", "not JSON"),
    (b"NaN", "$", "numbers must be finite"),
    (b'{"a":[1,-Infinity]}', "$.a[1]", "numbers must be finite"),
    (b"[Infinity]", "$[0]", "numbers must be finite"),
    (b"1e400", "$", "numbers must be finite"),
    (b"-1e400", "$", "numbers must be finite"),
    (b'{"a":[0,0,0,18446744073709551616]}', "$.a[3]", "integers must be within"),
    (b"-9223372036854775809", "$", "integers must be within"),
    (b"[" + b"9" * 5_000 + b"]", "$[0]", "integers must be within"),
    (b"-" + b"9" * 1_000_000, "$", "integers must be within"),
    (b'{"a":1,"a":1}', "$", 'duplicate key "a"'),
    (b'[{"a":{"\\u0062":1,"c":2,"b":1}}]', "$[0].a", 'duplicate key "b"'),
    (b'"\\ud800"', "$", "a lone surrogate"),
    (b'{"a b":["\\udc00\\ud800"]}', '$["a b"][0]', "a lone surrogate"),
    (b'{"\\udfff":1}', '$["\\udfff"]', "a lone surrogate"),
    ('["\ud800"]', "$[0]", "a lone surrogate"),
    (b"[" * 65 + b"]" * 65, "$" + "[0]" * 64, "nested deeper than 64 levels"),
    (b'{"":' * 65 + b"1" + b"}" * 65, "$" + '[""]' * 64, "nested deeper than 64 levels"),
    (b"[" * 1_000_000, "$", "nested deeper than 64 levels"),
    (b'{"a":' * 1_000_000, "$", "nested deeper than 64 levels"),
]


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        (b"[1,2]", 2),
        (b'{"a":[],"b":{}}', 4),
        (b'["a,b[{","c\\",[,","\\\\",3]', 4),
        (b'["' + b'\\\\\\"' * 50 + b',"]', 1),
        (b'"' + b"[" * 1_000 + b'"', 0),
        (b"[" * 1_000, 1_000),
    ],
)
def test_elements_are_counted(text: bytes, elements: int) -> None:
    assert [has_more_elements(text, most) for most in (elements - 1, elements)] == [True, False]


@given(values.map(orjson.dumps))
def test_elements_are_those_of_the_value(text: bytes) -> None:
    def count(value: Any) -> int:
        if isinstance(value, dict):
            return max(len(value), 1) + sum(map(count, value.values()))
        if isinstance(value, list):
            return max(len(value), 1) + sum(map(count, value))
        return 0

    elements = count(orjson.loads(text))
    assert not has_more_elements(text, elements)
    assert elements == 0 or has_more_elements(text, elements - 1)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text is too long to be read in one go."""
    monkeypatch.setattr(jsonvalue, "_ELEMENTS_AT_ONCE", -1)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(("text", "path", "message"), REFUSED_TEXTS, ids=range(len(REFUSED_TEXTS)))
def test_a_long_text_is_refused_alike(text: bytes | str, path: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(text)
    (field,) = caught.value.fields
    assert field.message.startswith((message, "not JSON"))


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    "text",
    [
        *(b"[1, 1.0, -0, 2e3, 18446744073709551615]", b'{"a":{"b":[null, true]}}', b' "x" '),
        *(
            b'["\\/", "\\\\", "\\"", "\\u00e9\\ud83d\\ude00", "e\\\\\\""]',
            b'{"k\\/": "", "": "\xc3\xa9"}',
        ),
    ],
)
def test_a_long_text_is_read_alike(text: bytes) -> None:
    read = parse(text)
    assert read == normalise(json.loads(text))
    assert dump(read) == dump(normalise(json.loads(text)))


def test_large_values_come_through() -> None:
    """More than one text holds that is read in one go."""
    value = [[n, {"k": str(n)}] for n in range(30_000)]
    assert parse(json.dumps(value)) == value
    escaped = "/\n" * 60_000
    assert parse(json.dumps([escaped]).replace("/", "\\/")) == [escaped]


@pytest.mark.parametrize(("text", "path", "message"), REFUSED_TEXTS, ids=range(len(REFUSED_TEXTS)))
def test_a_text_is_refused_at_its_place(text: bytes | str, path: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(text)
    (field,) = caught.value.fields
    assert field.field == path
    assert field.message.startswith(message)
    assert field.message in caught.value.detail
    caught.value.detail.encode()  # can be shown, whatever was refused


class Text(str):
    pass


CYCLE: list[object] = []
CYCLE.append(CYCLE)

REFUSED_VALUES: list[tuple[object, str, str]] = [
    (math.nan, "$", "numbers must be finite"),
    ([0, -math.inf], "$[1]", "numbers must be finite"),
    ({"n": 2**64}, "$.n", "integers must be within"),
    ((1, (-(2**63) - 1,)), "$[1][0]", "integers must be within"),
    ("\ud800", "$", "a lone surrogate"),
    ({"\udc00": 1}, '$["\\udc00"]', "a lone surrogate"),
    ({True: 1}, "$", "object keys must be strings, not bool"),
    ([{1: 1}], "$[0]", "object keys must be strings, not int"),
    (b"a", "$", "bytes is not a JSON type"),
    ({"a": {1, 2}}, "$.a", "set is not a JSON type"),
    (1j, "$", "complex is not a JSON type"),
    (Text("a"), "$", "Text is not a JSON type"),
    (CYCLE, "$" + "[0]" * 64, "nested deeper than 64 levels"),
    ({"k" * 1_000: math.nan}, '$["' + "k" * 63 + '\\u2026"]', "numbers must be finite"),
]


@pytest.mark.parametrize(
    ("value", "path", "message"), REFUSED_VALUES, ids=range(len(REFUSED_VALUES))
)
def test_a_value_is_refused_at_its_place(value: object, path: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        normalise(value)
    (field,) = caught.value.fields
    assert field.field == path
    assert field.message.startswith(message)


def test_a_refusal_names_the_limit_it_met() -> None:
    for text, limit in ((b"[" * 65 + b"]" * 65, LIMITS.json_depth), (b"1" * 30, "-2^63 … 2^64-1")):
        with pytest.raises(BadRequest) as caught:
            parse(text)
        assert caught.value.fields[0].limit == limit


@given(st.binary() | st.text(st.characters()) | st.text('[]{}",:\\u0d8-.eE1 '))
def test_parse_raises_nothing_but_bad_request(text: bytes | str) -> None:
    try:
        value = parse(text)
    except BadRequest:
        return
    assert exactly(normalise(value)) == exactly(value)


@given(raw_values, st.randoms(use_true_random=False), st.booleans())
def test_parse_accepts_what_orjson_accepts_but_for_what_it_must_refuse(
    raw: Any, rng: random.Random, ascii_only: bool
) -> None:
    text = bytearray(json.dumps(raw, ensure_ascii=ascii_only).encode())
    for _ in range(rng.randrange(3)):
        text[rng.randrange(len(text))] = rng.choice(b'[]{}",:\\u0d8-.eE1 \x00\xff')
    try:
        expected = orjson.loads(bytes(text))
    except orjson.JSONDecodeError:
        with pytest.raises(BadRequest):
            parse(bytes(text))
        return
    try:
        value = parse(bytes(text))
    except BadRequest as refusal:
        message = refusal.fields[0].message
        assert message.startswith(("duplicate key", "integers must be within"))
    else:
        assert exactly(value) == exactly(normalise(expected))


# Normalised ---------------------------------------------------------------------------------------

NORMALISED: list[tuple[bytes, JsonValue]] = [
    (b"1.0", 1),
    (b"1e0", 1),
    (b"10e-1", 1),
    (b"-0", 0),
    (b"-0.0", 0),
    (b"1e-400", 0),
    (b"0.1", 0.1),
    (b"-9223372036854775808", -(2**63)),
    (b"-9223372036854775808.0", -(2**63)),
    (b"18446744073709551615", 2**64 - 1),
    (b"1e19", 10**19),
    (b"18446744073709551616.0", 2.0**64),
    (b"-9.3e18", -9.3e18),
    (b"1e22", 1e22),
    (b"1.7976931348623157e308", 1.7976931348623157e308),
    (b"[true,false,null]", [True, False, None]),
    (b'"\\ud83d\\ude00\\u0000"', "\U0001f600\x00"),
    (b' {"b" : [ ] ,\r\n\t"a":{}} ', {"b": [], "a": {}}),
    (b'{"a":{"a":1},"b":{"a":1}}', {"a": {"a": 1}, "b": {"a": 1}}),
]


@pytest.mark.parametrize(("text", "value"), NORMALISED, ids=range(len(NORMALISED)))
def test_a_text_is_read_as_its_normalised_value(text: bytes, value: JsonValue) -> None:
    assert exactly(parse(text)) == exactly(value)
    assert exactly(parse(text.decode())) == exactly(value)


def test_numbers_can_be_kept_as_they_are_written() -> None:
    value = parse_as_written(b'{"a": [1.0, 1, -0.0, 1e0, 0.5], "b": true}')
    assert repr(value) == "{'a': [1.0, 1, -0.0, 1.0, 0.5], 'b': True}"


@pytest.mark.parametrize("text", ["[1e999]", "[NaN]", '{"a":1,"a":1}', f"[{2**64}]", '["\\ud800"]'])
def test_what_is_refused_does_not_depend_on_that(text: str) -> None:
    with pytest.raises(BadRequest) as normalised:
        parse(text)
    with pytest.raises(BadRequest) as as_written:
        parse_as_written(text)
    assert as_written.value.fields == normalised.value.fields


def test_the_deepest_value_passes_every_function() -> None:
    value = nested(LIMITS.json_depth)
    text = b"[" * 64 + b"]" * 64
    assert parse(text) == normalise(value) == value
    assert dump(value) == text
    assert decode(encode(value)) == (value, 128)


@given(raw_values)
def test_normalising_twice_changes_nothing_more(raw: Any) -> None:
    before = repr(raw)
    value = normalise(raw)
    assert exactly(normalise(value)) == exactly(value)
    assert repr(raw) == before


@given(numbers)
def test_equal_numbers_are_one_value(number: int | float) -> None:
    value = normalise(number)
    assert value == number
    if not INT_MIN <= number <= INT_MAX:
        assert type(value) is float
        return
    for twin in (int(number), float(number)):
        if twin == number:
            assert exactly(normalise(twin)) == exactly(value)
            assert exactly(parse(json.dumps(twin))) == exactly(value)


def test_a_tuple_is_an_array() -> None:
    assert exactly(normalise({"a": (1.0, (True, -0.0))})) == exactly({"a": [1, [True, 0]]})


# Text ---------------------------------------------------------------------------------------------


@given(values)
def test_a_dumped_value_is_read_back(value: JsonValue) -> None:
    assert exactly(parse(dump(value))) == exactly(load(dump(value))) == exactly(value)


@given(st.dictionaries(texts, values), st.randoms(use_true_random=False))
def test_equal_values_are_dumped_and_encoded_alike(
    members: dict[str, JsonValue], rng: random.Random
) -> None:
    pairs = list(members.items())
    rng.shuffle(pairs)
    assert dump(dict(pairs)) == dump(members)
    assert encode(dict(pairs)) == encode(members)


def test_dumped_text_is_compact_and_sorted_by_utf8() -> None:
    assert dump({"\U00010000": 1, "\uffff": [1, 2.5], "a": None}) == (
        '{"a":null,"\uffff":[1,2.5],"\U00010000":1}'.encode()
    )


# Encoding -----------------------------------------------------------------------------------------


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
