"""Every story comes out as it says; with a mistake planted in the core, none does."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from checkers.violation import Violation
from scenarios.script import COMMANDS, ScriptError, read_script
from scenarios.theatre import play
from simulation import broken

FOLDER = Path(__file__).parent
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.txt"))

#: Story → a mistake that it must not survive.
MISTAKES: Final = {
    "a-bridge": "union_of_live",
    "a-clock-put-back-over-a-restart": "clock_goes_back",
    "a-copied-directory": "copy_goes_on",
    "a-disk-is-lost": "push_over_a_gap",
    "a-joiner-while-others-reclaim": "union_of_live",
    "a-month-offline": "tombstones_too_early",
    "a-vm-rolled-back": "identity_unasked",
    "a-vm-rolled-back-and-one-knows": "identity_unasked",
    "a-vm-rolled-back-unheard": "identity_unasked",
    "antidote-204": "union_of_live",
    "antidote-489": "push_over_a_gap",
    "antidote-492": "union_of_live",
    "antidote-493": "claim_on_the_first_page",
    "cassandra-returning-deletes": "tombstones_too_early",
    "evicted-and-back": "reclaimed_unsaid",
    "evicted-while-it-writes": "evicted_unfenced",
    "garage-clock-scramble": "union_of_live",
    "heard-one-way": "pushes_are_hints",
    "power-fails-everywhere": "lost_fsync",
    "put-back-to-before-it-knew-anybody": "identity_unasked",
    "restore-into-a-live-cluster": "absence_means_nothing",
    "riak-lost-identity": "identity_unasked",
    "stock-during-a-partition": "union_of_live",
    "two-alone-that-evict-each-other": "evicted_unfenced",
    "two-of-one-name": "late_frames_displace",
    "two-that-evict-each-other": "evicted_unfenced",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_story_comes_out_as_it_says(name: str) -> None:
    play(FOLDER / f"{name}.txt")


@pytest.mark.planted
@pytest.mark.parametrize(("name", "mistake"), MISTAKES.items())
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


def test_every_replica_is_also_the_one_that_does_not_answer(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_text("    replicas a b\n    stop b\n    every replica: members = 2\n")
    with pytest.raises(Violation, match="not every replica answers: b do not"):
        play(path)


def test_every_story_can_fail() -> None:
    assert [*MISTAKES] == SCRIPTS


def test_every_command_is_in_some_story() -> None:
    told = {command.name for name in SCRIPTS for command in read_script(FOLDER / f"{name}.txt")}
    assert told == COMMANDS.keys()
