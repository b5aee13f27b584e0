"""Figures: ratios of something to a comparator, one per round, and what is demanded of them.

A time by itself says more about the day than about the code, so every figure is a quotient of two
measurements of the same round, and what counts is the median over the rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

__all__ = ["Bound", "Chart", "Figure", "Point", "Round", "at_least", "at_most", "quantile"]


class Bound(NamedTuple):
    """What the median of a figure has to keep."""

    sign: str
    limit: float

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.sign == "≥" else value <= self.limit

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g}"


def at_least(limit: float) -> Bound:
    return Bound("≥", limit)


def at_most(limit: float) -> Bound:
    return Bound("≤", limit)


class Chart(NamedTuple):
    """A plot that measurements of several figures make together."""

    title: str
    x_label: str
    y_label: str


class Point(NamedTuple):
    """Where the median of one measurement, by its name, stands in a chart."""

    chart: Chart
    line: str
    x: float
    measured: str


class Round(NamedTuple):
    """One round of a figure: the quotient, and the measurements behind it by name."""

    ratio: float
    measured: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Figure:
    """What was compared, in every round."""

    name: str
    #: None: for information.
    bound: Bound | None
    rounds: Sequence[Round]
    points: Sequence[Point] = ()

    @property
    def ratio(self) -> float:
        return median(one.ratio for one in self.rounds)

    @property
    def holds(self) -> bool:
        return self.bound is None or self.bound.holds(self.ratio)

    def lines(self) -> tuple[str, str]:
        """For people: the figure with its spread and verdict; the medians behind it."""
        ratios = [one.ratio for one in self.rounds]
        spread = f"{min(ratios):.3g} to {max(ratios):.3g}"
        verdict = "" if self.bound is None else "pass" if self.holds else "FAIL"
        bound = "" if self.bound is None else str(self.bound)
        behind = ", ".join(
            f"{name} {median(one.measured[name] for one in self.rounds):,.4g}"
            for name in self.rounds[0].measured
        )
        return f"{self.name:<58}{self.ratio:>7.3g}  {spread:<16}{bound:<7}{verdict}", behind

    def as_dict(self) -> dict[str, Any]:
        """For programs: everything, with the raw rounds."""
        return {
            "name": self.name,
            "ratio": self.ratio,
            "target": None if self.bound is None else str(self.bound),
            "holds": self.holds,
            "rounds": [{"ratio": one.ratio, **one.measured} for one in self.rounds],
            "points": [point._asdict() | {"chart": point.chart._asdict()} for point in self.points],
        }


def quantile(sorted_values: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by that share of the values."""
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]
