"""Copies taken while commits go on: whatever comes in between, they end as one exact state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, cycle
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtdb.errors import Overloaded
from crdtdb.store import copying
from crdtdb.store.base import Batch, Snapshot, Store, Table
from crdtdb.store.copying import Copy
from crdtdb.store.memory import MemoryStore
from store.backends import BACKENDS

_KEYS = st.integers(0, 40).map(lambda n: f"{n:02}".encode())
_BATCHES = st.dictionaries(
    st.sampled_from(list(Table)),
    st.dictionaries(_KEYS, st.none() | st.binary(max_size=8), max_size=5),
    max_size=3,
)


def _contents(store: Store) -> dict[Table, dict[bytes, bytes]]:
    with store.snapshot() as snapshot:
        return {table: dict(snapshot.scan(table)) for table in Table}


def _commit(store: Store, copy: Copy, batch: Batch) -> None:
    """As the engine does."""
    copy.note(batch)
    store.commit(batch)
    copy.note(batch)


class _Replayed:
    """What the portions of a copy come to."""

    def __init__(self) -> None:
        self.contents: dict[Table, dict[bytes, bytes]] = {table: {} for table in Table}

    def add(self, portion: Batch) -> None:
        for table, rows in portion.items():
            for key, value in rows.items():
                if value is None:
                    self.contents[table].pop(key, None)
                else:
                    self.contents[table][key] = value


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=25)
@given(
    before=st.lists(_BATCHES, max_size=8),
    between=st.lists(st.lists(_BATCHES, max_size=3), max_size=12),
    portion_bytes=st.sampled_from([1, 30, 200]),
)
def test_a_copy_is_the_state_at_its_end(
    backend: str, before: list[Batch], between: list[list[Batch]], portion_bytes: int
) -> None:
    with BACKENDS[backend]() as store:
        for batch in before:
            store.commit(batch)
        copy, replayed = Copy(store, portion_bytes=portion_bytes), _Replayed()
        meanwhile = iter(between)
        while not copy.done:
            for batch in next(meanwhile, ()):
                _commit(store, copy, batch)
            replayed.add(copy.step())
        assert replayed.contents == _contents(store)


class _Interrupted:
    """A store whose commits come at the worst moments: around the beginning of a snapshot."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self.copy = Copy(self, portion_bytes=20)  # type: ignore[arg-type]
        #: Of the next snapshot: commits before it begins, around that, and while it is open.
        self.commits: tuple[Batch, Batch, Batch] = ({}, {}, {})
        #: What the last snapshot saw.
        self.seen: dict[Table, dict[bytes, bytes]] = {}

    def commit(self, batch: Batch) -> None:
        _commit(self._store, self.copy, batch)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        before, around, after = self.commits
        self.commit(before)
        self.copy.note(around)
        with self._store.snapshot() as snapshot:
            self.seen = {table: dict(snapshot.scan(table)) for table in Table}
            self._store.commit(around)
            self.copy.note(around)
            self.commit(after)
            yield snapshot


@given(
    st.lists(_BATCHES, max_size=8),
    st.lists(st.tuples(_BATCHES, _BATCHES, _BATCHES), min_size=1, max_size=10),
)
def test_commits_may_come_at_any_moment(
    before: list[Batch], interruptions: list[tuple[Batch, Batch, Batch]]
) -> None:
    store, replayed = _Interrupted(), _Replayed()
    for batch in before:
        store.commit(batch)
    meanwhile = cycle(interruptions)
    while not store.copy.done:
        store.commits = next(meanwhile)
        replayed.add(store.copy.step())
    assert replayed.contents == store.seen


def test_a_commit_is_whole_or_not_there_whatever_runs_beside() -> None:
    """One thread commits, always the same number everywhere; the copy never mixes two."""
    store = MemoryStore()
    keys = [f"{n:03}".encode() for n in range(300)]
    copy, replayed, stop = Copy(store, portion_bytes=400), _Replayed(), False

    def write() -> None:
        for number in count():
            value = b"%d" % number
            _commit(store, copy, {table: dict.fromkeys(keys[::30], value) for table in Table})
            if stop:
                return

    store.commit({table: dict.fromkeys(keys, b"0") for table in Table})
    writer = Thread(target=write)
    writer.start()
    try:
        while not copy.done:
            replayed.add(copy.step())
    finally:
        stop = True
        writer.join()
    numbers = {replayed.contents[table][key] for table in Table for key in keys[::30]}
    assert len(numbers) == 1


def test_too_many_changes_end_the_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_NOTED_KEYS", 10)
    store = MemoryStore()
    copy = Copy(store)
    store.commit({Table.RECORDS: {b"a": b"1"}})
    copy.step()
    copy.note({Table.RECORDS: {b"%d" % n: b"" for n in range(11)}})
    with pytest.raises(Overloaded, match="take the backup faster"):
        copy.step()


def _steps(copy: Copy, most: int) -> None:
    for _ in range(most):
        copy.step()


def test_changes_that_no_portion_can_hold_end_the_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy grows its portions; it neither goes round for ever nor takes all memory."""
    monkeypatch.setattr(copying, "_MOST_BYTES", 80)
    store = _Interrupted()
    rows: dict[bytes, bytes | None] = {b"%02d" % n: bytes(10) for n in range(20)}
    store.commit({Table.RECORDS: rows})
    store.commits = ({Table.RECORDS: rows}, {}, {})
    with pytest.raises(Overloaded, match="take the backup faster"):
        _steps(store.copy, 100)
    assert not store.copy.done


def test_what_lies_ahead_is_not_remembered() -> None:
    """However much is written: what will be copied anyway takes no memory."""
    store = MemoryStore()
    copy = Copy(store)
    copy.step()
    copy.note({Table.SEQUENCE: {b"%d" % n: b"" for n in range(1_000)}})
    assert not any(copy._noted.values())
