"""`counter`, told with two or three replicas; `_accumulator` below it has stories of its own."""

from __future__ import annotations

import pytest

from crdtdb.errors import BadRequest, InvalidOperation
from crdtdb.limits import LIMITS
from replicas import Replica, exchange


def test_nothing_counts_zero_and_does_not_exist() -> None:
    a = Replica(1)
    assert a.value("counter") == 0
    assert not a.exists("counter")


def test_steps_of_all_replicas_count() -> None:
    a, b = Replica(1), Replica(2)
    assert a.do("counter", "increment", by=5).value == 5
    assert b.do("counter", "decrement", by=2).value == -2
    exchange(a, b)
    assert a.value("counter") == 3


def test_steps_that_cancel_out_leave_a_counter_that_exists() -> None:
    a = Replica(1)
    a.do("counter", "increment")
    a.do("counter", "decrement")
    assert a.value("counter") == 0
    assert a.exists("counter")


def test_a_reset_removes_exactly_what_it_saw() -> None:
    a, b = Replica(1), Replica(2)
    a.do("counter", "increment", by=10)
    exchange(a, b)
    b.do("counter", "increment", by=4)
    a.do("counter", "increment", by=1)
    assert a.do("counter", "reset").value == 0
    assert not a.exists("counter")
    exchange(a, b)
    assert a.value("counter") == 4


def test_concurrent_resets_remove_each_step_once() -> None:
    a, b, c = Replica(1), Replica(2), Replica(3)
    a.do("counter", "increment", by=10)
    exchange(a, b, c)
    b.do("counter", "reset")
    c.do("counter", "reset")
    a.do("counter", "decrement", by=3)
    exchange(a, b, c)
    assert a.value("counter") == -3


def test_deleting_is_resetting() -> None:
    a, b = Replica(1), Replica(2)
    a.do("counter", "increment", by=10)
    exchange(a, b)
    b.do("counter", "increment", by=4)
    a.do("counter", "delete")
    exchange(a, b)
    assert a.value("counter") == 4


def test_a_reset_of_nothing_changes_nothing() -> None:
    a = Replica(1)
    assert not a.do("counter", "reset").changed
    assert len(a.seen) == 0


def test_no_bound_is_reached_by_counting() -> None:
    a, b = Replica(1), Replica(2)
    for _ in range(5_000):
        a.do("counter", "increment", by=LIMITS.step)
    expected = 5_000 * LIMITS.step
    assert expected > 2**64
    exchange(a, b)
    assert b.value("counter") == expected
    b.do("counter", "reset")
    exchange(a, b)
    assert a.value("counter") == 0


@pytest.mark.parametrize("by", [0, -1, LIMITS.step + 1, 1.5, True, "1", None])
def test_a_step_is_an_integer_that_every_client_can_write(by: object) -> None:
    a = Replica(1)
    with pytest.raises(BadRequest) as caught:
        a.do("counter", "increment", by=by)
    assert caught.value.fields[0].field == "by"


def test_a_counter_cannot_be_split_at_an_earlier_read() -> None:
    a = Replica(1)
    a.do("counter", "increment")
    with pytest.raises(InvalidOperation, match="leave `seen` out"):
        a.do("counter", "delete", seen=a.seen)
