"""`opcounter`, told with a few replicas: the value of a `counter`, kept as a log of operations."""

from __future__ import annotations

import pytest

from crdtdb.causal import VersionVector
from crdtdb.errors import InvalidOperation
from replicas import Replica, exchange


def test_steps_of_all_replicas_count() -> None:
    a, b = Replica(1), Replica(2)
    assert a.value("opcounter") == 0
    assert a.do("opcounter", "increment", by=5).value == 5
    assert b.do("opcounter", "decrement", by=7).value == -7
    exchange(a, b)
    assert a.value("opcounter") == -2


@pytest.mark.parametrize("op", ["reset", "delete"])
def test_a_reset_removes_exactly_what_it_saw(op: str) -> None:
    a, b = Replica(1), Replica(2)
    a.do("opcounter", "increment", by=10)
    exchange(a, b)
    b.do("opcounter", "increment", by=4)
    assert a.do("opcounter", op).value == 0
    assert not a.exists("opcounter")
    exchange(a, b)
    assert a.value("opcounter") == 4


def test_a_reset_of_nothing_changes_nothing() -> None:
    a = Replica(1)
    assert not a.do("opcounter", "reset").changed
    assert len(a.seen) == 0


def test_no_bound_is_reached_by_counting() -> None:
    a = Replica(1)
    for _ in range(2_100):
        value = a.do("opcounter", "increment", by=2**53 - 1).value
    assert value == 2_100 * (2**53 - 1) > 2**64


@pytest.mark.parametrize("op", ["delete", "reset"])
def test_it_cannot_be_split_at_an_earlier_read(op: str) -> None:
    a = Replica(1)
    a.do("opcounter", "increment")
    with pytest.raises(InvalidOperation, match="leave `seen` out") as caught:
        a.do("opcounter", op, seen=VersionVector())
    assert caught.value.status == 422
