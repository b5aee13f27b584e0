"""States that differ from each other, or from what the causal history says."""

from __future__ import annotations

import pytest

from checkers.convergence import State, convergence, wrong_reads
from checkers.vectors import vv
from crdtdb.causal import VersionVector
from oracle.events import Object, Shown

NAME = ("shop", "set", "k")
ONE = Shown("[1]", True, 1)
NONE = Shown("[]", False, 0)
ALL = vv(a=2, b=1)


def oracle(_: Object, visible: VersionVector) -> Shown:
    """A adds, B removes."""
    return ONE if visible == vv(a=2) else NONE


BAD = [
    ("convergence", [State("eu", vv(a=2), 7), State("us", ALL, 7)]),
    ("convergence", [State("eu", vv(a=2), 7)]),
    ("convergence", [State("eu", vv(a=3, b=1), 7)]),
    ("digest", [State("eu", ALL, 7), State("us", ALL, 8)]),
    ("digest", [State("eu", ALL, 7), State("us", ALL, 7), State("ap", ALL, 0)]),
    ("digest", [State("eu", vv(a=1), 1), State("us", vv(a=1), 2), State("eu", ALL, 7),
                State("us", ALL, 7)]),
    ("value", [State("eu", ALL, 7, {NAME: Shown("[1]", False, 0)})]),
    ("existence", [State("eu", ALL, 7, {NAME: Shown("[]", True, 0)})]),
    ("size", [State("eu", ALL, 7, {NAME: Shown("[]", False, 1)})]),
    ("value", [State("eu", vv(a=2), 6, {NAME: Shown("[1, 2]", True, 1)}), State("eu", ALL, 7)]),
]  # fmt: skip


@pytest.mark.parametrize(("check", "history"), BAD)
def test_a_bad_history_is_rejected(check: str, history: list[State]) -> None:
    assert {violation.check for violation in convergence(history, oracle, ALL)} == {check}


@pytest.mark.parametrize(
    "history",
    [
        [],
        [State("eu", ALL, 7), State("us", ALL, 7)],
        [State("eu", vv(a=2), 6, {NAME: ONE}), State("eu", ALL, 7, {NAME: NONE})],
    ],
)
def test_a_good_history_is_accepted(history: list[State]) -> None:
    assert convergence(history, oracle, ALL) == []


def test_of_a_map_the_leaves_count() -> None:
    (found,) = wrong_reads(NAME, ONE, ONE._replace(leaves='["x"]'))
    assert found.check == "leaves"
