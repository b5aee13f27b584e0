"""What a figure says of its rounds."""

from __future__ import annotations

import pytest

from figures import Figure, Round, at_least, at_most, quantile


def _figure(*ratios: float, limit: float | None = None) -> Figure:
    bound = None if limit is None else at_most(limit)
    return Figure("a / b", bound, [Round(ratio, {"a ms": 2 * ratio}) for ratio in ratios])


def test_the_median_counts() -> None:
    assert _figure(9.0, 1.0, 1.2).ratio == 1.2


@pytest.mark.parametrize(("ratio", "holds"), [(1.0, True), (1.3, True), (1.31, False)])
def test_an_upper_bound(ratio: float, holds: bool) -> None:
    assert _figure(ratio, limit=1.3).holds is holds


@pytest.mark.parametrize(("value", "holds"), [(0.29, False), (0.3, True), (0.4, True)])
def test_a_lower_bound(value: float, holds: bool) -> None:
    assert at_least(0.3).holds(value) is holds


def test_a_figure_without_a_bound_holds() -> None:
    assert _figure(99.0).holds


def test_its_lines_show_spread_verdict_and_what_is_behind() -> None:
    line, behind = _figure(1.0, 1.5, 2.0, limit=1.3).lines()
    assert line.split() == ["a", "/", "b", "1.5", "1", "to", "2", "≤", "1.3", "FAIL"]
    assert behind == "a ms 3"


def test_programs_get_every_round() -> None:
    document = _figure(1.0, 2.0, limit=1.3).as_dict()
    assert document["rounds"] == [{"ratio": 1.0, "a ms": 2.0}, {"ratio": 2.0, "a ms": 4.0}]
    assert (document["target"], document["holds"]) == ("≤ 1.3", False)


def test_quantiles_are_values_that_occurred() -> None:
    values = [float(i) for i in range(100)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile([7.0], 0.99)) == (50, 99, 7)
