"""The benchmark of texts carries out the same edits on both sides."""

from __future__ import annotations

from random import Random

from text import made_up, measure


def test_every_figure_is_measured() -> None:
    figures = list(measure(made_up(300, Random(1)), rounds=1))
    assert [len(figure.rounds) for figure in figures] == [1, 1, 1]
    assert all(round_.ratio > 0 for figure in figures for round_ in figure.rounds)
    assert figures[1].holds
