"""The benchmark of a catch-up, as short as it can be: nothing is fetched again after a kill."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from backlog import measure


def test_every_figure_is_measured(tmp_path: Path) -> None:
    arguments = Namespace(missed=[3_000], kills=1, rounds=1, seed=1)
    memory, again = measure(tmp_path, arguments)
    assert memory.name == "3,000 missed: memory grown by at most, MiB"
    assert memory.holds
    assert again.name == "3,000 missed: records again after kills"
    assert again.holds
