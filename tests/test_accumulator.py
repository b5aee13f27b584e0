"""Running totals and their baselines, record by record: three traps.

Dots are told as A:3. What nobody has built yet, the clean-up of payloads that have been reset,
is done here by hand: it takes dots out of force, as any operation may.
"""

from __future__ import annotations

from crdtdb.causal import NOTHING, Dot
from crdtdb.record import EMPTY, Record, after, join
from crdtdb.types._accumulator import Step, Sums, accumulate, is_spent, reset, total

A, B = 1, 2


def add(record: Record, dot: Dot, by: int) -> Record:
    """The delta of an increment by whoever holds `record`."""
    return _delta(record, dot, accumulate(record.live, dot, Sums(by, 0)))


def reset_all(record: Record, dot: Dot) -> Record:
    """The delta of a reset."""
    step = reset(record.live, dot, record.live)
    assert step is not None
    return _delta(record, dot, step)


def clean(record: Record, dot: Dot, *gone: Dot) -> Record:
    """The delta that takes payloads out of force."""
    return after(record, dot, gone)


def _delta(record: Record, dot: Dot, step: Step) -> Record:
    return after(record, dot, step.replaces, step.payload)


def joined(*records: Record) -> Record:
    whole = EMPTY
    for record in records:
        whole = join(whole, record)
    return whole


def test_a_reset_removes_what_it_saw_of_a_running_total() -> None:
    first = add(EMPTY, (B, 1), 10)
    removed = reset_all(first, (A, 1))
    more = add(first, (B, 2), 4)
    assert total(removed.live) == 0
    assert is_spent(removed.live)
    assert total(joined(removed, more).live) == 4


def test_an_increment_counts_after_the_old_totals_were_reclaimed() -> None:
    """With totals named by replica, A's baseline B:10 swallowed B's new total 1."""
    first = add(EMPTY, (B, 1), 10)
    at_a = joined(first, reset_all(first, (A, 1)))
    at_b = joined(at_a, clean(at_a, (B, 2), (B, 1)))
    assert is_spent(at_b.live)
    assert total(joined(at_b, add(at_b, (B, 3), 1)).live) == 1


def test_a_reset_lasts_when_the_payload_that_said_so_is_reclaimed() -> None:
    """B's payload repeats the baseline of its accumulator, else its total revives."""
    first = add(EMPTY, (B, 1), 10)
    at_a = joined(first, reset_all(first, (A, 1)))
    at_b = joined(at_a, add(at_a, (B, 2), 3))
    cleaned = joined(at_b, clean(at_b, (A, 2), (A, 1)))
    assert total(cleaned.live) == 3


def test_each_payload_carries_the_baselines_of_the_one_it_replaces() -> None:
    """A counts on after its reset of B's total; the old payload of A is replaced."""
    first = add(EMPTY, (B, 1), 10)
    at_a = joined(first, reset_all(first, (A, 1)))
    at_a = joined(at_a, add(at_a, (A, 2), 1))
    assert set(at_a.live) == {(A, 2), (B, 1)}
    assert total(at_a.live) == 1


def test_baselines_of_one_accumulator_join_by_max() -> None:
    first = add(EMPTY, (B, 1), 10)
    early = reset_all(first, (A, 1))
    second = add(first, (B, 2), 5)
    late = reset_all(second, (B, 3))
    assert total(joined(early, late).live) == 0
    assert total(joined(late, early).live) == 0


def test_what_is_taken_away_is_reset_apart_from_what_is_added() -> None:
    first = _delta(EMPTY, (B, 1), accumulate({}, (B, 1), Sums(10, 4)))
    removed = reset_all(first, (A, 1))
    more = _delta(first, (B, 2), accumulate(first.live, (B, 2), Sums(0, 1)))
    assert total(joined(removed, more).live) == -1


def test_every_accumulator_is_named_by_its_first_increment() -> None:
    first = add(EMPTY, (B, 7), 10)
    second = add(first, (B, 9), 10)
    assert [payload[:2] for payload in second.live.values()] == [(B, 7)]
    assert join(first, second) == second
    assert first.context != NOTHING
