"""JSON values: what is refused, what is equal, and what is left of it as text."""

from __future__ import annotations

import json
import math
import random
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtdb import jsonvalue
from crdtdb.errors import BadRequest
from crdtdb.jsonvalue import (
    INT_MAX,
    INT_MIN,
    JsonValue,
    dump,
    has_more_elements,
    load,
    normalise,
    parse,
    parse_as_written,
)
from crdtdb.limits import LIMITS
from jsonvalues import exactly, nested, numbers, raw_values, texts, values

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
def test_equal_values_are_dumped_alike(members: dict[str, JsonValue], rng: random.Random) -> None:
    pairs = list(members.items())
    rng.shuffle(pairs)
    assert dump(dict(pairs)) == dump(members)


def test_dumped_text_is_compact_and_sorted_by_utf8() -> None:
    assert dump({"\U00010000": 1, "\uffff": [1, 2.5], "a": None}) == (
        '{"a":null,"\uffff":[1,2.5],"\U00010000":1}'.encode()
    )


def test_dumped_text_takes_no_more_memory_than_it_is_long() -> None:
    """The values of a list of 20,000 numbers once took 80 MB at the replica that wrote them."""
    tracemalloc.start()
    try:
        kept = [dump(number) for number in range(1_000)]
        taken_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken_bytes < 100 * len(kept)
