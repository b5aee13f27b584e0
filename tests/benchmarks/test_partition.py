"""The partition benchmark: one scenario on real processes, and what its checker tells apart."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

import pytest

import partition
from ledger import SHARED, Ledger, Shown, Write, progress_key, wrong_answers
from outages import SCENARIOS

_WRITES = [
    Write("a", "count", SHARED, 5),
    Write("b", "count", SHARED, -3),
    Write("a", "add", SHARED, "a-1"),
    Write("a", "add", SHARED, "a-2"),
    Write("a", "remove", SHARED, "a-1"),
    Write("b", "set", "of-b", "old"),
    Write("b", "set", "of-b", "new"),
]
_RIGHT = Shown(
    {SHARED: 2, progress_key("a"): 4, progress_key("b"): 3}, frozenset({"a-2"}), {"of-b": "new"}
)


def test_the_quick_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(partition, "_QUICK", partition.Seconds(0.4, 1.0, 0.4))
    file = tmp_path / "partition.json"
    arguments = ["one-way-silence", "--quick", "--seed", "1", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["partition.py", *arguments])
    assert partition.main() == 0, capsys.readouterr()
    document = json.loads(file.read_text())
    assert document["seed"] == 1
    (scenario,) = document["scenarios"]
    assert (scenario["name"], scenario["wrong_answers"]) == ("one-way-silence", [])
    assert scenario["converged_after_heal_s"] >= 0
    assert list(scenario["phases"]) == ["before", "during", "after"]
    names = {"near-1", "near-2", "far"}
    for phase in scenario["phases"].values():
        for side in ("near", "far"):
            assert phase[side]["asked"] >= phase[side]["answered"] > 0
            assert phase[side]["p99_ms"] >= phase[side]["p50_ms"] > 0
        assert phase["backlog_operations"].keys() == phase["lag_s"].keys() == names
        assert phase["wire_bytes"] > phase["minimal_delta_bytes"] > 0
    assert scenario["lag"].keys() == names
    assert scenario["phases"]["during"]["lag_s"]["near-1"] > 0


def test_the_right_answer_is_accepted() -> None:
    assert wrong_answers(_WRITES, _RIGHT) == []


@pytest.mark.parametrize(
    ("shown", "complaint"),
    [
        (_RIGHT._replace(counters={**_RIGHT.counters, SHARED: 3}), "counter shared shows 3"),
        (_RIGHT._replace(counters={**_RIGHT.counters, progress_key("a"): 3}), "written-at-a"),
        (_RIGHT._replace(members=frozenset()), "lost: member a-2"),
        (_RIGHT._replace(members=frozenset({"a-1", "a-2"})), "undead: member a-1"),
        (_RIGHT._replace(registers={"of-b": "old"}), "register of-b shows 'old'"),
    ],
)
def test_a_wrong_answer_is_rejected(shown: Shown, complaint: str) -> None:
    (found,) = wrong_answers(_WRITES, shown)
    assert complaint in found


def test_a_write_without_answer_may_have_happened_or_not() -> None:
    writes = [
        *_WRITES,
        Write("a", "count", SHARED, 2, acknowledged=False),
        Write("a", "remove", SHARED, "a-2", acknowledged=False),
    ]
    happened = Shown(
        {**_RIGHT.counters, SHARED: 4, progress_key("a"): 6}, frozenset(), _RIGHT.registers
    )
    assert wrong_answers(writes, _RIGHT) == wrong_answers(writes, happened) == []


def test_how_far_behind_a_replica_is() -> None:
    ledger = Ledger(["a", "b"])
    for second in (1.0, 2.0):
        ledger.note(Write("a", "count", SHARED, 1), second)
    ledger.note(Write("b", "count", SHARED, 1, acknowledged=False), 3.0)
    assert ledger.behind({"a": 1, "b": 0}, 5.0) == (1, 3.0)
    assert ledger.behind({"a": 2, "b": 1}, 5.0) == (0, 0.0)


@pytest.mark.parametrize("name", SCENARIOS)
def test_steps_are_in_order_and_within_the_time(name: str) -> None:
    moments = [step.at for step in SCENARIOS[name].steps(["near-1", "far"], Random(1))]
    assert moments == sorted(moments)
    assert 0 <= moments[0] <= moments[-1] <= 1
