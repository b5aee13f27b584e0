"""The gate between snapshots and the exchange of the map: nobody waits for whom waits for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from crdtdb.store.lmdb.gate import Gate

FOR_EVER_S = 3600.0


@contextmanager
def shutting(gate: Gate) -> Iterator[list[bool]]:
    """Another thread shuts the gate, and waits; in the end, whether it was alone."""
    alone: list[bool] = []

    def shut() -> None:
        with gate.shut(FOR_EVER_S) as answer:
            alone.append(answer)

    thread = Thread(target=shut)
    thread.start()
    while not gate._shut:
        pass
    yield alone
    thread.join()


def test_an_exchange_waits_for_the_snapshots_inside() -> None:
    gate = Gate()
    first, second = gate.enter(), gate.enter()
    with shutting(gate) as alone:
        gate.leave(first)
        assert alone == []
        gate.leave(second)
    assert alone == [True]


def test_a_thread_inside_may_come_in_again_during_the_wait() -> None:
    gate = Gate()
    first = gate.enter()
    with shutting(gate) as alone:
        second = gate.enter()
        gate.leave(second)
        assert alone == []
        gate.leave(first)
    assert alone == [True]


def test_others_wait_outside_and_come_in_afterwards() -> None:
    gate = Gate()
    inside: list[int] = []
    with gate.shut(0) as alone:
        assert alone
        newcomer = Thread(target=lambda: inside.append(gate.enter()))
        newcomer.start()
        assert inside == []
    newcomer.join()
    assert len(inside) == 1
    with gate.shut(0) as alone:
        assert not alone


def test_an_exchange_in_a_thread_that_is_inside_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate()
    thread = gate.enter()
    monkeypatch.setattr(gate._changed, "wait", lambda timeout: pytest.fail("would wait"))
    with gate.shut(FOR_EVER_S) as alone:
        assert not alone
    gate.leave(thread)
