"""The arena itself: without an attack nothing is refused, and its verdict can be a bad one."""

from __future__ import annotations

import pytest

from hostile.arena import Arena


def test_without_an_attack_nothing_is_refused(arena: Arena) -> None:
    arena.recover()
    assert not arena.a.machine.refusals
    assert not arena.b.machine.refusals


def test_replicas_that_do_not_talk_are_found(arena: Arena) -> None:
    arena.away = {"b"}
    with pytest.raises(AssertionError, match="blocked for ever"):
        arena.recover()


def test_replicas_that_diverged_are_found(arena: Arena) -> None:
    """One of them is made to believe that it has seen what it has not."""
    arena.away = {"b"}
    arena.write("set", "add", value="missed")
    arena.b.replica.merge([], arena.a.seen, 0)
    arena.away = set()
    with pytest.raises(AssertionError, match="diverged"):
        arena.recover()
