"""Bytes, records and store calls stay what they are until somebody says otherwise."""

from __future__ import annotations

import pytest

from crdtdb.types import CATALOGUE
from footprint import WORKLOADS
from gate import GROUPS, accepted, changes, counts

_HOW = "if that is meant, run `python benchmarks/gate.py --accept` and say in the commit why"


@pytest.mark.parametrize("group", GROUPS)
def test_counts_are_the_accepted_ones(group: str) -> None:
    changed = changes(group, accepted().get(group, {}), counts(group))
    assert not changed, "\n".join((*changed, _HOW))


def test_nothing_else_is_accepted() -> None:
    assert set(accepted()) == set(GROUPS), _HOW


def test_every_type_is_counted() -> None:
    assert set(CATALOGUE) <= {name.partition(",")[0] for name in WORKLOADS}


def test_a_change_is_told_with_both_values() -> None:
    known, found = {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 4}
    assert changes("set", known, found) == [
        "set, b: 5 instead of 2",
        "set, c: gone instead of 3",
        "set, d: 4 instead of nothing",
    ]
