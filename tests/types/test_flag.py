"""`flag`, told with two replicas: enabling wins."""

from __future__ import annotations

from replicas import Replica, exchange


def test_it_is_off_until_it_is_enabled() -> None:
    a = Replica(1)
    assert a.value("flag") is False
    assert not a.do("flag", "disable").changed
    assert a.do("flag", "enable").value is True
    assert a.do("flag", "disable").value is False
    assert not a.exists("flag")


def test_an_enable_wins_over_a_concurrent_disable() -> None:
    a, b = Replica(1), Replica(2)
    a.do("flag", "enable")
    exchange(a, b)
    a.do("flag", "disable")
    b.do("flag", "enable")
    exchange(a, b)
    assert a.value("flag") is True


def test_a_disable_clears_all_it_saw() -> None:
    a, b = Replica(1), Replica(2)
    a.do("flag", "enable")
    b.do("flag", "enable")
    exchange(a, b)
    a.do("flag", "disable")
    exchange(a, b)
    assert b.value("flag") is False


def test_a_disable_with_a_read_context_clears_only_what_that_read_showed() -> None:
    a, b = Replica(1), Replica(2)
    a.do("flag", "enable")
    shown = a.seen
    b.do("flag", "enable")
    exchange(a, b)
    assert not a.do("flag", "disable", seen=shown).changed
    exchange(a, b)
    assert b.value("flag") is True
