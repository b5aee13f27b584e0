"""Histories that break one of the four session guarantees."""

from __future__ import annotations

import pytest

from checkers.order import Transaction as Did
from checkers.sessions import sessions

BAD = {
    "read your writes": [
        [Did("a", writes={"x": 1}), Did("a", reads={"x": None})],
        [Did("a", writes={"x": 1}), Did("a", writes={"x": 2}), Did("a", reads={"x": 1})],
        [Did("a", writes={"x": 1, "y": 1}), Did("a", reads={"x": 1, "y": None})],
        [
            Did("b", writes={"x": 1}),
            Did("a", reads={"x": 1}, writes={"x": 2}),
            Did("a", reads={"x": 1}),
        ],
        [
            Did("a", writes={"x": 1}),
            Did("a", reads={}),
            Did("a", writes={"y": 1}, reads={"x": None}),
        ],
    ],
    "monotonic reads": [
        [Did("b", writes={"x": 1}), Did("a", reads={"x": 1}), Did("a", reads={"x": None})],
        [
            Did("b", writes={"x": 1}),
            Did("b", writes={"x": 2}),
            Did("a", reads={"x": 2}),
            Did("a", reads={"x": 1}),
        ],
        [
            Did("b", writes={"x": 1}),
            Did("c", reads={"x": 1}, writes={"x": 2}),
            Did("a", reads={"x": 2}),
            Did("a", reads={"x": 1}),
        ],
        [
            Did("b", writes={"x": 1}),
            Did("a", reads={"x": 1}),
            Did("a", writes={"z": 1}),
            Did("a", reads={"z": 1, "x": None}),
        ],
        [
            Did("b", writes={"x": 1, "y": 1}),
            Did("a", reads={"x": 1, "y": 1}),
            Did("a", reads={"x": 1, "y": None}),
        ],
    ],
    "monotonic writes": [
        [Did("b", writes={"x": 1}), Did("b", writes={"y": 1}), Did("a", reads={"y": 1, "x": None})],
        [
            Did("b", writes={"x": 1}),
            Did("b", writes={"x": 2}),
            Did("b", writes={"y": 1}),
            Did("a", reads={"y": 1, "x": 1}),
        ],
        [
            Did("b", writes={"x": 1}),
            Did("b", writes={"y": 1}),
            Did("a", reads={"y": 1}),
            Did("a", reads={"x": None}),
        ],
        [Did("b", writes={"x": 1, "y": 1}), Did("a", reads={"y": 1, "x": None})],
        [
            Did("b", writes={"x": 1}),
            Did("b", writes={"x": 2}),
            Did("b", reads={}),
            Did("b", writes={"y": 1}),
            Did("b", writes={"y": 2}),
            Did("a", reads={"x": 1, "y": 1}),
        ],
    ],
    "writes follow reads": [
        [
            Did("c", writes={"x": 1}),
            Did("b", reads={"x": 1}, writes={"y": 1}),
            Did("a", reads={"y": 1, "x": None}),
        ],
        [
            Did("c", writes={"x": 1}),
            Did("b", reads={"x": 1}),
            Did("b", writes={"y": 1}),
            Did("a", reads={"y": 1}),
            Did("a", reads={"x": None}),
        ],
        [
            Did("c", writes={"x": 1}),
            Did("c", writes={"x": 2}),
            Did("b", reads={"x": 2}),
            Did("b", writes={"y": 1}),
            Did("a", reads={"x": 1, "y": 1}),
        ],
        [
            Did("c", writes={"x": 1}),
            Did("b", reads={"x": 1}, writes={"y": 1}),
            Did("b", writes={"y": 2}),
            Did("a", reads={"x": None, "y": 2}),
        ],
        [
            Did("c", writes={"x": 1}),
            Did("d", writes={"z": 1}),
            Did("b", reads={"x": 1, "z": 1}),
            Did("b", reads={}, writes={"y": 1}),
            Did("a", reads={"x": 1, "z": None, "y": 1}),
        ],
    ],
}
GOOD = [
    [],
    [Did("a", writes={"x": 1}), Did("b", writes={"x": 2}), Did("a", reads={"x": 2})],
    [Did("a", writes={"x": 1}), Did("b", reads={"x": None}), Did("b", reads={"x": 1})],
    [
        Did("c", writes={"x": 1}),
        Did("b", reads={"x": 1}, writes={"y": 1}),
        Did("a", reads={"x": None, "y": None}),
        Did("a", reads={"x": 1, "y": None}),
        Did("a", reads={"x": 1, "y": 1}),
    ],
    # b had not seen x when it wrote y.
    [
        Did("c", writes={"x": 1}),
        Did("b", writes={"y": 1}),
        Did("b", reads={"x": 1}),
        Did("a", reads={"x": None, "y": 1}),
    ],
]


@pytest.mark.parametrize(
    ("guarantee", "number"), [(name, n) for name, bad in BAD.items() for n in range(len(bad))]
)
def test_a_bad_history_is_rejected(guarantee: str, number: int) -> None:
    assert guarantee in {violation.check for violation in sessions(BAD[guarantee][number])}


@pytest.mark.parametrize("history", GOOD)
def test_a_good_history_is_accepted(history: list[Did]) -> None:
    assert sessions(history) == []


def test_the_message_tells_the_story() -> None:
    (found,) = sessions(BAD["read your writes"][0])
    assert str(found) == (
        "read your writes: a #1 (reads x is None) is shown x of nobody, "
        "which is older than a #0 (writes x = 1)"
    )
