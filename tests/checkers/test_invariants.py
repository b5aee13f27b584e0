"""Sights that their types exclude."""

from __future__ import annotations

from typing import Any

import pytest

from checkers.invariants import Element, Sight, invariants


def sees(type_name: str, *values: Any, viewer: str = "eu") -> list[Sight]:
    return [Sight(viewer, "k", type_name, value) for value in values]


def elements(text: str, past: frozenset[str] = frozenset()) -> list[Element]:
    """`a1 a2 b1`: each by the operation that its letter names, which had seen no other."""
    return [Element(one, one[0], past) for one in text.split()]


BAD: dict[str, list[list[Sight]]] = {
    "gcounter is monotone": [
        sees("gcounter", 1, 0),
        sees("gcounter", 5, 5, 4),
        sees("gcounter", 2**70, 2**70 - 1),
        [*sees("gcounter", 3), *sees("gcounter", 7, viewer="us"), *sees("gcounter", 2)],
        [Sight("eu", "k", "gcounter", n, frozenset({"d"})) for n in (2, 1)],
    ],
    "gset is monotone": [
        sees("gset", ["1"], []),
        sees("gset", ["1", "2"], ["2", "3"]),
        sees("gset", ["1"], ["1", "2"], ["2"]),
        sees("gset", [], ["1"], []),
        sees("gset", ["1"], ["true"]),
    ],
    "max is monotone": [
        sees("max", 1, 0),
        sees("max", 1, None),
        sees("max", -1, -2),
        sees("max", None, 3, 2),
        sees("max", 1.5, 1.25),
    ],
    "min is monotone": [
        sees("min", 0, 1),
        sees("min", 1, None),
        sees("min", -2, -1),
        sees("min", None, 2, 3),
        sees("min", 1.25, 1.5),
    ],
    "bcounter is bounded": [
        [Sight("eu", "k", "bcounter", -1, least=0)],
        [Sight("eu", "k", "bcounter", 11, least=0, most=10)],
        [Sight("eu", "k", "bcounter", 4, least=5)],
        [Sight("eu", "k", "bcounter", 1, least=0), Sight("us", "k", "bcounter", -3, least=0)],
        [Sight("eu", "k", "bcounter", 1, most=0)],
    ],
    "list does not interleave": [
        sees("list", elements("a1 b1 a2")),
        sees("list", elements("a1 b1 a2 b2")),
        sees("list", elements("a1 a2 b1 a3 b2")),
        sees("list", elements("b1 a1 b2")),
        sees("list", elements("a1 a2"), elements("a1 c1 a2")),
    ],
    "list has one order": [
        sees("list", elements("a b"), elements("b a")),
        sees("list", elements("a b c"), elements("c a")),
        [*sees("list", elements("a b")), *sees("list", elements("b a"), viewer="us")],
        sees("list", elements("a b"), elements("b c"), elements("c a")),
        sees("list", elements("a a")),
    ],
}
GOOD: list[list[Sight]] = [
    [],
    sees("gcounter", 0, 1, 1, 7),
    sees("counter", 7, 1),
    [Sight("eu", "k", "gcounter", 7), Sight("eu", "k", "gcounter", 0, frozenset({"d"}))],
    [*sees("gcounter", 7), *sees("gcounter", 3, viewer="us")],
    [*sees("gcounter", 7), Sight("eu", "other", "gcounter", 3)],
    sees("gset", [], ["1"], ["1", "2"]),
    sees("max", None, 1, 1, 2),
    sees("min", None, 1, 1, -2),
    [Sight("eu", "k", "bcounter", n, least=0, most=10) for n in (0, 10, 3)],
    sees("list", elements("a1 a2 b1"), elements("c1 a1 a2 b1 b2")),
    sees("list", elements("a b c"), elements("a c"), elements("a d c")),
    [Sight("eu", "k", "list", [*elements("a1"), Element("b", "b", frozenset({"a"})),
                               *elements("a2")])],
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "number"), [(name, n) for name, bad in BAD.items() for n in range(len(bad))]
)
def test_a_bad_history_is_rejected(check: str, number: int) -> None:
    assert {violation.check for violation in invariants(BAD[check][number])} == {check}


@pytest.mark.parametrize("number", range(len(GOOD)))
def test_a_good_history_is_accepted(number: int) -> None:
    assert invariants(GOOD[number]) == []
