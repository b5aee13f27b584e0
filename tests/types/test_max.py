"""`max`, told with two replicas."""

from __future__ import annotations

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.errors import BadRequest, TooLarge
from crdtdb.limits import LIMITS
from replicas import Replica, exchange


def entries(replica: Replica) -> int:
    return len(replica.record(address.own(ObjectName("shop", "max", "k"))).live)


def test_the_greatest_value_is_read_and_lower_ones_leave_nothing() -> None:
    a = Replica(1)
    assert a.value("max") is None
    assert a.do("max", "set", value=5).value == 5
    seen = a.seen
    assert not a.do("max", "set", value=4.5).changed
    assert a.seen == seen
    assert a.do("max", "set", value=10).value == 10


def test_values_are_compared_in_the_order_of_json_values() -> None:
    a = Replica(1)
    for value in (None, False, True, -5, 9, 10, "1", "ü", [9, "a"], [9, "b"], {"a": 1}):
        assert a.do("max", "set", value=value).value == value


def test_of_concurrent_values_the_greatest_is_read() -> None:
    a, b = Replica(1), Replica(2)
    a.do("max", "set", value=7)
    b.do("max", "set", value=9)
    exchange(a, b)
    assert (a.value("max"), entries(a)) == (9, 2)
    assert a.do("max", "set", value=8).value == 9
    a.do("max", "set", value=9.0)
    assert (a.value("max"), entries(a)) == (9, 1)


def test_deleting_removes_what_nobody_asserted_again() -> None:
    a, b = Replica(1), Replica(2)
    a.do("max", "set", value=7)
    exchange(a, b)
    b.do("max", "set", value=7)
    a.do("max", "delete")
    exchange(a, b)
    assert a.value("max") == 7
    b.do("max", "set", value=3)
    a.do("max", "delete")
    exchange(a, b)
    assert a.value("max") is None
    assert not a.exists("max")


def test_a_value_has_its_limit() -> None:
    a = Replica(1)
    with pytest.raises(TooLarge):
        a.do("max", "set", value="x" * LIMITS.value_bytes)
    with pytest.raises(BadRequest, match="finite"):
        a.do("max", "set", value=float("inf"))
