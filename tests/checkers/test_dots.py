"""Histories in which a dot is issued twice."""

from __future__ import annotations

import pytest

from checkers.dots import Forgotten, Minted, dots
from checkers.vectors import A, B, vv

BAD: list[tuple[str, list[Minted | Forgotten]]] = [
    ("dot-reuse", [Minted("eu", A, 1, 1), Minted("eu", A, 1, 1)]),
    ("dot-reuse", [Minted("eu", A, 1, 3), Minted("eu", A, 3, 4)]),
    ("dot-reuse", [Minted("eu", A, 5, 6), Minted("eu", A, 1, 5)]),
    ("dot-reuse", [Minted("eu", A, 1, 2), Forgotten(vv(a=1)), Minted("eu", A, 1, 1)]),
    ("dot-reuse", [Minted("eu", A, 1, 1), Minted("us", B, 1, 1), Minted("eu", A, 1, 1)]),
    ("shared incarnation", [Minted("eu", A, 1, 1), Minted("copy", A, 2, 2)]),
    ("shared incarnation", [Minted("eu", A, 1, 1), Forgotten(vv()), Minted("copy", A, 1, 1)]),
]
GOOD: list[list[Minted | Forgotten]] = [
    [],
    [Minted("eu", A, 1, 1), Minted("eu", A, 2, 5), Minted("us", B, 1, 2)],
    [Minted("eu", A, 1, 2), Minted("eu", B, 1, 2)],
    [Minted("eu", A, 1, 2), Forgotten(vv(a=1)), Minted("eu", A, 2, 2)],
]


@pytest.mark.parametrize(("check", "history"), BAD)
def test_a_bad_history_is_rejected(check: str, history: list[Minted | Forgotten]) -> None:
    assert {violation.check for violation in dots(history)} == {check}


@pytest.mark.parametrize("history", GOOD)
def test_a_good_history_is_accepted(history: list[Minted | Forgotten]) -> None:
    assert dots(history) == []


def test_the_message_names_both() -> None:
    history = [Minted("eu", A, 1, 1), Minted("eu", A, 1, 1)]
    assert "issued by eu, was issued by eu before" in str(dots(history)[0])
