"""`register`, told with two or three replicas."""

from __future__ import annotations

import pytest

from crdtdb.errors import BadRequest, TooLarge
from crdtdb.limits import LIMITS
from replicas import START_MS, Replica, exchange


def test_nothing_reads_null_and_does_not_exist() -> None:
    a = Replica(1)
    assert a.value("register") is None
    assert not a.exists("register")
    a.do("register", "set", value=None)
    assert a.exists("register")


def test_the_later_of_two_concurrent_writes_is_read() -> None:
    a, b = Replica(1, now_ms=START_MS + 1), Replica(2)
    b.do("register", "set", value="earlier")
    a.do("register", "set", value="later")
    exchange(a, b)
    assert a.value("register") == "later"


def test_at_the_same_time_the_greater_dot_is_read() -> None:
    a, b = Replica(1), Replica(2)
    b.do("register", "set", value="greater")
    a.do("register", "set", value="smaller")
    exchange(a, b)
    assert a.value("register") == "greater"


def test_a_write_replaces_what_it_saw_whatever_the_clocks_show() -> None:
    a, b = Replica(1, now_ms=START_MS + 60_000), Replica(2)
    a.do("register", "set", value="from the future")
    b.pull(a)
    b.do("register", "set", value="after that")
    exchange(a, b)
    assert a.value("register") == "after that"


def test_what_a_delete_saw_does_not_come_back_for_a_loser_that_it_did_not_see() -> None:
    """Dropping the loser at a join left some replicas with it and others without."""
    a, b, c = Replica(1), Replica(2, now_ms=START_MS + 5), Replica(3)
    a.do("register", "set", value="loser")
    b.do("register", "set", value="winner")
    c.pull(a)
    c.pull(b)
    b.do("register", "delete")
    exchange(a, b, c)
    assert a.value("register") == "loser"


def test_writing_the_same_value_again_changes_nothing_that_users_see() -> None:
    a = Replica(1)
    assert a.do("register", "set", value=1).changed
    assert not a.do("register", "set", value=1.0).changed
    assert a.do("register", "set", value=True).changed


def test_a_value_has_its_limit() -> None:
    a = Replica(1)
    with pytest.raises(TooLarge):
        a.do("register", "set", value="x" * LIMITS.value_bytes)
    with pytest.raises(BadRequest, match="finite"):
        a.do("register", "set", value=float("nan"))
