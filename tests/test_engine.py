"""The engine: group commits, identity, time, and what a merge takes in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crdtdb import address, hlc
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING
from crdtdb.datatype import Delete
from crdtdb.errors import NoSpace, UnknownType
from crdtdb.store.base import Batch, Table
from crdtdb.transaction import Erase, IdempotencyKey, Outcome, Transaction, Update
from oracle.checks import check_books
from replicas import START_MS, Replica, exchange, missing, update

VIEWS = ObjectName("shop", "counter", "views")
CART = ObjectName("shop", "set", "cart")
TITLE = ObjectName("shop", "register", "title")
LOG = ObjectName("shop", "opcounter", "log")

INCREMENT = update(VIEWS, {"op": "increment"})
ADD = update(CART, {"op": "add", "value": "milk"})
CLEAR = update(CART, {"op": "clear"})
SET = update(TITLE, {"op": "set", "value": "Shop"})
NOTE = update(LOG, {"op": "increment"})
#: No replica can carry this out.
IMPOSSIBLE = Update(ObjectName("shop", "nosuchtype", "k"), Delete())


def counters(outcome: Outcome) -> list[int]:
    """The counters of the dots that the operations of a transaction got."""
    return [result.stamp.dot[1] for result in outcome.results if result.stamp is not None]


# Group commit -------------------------------------------------------------------------------------


def test_a_transaction_that_fails_leaves_no_trace_in_a_group_commit() -> None:
    good = [Transaction((INCREMENT, ADD)), Transaction((CLEAR, NOTE, INCREMENT))]
    bad = Transaction((ADD, INCREMENT, NOTE, Erase(address.bucket_prefix("shop")), IMPOSSIBLE))
    with_it, without = Replica(1), Replica(1)
    first, refused, second = with_it.engine.commit([good[0], bad, good[1]]).outcomes
    assert isinstance(refused.error, UnknownType)
    assert (refused.results, refused.first) == ((), refused.after)
    assert [*counters(first), *counters(second)] == [1, 2, 3, 4, 5]
    without.engine.commit(good)
    rows, expected = with_it.rows(), without.rows()
    assert {**rows, Table.META: {}} == {**expected, Table.META: {}}
    assert with_it.seen == without.seen


def test_a_later_transaction_of_a_group_sees_the_earlier_ones() -> None:
    a = Replica(1)
    committed = a.engine.commit([Transaction((INCREMENT,))] * 3)
    assert [outcome.results[0].value for outcome in committed.outcomes] == [1, 2, 3]
    assert [outcome.results[0].changed for outcome in committed.outcomes] == [True] * 3


def test_the_operations_of_a_transaction_have_consecutive_dots_and_one_time() -> None:
    a = Replica(1)
    a.commit(SET)
    (outcome,) = a.commit(INCREMENT, ADD, ADD, CLEAR, NOTE, SET).outcomes
    assert counters(outcome) == [2, 3, 4, 5, 6, 7]
    assert (outcome.first, outcome.after) == (2, 8)
    times = [result.stamp.time for result in outcome.results if result.stamp is not None]
    assert len(set(times)) == 1


def test_an_erase_takes_a_dot_for_each_running_total_and_one_for_the_rest() -> None:
    a = Replica(1)
    a.commit(INCREMENT, ADD, SET)
    (outcome,) = a.commit(Erase(address.bucket_prefix("shop")), ADD).outcomes
    assert (outcome.first, outcome.after) == (4, 7)
    assert counters(outcome) == [5, 6]


def test_what_changes_nothing_mints_nothing_and_is_not_pushed() -> None:
    a = Replica(1)
    a.commit(ADD)
    before = a.rows()
    nothing_there = update(CART, {"op": "remove", "value": "bread"})
    committed = a.commit(nothing_there, Erase(address.bucket_prefix("other")))
    assert committed.push is None
    assert not any(result.changed for result in committed.outcomes[0].results)
    assert a.rows() == before


def test_a_remove_has_a_dot_in_its_record() -> None:
    """Else the filter of a pull takes it for something the puller has seen."""
    a, b = Replica(1), Replica(2)
    a.commit(ADD)
    b.pull(a)
    a.commit(update(CART, {"op": "remove", "value": "milk"}))
    assert b.pull(a) == 1
    assert b.show(CART) == a.show(CART)


def test_a_push_holds_the_records_of_its_commit_and_what_they_follow() -> None:
    a, b = Replica(1), Replica(2)
    b.commit(SET)
    a.pull(b)
    push = a.commit(INCREMENT, ADD).push
    assert push is not None
    assert (push.origin, push.first, push.last) == (a.engine.state.incarnation, 1, 2)
    assert push.deps == b.seen
    assert [at for at, _ in push.records] == [
        address.own(VIEWS),
        address.member(CART, "milk"),
    ]


def test_every_record_is_in_the_sequence_once_at_its_latest_change() -> None:
    a = Replica(1)
    a.commit(INCREMENT, ADD)
    for _ in range(5):
        a.commit(INCREMENT)
    assert [at for at, _ in missing(a.store, NOTHING)] == [
        address.member(CART, "milk"),
        address.own(VIEWS),
    ]
    check_books(a.store)


def test_what_the_store_refuses_has_not_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = Replica(1), Replica(2)
    a.commit(INCREMENT)
    state, rows = a.engine.state, a.rows()

    def refuse(batch: Batch) -> None:
        raise NoSpace("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(a.store, "commit", refuse)
        with pytest.raises(NoSpace):
            a.commit(INCREMENT, ADD, Erase(address.bucket_prefix("shop")))
    assert (a.engine.state, a.rows()) == (state, rows)
    assert a.commit(INCREMENT).outcomes[0].first == 2
    exchange(a, b)
    assert b.value("counter", "views") == 2


# Identity -----------------------------------------------------------------------------------------


def test_a_replica_goes_on_where_it_stopped() -> None:
    a = Replica(1)
    a.commit(INCREMENT, ADD, Erase(address.type_prefix("shop", "set")))
    state, rows = a.engine.state, a.rows()
    a.reopen()
    assert (a.engine.state, a.rows()) == (state, rows)
    (outcome,) = a.commit(INCREMENT, ADD).outcomes
    assert [result.value for result in outcome.results] == [2, None]
    assert outcome.results[1].stamp is not None
    assert outcome.results[1].stamp.dot == (state.incarnation, 5)
    assert a.engine.state.store_id == state.store_id
    check_books(a.store)


def test_a_copied_store_never_issues_the_dots_of_its_original() -> None:
    original = Replica(1)
    original.commit(INCREMENT)
    copy = Replica(2)
    copy.store = original.store.copy()
    copy.reopen(b"elsewhere")
    assert copy.engine.state.store_id != original.engine.state.store_id
    original.commit(INCREMENT)
    copy.commit(INCREMENT)
    exchange(original, copy)
    assert copy.engine.state.incarnation != original.engine.state.incarnation
    assert original.show(VIEWS).text == "3"


def test_a_moved_store_keeps_its_new_identity() -> None:
    a = Replica(1)
    a.commit(INCREMENT)
    a.reopen(b"elsewhere")
    a.commit(INCREMENT)
    state = a.engine.state
    a.reopen()
    assert a.engine.state == state


# Time ---------------------------------------------------------------------------------------------


def times(replica: Replica, clocks_ms: list[int]) -> Iterator[int]:
    """The times of writes while the wall clock shows this and that."""
    for replica.now_ms in clocks_ms:
        stamp = replica.commit(INCREMENT).outcomes[0].results[0].stamp
        assert stamp is not None
        yield stamp.time
        replica.reopen()


ABSURD_MS = [1 << 70, 1 << 60, 1 << 48, -1, -(1 << 60), 0]


@pytest.mark.parametrize("absurd_ms", ABSURD_MS)
def test_a_key_is_good_for_one_write_whatever_the_clock_shows(absurd_ms: int) -> None:
    a = Replica(1, now_ms=absurd_ms)
    keyed = Transaction((INCREMENT,), key=IdempotencyKey("once", 1))
    for _ in range(2):
        (outcome,) = a.engine.commit([keyed]).outcomes
        assert outcome.error is None
        a.reopen()
    assert a.value("counter", "views") == 1


@pytest.mark.parametrize("absurd_ms", ABSURD_MS)
def test_time_never_goes_back_whatever_the_clock_shows(absurd_ms: int) -> None:
    a = Replica(1)
    seen = list(times(a, [START_MS, absurd_ms, START_MS - 60_000, START_MS + 1, absurd_ms]))
    assert seen == sorted(seen)
    assert 0 < seen[0] < seen[-1] <= hlc.MOST
    assert a.engine.time_now() >= seen[-1]


def test_of_two_concurrent_transactions_one_wins_whole() -> None:
    """Both set the same registers, in different orders, in the same millisecond."""
    a, b = Replica(1), Replica(2)
    for replica, keys in ((a, ("x", "y")), (b, ("y", "x"))):
        operation = {"op": "set", "value": replica.number}
        names = [ObjectName("shop", "register", key) for key in keys]
        replica.commit(*(update(name, operation) for name in names))
    exchange(a, b)
    assert a.value("register", "x") == a.value("register", "y")


def test_a_causally_later_write_has_a_later_time() -> None:
    a, b = Replica(1, now_ms=START_MS + 4_000), Replica(2)
    first = a.commit(SET).outcomes[0].results[0].stamp
    b.pull(a)
    second = b.commit(SET).outcomes[0].results[0].stamp
    assert first is not None
    assert second is not None
    assert first.time < second.time


@pytest.mark.parametrize("ahead_ms", [60_000, 1 << 60])
def test_a_far_future_time_is_refused_but_not_the_write(ahead_ms: int) -> None:
    """Its time is refused, not its update."""
    wrong, a, b = Replica(1, now_ms=START_MS + ahead_ms), Replica(2), Replica(3)
    wrong.commit(update(TITLE, {"op": "set", "value": "from the future"}))
    a.pull(wrong)
    assert a.times_refused == 1
    assert hlc.milliseconds(a.engine.state.time) <= START_MS
    assert a.value("register", "title") == "from the future"
    a.commit(update(TITLE, {"op": "set", "value": "after that"}))
    exchange(wrong, a, b)
    assert wrong.value("register", "title") == "after that"


# Merge --------------------------------------------------------------------------------------------


def test_taking_in_the_same_twice_changes_nothing() -> None:
    a, b = Replica(1), Replica(2)
    a.commit(INCREMENT, ADD, NOTE, Erase(address.type_prefix("shop", "set")), SET)
    b.claim(staged := b.stage(a))
    rows = b.rows()
    b.claim(staged)
    assert b.rows() == rows


def test_an_old_state_does_not_bring_back_what_was_removed() -> None:
    a, b = Replica(1), Replica(2)
    a.commit(ADD, NOTE, SET)
    old = b.stage(a)
    b.pull(a)
    b.commit(CLEAR, Erase(address.bucket_prefix("shop")))
    b.claim(old)
    assert not any(b.show(name).exists for name in (CART, LOG, TITLE))
    check_books(b.store)


def test_a_restored_replica_takes_back_its_lost_operations_under_a_new_identity() -> None:
    """That the identity changes, the replication sees to."""
    a, b = Replica(1), Replica(2)
    backup = a.store.copy()
    a.commit(ADD)
    b.pull(a)
    a.store = backup
    a.reopen()
    assert a.engine.take_incarnation() != b.engine.state.incarnation
    a.commit(INCREMENT)
    exchange(a, b)
    assert a.value("set", "cart") == ["milk"]


def test_a_replica_says_that_it_may_be_served() -> None:
    a, b = Replica(1), Replica(2)
    assert not a.engine.state.served
    a.engine.mark_served()
    a.reopen()
    assert a.engine.state.served
    b.engine.merge([], NOTHING, 0, served=True)
    assert b.engine.state.served
