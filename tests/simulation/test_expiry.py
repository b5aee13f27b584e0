"""What a deadline has hidden goes for good, once every member has told that its time is past it."""

from __future__ import annotations

from typing import Any

import pytest

from crdtdb import replication
from crdtdb.address import ObjectName
from crdtdb.operations import read_operation
from crdtdb.store.base import Table
from crdtdb.transaction import Transaction, Update
from simulation.test_stories import Stage
from simulation.workload import TIMED_BUCKET

_NAME = ObjectName(TIMED_BUCKET, "set", "k")


def _write(stage: Stage, who: str, **plain: Any) -> None:
    operation = read_operation("set", plain)
    stage.machines[who].write([Transaction((Update(_NAME, operation),))])


def _records(stage: Stage, who: str) -> list[bytes]:
    with stage.machines[who].engine.store.snapshot() as snapshot:
        return [at for at, _ in snapshot.scan(Table.RECORDS) if _NAME.prefix in at]


@pytest.mark.parametrize("who_is_away", [None, "c"])
def test_it_goes_when_every_member_is_past_it(
    who_is_away: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replication.reclaiming, "FEED_MS", 0)
    names = ("a", "b", "c")
    stage = Stage(*names)
    _write(stage, "a", op="add", values=["apple", "pear"])
    _write(stage, "a", op="expire", in_ms=1_000)
    talking = tuple(name for name in names if name != who_is_away)
    for _ in range(10):
        stage.pass_time(*names)
        stage.deliver(*names)
    assert all(_records(stage, name) for name in names), "no clock is past it yet"
    if who_is_away:
        stage.lose(*names)
    for _ in range(400):
        stage.pass_time(*talking)
        stage.deliver(*talking)
    gone = [name for name in talking if not _records(stage, name)]
    assert gone == ([] if who_is_away else list(names))
    if who_is_away:
        for _ in range(200):
            stage.pass_time(*names)
            stage.deliver(*names)
        assert not any(_records(stage, name) for name in names)
