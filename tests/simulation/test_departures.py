"""Replicas that leave, or go back, and what others have of them: told step by step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import permutations
from typing import Any
from unittest.mock import patch

import pytest

from crdtdb import reclaim, replication
from crdtdb.datatype import Delete, StateType
from crdtdb.reading import Reading
from crdtdb.record import Record
from crdtdb.replication.cluster import Send
from crdtdb.replication.departures import Departures
from crdtdb.replication.greeting import Greeting
from crdtdb.replication.members import member_object
from crdtdb.replication.messages import Acquainted, Remembered, Welcome
from crdtdb.replication.peers import Peer
from crdtdb.transaction import Transaction, Update
from oracle.checks import Violation
from simulation.checks import shown
from simulation.network import kind_of
from simulation.test_stories import Stage

_GREETINGS = ("Hello", "Welcome", "Remembered", "Acquainted")
#: Which of them has the least incarnation, and so does what falls to one, is chance: try all.
ROLES = list(permutations(("a", "b", "c")))


@pytest.fixture(autouse=True)
def deletes_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replication.reclaiming, "FEED_MS", 0)


@contextmanager
def departed_forgotten() -> Iterator[None]:
    """Who departed does not count any more, whether everybody has heard of it or not."""
    with patch.object(Departures, "unheard", lambda *_: ()):
        yield


@contextmanager
def reports_forgotten() -> Iterator[None]:
    """Who greets is told how much of it is known, and not what it had reported."""

    heed = Greeting.on_welcome

    def on_welcome(
        self: Greeting, peer: Peer, message: Welcome | Remembered | Acquainted
    ) -> list[Send]:
        return heed(self, peer, Welcome(message.known))

    with patch.object(Greeting, "on_welcome", on_welcome):
        yield


@contextmanager
def third_parties_forgotten() -> Iterator[None]:
    """Only totals of the evicted themselves are kept, not those they may bring of others."""

    def may_grow(self: reclaim._Portion, kind: StateType, record: Record) -> bool:
        return kind.totals and any(dot[0] in self._walk.evicted for dot in record.live)

    with patch.object(reclaim._Portion, "_may_grow", may_grow):
        yield


def let_talk(stage: Stage, *names: str, tenths: int = 60) -> None:
    """These talk to each other for a while; what anybody sends elsewhere is lost."""
    for _ in range(tenths):
        stage.pass_time(*names)
        stage.deliver(*names)
    stage.lose(*stage.machines)


def value(stage: Stage, name: str, type_name: str) -> Any:
    """What a machine shows of the object `k`."""
    with stage.machines[name].disk.snapshot() as snapshot:
        return json.loads(shown(Reading(snapshot), ("shop", type_name, "k")).text)


def check_all(stage: Stage, type_name: str, expected: object) -> None:
    """Everybody has and shows the same, and it is right."""
    for name in stage.machines:
        stage.look_at_all(name)
        assert value(stage, name, type_name) == expected


@pytest.mark.parametrize("broken", [False, True])
def test_the_last_of_a_lost_disk_reaches_one_member_only(broken: bool) -> None:
    """That member had said before that it has seen a reset, to which this is concurrent.

    It is cut off, and those who are left are as many as there were: without the one that lost its
    disk they would take the reset for stable, clean up the baseline, and count twice what it says.
    """
    wrong = set()
    for home, keeper, lost in ROLES:
        with departed_forgotten() if broken else nullcontext():
            stage = Stage(home, keeper, lost)
            stage.write(lost, "counter", "k", op="increment", by=10)
            stage.deliver(*stage.machines)
            stage.write(home, "counter", "k", op="reset")
            stage.lose(home, lost)
            let_talk(stage, home, keeper)
            stage.write(lost, "counter", "k", op="increment", by=4)
            stage.deliver(lost, keeper)
            assert value(stage, keeper, "counter") == 4
            stage.lose(*stage.machines)
            stage.lose_disk(lost)
            let_talk(stage, home, lost)
            try:
                let_talk(stage, *stage.machines)
                check_all(stage, "counter", 4)
            except Violation as violation:
                wrong.add(str(violation))
            else:
                assert all(not m.replication.blocking() for m in stage.machines.values())
    assert wrong == ({"value: shop/counter/k shows 14, must be 4"} if broken else set())


@pytest.mark.parametrize("broken", [False, True])
def test_who_was_evicted_brings_the_last_of_a_lost_disk(broken: bool) -> None:
    """It is the third replica's total that grew, which is gone: nobody else can tell."""
    wrong = set()
    for home, evicted, lost in ROLES:
        with third_parties_forgotten() if broken else nullcontext():
            stage = Stage(home, evicted, lost)
            stage.write(lost, "counter", "k", op="increment", by=10)
            stage.deliver(*stage.machines)
            stage.write(home, "counter", "k", op="reset")
            stage.lose(*stage.machines)
            stage.write(lost, "counter", "k", op="increment", by=4)
            stage.deliver(lost, evicted)
            stage.lose(*stage.machines)
            stage.lose_disk(lost)
            let_talk(stage, home, lost)
            stage.machines[home].evict(evicted)
            let_talk(stage, home, lost)
            assert not stage.machines[home].replication.blocking()
            let_talk(stage, *stage.machines, tenths=20)
            stage.machines[evicted].rejoin()
            try:
                let_talk(stage, *stage.machines)
                check_all(stage, "counter", 4)
            except Violation as violation:
                wrong.add(str(violation))
    assert wrong == ({"value: shop/counter/k shows 14, must be 4"} if broken else set())


def test_a_late_push_of_who_has_departed_is_not_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its receiver has said since that it has seen the departure: from then on, nothing is new.

    As long as the departure is remembered, which is as long as any delete.
    """
    monkeypatch.setattr(replication.reclaiming, "FEED_MS", 3_600_000)
    stage = Stage("a", "b", "gone")
    stage.write("gone", "counter", "k", op="increment", by=1)
    late = [x for x in stage.letters if x.target == "b" and kind_of(x.frame) == "Push"]
    stage.letters.clear()
    stage.lose_disk("gone")
    let_talk(stage, "a", "b", "gone")
    before = stage.machines["b"].seen
    stage.letters += late
    stage.deliver("gone", "b")
    assert late
    assert stage.machines["b"].seen == before


@pytest.mark.parametrize("is_evicted", [False, True])
def test_a_push_that_was_held_goes_with_who_has_departed(is_evicted: bool) -> None:
    """It waited for another one, which comes by way of somebody who took it in in time."""
    stage = Stage("a", "b", "gone")
    stage.write("gone", "counter", "k", op="increment", by=1)
    stage.deliver("gone", "a")
    stage.lose("gone", "b")
    stage.write("gone", "counter", "k", op="increment", by=2)
    stage.deliver("gone", "b")
    assert stage.machines["b"].held_pushes == 1
    stage.lose(*stage.machines)
    last = stage.machines["gone"].seen.get(stage.machines["gone"].replication.incarnation)
    gone = stage.machines["gone"].replication.incarnation
    if is_evicted:
        stage.machines["a"].evict("gone")
        stage.machines["gone"].power_off()
        let_talk(stage, "a", "b")
    else:
        stage.lose_disk("gone")
        let_talk(stage, "a", "gone", tenths=20)
        let_talk(stage, "a", "b")
    assert stage.machines["b"].seen.get(gone) == last - 1
    assert value(stage, "b", "counter") == 1


def test_who_departed_by_mistake_is_soon_a_member_again() -> None:
    """Its pushes are not taken in then, and it is asked what it has instead."""
    stage = Stage("a", "b", "c")
    c = stage.machines["c"].replication.incarnation
    stage.machines["a"].write([Transaction((Update(member_object(c), Delete()),))])
    stage.deliver("a", "b")
    stage.lose(*stage.machines)
    stage.write("c", "counter", "k", op="increment", by=3)
    let_talk(stage, *stage.machines)
    check_all(stage, "counter", 3)
    assert all(len(m.replication.members) == 3 for m in stage.machines.values())


@pytest.mark.parametrize("broken", [False, True])
def test_a_disk_goes_back_behind_what_its_replica_had_reported(broken: bool) -> None:
    """It lost a reset of another's, and nothing of its own; the reset is cleaned up meanwhile.

    Counting on under its incarnation, before it has pulled anything, it would raise a total of
    which nobody knows any more how much was reset.
    """
    wrong = set()
    for home, rolled in permutations(("a", "b", "c"), 2):
        with reports_forgotten() if broken else nullcontext():
            stage = Stage(home, rolled)
            stage.write(rolled, "counter", "k", op="increment", by=10)
            let_talk(stage, home, rolled)
            stage.machines[rolled].disk.back_up()
            stage.write(home, "counter", "k", op="reset")
            let_talk(stage, home, rolled)
            assert stage.machines[home].engine.reclaimed.records
            stage.restart(rolled, rolled_back=True)
            while not stage.machines[rolled].replication.settled:
                if not stage.deliver(home, rolled, until="Remembered"):
                    stage.pass_time(home, rolled)
                stage.letters = [x for x in stage.letters if kind_of(x.frame) in _GREETINGS]
            stage.lose(home, rolled)
            stage.write(rolled, "counter", "k", op="increment", by=4)
            assert value(stage, rolled, "counter") == 14, "it does not know of the reset"
            try:
                let_talk(stage, home, rolled)
                check_all(stage, "counter", 4)
            except Violation as violation:
                wrong.add(str(violation))
    assert wrong == ({"value: shop/counter/k shows 14, must be 4"} if broken else set())


def test_no_incarnation_ends_while_a_newcomer_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a member before its first page, so a floor waits until it has heard of it."""
    monkeypatch.setattr(replication.donor, "COPY_ROWS", 2)
    stage = Stage("a", "b")
    for number in range(8):
        stage.write("a", "register", f"x {number}", op="set", value=number)
    stage.lose_disk("b")
    while not stage.machines["b"].serves:
        stage.pass_time("a", "b")
        stage.deliver("a", "b")
    stage.join("late", ("a",))
    while not stage.deliver("a", "late", until="Copied"):
        stage.pass_time("a", "late")
    under_way, stage.letters = stage.letters, []
    for _ in range(60):
        stage.pass_time("a", "b")
        stage.deliver("a", "b")
    assert not stage.machines["late"].serves
    home = [stage.machines[name] for name in ("a", "b")]
    assert not any(machine.seen.floor for machine in home)
    stage.letters += under_way
    stage.write("b", "counter", "k", op="increment", by=3)
    let_talk(stage, "a", "b", "late", tenths=100)
    check_all(stage, "counter", 3)
    for machine in stage.machines.values():
        assert machine.seen.floor, "now everybody has"
        assert machine.seen == home[0].seen
        assert len(machine.replication.members) == 3
