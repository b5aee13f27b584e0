"""Histories in which more is held than ever may be."""

from __future__ import annotations

import pytest

from checkers.bounds import Sample, bounds

BAD = [
    [Sample("eu", "pushes", 1, 0)],
    [Sample("eu", "pushes", 257, 256)],
    [Sample("eu", "pushes", 3, 256), Sample("eu", "pushes", 300, 256)],
    [Sample("eu", "pushes", 300, 256), Sample("eu", "pushes", 3, 256)],
    [Sample("eu", "pushes", 3, 256), Sample("eu", "bytes", 2_000_000, 1_000_000)],
    [Sample("eu", "pushes", 3, 256), Sample("us", "pushes", 300, 256)],
]
GOOD = [
    [],
    [Sample("eu", "pushes", 256, 256)],
    [Sample("eu", "pushes", 0, 0), Sample("us", "pushes", 7, 8)],
]


@pytest.mark.parametrize("history", BAD)
def test_a_bad_history_is_rejected(history: list[Sample]) -> None:
    assert [violation.check for violation in bounds(history)] == ["bounds"]


@pytest.mark.parametrize("history", GOOD)
def test_a_good_history_is_accepted(history: list[Sample]) -> None:
    assert bounds(history) == []


def test_the_worst_moment_is_told_once() -> None:
    history = [Sample("eu", "held pushes", n, 10) for n in (11, 99, 12)]
    (found,) = bounds(history)
    assert str(found) == "bounds: eu has 99 held pushes; at most 10 may be"
