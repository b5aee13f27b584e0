"""`rwset`, told with two or three replicas: removing wins."""

from __future__ import annotations

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING
from crdtdb.errors import TooLarge
from crdtdb.limits import LIMITS
from crdtdb.record import Live
from replicas import Replica, exchange


def marks(replica: Replica, member: str = "x") -> Live:
    """What is in force of a member."""
    return replica.record(address.member(ObjectName("shop", "rwset", "k"), member)).live


def test_members_are_read_in_order_and_equal_ones_once() -> None:
    a = Replica(1)
    assert a.do("rwset", "add", values=["b", 1, "a", 1.0, None, True]).size == 5
    assert a.value("rwset") == [None, True, 1, "a", "b"]
    assert not a.do("rwset", "add", value=1).changed
    assert a.do("rwset", "remove", values=[1, "b", "not there"]).size == 3
    assert a.do("rwset", "add", value=1).size == 4


def test_a_remove_wins_over_a_concurrent_add() -> None:
    a, b = Replica(1), Replica(2)
    a.do("rwset", "add", value="x")
    exchange(a, b)
    a.do("rwset", "remove", value="x")
    b.do("rwset", "add", value="x")
    exchange(a, b)
    assert a.value("rwset") == []
    assert not a.exists("rwset")


def test_removing_what_is_not_there_wins_over_a_concurrent_add_too() -> None:
    a, b = Replica(1), Replica(2)
    assert not a.do("rwset", "remove", value="x").changed
    b.do("rwset", "add", values=["x", "y"])
    exchange(a, b)
    assert b.value("rwset") == ["y"]


def test_an_add_that_saw_every_remove_wins() -> None:
    a, b, c = Replica(1), Replica(2), Replica(3)
    a.do("rwset", "remove", value="x")
    b.do("rwset", "remove", value="x")
    c.pull(a)
    c.do("rwset", "add", value="x")
    exchange(a, b, c)
    assert a.value("rwset") == []
    c.do("rwset", "add", value="x")
    exchange(a, b, c)
    assert a.value("rwset") == ["x"]


def test_with_a_read_context_a_remove_wins_over_what_the_read_did_not_show() -> None:
    a = Replica(1)
    a.do("rwset", "add", value="x")
    shown = a.seen
    a.do("rwset", "add", value="x")
    assert a.do("rwset", "remove", value="x", seen=shown).size == 0


def test_a_clear_wins_over_concurrent_adds_of_the_members_it_saw() -> None:
    a, b = Replica(1), Replica(2)
    a.do("rwset", "add", values=["x", "y"])
    exchange(a, b)
    b.do("rwset", "add", values=["x", "z"])
    assert a.do("rwset", "clear").size == 0
    exchange(a, b)
    assert a.value("rwset") == ["z"]


def test_a_clear_brings_no_member_back() -> None:
    """A cut would take out the remove that an unseen add has lost against."""
    a, b, c = Replica(1), Replica(2), Replica(3)
    a.do("rwset", "remove", value="x")
    a.do("rwset", "add", value="y")
    b.do("rwset", "add", value="x")
    c.pull(a)
    c.do("rwset", "clear")
    exchange(a, b, c)
    assert a.value("rwset") == []


def test_a_clear_with_a_read_context_takes_out_what_that_read_showed() -> None:
    a = Replica(1)
    a.do("rwset", "add", values=["x", "y"])
    shown = a.seen
    a.do("rwset", "add", values=["y", "z"])
    assert a.do("rwset", "clear", seen=shown).size == 2
    assert a.value("rwset") == ["y", "z"]
    assert not a.do("rwset", "clear", seen=NOTHING).changed


def test_a_clear_is_bounded_and_a_delete_is_not() -> None:
    a = Replica(1)
    a.do("rwset", "add", values=list(range(LIMITS.operation_values)))
    a.do("rwset", "add", value="one more")
    with pytest.raises(TooLarge) as caught:
        a.do("rwset", "clear")
    assert caught.value.fields[0].limit == LIMITS.operation_values
    assert a.do("rwset", "delete").size == 0


def test_deleting_leaves_concurrent_adds() -> None:
    a, b = Replica(1), Replica(2)
    a.do("rwset", "add", values=["x", "y"])
    exchange(a, b)
    b.do("rwset", "add", value="x")
    a.do("rwset", "delete")
    exchange(a, b)
    assert a.value("rwset") == ["x"]


def test_a_delete_that_shows_another_member_says_that_something_changed() -> None:
    """As many members as before are not the same members: it cut the mark that hid one."""
    a, b = Replica(1), Replica(2)
    a.do("rwset", "remove", value="x")
    a.do("rwset", "add", value="y")
    shown = a.seen
    b.do("rwset", "add", value="x")
    exchange(a, b)
    assert a.value("rwset") == ["y"]
    deleted = a.do("rwset", "delete", seen=shown)
    assert (deleted.changed, deleted.size) == (True, 1)
    assert a.value("rwset") == ["x"]


def test_many_removes_leave_one_mark_and_an_add_takes_its_place() -> None:
    a = Replica(1)
    for _ in range(10):
        a.do("rwset", "remove", value="x")
    assert list(marks(a).values()) == [False]
    a.do("rwset", "add", value="x")
    assert list(marks(a).values()) == [True]
