"""Histories that are not causally consistent, by the bad pattern that excludes each."""

from __future__ import annotations

import pytest

from checkers.causality import causality, convergent_causality
from checkers.order import Transaction as Did

CYCLES = {
    "each reads what the other writes later": [
        Did("a", reads={"y": 1}, writes={"x": 1}),
        Did("b", reads={"x": 1}, writes={"y": 1}),
    ],
    "it reads its own write before it": [Did("a", reads={"x": 1}), Did("a", writes={"x": 1})],
    "a transaction reads what it writes": [Did("a", reads={"x": 1}, writes={"x": 1})],
    "round three sessions": [
        Did("a", reads={"z": 1}),
        Did("a", writes={"x": 1}),
        Did("b", reads={"x": 1}),
        Did("b", writes={"y": 1}),
        Did("c", reads={"y": 1}),
        Did("c", writes={"z": 1}),
    ],
    "by way of a session that only reads and goes on": [
        Did("a", reads={"y": 2}),
        Did("a", writes={"x": 1}),
        Did("b", writes={"y": 1}),
        Did("b", reads={"x": 1}),
        Did("b", writes={"y": 2}),
    ],
}
OUT_OF_THIN_AIR = {
    "never written": [Did("a", reads={"x": 1})],
    "written to another variable": [Did("a", writes={"x": 1}), Did("b", reads={"y": 1})],
    "a value between two others": [
        Did("a", writes={"n": 1}),
        Did("a", writes={"n": 3}),
        Did("b", reads={"n": 2}),
    ],
    "beside one that was": [Did("a", writes={"x": 1}), Did("b", reads={"x": 1, "y": 7})],
    "written as another type": [Did("a", writes={"x": 1}), Did("b", reads={"x": "1"})],
}
INITIAL = {
    "one's own write is gone": [Did("a", writes={"x": 1}), Did("a", reads={"x": None})],
    "shown, then gone": [
        Did("a", writes={"x": 1}),
        Did("b", reads={"x": 1}),
        Did("b", reads={"x": None}),
    ],
    "the answer without the question": [
        Did("a", writes={"question": 1}),
        Did("b", reads={"question": 1}, writes={"answer": 1}),
        Did("c", reads={"answer": 1, "question": None}),
    ],
    "the second of a session without its first": [
        Did("a", writes={"x": 1}),
        Did("a", writes={"y": 1}),
        Did("b", reads={"y": 1, "x": None}),
    ],
    "half of a transaction": [
        Did("a", writes={"x": 1, "y": 1}),
        Did("b", reads={"x": 1, "y": None}),
    ],
    "through two others": [
        Did("a", writes={"x": 1}),
        Did("b", reads={"x": 1}),
        Did("b", writes={"y": 1}),
        Did("c", reads={"y": 1}),
        Did("c", writes={"z": 1}),
        Did("d", reads={"z": 1}),
        Did("d", reads={"x": None}),
    ],
}
OLDER = {
    "one's own earlier write": [
        Did("a", writes={"x": 1}),
        Did("a", writes={"x": 2}),
        Did("a", reads={"x": 1}),
    ],
    "back in time": [
        Did("a", writes={"x": 1}),
        Did("a", writes={"x": 2}),
        Did("b", reads={"x": 2}),
        Did("b", reads={"x": 1}),
    ],
    "what one's own write has replaced": [
        Did("a", writes={"x": 1}),
        Did("b", reads={"x": 1}, writes={"x": 2}),
        Did("b", reads={"x": 1}),
    ],
    "what the cause has replaced": [
        Did("a", writes={"x": 1}),
        Did("a", writes={"x": 2}),
        Did("b", reads={"x": 2}, writes={"y": 1}),
        Did("c", reads={"y": 1, "x": 1}),
    ],
    "half of a transaction": [
        Did("a", writes={"x": 1, "y": 1}),
        Did("a", writes={"x": 2, "y": 2}),
        Did("b", reads={"x": 2, "y": 1}),
    ],
}
# a and b each show both writes, and each decides for the other one.
UNDECIDED = {
    "two sessions decide otherwise": [
        Did("a", writes={"x": 1}),
        Did("b", writes={"x": 2}),
        Did("c", reads={"x": 1}),
        Did("c", reads={"x": 2}),
        Did("d", reads={"x": 2}),
        Did("d", reads={"x": 1}),
    ],
    "each writer believes that the other one won": [
        Did("a", writes={"x": 1}),
        Did("b", writes={"x": 2}),
        Did("a", reads={"x": 2}),
        Did("b", reads={"x": 1}),
    ],
    "one session changes its mind and back": [
        Did("a", writes={"x": 1}),
        Did("b", writes={"x": 2}),
        Did("c", reads={"x": 1}),
        Did("c", reads={"x": 2}),
        Did("c", reads={"x": 1}),
    ],
    "three writes in a ring": [
        Did("a", writes={"x": 1}),
        Did("b", writes={"x": 2}),
        Did("c", writes={"x": 3}),
        Did("a", reads={"x": 2}),
        Did("b", reads={"x": 3}),
        Did("c", reads={"x": 1}),
    ],
    "over two variables": [
        Did("a", writes={"x": 1}),
        Did("a", writes={"y": 1}),
        Did("b", writes={"y": 2}),
        Did("b", writes={"x": 2}),
        Did("c", reads={"x": 2}),
        Did("c", reads={"x": 1}),
        Did("d", reads={"y": 1}),
        Did("d", reads={"y": 2}),
    ],
}
BAD = {
    f"{pattern}: {name}": (pattern, history)
    for pattern, histories in {
        "CyclicCO": CYCLES,
        "ThinAirRead": OUT_OF_THIN_AIR,
        "WriteCOInitRead": INITIAL,
        "WriteCORead": OLDER,
    }.items()
    for name, history in histories.items()
}
GOOD = {
    "nothing": [],
    "nobody has heard of anything": [Did("a", reads={"x": None}), Did("a", writes={"x": 1})],
    "a message and its answer": [
        Did("a", writes={"x": 1}),
        Did("b", reads={"x": 1, "y": None}, writes={"y": 1}),
        Did("a", reads={"x": 1, "y": 1}),
    ],
    "concurrent writes, one wins everywhere": [
        Did("a", writes={"x": 1}),
        Did("b", writes={"x": 2}),
        Did("a", reads={"x": 2}),
        Did("b", reads={"x": 2}),
    ],
    # What causal memory excludes (`CyclicHB`): b takes its own write for the earlier one at first.
    "a register that converges": [
        Did("a", writes={"z": 1}),
        Did("a", writes={"x": 1}),
        Did("a", writes={"y": 1}),
        Did("b", writes={"x": 2}),
        Did("b", reads={"z": None}),
        Did("b", reads={"y": 1}),
        Did("b", reads={"x": 2}),
    ],
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_rejected(name: str) -> None:
    pattern, history = BAD[name]
    found = causality(history)
    assert {violation.check for violation in found} == {pattern}
    assert all(violation.detail for violation in found)


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_is_causal_but_does_not_converge_is_rejected(name: str) -> None:
    assert causality(UNDECIDED[name]) == []
    assert [v.check for v in convergent_causality(UNDECIDED[name])] == ["CyclicCF"]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_is_accepted(name: str) -> None:
    assert convergent_causality(GOOD[name]) == []


def test_the_message_tells_the_story() -> None:
    (found,) = causality(INITIAL["the answer without the question"])
    assert str(found) == (
        "WriteCOInitRead: c #0 (reads answer is 1, question is None) knows of a #0 "
        "(writes question = 1), which is later than question of nobody"
    )


def test_a_value_that_is_written_twice_is_no_history() -> None:
    with pytest.raises(ValueError, match="x = 1 is written twice"):
        causality([Did("a", writes={"x": 1}), Did("b", writes={"x": 1})])
