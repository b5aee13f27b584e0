"""Pushes that wait for an earlier one: few, and not large."""

from __future__ import annotations

from itertools import pairwise

import pytest

from crdtdb.causal import VersionVector
from crdtdb.limits import Limits
from crdtdb.replication import early
from crdtdb.replication.early import EarlyPushes
from crdtdb.replication.messages import Push


def push(number: int, size: int = 10) -> Push:
    return Push(1, number, number, [], 0, [(b"", bytes(size))])


def held(pushes: EarlyPushes) -> list[int]:
    """The numbers of the held pushes, found by delivering each in turn."""
    found = [
        number
        for number in range(1, 1_000)
        if pushes.next_fitting(VersionVector({1: number - 1}), {})
    ]
    assert len(pushes) == 0
    return found


def test_the_oldest_go_beyond_the_bound_of_their_number() -> None:
    pushes = EarlyPushes()
    for number in range(1, 301):
        pushes.hold(push(number), "a", 0)
    assert held(pushes) == list(range(45, 301))


def test_a_few_large_pushes_once_filled_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 of them were held, of any size."""
    monkeypatch.setattr(early, "LIMITS", Limits(early_bytes=100))
    pushes = EarlyPushes()
    for number in (2, 3, 4, 4, 4):
        pushes.hold(push(number, 50), "a", 0)
    assert held(pushes) == [3, 4]
    for number in (5, 6, 7):
        pushes.hold(push(number, 50), "a", 0)
    assert held(pushes) == [6, 7]
    pushes.hold(push(8, 101), "a", 0)
    assert held(pushes) == []


def test_what_never_comes_is_asked_for_a_few_times() -> None:
    """Seed 23 once: with every tick, for ever, at the endpoint of a replica that lost its disk.

    That there was such an operation is still known: its writer may come back, and ask.
    """
    pushes = EarlyPushes()
    pushes.hold(push(7), "a", 0)
    pushes.hold(push(9), "a", 0)
    asked = [now_ms for now_ms in range(0, 60_000, 10) if pushes.overdue(now_ms) == ["a"]]
    assert 4 <= len(asked) <= 8
    assert asked[0] <= 100
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses == sorted(pauses)
    assert len(pushes) == 0
    assert pushes.last(1) == 9
    assert pushes.last(2) == 0


def test_what_comes_late_is_still_delivered() -> None:
    pushes = EarlyPushes()
    pushes.hold(push(2), "a", 0)
    assert pushes.overdue(1_000) == ["a"]
    assert pushes.overdue(1_010) == []
    assert pushes.next_fitting(VersionVector({1: 1}), {}) == push(2)
    assert pushes.last(1) == 0
