"""A bug in one chore of a tick, and what becomes of the others."""

from __future__ import annotations

from itertools import pairwise

import pytest

from crdtdb.replication.chores import REST_FIRST_MS, REST_MOST_MS
from crdtdb.replication.sharing import Sharing
from pairs import Pair


def broken(self: Sharing) -> None:
    raise ZeroDivisionError("a bug")


def test_a_bug_in_one_chore_is_the_callers_if_nobody_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The simulator must end with it."""
    pair = Pair()
    pair.run(1_000)
    monkeypatch.setattr(Sharing, "tick", broken)
    with pytest.raises(ZeroDivisionError):
        pair.tick()


def test_a_bug_in_one_chore_keeps_no_other_from_being_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tick wanted sent was lost with it: a digest never arrived, so nothing was pulled."""
    pair = Pair()
    pair.run(1_000)
    monkeypatch.setattr(Sharing, "tick", broken)
    told: list[str] = []
    for machine in pair.machines.values():
        machine.chores.on_failure = lambda name, error: told.append(f"{name}: {error}")
    pair.replicas["a"].do("counter", "increment")  # no push: only a digest can tell
    pair.run(10_000)
    assert pair.replicas["b"].seen.includes(pair.replicas["a"].seen)
    assert set(told) == {"sharing: a bug"}


def test_what_fails_again_and_again_rests_ever_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair()
    pair.run(1_000)
    at_ms: list[int] = []
    machine = pair.machines["a"]
    machine.chores.on_failure = lambda name, error: at_ms.append(pair.now_ms)
    with monkeypatch.context() as patched:
        patched.setattr(Sharing, "tick", broken)
        pair.machines["b"].chores.on_failure = lambda name, error: None
        pair.run(400_000)
        assert machine.chores.failing == ["sharing"]
    pauses_ms = [after - before for before, after in pairwise(at_ms)]
    assert pauses_ms[:3] == [REST_FIRST_MS, 2 * REST_FIRST_MS, 4 * REST_FIRST_MS]
    assert pauses_ms[-1] == REST_MOST_MS
    pair.run(REST_MOST_MS + 100)
    assert machine.chores.failing == [], "it was tried again, and nothing was wrong"
