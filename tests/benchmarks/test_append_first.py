"""The benchmark of the store as a whole, as short as it can be."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from append_first import measure


def test_every_figure_is_measured(tmp_path: Path) -> None:
    figures = list(measure(tmp_path, Namespace(records=300, changes=20, rounds=1, seed=1)))
    assert [figure.name.split(":")[0] for figure in figures] == [
        "commits of 1",
        "commits of 16",
        "commits of 64",
        "commits of 512",
        "opening after a crash / one second",
    ]
    assert all(figure.ratio > 0 for figure in figures)
