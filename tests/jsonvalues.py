"""JSON values for tests: all there are, and their order in Python's own terms."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from crdtdb.jsonvalue import INT_MAX, INT_MIN, JsonValue, normalise

__all__ = [
    "exactly",
    "near_landmarks",
    "nested",
    "numbers",
    "order",
    "raw_values",
    "texts",
    "values",
]

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
