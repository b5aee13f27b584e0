"""The benchmark of a first copy, as short as it can be."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from bootstrap import measure


def test_every_figure_is_measured(tmp_path: Path) -> None:
    figures = list(measure(tmp_path, Namespace(records=3_000, rounds=1, seed=1)))
    assert [figure.name.split(",")[0] for figure in figures] == [
        "bytes of all pages / compact copy of the data file",
        "time of a bootstrap / copy and bare socket",
        "memory of the newcomer",
    ]
    assert figures[0].holds
    assert figures[1].ratio > 0
