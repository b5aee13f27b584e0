"""Every benchmark is a command that says how it is used, and is told what it understands."""

from __future__ import annotations

import runpy
import sys
from argparse import Namespace
from pathlib import Path

import pytest

import all as everything

_DIRECTORY = Path(everything.__file__).parent
_COMMANDS = sorted(
    file.stem for file in _DIRECTORY.glob("*.py") if 'f __name__ == "__main__"' in file.read_text()
)
#: Programs that benchmarks start.
_SERVERS = {"bare", "variants"}


@pytest.mark.parametrize("name", [name for name in _COMMANDS if name not in _SERVERS])
def test_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(_DIRECTORY / f"{name}.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert "usage:" in shown
    assert "--seed" in shown or name == "gate"


def test_each_benchmark_is_a_command() -> None:
    assert {one.name for one in everything.BENCHMARKS} <= set(_COMMANDS)


def test_nothing_is_forgotten() -> None:
    """`first_slice` repeats others, `gate` counts, and `soak` takes as long as one likes."""
    left_out = {"all", "first_slice", "gate", "soak"} | _SERVERS
    assert set(_COMMANDS) - left_out == {one.name for one in everything.BENCHMARKS}


def test_what_a_benchmark_is_told() -> None:
    one = everything.Benchmark("sets")
    asked = Namespace(quick=True, seed=7, out=Path("out"), rounds=2)
    told = ["--quick", "--seed", "7", "--json", "out/sets.json", "--rounds", "2"]
    assert everything.arguments_of(one, asked) == told
    without = one._replace(takes_rounds=False)
    assert everything.arguments_of(without, asked) == told[:-2]
