"""Reclaiming: what is dead and stable goes, nothing that users see changes, nothing comes back."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import pytest

from crdtdb import address, reclaim
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.changes import BEGINNING, ChangeCursor, ChangePage, Scope, changes_head, read_changes
from crdtdb.errors import CursorExpired
from crdtdb.kinds import type_of
from crdtdb.limits import LIMITS
from crdtdb.reclaim import Walk
from crdtdb.reclaimed import RECLAIMED_KEY
from crdtdb.replication.stability import Reports
from crdtdb.store.base import Table
from crdtdb.transaction import Erase
from operations import random_operation
from oracle.checks import check_books
from replicas import START_MS, Replica, exchange, missing, update

Patch = pytest.MonkeyPatch

NAME: Final = ObjectName("shop", "set", "k")
_ROWS: Final = (Table.RECORDS, Table.SEQUENCE, Table.HEADS, Table.FOLDED)


def held(replica: Replica) -> dict[Table, int]:
    """How many rows a replica holds of what data is made of."""
    rows = replica.rows()
    return {table: len(rows[table]) for table in _ROWS}


# What goes ----------------------------------------------------------------------------------------


def test_members_that_came_and_went_leave_nothing() -> None:
    a, plain = Replica(1), Replica(2)
    members = list(range(300))
    for replica in (a, plain):
        replica.do("set", "add", value="stays")
    a.do("set", "add", values=members)
    a.do("set", "remove", values=members)
    a.do("set", "add", value="goes", key="emptied")
    a.do("set", "remove", value="goes", key="emptied")
    before = a.digest()
    assert a.reclaim() == 301
    assert a.digest() == before
    assert a.value("set") == ["stays"]
    assert held(a) == held(plain)
    check_books(a.store)
    a.reopen()
    assert held(a) == held(plain)


@pytest.mark.parametrize(
    "erase",
    [None, Erase(address.bucket_prefix("shop")), Erase(address.key_prefix("shop", "set", "k"))],
    ids=["clear", "bucket", "keys"],
)
@pytest.mark.parametrize("entries", [1, 2, 7, 1_000])
def test_a_cut_goes_with_all_it_covers(erase: Erase | None, entries: int) -> None:
    a = Replica(1)
    fresh = held(a)
    for key in ("k", "k2", "k3"):
        a.do("set", "add", values=[1, 2, 3], key=key)
        if erase is None:
            a.do("set", "clear", key=key)
    if erase is not None:
        a.commit(erase)
    a.reclaim(entries=entries)
    assert held(a) == fresh
    assert not [key for key in a.rows()[Table.META] if key.startswith(b"cut/")]
    a.reopen()
    a.do("set", "add", value=2)
    assert a.value("set") == [2]
    check_books(a.store)


def test_a_log_that_was_deleted_goes_with_its_base() -> None:
    a = Replica(1)
    fresh = held(a)
    a.do("opcounter", "increment", by=3)
    a.reclaim()
    a.do("opcounter", "increment", by=4)
    a.do("opcounter", "delete")
    a.reclaim()
    a.reclaim()  # a base that is folded last has a place behind the walk
    assert held(a) == fresh
    a.do("opcounter", "increment", by=2)
    assert a.value("opcounter") == 2


def test_totals_stay() -> None:
    """A running total that was reset is what its replica goes on from."""
    a, b = Replica(1), Replica(2)
    a.do("counter", "increment", by=5)
    a.do("counter", "reset")
    a.commit(Erase(address.bucket_prefix("shop")))
    a.reclaim()
    assert held(a)[Table.RECORDS] == 1
    a.do("counter", "increment", by=2)
    exchange(a, b)
    assert b.value("counter") == 2


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("type_name", "step", "take_out", "left"),
    [
        ("counter", {"op": "increment"}, {"op": "reset"}, 4),
        ("gcounter", {"op": "increment"}, {"op": "delete"}, 4),
        (
            "zset",
            {"op": "increment", "member": "x"},
            {"op": "remove", "member": "x"},
            [{"member": "x", "score": 4}],
        ),
        (
            "map",
            {"op": "update", "field": ["n"], "do": {"type": "counter", "op": "increment"}},
            {"op": "remove", "field": ["n"]},
            [{"field": ["n"], "type": "counter", "value": 4}],
        ),
    ],
)
def test_what_was_reset_does_not_come_back_with_who_was_evicted(
    type_name: str, step: dict[str, Any], take_out: dict[str, Any], left: object, known: bool
) -> None:
    """It counts on, cut off, when it is evicted and its total is reset; then it rejoins.

    Its total holds what the reset saw and what it did not, so only the baseline tells them apart.
    That must not go as soon as those who are left have seen it: nobody has heard of the rest.
    """

    def count(replica: Replica, by: int) -> None:
        if type_name == "map":
            replica.do(type_name, **step | {"do": {**step["do"], "by": by}})
        else:
            replica.do(type_name, **step, by=by)

    a, evicted, c = Replica(1), Replica(2), Replica(3)
    count(evicted, 10)
    exchange(a, evicted, c)
    count(evicted, 4)
    a.do(type_name, **take_out)
    c.pull(a)
    a.clean_up(evicted=(evicted.engine.state.incarnation,) if known else ())
    a.reclaim()
    exchange(a, evicted, c)
    for replica in (a, evicted, c):
        assert (replica.value(type_name) == left) is known
    if known:
        assert not a.clean_up(evicted=(evicted.engine.state.incarnation,))
        check_books(a.store)


def test_a_cut_stays_while_something_below_is_of_an_unknown_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A newer version may know that a cut does not apply there."""
    a = Replica(1)
    a.do("set", "add", value=1)
    a.do("gset", "add", value=1)
    a.commit(Erase(address.bucket_prefix("shop")))
    with monkeypatch.context() as patch:
        known = type_of
        patch.setattr(reclaim, "type_of", lambda p: None if b"gset" in p else known(p))
        a.reclaim()
    at = address.cut(address.bucket_prefix("shop"))
    assert a.record(at).live
    assert a.record(address.member(ObjectName("shop", "gset", "k"), 1)).live
    assert not a.exists("gset")


# Only when it is stable ---------------------------------------------------------------------------


def test_only_what_is_stable_goes() -> None:
    a = Replica(1)
    a.do("set", "add", values=[1, 2])
    a.do("set", "remove", value=1)
    first = a.seen
    a.do("set", "remove", value=2)
    a.do("gset", "add", value=1)
    a.do("gset", "delete")
    assert a.reclaim(NOTHING) == 0
    assert a.reclaim(first) == 1
    assert a.reclaim(first) == 0
    assert a.reclaim() == 3
    assert a.reclaim() == 0


def test_what_waits_is_counted() -> None:
    a = Replica(1)
    a.do("set", "add", values=[1, 2])
    a.do("set", "remove", value=1)
    a.do("set", "delete")
    walk = Walk(NOTHING)
    a.engine.reclaim(walk, 1_000)
    assert walk.waiting_records == 2
    rows = a.rows()[Table.RECORDS]
    dead = [address.member(ObjectName("shop", "set", "k"), 1)]
    dead.append(address.cut(ObjectName("shop", "set", "k").prefix))
    assert walk.waiting_bytes == sum(len(at) + len(rows[at]) for at in dead)


def test_a_walk_begins_behind_what_is_clean() -> None:
    a = Replica(1)
    a.do("set", "add", values=[1, 2, 3])
    a.reclaim()
    assert a.engine.reclaimed.clean == a.engine.state.sequence
    stable = a.seen
    a.do("set", "remove", value=1)
    place = a.engine.state.sequence
    a.do("set", "add", value=4)
    a.reclaim(stable)
    assert a.engine.reclaimed.clean == place - 1
    walk = Walk(a.seen, a.engine.reclaimed.clean)
    a.engine.reclaim(walk, 1_000)
    assert a.engine.reclaimed.clean == a.engine.state.sequence
    assert a.engine.reclaimed.records == 1


def test_nothing_is_written_when_nothing_goes() -> None:
    a = Replica(1)
    a.do("set", "add", values=[1, 2, 3])
    rows = a.rows()
    assert a.reclaim() == 0
    assert a.rows() == rows
    assert RECLAIMED_KEY not in rows[Table.META]


def test_a_cut_that_changes_during_its_sweep_stays() -> None:
    a = Replica(1)
    a.do("set", "add", values=[1, 2, 3])
    a.do("set", "clear")
    walk = Walk(a.seen)
    a.engine.reclaim(walk, 5)
    assert walk.sweep is not None
    a.do("set", "add", value=4)
    a.do("set", "clear")
    while not walk.done:
        a.engine.reclaim(walk, 2)
    assert a.value("set") == []
    assert a.record(address.cut(ObjectName("shop", "set", "k").prefix)).live
    check_books(a.store)


def test_a_cut_made_after_another_was_reclaimed_covers_less_and_still_nothing_returns() -> None:
    """Its read context is old, and its maker has no longer the cut that covered the rest.

    Who has not reclaimed that cut yet loses it by the later one: what it hid must go with it.
    """
    a, b, newcomer = Replica(1), Replica(2), Replica(3)
    a.do("set", "add", value="x")
    older = a.seen
    a.do("set", "add", value="y")
    a.do("set", "clear")
    exchange(a, b)
    a.reclaim()
    a.do("set", "add", value="z")
    a.do("set", "clear", seen=older)
    b.pull(a)
    newcomer.pull(b)
    assert a.value("set") == b.value("set") == newcomer.value("set") == ["z"]
    b.reclaim()
    assert b.value("set") == ["z"]


@pytest.mark.parametrize("broken", [False, True])
def test_a_report_counts_once_all_of_it_is_here(broken: bool, monkeypatch: Patch) -> None:
    """What a member did before it saw an operation may still be under way.

    Here that is a reset of the first step. Who takes both steps for stable, because everybody has
    them, makes one number of them that the reset cannot take apart.
    """
    if broken:
        take = lambda self, member, reported, seen: self._count(member, reported)  # noqa: E731
        monkeypatch.setattr(Reports, "take", take)
    a, b, c = Replica(1), Replica(2), Replica(3)
    a.do("opcounter", "increment", by=5)
    exchange(a, b, c)
    b.do("opcounter", "reset")
    c.do("opcounter", "increment", by=2)
    b.pull(c)
    a.pull(c)
    reports = Reports()
    for other in (b, c):
        reports.take(other.number, other.seen, a.seen)
    a.reclaim(reports.stable((1, 2, 3), 1, a.seen))
    a.pull(b)
    assert b.value("opcounter") == 2
    assert a.value("opcounter") == (7 if broken else 2)


# Anything, in any order ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(60))
def test_replicas_that_reclaim_at_different_times_stay_equal(number: int) -> None:
    random = Random(number)
    replicas = [Replica(number) for number in (1, 2, 3)]
    for _ in range(6):
        for _ in range(12):
            _write(random, random.choice(replicas))
            if random.random() < 0.3:
                replica, donor = random.sample(replicas, 2)
                replica.pull(donor)
        exchange(*replicas)
        stable = replicas[0].seen
        for replica in random.sample(replicas, random.randint(1, 3)):
            if random.random() < 0.5:
                _write(random, replica)
            before = replica.digest()
            replica.reclaim(stable, entries=random.choice((1, 3, 1_000)))
            assert replica.digest() == before
            check_books(replica.store)
            if random.random() < 0.5:
                exchange(*replicas)
    exchange(*replicas)
    for newcomer, replica in enumerate(replicas, start=7):
        for _ in range(2):  # a base that is folded last has a place behind the walk
            replica.reclaim(entries=random.choice((1, 5, 1_000)))
        _only_what_lives(replica)
        copy = Replica(newcomer)
        copy.pull(replica)
        exchange(*replicas, copy)


def _write(random: Random, replica: Replica) -> None:
    if random.random() < 0.05:
        prefix = random.choice((address.bucket_prefix("shop"), b"\x10shop\0set\0"))
        replica.commit(Erase(prefix))
        return
    type_name = random.choice(("set", "gset", "register", "mvregister", "opcounter", "counter"))
    name = ObjectName("shop", type_name, random.choice("ab"))
    replica.commit(update(name, random_operation(type_name, random)))


def _only_what_lives(replica: Replica) -> None:
    """There are records with something in force, no cut, and heads of nothing else."""
    rows = replica.rows()
    assert not [at for at in rows[Table.RECORDS] if address.is_cut(at)]
    assert all(replica.record(at).live for at in rows[Table.RECORDS])
    objects = {address.split_object(at)[0] for at in rows[Table.RECORDS]}
    assert rows[Table.HEADS].keys() == objects
    assert len(rows[Table.SEQUENCE]) == len(rows[Table.RECORDS])


# A disk that was put back -------------------------------------------------------------------------


def test_who_pulls_whole_loses_what_was_deleted_and_nothing_else() -> None:
    """Its disk was put back to before the delete, which nobody can send any more."""
    a, b = Replica(1), Replica(2)
    a.do("set", "add", values=["x", "y"])
    a.do("opcounter", "increment", by=3)
    a.do("opcounter", "increment", by=3, key="dead")
    b.pull(a)
    a.do("set", "remove", value="x")
    a.do("opcounter", "increment", by=4)
    a.do("opcounter", "delete", key="dead")
    a.reclaim()
    b.do("set", "add", value="own")
    b.do("opcounter", "increment", by=10)
    records = missing(a.store, NOTHING)
    b.engine.merge(records, a.seen, 0, whole=a.engine.reclaimed.vector)
    check_books(b.store)
    assert b.value("set") == ["own", "y"]
    assert b.value("opcounter") == 17
    assert not b.exists("opcounter", "dead")
    assert b.engine.reclaimed.vector.includes(a.engine.reclaimed.vector)
    exchange(a, b)
    assert a.value("set") == ["own", "y"]


def test_operations_folded_while_a_whole_pull_goes_on_count_once() -> None:
    """They came with an early page; by the last one the donor had put them into the base."""
    a, b = Replica(1), Replica(2)
    a.do("set", "add", value="x")
    a.do("set", "remove", value="x")
    a.reclaim()
    b.pull(a)
    a.do("opcounter", "increment", by=3)
    early = missing(a.store, NOTHING)
    a.reclaim()
    a.do("opcounter", "increment", by=4)
    pages = dict(early) | dict(missing(a.store, NOTHING))
    b.engine.merge(list(pages.items()), a.seen, 0, whole=a.engine.reclaimed.vector)
    check_books(b.store)
    assert b.value("opcounter") == 7


def test_a_map_keeps_its_head_when_all_else_in_it_went_before_its_log_came() -> None:
    """A simulated replica once showed no leaf of a map that it held: its head had gone.

    In a whole pull the leaves that the donor lacks are taken out first, and then the map is empty,
    until its op-based leaves are taken over.
    """
    a, b = Replica(1), Replica(2)
    a.do("map", "update", field=["gone"], do={"type": "flag", "op": "enable"})
    b.pull(a)
    a.do("map", "remove", field=["gone"])
    a.do("map", "update", field=["log"], do={"type": "list", "op": "insert", "value": "is"})
    a.reclaim()
    b.engine.merge(missing(a.store, NOTHING), a.seen, 0, whole=a.engine.reclaimed.vector)
    check_books(b.store)
    assert b.exists("map")
    assert b.digest() == a.digest()


@pytest.mark.parametrize("wide", [False, True], ids=["of the object", "of the bucket"])
@pytest.mark.parametrize("kind", ["opcounter", "list"])
def test_a_cut_that_only_the_donor_still_holds_covers_what_is_taken_over(
    kind: str, wide: bool
) -> None:
    """Seed 5604 once: what was deleted came back, at one replica only.

    It came again with the donor's log, which the donor had not yet cleared of it, and its cut was
    thought to be done with, for here both had gone.
    """
    a, b = Replica(1), Replica(2)
    write = {"op": "increment", "by": 3} if kind == "opcounter" else {"op": "insert", "value": 1}
    a.commit(update(NAME._replace(type=kind), write))
    a.do("set", "add", value="x")
    a.do("set", "remove", value="x")
    a.reclaim()
    b.pull(a)
    if wide:
        a.commit(Erase(address.bucket_prefix("shop")))
    else:
        a.do(kind, "delete")
    b.pull(a)
    b.reclaim()
    assert not b.exists(kind)
    b.engine.merge(missing(a.store, NOTHING), a.seen, 0, whole=a.engine.reclaimed.vector)
    check_books(b.store)
    assert not a.exists(kind)
    assert b.digest() == a.digest()


@pytest.mark.parametrize("by_pull", ["whole", "of a base"])
@pytest.mark.parametrize("removal", ["reset", "erase", "of a leaf"])
def test_who_was_evicted_takes_no_part_out_of_a_sum(removal: str, by_pull: str) -> None:
    """It resets what it has seen, and the others have folded that with what it has not seen.

    They once showed different totals for ever, by how much each had folded when the reset came.
    What it removed of other types stays removed.
    """
    a, b, c = Replica(1), Replica(2), Replica(3)
    kind = "map" if removal == "of a leaf" else "opcounter"
    add: dict[str, Any] = {"op": "increment", "by": 3}
    if kind == "map":
        add = {"op": "update", "field": ["n"], "do": {"type": "opcounter", **add}}
    for replica in (a, b):
        replica.do("set", "add", value=replica.number, key="other")
        exchange(a, b)
    a.do(kind, **add)
    b.pull(a)
    a.do(kind, **add)
    a.do("set", "add", value="goes")
    a.do("set", "remove", value="goes")
    c.pull(a)  # and folds none of it
    a.reclaim()
    before = a.show(ObjectName("shop", kind, "k"))
    if removal == "erase":
        b.commit(Erase(address.bucket_prefix("shop")))
    elif removal == "reset":
        b.do("opcounter", "reset")
    else:
        b.do("map", "remove", field=["n"])
    records = missing(a.store, NOTHING if by_pull == "whole" else b.seen)
    whole = a.engine.reclaimed.vector if by_pull == "whole" else NOTHING
    b.engine.merge(records, a.seen, 0, whole=whole)
    exchange(a, b, c)
    for replica in (a, b, c):
        check_books(replica.store)
        assert replica.show(ObjectName("shop", kind, "k")) == before
        assert replica.value("set", "other") == ([] if removal == "erase" else [1, 2])
    assert a.digest() == b.digest() == c.digest()
    last: dict[str, Any] = {"op": "remove", "field": ["n"]} if kind == "map" else {"op": "reset"}
    b.do(kind, **last)
    exchange(a, b, c)
    assert a.show(ObjectName("shop", kind, "k")) != before
    assert a.digest() == b.digest() == c.digest()


# The change feed ----------------------------------------------------------------------------------


def page(replica: Replica, cursor: ChangeCursor, limit: int = 100) -> ChangePage:
    with replica.store.snapshot() as snapshot:
        return read_changes(snapshot, cursor, Scope(), limit)


def shown(replica: Replica, cursor: ChangeCursor) -> list[Any]:
    return [change.name.type for change in page(replica, cursor).changes]


def test_a_reader_that_has_not_seen_a_delete_is_told_that_it_is_gone() -> None:
    a = Replica(1)
    a.do("set", "add", values=[1, 2])
    before = page(a, BEGINNING).cursor
    halfway = page(a, BEGINNING, limit=1).cursor
    a.do("set", "remove", value=1)
    after = page(a, before).cursor
    a.do("gset", "add", value=1)
    assert shown(a, before) == ["set", "gset"]
    a.reclaim()
    for cursor in (before, halfway):
        with pytest.raises(CursorExpired):
            page(a, cursor)
    assert shown(a, after) == ["gset"]
    assert shown(a, BEGINNING) == ["set", "gset"]


def test_a_reader_from_another_replica_is_told_too() -> None:
    a, b = Replica(1), Replica(2)
    a.do("set", "add", values=[1, 2])
    before = page(a, BEGINNING).cursor
    a.do("set", "clear")
    after = page(a, before).cursor
    b.pull(a)
    b.reclaim()
    with pytest.raises(CursorExpired):
        page(b, before)
    assert shown(b, after) == []
    with b.store.snapshot() as snapshot:
        now = changes_head(snapshot)
    assert shown(b, now) == []


def test_operations_that_became_part_of_a_base_are_shown() -> None:
    a = Replica(1)
    a.do("opcounter", "increment")
    before = page(a, BEGINNING).cursor
    a.do("opcounter", "increment")
    a.reclaim()
    assert shown(a, before) == ["opcounter"]
    assert shown(a, BEGINNING) == ["opcounter"]


def test_deletes_stay_long_enough_for_readers() -> None:
    assert LIMITS.feed_ms >= 60_000


def test_narrowing_a_walk_keeps_what_both_cover() -> None:
    walk = Walk(VersionVector({1: 5, 2: 3}))
    walk.narrow(VersionVector({1: 2, 3: 9}))
    assert walk.stable == VersionVector({1: 2})


def test_what_waits_behind_the_end_of_a_walk_makes_nothing_before_it_clean() -> None:
    """Below a cut a walk meets records of later places, which it has not come to otherwise."""
    a, b = Replica(1), Replica(2)
    a.do("set", "add", value="x")
    a.do("set", "clear")
    b.do("set", "add", value="x")
    b.do("set", "remove", value="x")
    stable, end = a.seen, a.engine.state.sequence
    a.do("opcounter", "increment")
    a.pull(b)
    walk = Walk(stable, 0, end)
    while not walk.done:
        a.engine.reclaim(walk, 1_000)
    assert a.engine.reclaimed.clean <= end
    walk = Walk(a.seen, a.engine.reclaimed.clean)
    while not walk.done:
        a.engine.reclaim(walk, 1_000)
    operation = address.OPERATION
    places = a.rows()[Table.SEQUENCE].values()
    assert not [at for at in places if address.split_object(at)[1].startswith(operation)]


def test_no_operation_is_folded_before_one_that_was_left_for_a_deadline() -> None:
    """That the former life is over for good is decided while a walk is under way."""
    one, other = Replica(1), Replica(2)
    one.do("text", "insert", text="old")
    one.do("text", "expire", in_ms=1_000)
    one.now_ms = other.now_ms = START_MS + 2_000
    one.do("text", "insert", text="new")
    one.do("text", "insert", text="er")
    exchange(one, other)
    walk = Walk(one.seen, passed_ms=START_MS + 1_000)
    while not walk.left:
        one.engine.reclaim(walk, 1)
    one.clean_up(passed_ms=START_MS + 1_000)
    walk.extend(one.engine.state.sequence)
    while not walk.done:
        one.engine.reclaim(walk, 1)
    other.pull(one)
    assert one.value("text") == other.value("text") == "newer"
    one.reclaim()
    newcomer = Replica(3)
    newcomer.pull(one)
    assert newcomer.value("text") == "newer"
    check_books(one.store)
