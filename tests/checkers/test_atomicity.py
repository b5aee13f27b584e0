"""Histories in which somebody is shown part of a transaction."""

from __future__ import annotations

import pytest

from checkers.atomicity import atomicity
from checkers.order import Transaction as Did

BOTH = Did("w", writes={"x": 1, "y": 1})
AGAIN = Did("w", writes={"x": 2, "y": 2})
BAD = [
    [BOTH, Did("a", reads={"x": 1, "y": None})],
    [BOTH, Did("a", reads={"x": None, "y": 1})],
    [BOTH, AGAIN, Did("a", reads={"x": 2, "y": 1})],
    [BOTH, AGAIN, Did("a", reads={"x": 1, "y": 2})],
    [BOTH, Did("v", reads={"x": 1, "y": 1}, writes={"x": 3, "y": 3}),
     Did("a", reads={"x": 3, "y": 1})],
    [Did("w", writes={"x": 1, "y": 1, "z": 1}), Did("a", reads={"x": 1, "y": 1, "z": None})],
    [Did("u", writes={"y": 0}), Did("w", reads={"y": 0}, writes={"x": 1, "y": 1}),
     Did("a", reads={"x": 1, "y": 0})],
]  # fmt: skip
GOOD = [
    [],
    [BOTH, Did("a", reads={"x": 1, "y": 1})],
    [BOTH, Did("a", reads={"x": None, "y": None})],
    [BOTH, Did("a", reads={"x": 1}), Did("a", reads={"y": 1})],
    [BOTH, Did("v", writes={"y": 7}), Did("a", reads={"x": 1, "y": 7})],
    [BOTH, Did("w", writes={"y": 2}), Did("a", reads={"x": 1, "y": 2})],
]


@pytest.mark.parametrize("history", BAD)
def test_a_bad_history_is_rejected(history: list[Did]) -> None:
    assert {violation.check for violation in atomicity(history)} == {"fractured read"}


@pytest.mark.parametrize("history", GOOD)
def test_a_good_history_is_accepted(history: list[Did]) -> None:
    assert atomicity(history) == []


def test_the_message_tells_the_story() -> None:
    (found,) = atomicity(BAD[0])
    assert str(found) == (
        "fractured read: a #0 (reads x is 1, y is None) is shown part of w #0 "
        "(writes x = 1, y = 1): its y is of nobody"
    )
