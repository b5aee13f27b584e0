"""Histories in which something that was removed is there again."""

from __future__ import annotations

import pytest

from checkers.resurrection import Added, Moment, Removed, Viewed, resurrection
from checkers.vectors import A, B, C, vv

MILK, AGAIN, OTHERS = (Added(dot, "milk") for dot in ((A, 1), (A, 2), (C, 1)))
DRUNK = Removed((B, 1), frozenset({MILK}))
SEES_MILK = frozenset({"milk"})
BAD: list[list[Moment]] = [
    [MILK, DRUNK, Viewed("eu", vv(a=1, b=1), SEES_MILK)],
    [MILK, DRUNK, Added((A, 2), "bread"), Viewed("eu", vv(a=2, b=1), SEES_MILK)],
    [MILK, DRUNK, OTHERS, Viewed("eu", vv(a=1, b=1), SEES_MILK)],
    [MILK, AGAIN, Removed((B, 1), frozenset({MILK, AGAIN})),
     Viewed("eu", vv(a=2, b=1), SEES_MILK)],
    [MILK, OTHERS, DRUNK, Removed((C, 2), frozenset({OTHERS})),
     Viewed("eu", vv(a=1, b=1, c=2), SEES_MILK)],
    [MILK, DRUNK, Viewed("eu", vv(a=1, b=1), frozenset()),
     Viewed("eu", vv(a=1, b=1, c=4), SEES_MILK)],
    [Viewed("eu", vv(a=1), SEES_MILK)],
    [MILK, Viewed("eu", vv(b=1), SEES_MILK)],
]  # fmt: skip
GOOD: list[list[Moment]] = [
    [],
    [MILK, Viewed("eu", vv(a=1), SEES_MILK)],
    [MILK, DRUNK, Viewed("eu", vv(a=1), SEES_MILK), Viewed("us", vv(a=1, b=1), frozenset())],
    [MILK, DRUNK, OTHERS, Viewed("eu", vv(a=1, b=1, c=1), SEES_MILK)],
    [MILK, OTHERS, DRUNK, Viewed("eu", vv(a=1, b=1, c=1), SEES_MILK)],
    [Added((A, 1), "bread"), MILK, DRUNK, Viewed("eu", vv(a=1, b=1), frozenset({"bread"}))],
]


@pytest.mark.parametrize("history", BAD)
def test_a_bad_history_is_rejected(history: list[Moment]) -> None:
    assert {violation.check for violation in resurrection(history)} == {"resurrection"}


@pytest.mark.parametrize("history", GOOD)
def test_a_good_history_is_accepted(history: list[Moment]) -> None:
    assert resurrection(history) == []


def test_the_message_names_the_removal() -> None:
    (found,) = resurrection(BAD[0])
    assert "eu shows milk, which 0000000000000002:1 removed" in str(found)
