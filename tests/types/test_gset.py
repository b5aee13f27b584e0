"""`gset`, told with two replicas."""

from __future__ import annotations

import pytest

from crdtdb.errors import InvalidOperation
from replicas import Replica, exchange


def test_members_of_all_replicas_are_there() -> None:
    a, b = Replica(1), Replica(2)
    assert a.value("gset") == []
    assert a.do("gset", "add", values=[2, 1]).size == 2
    assert b.do("gset", "add", value=3).size == 1
    exchange(a, b)
    assert a.value("gset") == [1, 2, 3]


@pytest.mark.parametrize("op", ["remove", "clear"])
def test_it_only_grows(op: str) -> None:
    with pytest.raises(InvalidOperation, match=op):
        Replica(1).do("gset", op)


def test_deleting_the_whole_leaves_concurrent_adds() -> None:
    a, b = Replica(1), Replica(2)
    a.do("gset", "add", value=1)
    exchange(a, b)
    b.do("gset", "add", values=[1, 2])
    a.do("gset", "delete")
    assert not a.exists("gset")
    exchange(a, b)
    assert a.value("gset") == [1, 2]
