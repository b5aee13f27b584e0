"""Clean-ups: what is dead to users but in force goes by an operation, and stays gone."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any, Final

import pytest

from crdtdb import replication
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.errors import CallerError
from crdtdb.reclaim import _Portion
from crdtdb.store.base import Table
from crdtdb.types import CATALOGUE
from operations import random_operation
from oracle.checks import check_books
from replicas import Replica, acquaint, exchange, missing, update
from simulation.test_stories import Stage

Patch = pytest.MonkeyPatch

#: What leaves something in force that users do not see, by type.
_DEAD: Final[dict[str, list[dict[str, Any]]]] = {
    "rwset": [{"op": "add", "value": 1}, {"op": "remove", "value": 1}],
    "dwflag": [{"op": "enable"}, {"op": "disable"}],
    "counter": [{"op": "increment", "by": 5}, {"op": "decrement"}, {"op": "reset"}],
    "gcounter": [{"op": "increment", "by": 5}, {"op": "delete"}],
    "zset": [
        {"op": "increment", "member": "m", "by": 2},
        {"op": "add", "member": "m", "score": 1},
        {"op": "increment", "member": "m", "by": 2},
        {"op": "remove", "member": "m"},
    ],
    "map": [
        {"op": "update", "field": ["a"], "do": {"type": "rwset", "op": "add", "value": 1}},
        {"op": "update", "field": ["a"], "do": {"type": "rwset", "op": "remove", "value": 1}},
        {"op": "update", "field": ["n"], "do": {"type": "counter", "op": "increment"}},
        {"op": "remove", "field": ["n"]},
    ],
}


def do(replica: Replica, type_name: str, plain: dict[str, Any]) -> None:
    """One operation on the object of a type."""
    replica.commit(update(ObjectName("shop", type_name, "k"), plain))


def rows(replica: Replica) -> int:
    """How many records and heads a replica holds."""
    held = replica.rows()
    return len(held[Table.RECORDS]) + len(held[Table.HEADS]) + len(held[Table.SEQUENCE])


# What goes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_name", _DEAD)
def test_what_is_dead_but_in_force_leaves_nothing(type_name: str) -> None:
    a, b = Replica(1), Replica(2)
    empty = rows(a)
    for plain in _DEAD[type_name]:
        do(a, type_name, plain)
        b.pull(a)
    a.pull(b)
    assert a.reclaim() == 0, "somebody may put something in its place: it is not dropped"
    before, records = a.digest(), rows(a)
    assert records > empty
    assert a.clean_up()
    assert a.digest() == before
    b.pull(a)
    assert not a.clean_up(), "a clean-up leaves nothing to clean up"
    for replica in (a, b):
        replica.reclaim()
        assert replica.digest() == before
        assert rows(replica) == empty
        check_books(replica.store)


def test_values_that_lost_go_and_the_one_that_is_read_stays() -> None:
    a, b, c = Replica(1), Replica(2), Replica(3)
    for replica in (a, b, c):
        do(replica, "register", {"op": "set", "value": replica.name})
    exchange(a, b, c)
    value = a.value("register")
    assert b.clean_up() == 1
    exchange(a, b, c)
    assert a.value("register") == value
    (at,) = a.rows()[Table.RECORDS]
    assert len(a.record(at).live) == 1


def test_only_what_is_stable_goes() -> None:
    a = Replica(1)
    do(a, "rwset", {"op": "add", "value": 1})
    before = a.seen
    do(a, "rwset", {"op": "remove", "value": 1})
    assert a.clean_up(before) == 0
    assert a.clean_up() == 1


def test_what_is_idle_once_a_cut_is_swept_is_told_of_at_once() -> None:
    """Seed 208 once: a portion that swept a record did not look at it again, nor did any later."""
    a, b = Replica(1), Replica(2)
    do(a, "rwset", {"op": "add", "value": 1})
    do(a, "rwset", {"op": "delete"})
    do(b, "rwset", {"op": "remove", "value": 1})
    exchange(a, b)
    assert a.clean_up() == 1
    a.reclaim()
    assert rows(a) == 0


# Meanwhile ----------------------------------------------------------------------------------------

#: What somebody does who has seen what is dead, and the value of that alone.
_MEANWHILE: Final[dict[str, tuple[dict[str, Any], Any]]] = {
    "rwset": ({"op": "add", "value": 1}, [1]),
    "dwflag": ({"op": "enable"}, True),
    "counter": ({"op": "increment", "by": 2}, 2),
    "gcounter": ({"op": "increment", "by": 2}, 2),
    "zset": ({"op": "increment", "member": "m", "by": 3}, [{"member": "m", "score": 3}]),
}


@pytest.mark.parametrize("type_name", _MEANWHILE)
@pytest.mark.parametrize("writer", [0, 1], ids=["who counted", "another"])
def test_what_is_done_during_a_clean_up_stands_and_nothing_returns(
    type_name: str, writer: int
) -> None:
    """An increment goes on from a total of which the baseline is cleaned up at the same time."""
    replicas = a, b = Replica(1), Replica(2)
    for plain in _DEAD[type_name]:
        do(a, type_name, plain)
    exchange(a, b)
    plain, value = _MEANWHILE[type_name]
    do(replicas[writer], type_name, plain)
    replicas[1 - writer].clean_up()
    exchange(a, b)
    assert a.value(type_name) == b.value(type_name) == value


@pytest.mark.parametrize("number", range(25))
def test_replicas_that_clean_up_at_any_time_stay_equal(number: int) -> None:
    """With and without the clean-ups everybody reads the same, and in the end nothing is left."""
    random = Random(number)
    replicas = [Replica(number) for number in (1, 2, 3)]
    plain = [Replica(number) for number in (1, 2, 3)]  # the same, without clean-ups
    names = [ObjectName("shop", t, k) for t in (*_MEANWHILE, "register") for k in "ab"]
    for _ in range(5):
        for _ in range(14):
            name, i = random.choice(names), random.randrange(3)
            operation = random_operation(name.type, random)
            for cluster in (replicas, plain):
                cluster[i].now_ms += 1
                cluster[i].commit(update(name, operation))
            if random.random() < 0.3:
                i, j = random.sample(range(3), 2)
                replicas[i].pull(replicas[j])
                plain[i].pull(plain[j])
        exchange(*replicas)
        exchange(*plain)
        stable = replicas[0].seen
        for i in random.sample(range(3), 2):
            if random.random() < 0.7:
                name = random.choice(names)
                operation = random_operation(name.type, random)
                for cluster in (replicas, plain):
                    cluster[i].commit(update(name, operation))
            before = [replicas[i].show(name) for name in names]
            replicas[i].clean_up(stable)
            assert [replicas[i].show(name) for name in names] == before
            check_books(replicas[i].store)
            replicas[i].reclaim(stable)
    exchange(*replicas)
    exchange(*plain)
    for name in names:
        assert replicas[0].show(name) == plain[0].show(name)
    for _ in range(2):
        replicas[0].clean_up()
        exchange(*replicas)
    replicas[0].reclaim()
    shown = {name.prefix for name in names if replicas[0].exists(name.type, name.key)}
    assert replicas[0].rows()[Table.HEADS].keys() == shown


# A disk that was put back -------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [False, True], ids=["cleaned up", "dropped"])
def test_an_add_in_a_state_put_back_counts_as_after_the_remove(
    broken: bool, monkeypatch: Patch
) -> None:
    """It has not seen the remove, and nobody holds that any more: the add stands, everywhere.

    Were such marks dropped, each replica for itself, those that have done so would show the add and
    the others not, with nothing left to tell them.
    """
    if broken:
        monkeypatch.setattr(_Portion, "_leave_idle", lambda self, at, *_: self._draft.drop(at))
    a, b, back = Replica(1), Replica(2), Replica(3)
    do(a, "rwset", {"op": "add", "value": 1})
    exchange(a, b, back)
    do(a, "rwset", {"op": "remove", "value": 1})
    b.pull(a)
    stable = a.seen  # `back` had seen all that too, until its disk was put back
    do(back, "rwset", {"op": "add", "value": 1})
    if broken:
        a.reclaim(stable)
    else:
        a.clean_up(stable)
        b.pull(a)
        a.reclaim()
        assert not back.seen.includes(a.engine.reclaimed.vector), "it is told to pull whole"
    a.pull(back)
    b.pull(back)
    whole(back, a)
    assert a.seen == b.seen == back.seen
    assert a.value("rwset") == back.value("rwset") == [1]
    assert b.value("rwset") == ([] if broken else [1])


@pytest.mark.parametrize("type_name", _DEAD)
def test_a_disk_put_back_to_before_a_clean_up_brings_nothing_back(type_name: str) -> None:
    """It pulls whole, because it has not seen the clean-up: what the donor lacks is dead."""
    a, back = Replica(1), Replica(2)
    for plain in _DEAD[type_name][:-1]:
        do(a, type_name, plain)
    back.pull(a)
    do(a, type_name, _DEAD[type_name][-1])
    a.clean_up()
    a.reclaim()
    assert not back.seen.includes(a.engine.reclaimed.vector), "it is told to pull whole"
    whole(back, a)
    a.pull(back)
    assert back.digest() == a.digest()
    assert not a.exists(type_name)


def whole(puller: Replica, donor: Replica) -> None:
    """Pull all that the donor holds."""
    records = missing(donor.store, VersionVector())
    puller.engine.merge(records, donor.seen, 0, whole=donor.engine.reclaimed.vector)


# Who, and how much --------------------------------------------------------------------------------


def test_one_replica_cleans_up_a_portion_at_a_time(monkeypatch: Patch) -> None:
    """The one whose marks they are, as long as it is a member; and it comes to an end."""
    monkeypatch.setattr(replication.reclaiming, "FEED_MS", 0)
    monkeypatch.setattr(replication.reclaiming, "RECLAIM_ENTRIES", 4)
    names = ("a", "b", "c")
    stage = Stage(*names)
    for _ in range(10):
        stage.pass_time(*names)
        stage.deliver(*names)
    members = list(range(20))
    stage.write("b", "rwset", "k", op="add", values=members)
    stage.write("b", "rwset", "k", op="remove", values=members)
    own = {name: stage.machines[name].replication.incarnation for name in names}
    minted = _talk(stage, names, own, tenths=120)
    assert sum(minted["b"]) == len(members)
    assert max(minted["b"]) <= 4
    assert not any(minted["a"] + minted["c"])
    for name in names:
        assert not _records(stage, name)
    before = {name: stage.machines[name].seen for name in names}
    _talk(stage, names, own, tenths=60)
    assert {name: stage.machines[name].seen for name in names} == before, "then all is quiet"


def test_the_least_member_cleans_up_for_one_that_is_gone(monkeypatch: Patch) -> None:
    monkeypatch.setattr(replication.reclaiming, "FEED_MS", 0)
    names, home = ("a", "b", "gone"), ("a", "b")
    stage = Stage(*names)
    stage.write("gone", "dwflag", "k", op="disable")
    stage.deliver(*names)
    stage.machines["gone"].power_off()
    stage.letters.clear()
    for _ in range(40):
        stage.pass_time(*home)
        stage.deliver(*home)
    assert all(_records(stage, name) for name in home), "it may come back and do it"
    stage.machines["a"].evict("gone")
    own = {name: stage.machines[name].replication.incarnation for name in home}
    least = min(home, key=lambda name: own[name])
    minted = _talk(stage, home, own, tenths=80)
    assert sum(minted[least]) >= 1
    assert not any(_records(stage, name) for name in home)


def _talk(
    stage: Stage, names: tuple[str, ...], own: dict[str, int], tenths: int
) -> dict[str, list[int]]:
    """Let machines talk; how many operations each made in every tenth of a second."""
    minted: dict[str, list[int]] = {name: [] for name in names}
    for _ in range(tenths):
        for name in names:
            machine = stage.machines[name]
            before = machine.seen.get(own[name])
            stage.pass_time(name)
            minted[name].append(machine.seen.get(own[name]) - before)
        stage.deliver(*names)
    return minted


def _records(stage: Stage, name: str) -> list[bytes]:
    """The addresses of users' records that a machine holds."""
    with stage.machines[name].disk.snapshot() as snapshot:
        return [at for at, _ in snapshot.scan(Table.RECORDS) if b"shop" in at]


def test_every_type_with_marks_is_here() -> None:
    """A type that leaves something in force that users do not see must be among these."""
    random = Random(5)
    found = set()
    for type_name in CATALOGUE:
        replicas = Replica(1), Replica(2)
        acquaint(*replicas)
        for _ in range(60):
            with suppress(CallerError):
                do(random.choice(replicas), type_name, random_operation(type_name, random))
            if random.random() < 0.2:
                exchange(*replicas)
                if replicas[0].clean_up():
                    found.add(type_name)
    assert found == {*_DEAD, "register"}
