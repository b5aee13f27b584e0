"""`gcounter`, told with two replicas."""

from __future__ import annotations

import pytest

from crdtdb.errors import InvalidOperation
from replicas import Replica, exchange


def test_steps_of_all_replicas_count() -> None:
    a, b = Replica(1), Replica(2)
    assert a.value("gcounter") == 0
    a.do("gcounter", "increment", by=5)
    b.do("gcounter", "increment")
    exchange(a, b)
    assert a.value("gcounter") == 6


@pytest.mark.parametrize("op", ["decrement", "reset"])
def test_it_only_grows(op: str) -> None:
    with pytest.raises(InvalidOperation, match=op):
        Replica(1).do("gcounter", op)


def test_deleting_removes_exactly_what_was_seen() -> None:
    a, b = Replica(1), Replica(2)
    a.do("gcounter", "increment", by=5)
    exchange(a, b)
    b.do("gcounter", "increment", by=2)
    assert a.do("gcounter", "delete").changed
    assert not a.exists("gcounter")
    exchange(a, b)
    assert a.value("gcounter") == 2
