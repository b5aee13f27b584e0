"""Places in a sequence, as those remember them who have read so far (`epochs`, `cursors`)."""

from __future__ import annotations

from typing import Final

import pytest

from crdtdb.epochs import Epochs
from crdtdb.replication.cursors import CURSOR_ROWS, Cursor, Cursors
from crdtdb.store.base import Table
from crdtdb.store.memory import MemoryStore
from replicas import Replica

#: Opened three times: at the beginning, after place 10, after place 30; it stands at 50.
LIVED: Final = Epochs().begin(1, 0).begin(2, 10).begin(3, 30)


@pytest.mark.parametrize(
    ("epoch", "place", "resumed"),
    [
        (1, 10, 10),
        (2, 20, 20),
        (3, 50, 50),
        (1, 12, 10),  # given out after the back-up that this store was put back from
        (2, 99, 30),
        (3, 51, 50),  # put back, and nothing given out since
        (4, 20, 0),  # of a life that this store does not remember
        (0, 0, 0),
    ],
)
def test_as_much_of_an_epoch_counts_as_is_in_the_past(epoch: int, place: int, resumed: int) -> None:
    assert LIVED.resume(epoch, place, 50) == resumed


def test_a_store_that_gave_out_nothing() -> None:
    assert Epochs().latest == 0
    assert Epochs().resume(1, 10, 0) == 0


def test_old_epochs_are_forgotten() -> None:
    epochs = Epochs()
    for name in range(1, 1_001):
        epochs = epochs.begin(name, name * 10)
    assert len(epochs.encode()) < 1_000
    assert epochs.resume(1_000, 10_005, 20_000) == 10_005
    assert epochs.resume(1, 15, 20_000) == 0


def test_an_opening_that_gives_out_places_begins_one_epoch() -> None:
    a = Replica(1)
    for _ in range(3):
        a.reopen()
        a.engine.take_incarnation()
    assert a.engine.epochs == Epochs()
    a.do("counter", "increment")
    a.do("counter", "increment")
    assert len(a.engine.epochs.begun) == 1
    first = a.engine.epochs.begun[0]
    sequence = a.engine.state.sequence
    a.reopen()
    assert a.engine.epochs.begun == (first,)
    a.do("counter", "increment")
    assert a.engine.epochs == Epochs((first,)).begin(a.engine.epochs.latest, sequence)
    assert a.engine.epochs.latest != first[0]


def _cursors(store: MemoryStore) -> Cursors:
    with store.snapshot() as snapshot:
        return Cursors(snapshot)


def test_cursors_are_kept_and_only_what_changed_is_written() -> None:
    store = MemoryStore()
    cursors = _cursors(store)
    now = {7: Cursor(1, 10), 8: Cursor(2, 20)}
    store.commit({Table.META: cursors.rows(now)})
    cursors.keep(now)
    assert cursors.rows(cursors.now) == {}
    assert _cursors(store).now == now
    cursors.inherit(9, 7)
    cursors.forget_others({9})
    store.commit({Table.META: cursors.rows(cursors.now)})
    assert _cursors(store).now == {9: Cursor(1, 10)}


def test_a_damaged_cursor_only_makes_the_next_pull_longer() -> None:
    store = MemoryStore()
    (row,) = _cursors(store).rows({7: Cursor(1, 10)}).values()
    assert row is not None
    store.commit({Table.META: {CURSOR_ROWS + (7).to_bytes(8, "big"): row[:-1] + b"\0"}})
    assert _cursors(store).of(7) == Cursor(0, 0)
