"""Rights move to where they are used, told step by step with machines whose clock is a number."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.errors import NoRights, Problem
from crdtdb.replication import sharing
from crdtdb.rows import read_record
from crdtdb.store.base import Table
from crdtdb.transaction import Transaction
from crdtdb.types._rights import Matrix
from replicas import update
from simulation.network import kind_of
from simulation.test_stories import Stage

STOCK = ObjectName("shop", "bcounter", "stock")


def do(stage: Stage, name: str, op: str, **arguments: Any) -> None:
    """One operation at a machine. Raises what it is refused for."""
    asked = Transaction((update(STOCK, {"op": op, **arguments}),))
    committed = stage.machines[name].write([asked])
    assert committed is not None
    (outcome,) = committed.outcomes
    if outcome.error is not None:
        raise outcome.error


def matrix(stage: Stage, name: str) -> Matrix:
    """The rights as a machine knows them."""
    with stage.machines[name].disk.snapshot() as snapshot:
        return Matrix(read_record(snapshot, STOCK.prefix + address.OWN)[0].live)


def held(stage: Stage, name: str) -> tuple[int, int]:
    """Rights to decrement and to increment that a machine knows it holds."""
    rights, own = matrix(stage, name), stage.machines[name].replication.incarnation
    assert rights.bounding is not None
    return rights.to_decrement(own), rights.to_increment(own, rights.bounding)


def go_on(stage: Stage, *names: str, ticks: int = 30) -> None:
    """Let these machines talk for a while."""
    for _ in range(ticks):
        stage.pass_time(*names)
        stage.deliver(*names)


def test_a_new_counter_can_soon_be_used_everywhere() -> None:
    stage = Stage("a", "b", "c")
    do(stage, "a", "create", max=90)
    go_on(stage, "a", "b", "c")
    assert {name: held(stage, name) for name in "abc"} == dict.fromkeys("abc", (0, 30))
    do(stage, "b", "increment", by=30)


def test_who_uses_most_is_given_more_before_it_runs_out() -> None:
    """One takes nearly all there is, far beyond its share, and is never refused."""
    stage = Stage("a", "b", "c")
    do(stage, "a", "create")
    do(stage, "a", "increment", by=300)
    go_on(stage, "a", "b", "c")
    for _ in range(26):
        do(stage, "c", "decrement", by=10)
        go_on(stage, "a", "b", "c", ticks=8)
    assert matrix(stage, "c").value == 40


def test_when_nothing_is_used_nothing_is_given() -> None:
    stage = Stage("a", "b", "c")
    do(stage, "a", "create", max=100)
    do(stage, "a", "increment", by=40)
    go_on(stage, "a", "b", "c")
    before = {name: machine.engine.state.sequence for name, machine in stage.machines.items()}
    go_on(stage, "a", "b", "c")
    after = {name: machine.engine.state.sequence for name, machine in stage.machines.items()}
    assert after == before


def test_in_a_partition_nothing_moves_and_the_bound_holds() -> None:
    stage = Stage("a", "b")
    do(stage, "a", "create")
    do(stage, "a", "increment", by=10)
    go_on(stage, "a", "b")
    for name in "ab":
        do(stage, name, "decrement", by=5)
        with pytest.raises(Problem):
            do(stage, name, "decrement")
    with pytest.raises(NoRights):
        do(stage, "a", "decrement")
    go_on(stage, "a", "b")
    assert matrix(stage, "a").value == matrix(stage, "b").value == 0


def test_who_was_not_heard_for_long_is_given_nothing() -> None:
    stage = Stage("a", "b", "c")
    for _ in range(sharing._HEARD_MS // 100 + 1):
        stage.pass_time("a", "b")
        stage.deliver("a", "b")
        stage.lose("a", "c")
        stage.lose("b", "c")
    do(stage, "a", "create", max=90)
    go_on(stage, "a", "b")
    assert (held(stage, "a"), held(stage, "b")) == ((0, 45), (0, 45))


def test_who_comes_later_is_given_some_of_what_did_not_change_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sharing, "_PLACES", 2)
    stage = Stage("a", "b")
    do(stage, "a", "create", max=90)
    go_on(stage, "a", "b")
    stage.join("c", ("a", "b"))
    go_on(stage, "a", "b", "c", ticks=80)
    assert sum(held(stage, "c")) > 0


def test_who_cannot_read_a_counter_still_talks() -> None:
    """A damaged record once ended every tick before what it had to send was sent."""
    stage = Stage("a", "b")
    do(stage, "a", "create", max=90)
    disk = stage.machines["a"].disk
    assert disk.flip(Random(0), STOCK.prefix + address.OWN)
    stage.letters.clear()
    for _ in range(30):
        stage.pass_time("a")
    assert {"Digest", "News"} & {kind_of(letter.frame) for letter in stage.letters}
    assert stage.machines["a"].replication.refusals["sharing-failed"]


def test_a_damaged_place_of_the_sequence_keeps_nobody_from_sharing() -> None:
    """Seed 7271 once: its address had no key any more, and the look for what to give ended."""
    stage = Stage("a", "b")
    do(stage, "a", "create", max=90)
    place = (1).to_bytes(8, "big")
    stage.machines["a"].disk.mounted.commit({Table.SEQUENCE: {place: b"\x10shop\0bcounter"}})
    go_on(stage, "a", "b")
    assert {name: held(stage, name) for name in "ab"} == dict.fromkeys("ab", (0, 45))
