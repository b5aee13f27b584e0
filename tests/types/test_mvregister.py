"""`mvregister`, told with two or three replicas."""

from __future__ import annotations

import pytest

from crdtdb.causal import NOTHING
from crdtdb.errors import TooLarge
from crdtdb.limits import LIMITS
from replicas import Replica, exchange


def test_concurrent_values_are_all_read_until_one_replaces_them() -> None:
    a, b = Replica(1), Replica(2)
    assert a.value("mvregister") == []
    a.do("mvregister", "set", value="x")
    b.do("mvregister", "set", value="y")
    exchange(a, b)
    assert a.value("mvregister") == ["x", "y"]
    a.do("mvregister", "set", value="z")
    exchange(a, b)
    assert b.value("mvregister") == ["z"]


def test_equal_values_are_read_once_in_the_order_of_values() -> None:
    a, b, c = Replica(1), Replica(2), Replica(3)
    a.do("mvregister", "set", value="text")
    b.do("mvregister", "set", value=1)
    c.do("mvregister", "set", value=1.0)
    exchange(a, b, c)
    assert a.value("mvregister") == [1, "text"]


def test_a_write_with_a_read_context_replaces_only_what_that_read_showed() -> None:
    a, b = Replica(1), Replica(2)
    a.do("mvregister", "set", value="shown")
    shown = a.seen
    b.do("mvregister", "set", value="not shown")
    exchange(a, b)
    a.do("mvregister", "set", value="new", seen=shown)
    exchange(a, b)
    assert b.value("mvregister") == ["new", "not shown"]


def test_a_write_with_an_old_context_keeps_the_writers_own_values() -> None:
    """The new dot claims all of the writer's earlier ones, so it must carry them."""
    a, b = Replica(1), Replica(2)
    a.do("mvregister", "set", value="first", seen=NOTHING)
    a.do("mvregister", "set", value="second", seen=NOTHING)
    exchange(a, b)
    assert b.value("mvregister") == ["first", "second"]


def test_a_delete_leaves_what_it_did_not_see() -> None:
    a, b = Replica(1), Replica(2)
    a.do("mvregister", "set", value="seen")
    b.do("mvregister", "set", value="unseen")
    a.do("mvregister", "delete")
    exchange(a, b)
    assert a.value("mvregister") == ["unseen"]


def test_the_values_left_standing_have_a_limit() -> None:
    a = Replica(1)
    for n in range(LIMITS.siblings):
        a.do("mvregister", "set", value=n, seen=NOTHING)
    with pytest.raises(TooLarge) as caught:
        a.do("mvregister", "set", value="one more", seen=NOTHING)
    assert caught.value.fields[0].limit == LIMITS.siblings
    a.do("mvregister", "set", value="instead of all")
    assert a.value("mvregister") == ["instead of all"]
