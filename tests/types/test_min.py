"""`min`, told with two replicas."""

from __future__ import annotations

from crdtdb import address
from crdtdb.address import ObjectName
from replicas import Replica, exchange


def test_the_least_value_is_read_and_greater_ones_leave_nothing() -> None:
    a = Replica(1)
    assert a.value("min") is None
    assert a.do("min", "set", value=5).value == 5
    seen = a.seen
    assert not a.do("min", "set", value=5.5).changed
    assert a.seen == seen
    assert a.do("min", "set", value=-10).value == -10
    assert a.do("min", "set", value=None).value is None
    assert a.exists("min")


def test_of_concurrent_values_the_least_is_read() -> None:
    a, b = Replica(1), Replica(2)
    a.do("min", "set", value="b")
    b.do("min", "set", value="a")
    exchange(a, b)
    assert a.value("min") == "a"
    a.do("min", "set", value="a")
    assert len(a.record(address.own(ObjectName("shop", "min", "k"))).live) == 1


def test_deleting_removes_what_it_saw() -> None:
    a, b = Replica(1), Replica(2)
    a.do("min", "set", value=1)
    exchange(a, b)
    b.do("min", "set", value=0)
    a.do("min", "delete")
    exchange(a, b)
    assert b.value("min") == 0
