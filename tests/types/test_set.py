"""`set`, told with two or three replicas: adding wins."""

from __future__ import annotations

from typing import Any

import pytest

from crdtdb.causal import NOTHING
from crdtdb.errors import BadRequest, TooLarge
from crdtdb.limits import LIMITS
from replicas import Replica, exchange


def test_members_are_read_in_order_and_equal_ones_once() -> None:
    a = Replica(1)
    assert a.do("set", "add", values=["b", 1, "a", 1.0, None, True]).size == 5
    assert a.value("set") == [None, True, 1, "a", "b"]
    assert not a.do("set", "add", value=1).changed
    assert a.do("set", "remove", values=[1, "b", "not there"]).size == 3
    assert not a.do("set", "remove", value="b").changed


def test_an_add_wins_over_a_concurrent_remove() -> None:
    a, b = Replica(1), Replica(2)
    a.do("set", "add", value="x")
    exchange(a, b)
    a.do("set", "remove", value="x")
    b.do("set", "add", value="x")
    exchange(a, b)
    assert a.value("set") == ["x"]


def test_a_remove_takes_out_every_add_it_saw() -> None:
    a, b, c = Replica(1), Replica(2), Replica(3)
    a.do("set", "add", value="x")
    b.do("set", "add", value="x")
    c.pull(a)
    c.pull(b)
    c.do("set", "remove", value="x")
    exchange(a, b, c)
    assert a.value("set") == []
    assert not a.exists("set")


@pytest.mark.parametrize("op", ["clear", "delete"])
def test_clearing_leaves_concurrent_adds(op: str) -> None:
    a, b = Replica(1), Replica(2)
    a.do("set", "add", values=["x", "y"])
    exchange(a, b)
    b.do("set", "add", values=["x", "z"])
    assert a.do("set", op).size == 0
    exchange(a, b)
    assert a.value("set") == ["x", "z"]


@pytest.mark.parametrize("op", ["remove", "clear", "delete"])
def test_with_a_read_context_only_what_that_read_showed_goes(op: str) -> None:
    a, b = Replica(1), Replica(2)
    a.do("set", "add", value="x")
    shown = a.seen
    b.do("set", "add", value="x")
    exchange(a, b)
    arguments: dict[str, Any] = {"value": "x"} if op == "remove" else {}
    a.do("set", op, seen=shown, **arguments)
    exchange(a, b)
    assert b.value("set") == ["x"]
    a.do("set", op, **arguments)
    exchange(a, b)
    assert b.value("set") == []


def test_an_empty_context_removes_nothing() -> None:
    a = Replica(1)
    a.do("set", "add", value="x")
    assert not a.do("set", "remove", value="x", seen=NOTHING).changed


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "value"),
        ({"value": 1, "values": [1]}, "value"),
        ({"values": []}, "values"),
        ({"values": [0] * (LIMITS.operation_values + 1)}, "values"),
        ({"values": 1}, "values"),
    ],
)
def test_an_operation_names_one_value_or_a_list(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Replica(1).do("set", "add", **arguments)
    assert caught.value.fields[0].field == field


def test_a_member_has_its_limit() -> None:
    a = Replica(1)
    longest = "x" * (LIMITS.member_bytes - 3)
    assert a.do("set", "add", value=longest).size == 1
    with pytest.raises(TooLarge) as caught:
        a.do("set", "add", values=["short", longest + "x"])
    assert caught.value.fields[0].field == "values[1]"
