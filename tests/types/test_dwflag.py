"""`dwflag`, told with two replicas: disabling wins."""

from __future__ import annotations

from crdtdb import address
from crdtdb.address import ObjectName
from replicas import Replica, exchange


def test_it_is_off_until_it_is_enabled() -> None:
    a = Replica(1)
    assert a.value("dwflag") is False
    assert a.do("dwflag", "enable").value is True
    assert a.do("dwflag", "disable").value is False
    assert not a.exists("dwflag")
    assert a.do("dwflag", "enable").value is True


def test_a_disable_wins_over_a_concurrent_enable() -> None:
    a, b = Replica(1), Replica(2)
    a.do("dwflag", "enable")
    b.do("dwflag", "disable")
    exchange(a, b)
    assert a.value("dwflag") is False


def test_an_enable_that_saw_the_disable_wins() -> None:
    a, b = Replica(1), Replica(2)
    a.do("dwflag", "enable")
    b.do("dwflag", "disable")
    exchange(a, b)
    a.do("dwflag", "enable")
    exchange(a, b)
    assert b.value("dwflag") is True


def test_deleting_forgets_the_disables_it_saw() -> None:
    a, b = Replica(1), Replica(2)
    a.do("dwflag", "disable")
    exchange(a, b)
    b.do("dwflag", "delete")
    a.do("dwflag", "enable")
    exchange(a, b)
    assert a.value("dwflag") is True


def test_many_disables_leave_one_mark() -> None:
    a = Replica(1)
    for _ in range(10):
        a.do("dwflag", "disable")
    assert len(a.record(address.own(ObjectName("shop", "dwflag", "k"))).live) == 1
