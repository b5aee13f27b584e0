"""The page of a run: every figure with its spread and target, and plots, in one HTML file.

It is made of the JSON that the benchmarks write, and of nothing else.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = ["write_report"]

#: A benchmark's JSON, or a figure's in it.
_Document: TypeAlias = dict[str, Any]

#: What a reader has to know of the machine and the run, if the benchmark says it.
_FACTS: Final = (
    "commit",
    "machine",
    "python",
    "aiohttp",
    "httptools",
    "lmdb",
    "msgspec",
    "uvloop",
    "seed",
    "quick",
    "rounds",
    "disk_before_ms",
    "disk_after_ms",
)
_DOTS_PER_INCH: Final = 110
_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em;
       color: #222; background: #fff; }
table { border-collapse: collapse; width: 100%; margin: 0.5em 0 1.5em; }
th, td { text-align: left; padding: 0.25em 0.6em; border-bottom: 1px solid #ddd;
         vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.behind { color: #555; font-size: 0.85em; }
.missed { color: #a00; font-weight: 600; }
.kept { color: #060; }
img { max-width: 100%; }
dl { display: grid; grid-template-columns: max-content auto; gap: 0 1em; color: #555; }
dd { margin: 0; }
"""


class _Spot(NamedTuple):
    """A point of a plot: the median of a measurement, and its least and greatest value."""

    x: float
    middle: float
    least: float
    most: float


def write_report(files: Sequence[Path], page: Path) -> Path:
    """Make the page of these JSON files. Plots are left out without matplotlib, and it says so."""
    documents = {file.stem: json.loads(file.read_text()) for file in files}
    parts = ["".join(_section(name, document)) for name, document in documents.items()]
    page.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><title>crdtdb, measured</title>"
        f"<style>{_STYLE}</style><h1>crdtdb, measured</h1>"
        "<p>A figure is the median of its rounds; in each round, what is compared took turns. "
        "“From … to” are the least and the greatest round. Figures of different runs, or of "
        "different machines, say little about each other.</p>" + "".join(parts) + "</html>\n"
    )
    return page


def _section(name: str, document: _Document) -> Iterator[str]:
    yield f"<h2>{escape(name)}</h2>"
    if "about" in document:
        yield f"<p>{escape(str(document['about']))}</p>"
    yield "<dl>"
    for fact in _FACTS:
        if fact in document:
            yield f"<dt>{escape(fact)}</dt><dd>{escape(_plain(document[fact]))}</dd>"
    yield "</dl>"
    figures: list[_Document] = document.get("figures", [])
    if figures:
        yield from _table(figures)
        yield _picture(_charts(figures))
    scenarios: list[_Document] = document.get("scenarios", [])
    if scenarios:
        yield from _scenarios(scenarios)


def _table(figures: Iterable[_Document]) -> Iterator[str]:
    yield "<table><tr><th>figure<th>median<th>from … to<th>target<th>"
    for figure in figures:
        ratios = [one["ratio"] for one in figure["rounds"]]
        verdict = ""
        if figure["target"] is not None:
            verdict = "<td class=kept>kept" if figure["holds"] else "<td class=missed>missed"
        behind = ", ".join(
            f"{escape(name)} {_plain(median(one[name] for one in figure['rounds']))}"
            for name in figure["rounds"][0]
            if name != "ratio"
        )
        yield (
            f"<tr><td>{escape(figure['name'])}<td class=number>{figure['ratio']:.3g}"
            f"<td class=number>{min(ratios):.3g} … {max(ratios):.3g}"
            f"<td class=number>{escape(figure['target'] or '')}{verdict or '<td>'}"
            f"<tr><td class=behind colspan=5>{behind}"
        )
    yield "</table>"


def _scenarios(scenarios: Sequence[_Document]) -> Iterator[str]:
    yield "<table><tr><th>scenario<th>phase<th>asked<th>answered<th>p50 ms<th>p99 ms"
    for scenario in scenarios:
        for phase, measured in scenario["phases"].items():
            for side in ("near", "far"):
                asked = measured[side]
                yield (
                    f"<tr><td>{escape(scenario['name'])}<td>{escape(phase)}, {side}"
                    f"<td class=number>{asked['asked']:,}<td class=number>{asked['answered']:,}"
                    f"<td class=number>{_plain(asked['p50_ms'])}"
                    f"<td class=number>{_plain(asked['p99_ms'])}"
                )
        converged_s = _plain(scenario["converged_after_heal_s"])
        wrong = len(scenario["wrong_answers"])
        yield (
            f"<tr><td class=behind colspan=6>level {converged_s} s after the network was mended, "
            f"{wrong} wrong answers"
        )
    yield "</table>"
    yield _lag(scenarios)


def _plain(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


# -- plots ----------------------------------------------------------------------------------------


def _charts(figures: Iterable[_Document]) -> dict[tuple[str, str, str], dict[str, list[_Spot]]]:
    """The lines of each chart, by its title and the labels of its axes."""
    charts: dict[tuple[str, str, str], dict[str, dict[float, _Spot]]] = {}
    for figure in figures:
        for point in figure.get("points", []):
            values = [one[point["measured"]] for one in figure["rounds"]]
            spot = _Spot(point["x"], median(values), min(values), max(values))
            chart = point["chart"]
            lines = charts.setdefault((chart["title"], chart["x_label"], chart["y_label"]), {})
            lines.setdefault(point["line"], {})[spot.x] = spot
    return {
        chart: {line: sorted(spots.values()) for line, spots in lines.items()}
        for chart, lines in charts.items()
    }


def _picture(charts: dict[tuple[str, str, str], dict[str, list[_Spot]]]) -> str:
    """All charts of a benchmark, on logarithmic axes, as an image in the page."""
    if not charts:
        return ""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return "<p>There is no matplotlib here (dependency group <code>bench</code>): no plots.</p>"
    rows = -(-len(charts) // 2)
    figure = Figure(figsize=(11, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, 2, squeeze=False).flat
    names = dict.fromkeys(line for lines in charts.values() for line in lines)
    colours = {line: f"C{number % 10}" for number, line in enumerate(names)}
    for panel, ((title, x_label, y_label), lines) in zip(panels, charts.items(), strict=False):
        for line, spots in lines.items():
            errors = (
                [spot.middle - spot.least for spot in spots],
                [spot.most - spot.middle for spot in spots],
            )
            xs, ys = [spot.x for spot in spots], [spot.middle for spot in spots]
            style = {"marker": "o", "markersize": 3, "capsize": 2, "color": colours[line]}
            panel.errorbar(xs, ys, errors, label=line, **style)
        panel.set(xscale="log", yscale="log", title=title, xlabel=x_label, ylabel=y_label)
        ticks = sorted({spot.x for spots in lines.values() for spot in spots})
        panel.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks], minor=False)
        panel.legend(fontsize=7, frameon=False)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels:
        panel.set_visible(False)  # one too many
    data = BytesIO()
    figure.savefig(data, format="png", dpi=_DOTS_PER_INCH)
    return _image(data.getvalue(), "; ".join(title for title, _, _ in charts))


def _lag(scenarios: Sequence[_Document]) -> str:
    from lag_picture import draw

    data = BytesIO()
    try:
        draw(scenarios, data)
    except ImportError:
        return ""
    return _image(data.getvalue(), "how far each replica was behind, over time")


def _image(data: bytes, about: str) -> str:
    return f'<img alt="{escape(about)}" src="data:image/png;base64,{b64encode(data).decode()}">'
