"""Every story comes out as it says; with a mistake planted in the core, several do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkers.violation import Violation
from scenarios.script import COMMANDS, ScriptError, read_script
from scenarios.theatre import play
from simulation import broken

FOLDER = Path(__file__).parent
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.txt"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_story_comes_out_as_it_says(name: str) -> None:
    play(FOLDER / f"{name}.txt")


@pytest.mark.planted
@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("antidote-489", "push_over_a_gap"),
        ("antidote-493", "claim_on_the_first_page"),
        ("riak-lost-identity", "identity_unasked"),
        ("cassandra-returning-deletes", "tombstones_too_early"),
        ("garage-clock-scramble", "union_of_live"),
        ("restore-into-a-live-cluster", "absence_means_nothing"),
        ("a-vm-rolled-back", "identity_unasked"),
        ("a-vm-rolled-back-unheard", "identity_unasked"),
        ("a-clock-put-back-over-a-restart", "clock_goes_back"),
        ("a-joiner-while-others-reclaim", "union_of_live"),
        ("evicted-and-back", "reclaimed_unsaid"),
        ("evicted-while-it-writes", "evicted_unfenced"),
    ],
)
def test_a_mistake_in_the_core_turns_it_red(name: str, mistake: str) -> None:
    with getattr(broken, mistake)(), pytest.raises(Violation) as found:
        play(FOLDER / f"{name}.txt")
    assert any(note.startswith(f"{name}.txt:") for note in found.value.__notes__)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Only prose.\n", r"^s\.txt: nothing happens"),
        ("A story\n\n    replicas a b\n    wayt 3 days\n", r"^s\.txt:4: this is no command: wayt"),
        ("    replicas a b\n    wait 3 moons\n", r"^s\.txt:2: this is no command"),
        ("    replicas a b\n    c: set x/y add 1\n", r"^s\.txt:2 \(write\): 'c'"),
        ("    replicas a b\n    a: set x/y multiply 1\n", r"^s\.txt:2 \(write\): "),
        ("    replicas a b\n    cut a | c\n", r"^s\.txt:2 \(cut\): 'c'"),
    ],
)
def test_a_script_that_cannot_be_played_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.txt"
    path.write_text(text)
    with pytest.raises(ScriptError, match=message):
        play(path)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ("a: set x/y = [2]", r"a shows x/y as \[1\], must be \[2\]"),
        ("every replica: members = 3", "a has 2 members, must have 3"),
        ("b is evicted", "it is not so that b is evicted"),
        ("b is new", "it is not so that b is new"),
        ("b refuses: set x/y add 2", "b carries out what it must refuse"),
    ],
)
def test_a_claim_that_is_wrong_is_red(tmp_path: Path, claim: str, message: str) -> None:
    path = tmp_path / "s.txt"
    path.write_text(f"    replicas a b\n    a: set x/y add 1\n    {claim}\n    wait until equal\n")
    with pytest.raises(Violation, match=message) as found:
        play(path)
    assert found.value.__notes__[-1].startswith("s.txt:3")


def test_every_command_is_in_some_story() -> None:
    told = {command.name for name in SCRIPTS for command in read_script(FOLDER / f"{name}.txt")}
    assert told == COMMANDS.keys()
