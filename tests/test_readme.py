"""The five minutes of the README, executed word for word: what it shows is what happens."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reader import Reader, blocks

_README = Path(__file__).parents[1] / "README.md"


def test_five_minutes(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the tour uses curl: apt-get install curl")
    tour = _README.read_text().split("\n## Five minutes\n")[1].split("\n## ")[0]
    assert len(blocks(tour)) >= 6, "the README lost its tour"
    reader = Reader(tmp_path)
    reader.read(tour)
    assert reader.checked >= 4, "the README shows no answers any more"
