"""The benchmark as a whole, as short as it can be: every figure is measured, on real processes."""

from __future__ import annotations

from pathlib import Path

from disk import Disk
from first_slice import measure
from plan import Plan

_SHORT = Plan(
    rounds=1, seed=1, window_s=0.05, operations=2, patience_s=0, idle_s=0.2, idle_rounds=1
)


def test_every_figure_is_measured(tmp_path: Path) -> None:
    disk = Disk(tmp_path, _SHORT.patience_s)
    figures = list(measure(_SHORT, tmp_path, disk, sizes=(10, 100)))
    assert len({figure.name for figure in figures}) == len(figures) == 14
    *ratios, idle = figures
    assert all(figure.ratio > 0 for figure in ratios)
    assert idle.ratio >= 0
