"""The op-based family: the order of operations, and how they become a base."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.reclaim import Walk
from crdtdb.transaction import Erase
from oracle.checks import check_books
from replicas import Replica, exchange, missing, update
from witness import WITNESS, in_catalogue

LOG: Final = ObjectName("shop", WITNESS, "k")


@pytest.fixture(autouse=True)
def witness() -> Iterator[None]:
    with in_catalogue():
        yield


def note(replica: Replica, times: int = 1) -> None:
    for _ in range(times):
        replica.do(WITNESS, "note")


def order(replica: Replica) -> list[Any]:
    """The dots of the operations, in the order in which they were applied."""
    dots: list[Any] = replica.value(WITNESS)
    return dots


def fold(replica: Replica, stable: VersionVector | None = None) -> int:
    """Fold what is stable, all that was seen if nothing is said; how many records are left?"""
    replica.reclaim(stable)
    check_books(replica.store)
    return len(missing(replica.store, NOTHING))


def numbered(replica: Replica, first: int, last: int) -> list[Any]:
    return [[replica.engine.state.incarnation, n] for n in range(first, last + 1)]


# Order --------------------------------------------------------------------------------------------


def test_operations_are_applied_in_causal_order_whatever_their_dots_look_like() -> None:
    """Once, an operation numbered 4 (or 260) was taken for a base, by the end of its address."""
    assert address.operation(LOG, (1, 4)).endswith(address.BASE)
    assert address.operation(LOG, (1, 260)).endswith(address.BASE)
    a, b, c = Replica(1), Replica(2), Replica(3)
    note(a, 262)
    b.pull(a)
    note(b, 6)
    c.pull(b)
    assert order(b) == order(c) == numbered(a, 1, 262) + numbered(b, 1, 6)


def test_a_group_commit_is_applied_in_order_by_its_receivers() -> None:
    a, b = Replica(1), Replica(2)
    pushes = [a.commit(*[update(LOG, {"op": "note"})] * 3).push for _ in range(2)]
    for push in pushes:
        assert push is not None
        assert b.receive(push)
    assert order(b) == numbered(a, 1, 6)


def test_what_a_cut_leaves_keeps_its_order() -> None:
    """Dots of the later writer are smaller, so their own order would be the wrong one."""
    late, early = Replica(1), Replica(2)
    cutter = Replica(3)
    note(early)
    cutter.pull(early)
    cutter.do(WITNESS, "delete")
    note(early, 3)
    late.pull(early)
    note(late, 2)
    exchange(late, early, cutter)
    assert order(cutter) == order(late) == numbered(early, 2, 4) + numbered(late, 1, 2)
    assert order(cutter) == order(early)


# Folding ------------------------------------------------------------------------------------------


def test_folding_changes_nothing_that_users_see() -> None:
    a = Replica(1)
    note(a, 5)
    before = a.digest(), order(a)
    assert fold(a) == 1
    assert (a.digest(), order(a)) == before
    note(a, 2)
    assert fold(a) == 1
    assert order(a) == numbered(a, 1, 7)


def test_only_what_is_stable_is_folded() -> None:
    a = Replica(1)
    note(a, 5)
    stable = VersionVector({a.engine.state.incarnation: 3})
    assert fold(a, stable) == 3
    assert order(a) == numbered(a, 1, 5)
    assert fold(a, NOTHING) == 3


def test_folding_goes_in_portions() -> None:
    a = Replica(1)
    note(a, 5)
    walk = Walk(a.seen)
    a.engine.reclaim(walk, 2)
    assert not walk.done
    assert len(missing(a.store, NOTHING)) == 4
    while not walk.done:
        a.engine.reclaim(walk, 2)
    assert len(missing(a.store, NOTHING)) == 1
    assert order(a) == numbered(a, 1, 5)


def test_a_replica_that_starts_with_nothing_takes_over_a_base() -> None:
    a, newcomer = Replica(1), Replica(2)
    note(a, 3)
    fold(a)
    note(a, 2)
    newcomer.pull(a)
    assert order(newcomer) == numbered(a, 1, 5)
    note(newcomer)
    a.pull(newcomer)
    assert order(a) == numbered(a, 1, 5) + numbered(newcomer, 1, 1)
    assert fold(newcomer) == fold(a) == 1


def test_a_base_that_was_seen_is_not_taken_over() -> None:
    a, b = Replica(1), Replica(2)
    note(a, 3)
    staged = b.stage(a)
    fold(a)
    note(a)
    b.claim(staged)
    assert b.pull(a) == 1
    assert order(b) == numbered(a, 1, 4)


def test_a_cut_removes_what_is_in_the_base_exactly() -> None:
    a, b = Replica(1), Replica(2)
    note(a, 3)
    exchange(a, b)
    fold(a)
    note(b, 2)
    a.do(WITNESS, "delete")
    assert not a.exists(WITNESS)
    exchange(a, b)
    assert order(a) == numbered(b, 1, 2)
    fold(a)
    fold(b)
    newcomer = Replica(3)
    newcomer.pull(a)
    assert order(newcomer) == numbered(b, 1, 2)
    assert newcomer.digest() == b.digest()


def test_dead_operations_are_folded_away_too() -> None:
    a = Replica(1)
    note(a, 5)
    a.commit(Erase(address.bucket_prefix("shop")))
    assert fold(a) == 1
    assert fold(a) == 0
    assert not a.exists(WITNESS)
    a.reopen()
    note(a)
    assert order(a) == numbered(a, 7, 7)
