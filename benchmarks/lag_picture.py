"""The picture of a run: how far each replica was behind, over time, with the cut shaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["draw"]


def draw(scenarios: Sequence[dict[str, Any]], file: Path | BinaryIO) -> None:
    """One panel for each scenario, of the documents that the benchmark writes as JSON.

    Raises ImportError without matplotlib, which only the dependency group `bench` brings.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.7 + 2.1 * len(scenarios)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(scenarios), 1, squeeze=False)[:, 0]
    for panel, scenario in zip(panels, scenarios, strict=True):
        cut_s, mended_s = scenario["cut_s"]
        panel.axvspan(cut_s, mended_s, color="0.9", label="network broken")
        for style, (replica, points) in zip(
            ("-", "--", "-.", ":") * len(scenario["lag"]), scenario["lag"].items(), strict=False
        ):
            panel.plot(
                [point["at_s"] for point in points],
                [point["lag_s"] for point in points],
                style,
                label=replica,
                linewidth=1.6,
            )
        panel.set_title(f"{scenario['name']}: {scenario['about']}", loc="left", fontsize=10)
        panel.set_ylabel("behind by, s")
        panel.margins(x=0)
        panel.set_xlim(left=0)
        panel.set_ylim(bottom=0)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("since the start, s")
    panels[0].legend(loc="upper left", fontsize=8, frameon=False)
    figure.savefig(file, dpi=120)
