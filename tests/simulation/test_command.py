"""The long command: what it plays, what it prints, how it ends."""

from __future__ import annotations

import pytest

from oracle.checks import Violation
from simulation.command import main


def test_red_seeds_are_told_with_how_to_replay_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def red(seed: int, *_: object) -> None:
        violation = Violation("value", "wrong")
        violation.add_note(f"replay: seed {seed}")
        raise violation

    monkeypatch.setattr("simulation.command.run", red)
    assert main(["--seeds", "3:5"]) == 1
    told = capsys.readouterr().out
    assert "seed 3 is red: value: wrong; replay: seed 3" in told
    assert "2 seeds, 2 red {'value': 2}" in told


def test_several_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    """The same seeds are played, and counted, as one after the other."""
    told = []
    for jobs in ("1", "2"):
        assert main(["--seeds", "1:3", "--jobs", jobs]) == 0
        told.append(capsys.readouterr().out.splitlines()[:-1])
    assert told[0] == told[1]
    assert any(line.endswith(" crashes") for line in told[0])


def test_for_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    """It ends by itself, after at least the first seed, and says how fast it was."""
    assert main(["--for", "1s", "--start", "1"]) == 0
    assert "seeds/s" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["soon", "5", "5d", ""])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(SystemExit):
        main(["--for", text])
