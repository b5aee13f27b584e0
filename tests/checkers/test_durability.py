"""Histories in which something is gone that was acknowledged."""

from __future__ import annotations

import pytest

from checkers.durability import Ended, Found, Held, Moment, PutBack, durability
from checkers.vectors import vv

BAD: list[tuple[str, list[Moment]]] = [
    ("durability", [Held("eu", vv(a=1)), Found("eu", vv())]),
    ("durability", [Held("eu", vv(a=2)), Found("eu", vv(a=1))]),
    ("durability", [Held("eu", vv(a=1, b=3)), Found("eu", vv(a=9, b=2))]),
    ("durability", [Held("eu", vv(a=1)), Held("eu", vv(a=2)), Found("eu", vv(a=1))]),
    ("durability", [Held("eu", vv(a=3)), PutBack("eu", vv(a=2)), Found("eu", vv(a=1))]),
    ("durability", [Held("eu", vv(a=3)), PutBack("us", vv()), Found("eu", vv())]),
    ("growth", [Held("eu", vv(a=2)), Held("eu", vv(a=1))]),
    ("growth", [Held("eu", vv(a=2, b=1)), Held("eu", vv(a=3))]),
    ("lost operation", [Held("eu", vv(a=1)), Ended("us", vv())]),
    ("lost operation", [Held("eu", vv(a=1)), Held("us", vv(b=1)), Ended("us", vv(b=1))]),
    (
        "lost operation",
        [Held("eu", vv(a=2)), Held("us", vv(a=2)), PutBack("eu", vv()), Ended("eu", vv(a=1))],
    ),
]
GOOD: list[list[Moment]] = [
    [],
    [Held("eu", vv(a=1)), Found("eu", vv(a=1)), Held("eu", vv(a=2)), Ended("eu", vv(a=2))],
    [Held("eu", vv(a=1)), Found("eu", vv(a=2))],
    [Held("eu", vv(a=1)), PutBack("eu", vv()), Found("eu", vv()), Ended("us", vv())],
    [Held("eu", vv(a=1)), Held("us", vv(b=2)), Ended("eu", vv(a=1, b=2))],
]


@pytest.mark.parametrize(("check", "history"), BAD)
def test_a_bad_history_is_rejected(check: str, history: list[Moment]) -> None:
    assert [violation.check for violation in durability(history)] == [check]


@pytest.mark.parametrize("history", GOOD)
def test_a_good_history_is_accepted(history: list[Moment]) -> None:
    assert durability(history) == []
