"""Benchmarks of servers, as short as they can be: every figure is measured, on real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import connections
import counters
import feed
import heal
import opening
import propagation
import sets
import transactions
from disk import Disk
from figures import Figure
from plan import Plan

_SHORT = Plan(
    rounds=1, seed=1, window_s=0.05, operations=2, patience_s=0, idle_s=0.1, idle_rounds=1
)


@pytest.mark.parametrize(
    ("measure", "begins"),
    [
        (partial(connections.measure, counts=(2,)), "writes, 2 connections: crdtdb / no storage"),
        (transactions.measure, "a write alone / durable commit + exchange"),
        (partial(sets.measure, sizes=(10, 100)), "add, embedded: set of 100 / of 10"),
        (
            partial(propagation.measure, most=3),
            "commit → readable at 2 others / durable commit + exchange",
        ),
        (
            partial(heal.measure, writes=200),
            "heal, 200 on each side among 200, scattered keys / sorted puts",
        ),
        (partial(opening.measure, records=200), "first answer, 200 records, stopped / 1 s"),
        (partial(counters.measure, increments=1_000), "increment: opcounter / counter"),
        (
            partial(feed.measure, records=100, readers=2),
            "memory grown by 100 records streamed / before",
        ),
    ],
)
def test_every_figure_is_measured(
    measure: Callable[[Plan, Path, Disk], Iterator[Figure]], begins: str, tmp_path: Path
) -> None:
    figures = list(measure(_SHORT, tmp_path, Disk(tmp_path, _SHORT.patience_s)))
    assert figures[0].name == begins
    assert len({figure.name for figure in figures}) == len(figures)
    for figure in figures:
        assert figure.ratio >= 0
        for point in figure.points:
            assert point.measured in figure.rounds[0].measured
