"""The page of a run, from the JSON of benchmarks that were never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from figures import Chart, Figure, Point, Round, at_most
from report import write_report

_CHART = Chart("latency", "connections", "ms")


def _document(*figures: Figure, **facts: Any) -> str:
    return json.dumps({**facts, "figures": [figure.as_dict() for figure in figures]})


def _figure(name: str, ratio: float, x: float = 1) -> Figure:
    rounds = [Round(ratio, {"ours ms": 2.0}), Round(ratio + 1, {"ours ms": 4.0})]
    return Figure(name, at_most(2), rounds, [Point(_CHART, "ours", x, "ours ms")])


@pytest.fixture
def page(tmp_path: Path) -> str:
    file = tmp_path / "sets.json"
    file.write_text(
        _document(
            _figure("a < b", 1.0), _figure("too much", 3.0, 8), commit="abc", machine="a machine"
        )
    )
    return write_report([file], tmp_path / "index.html").read_text()


def test_figures_are_shown_with_spread_target_and_verdict(page: str) -> None:
    assert "<h2>sets</h2>" in page
    assert "a &lt; b<td class=number>1.5<td class=number>1 … 2<td class=number>≤ 2" in page
    assert page.count("<td class=kept>kept") == page.count("<td class=missed>missed") == 1
    assert "ours ms 3" in page


def test_machine_and_commit_are_told(page: str) -> None:
    assert "<dt>commit</dt><dd>abc</dd>" in page
    assert "<dt>machine</dt><dd>a machine</dd>" in page


def test_the_page_loads_nothing_from_elsewhere(page: str) -> None:
    assert "http" not in page.partition("base64")[0]
    assert "<script" not in page


def test_plots_are_in_the_page_or_their_absence_is_told(page: str) -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        assert "no plots" in page
    else:
        assert page.count("data:image/png;base64,") == 1


def test_the_partition_benchmark_has_phases_instead_of_figures(tmp_path: Path) -> None:
    side = {"asked": 10, "answered": 9, "p50_ms": 1.0, "p99_ms": 2.0}
    scenario = {
        "name": "total-isolation",
        "about": "every link is cut",
        "cut_s": [1.0, 2.0],
        "phases": {"during": {"near": side, "far": side}},
        "converged_after_heal_s": 0.5,
        "wrong_answers": [],
        "lag": {"near-1": [{"at_s": 0.0, "lag_s": 0.0}, {"at_s": 1.5, "lag_s": 0.5}]},
    }
    file = tmp_path / "partition.json"
    file.write_text(json.dumps({"scenarios": [scenario]}))
    page = write_report([file], tmp_path / "index.html").read_text()
    assert "during, far<td class=number>10<td class=number>9" in page
    assert "level 0.5 s after the network was mended, 0 wrong answers" in page
