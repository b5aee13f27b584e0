"""What every store does. One suite, run over every backend of `backends.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from random import Random
from threading import Event, Thread

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from crdtdb.errors import StorageFailed
from crdtdb.store.base import KEY_BYTES, WRITTEN_ONCE, Batch, Snapshot, Store, Table, check_keys
from crdtdb.store.lmdb.longkeys import CHUNK
from store.backends import BACKENDS, Fresh

Model = dict[Table, dict[bytes, bytes]]

#: Around the lengths where a backend may treat keys differently.
_EDGE_LENGTHS = (1, CHUNK - 1, CHUNK, CHUNK + 1, 511, 512, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK)
#: Keys are made of few pieces, so that they share prefixes, also across every edge.
_PIECES = [b"\0", b"\1", b"a", b"b", b"\xff", *(b"a" * n for n in _EDGE_LENGTHS), b"\xff" * CHUNK]

keys = st.lists(st.sampled_from(_PIECES), min_size=1, max_size=4).map(b"".join)
values = st.sampled_from([b"", b"v", b"w" * 100, b"x" * 5000])
changes = st.dictionaries(keys, st.one_of(st.none(), values), max_size=12)
#: Of the sequence it is asked that no key comes back, so these are of tables without promises.
TABLES = [Table.RECORDS, Table.HEADS]
batches = st.dictionaries(st.sampled_from(TABLES), changes)


def apply(model: Model, batch: Batch) -> None:
    """What a commit does, in the simplest words."""
    for table, table_changes in batch.items():
        for key, value in table_changes.items():
            if value is None:
                model[table].pop(key, None)
            else:
                model[table][key] = value


def expected(
    entries: dict[bytes, bytes], start: bytes, end: bytes | None, reverse: bool
) -> list[tuple[bytes, bytes]]:
    inside = [item for item in entries.items() if start <= item[0] and (not end or item[0] < end)]
    return sorted(inside, reverse=reverse)


@pytest.fixture(params=list(BACKENDS))
def fresh(request: pytest.FixtureRequest) -> Fresh:
    return BACKENDS[request.param]


@pytest.fixture
def store(fresh: Fresh) -> Iterator[Store]:
    with fresh() as made:
        yield made


def read(store: Store, key: bytes, table: Table = Table.RECORDS) -> bytes | None:
    with store.snapshot() as snapshot:
        return snapshot.get(table, key)


# Single entries


def test_a_fresh_store_is_empty(store: Store) -> None:
    with store.snapshot() as snapshot:
        for table in Table:
            assert snapshot.get(table, b"k") is None
            assert list(snapshot.scan(table)) == []
    assert set(store.stats().entries.values()) == {0}


def test_put_get_overwrite_delete(store: Store) -> None:
    for value in (b"one", b"two", b""):
        store.commit({Table.RECORDS: {b"k": value}})
        assert read(store, b"k") == value
    store.commit({Table.RECORDS: {b"k": None}})
    assert read(store, b"k") is None


def test_batches_that_change_nothing_are_fine(store: Store) -> None:
    store.commit({})
    store.commit({Table.META: {}, Table.RECORDS: {b"k": None, b"k" * 2000: None}})
    assert read(store, b"k") is None


def test_tables_are_separate(store: Store) -> None:
    store.commit({table: {b"k": table.value.encode()} for table in Table})
    store.commit({Table.HEADS: {b"k": None}})
    for table in Table:
        held = None if table is Table.HEADS else table.value.encode()
        assert read(store, b"k", table) == held


def test_all_tables_of_a_batch_change_together(store: Store) -> None:
    store.commit({table: {b"a": b"1", b"b": b"1"} for table in Table})
    store.commit({table: {b"a": b"2", b"b": None} for table in Table})
    with store.snapshot() as snapshot:
        for table in Table:
            assert list(snapshot.scan(table)) == [(b"a", b"2")]


def test_the_last_change_of_a_key_wins(store: Store) -> None:
    batch: Batch = {Table.RECORDS: {b"k": b"first"}}
    batch[Table.RECORDS][b"k"] = None
    batch[Table.RECORDS][b"k"] = b"last"
    store.commit(batch)
    assert read(store, b"k") == b"last"


@pytest.mark.parametrize("size", [0, 1, 4096, 2**20])
def test_values_of_any_size(store: Store, size: int) -> None:
    value = Random(size).randbytes(size)
    store.commit({Table.RECORDS: {b"k": value}})
    assert read(store, b"k") == value


@pytest.mark.parametrize("length", [1, 400, 493, 494, 495, 511, 512, 4096, KEY_BYTES])
def test_keys_of_any_length(store: Store, length: int) -> None:
    key, neighbour = b"k" * length, b"k" * (length - 1) + b"l"
    store.commit({Table.RECORDS: {key: b"mine", neighbour: b"other"}})
    store.commit({Table.RECORDS: {neighbour: None}})
    with store.snapshot() as snapshot:
        assert snapshot.get(Table.RECORDS, key) == b"mine"
        assert snapshot.get(Table.RECORDS, neighbour) is None
        assert list(snapshot.scan(Table.RECORDS)) == [(key, b"mine")]


@pytest.mark.parametrize("key", [b"", b"k" * (KEY_BYTES + 1)])
def test_an_impossible_key_refuses_the_whole_batch(store: Store, key: bytes) -> None:
    batch: Batch = {Table.RECORDS: {b"fine": b"1"}, Table.META: {key: b"2"}}
    with pytest.raises(ValueError, match="1 to 65536"):
        check_keys(batch)
    with pytest.raises(ValueError, match="1 to 65536"):
        store.commit(batch)
    assert read(store, b"fine") is None


def test_many_commits(store: Store) -> None:
    for number in range(500):
        key = number.to_bytes(8, "big")
        stale = (number - 100).to_bytes(8, "big") if number >= 100 else key
        store.commit({Table.SEQUENCE: {stale: None, key: b"%d" % number}})
    with store.snapshot() as snapshot:
        held = [int(value) for _, value in snapshot.scan(Table.SEQUENCE)]
    assert held == list(range(400, 500))


# Scans


@settings(max_examples=60)
@given(history=st.lists(batches, max_size=4), data=st.data())
@pytest.mark.parametrize("name", BACKENDS)
def test_scans_are_slices_of_a_sorted_dict(
    name: str, history: list[Batch], data: st.DataObject
) -> None:
    model: Model = {table: {} for table in Table}
    with BACKENDS[name]() as store:
        for batch in history:
            store.commit(batch)
            apply(model, batch)
        held = model[Table.RECORDS]
        bounds = st.one_of(keys, st.sampled_from(sorted(held)) if held else keys)
        with store.snapshot() as snapshot:
            for _ in range(8):
                start = data.draw(st.one_of(st.just(b""), bounds))
                end = data.draw(st.one_of(st.none(), bounds))
                for reverse in (False, True):
                    note(f"{start=} {end=} {reverse=}")
                    found = list(snapshot.scan(Table.RECORDS, start, end, reverse=reverse))
                    assert found == expected(held, start, end, reverse)
                    most = data.draw(st.integers(1, 9))
                    page = snapshot.page(Table.RECORDS, start, end, most, reverse=reverse)
                    assert page == found[:most]
            for key in [*held, data.draw(keys)]:
                assert snapshot.get(Table.RECORDS, key) == held.get(key)


def test_scans_are_lazy(store: Store) -> None:
    store.commit({Table.RECORDS: {b"%04d" % n: b"" for n in range(3000)}})
    with store.snapshot() as snapshot:
        first = list(islice(snapshot.scan(Table.RECORDS), 2))
        last = list(islice(snapshot.scan(Table.RECORDS, reverse=True), 2))
        two = snapshot.scan(Table.RECORDS, b"1000"), snapshot.scan(Table.RECORDS, b"2000")
        interleaved = [next(scan)[0] for _ in range(2) for scan in two]
    assert [key for key, _ in first] == [b"0000", b"0001"]
    assert [key for key, _ in last] == [b"2999", b"2998"]
    assert interleaved == [b"1000", b"2000", b"1001", b"2001"]


# Snapshots


@pytest.mark.parametrize("reverse", [False, True])
def test_a_commit_in_the_middle_of_a_scan_does_not_show(store: Store, reverse: bool) -> None:
    before = {b"%04d" % n: b"old" for n in range(0, 2000, 2)}
    store.commit({Table.RECORDS: dict(before)})
    with store.snapshot() as snapshot:
        scan = snapshot.scan(Table.RECORDS, reverse=reverse)
        found = []
        for number, entry in enumerate(scan):
            found.append(entry)
            if number % 100 == 50:
                fresh_keys = {b"%04d" % n: b"new" for n in range(number, 2000, 7)}
                gone = dict.fromkeys(list(before)[number % 3 :: 3])
                store.commit({Table.RECORDS: {**gone, **fresh_keys}})
        assert found == expected(before, b"", None, reverse)
        assert list(snapshot.scan(Table.RECORDS)) == sorted(before.items())
    assert read(store, b"0050") != b"old"


class Snapshots(RuleBasedStateMachine):
    """Snapshots that overlap with commits: each shows what there was when it began, to its end."""

    fresh: Fresh

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        self.store = self.resources.enter_context(self.fresh())
        self.model: Model = {table: {} for table in Table}
        self.open: list[tuple[ExitStack, Snapshot, Model]] = []
        self.scans: list[tuple[Iterator[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]] = []

    @rule(batch=batches, in_order=st.booleans())
    def commit(self, batch: Batch, in_order: bool) -> None:
        (self.store.commit_in_order if in_order else self.store.commit)(batch)
        apply(self.model, batch)

    @rule()
    def begin(self) -> None:
        end = ExitStack()
        frozen = {table: dict(entries) for table, entries in self.model.items()}
        self.open.append((end, end.enter_context(self.store.snapshot()), frozen))

    @rule(which=st.randoms(use_true_random=False))
    def end(self, which: Random) -> None:
        if self.open:
            self.open.pop(which.randrange(len(self.open)))[0].close()
            self.scans.clear()

    @rule(which=st.randoms(use_true_random=False), start=keys, end=st.none() | keys)
    def begin_scan(self, which: Random, start: bytes, end: bytes | None) -> None:
        if self.open:
            _, snapshot, frozen = which.choice(self.open)
            reverse = which.random() < 0.5
            scan = snapshot.scan(Table.RECORDS, start, end, reverse=reverse)
            self.scans.append((scan, expected(frozen[Table.RECORDS], start, end, reverse)))

    @rule(count=st.integers(1, 5))
    def go_on_scanning(self, count: int) -> None:
        for scan, rest in self.scans:
            assert list(islice(scan, count)) == rest[:count]
            del rest[:count]

    @invariant()
    def nothing_moves(self) -> None:
        for _, snapshot, frozen in self.open:
            for table in TABLES:
                there = sorted(frozen[table].items())
                assert list(snapshot.scan(table)) == there
                assert snapshot.page(table, b"", None, 3) == there[:3]
                for key in self.model[table]:
                    assert snapshot.get(table, key) == frozen[table].get(key)

    def teardown(self) -> None:
        for end, *_ in self.open:
            end.close()
        self.resources.close()


def test_snapshots_do_not_move(fresh: Fresh) -> None:
    machine = type("Machine", (Snapshots,), {"fresh": staticmethod(fresh)})
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=20))


def test_snapshots_in_one_thread_while_another_commits(store: Store) -> None:
    """Both tables always show the same number, and numbers never go back."""
    done = Event()
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            latest = -1
            while not done.is_set():
                with store.snapshot() as snapshot:
                    seen = [snapshot.get(table, b"n") for table in (Table.RECORDS, Table.META)]
                    seen += [value for _, value in snapshot.scan(Table.SEQUENCE)]
                assert len(set(seen)) == 1, seen
                number = int(seen[0] or b"-1")
                assert number >= latest
                latest = number
        except BaseException as failure:
            failures.append(failure)

    store.commit({t: {b"n": b"0"} for t in (Table.RECORDS, Table.META, Table.SEQUENCE)})
    watchers = [Thread(target=watch) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    for number in range(1, 300):
        value = b"%d" % number
        store.commit(
            {
                Table.RECORDS: {b"n": value, b"ballast%d" % number: b"x" * 5000},
                Table.META: {b"n": value},
                Table.SEQUENCE: {b"n": value},
            }
        )
    done.set()
    for watcher in watchers:
        watcher.join()
    assert failures == []


# The end


def test_nothing_works_after_close(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StorageFailed, match="closed"), store.snapshot():
        pass
    with pytest.raises(StorageFailed, match="closed"):
        store.commit({Table.META: {b"k": b"v"}})
    with pytest.raises(StorageFailed, match="closed"):
        store.stats()


def test_a_snapshot_is_of_no_use_after_its_end(store: Store) -> None:
    store.commit({Table.RECORDS: {b"%d" % n: b"" for n in range(100)}})
    with store.snapshot() as snapshot:
        begun, fresh_scan = snapshot.scan(Table.RECORDS), snapshot.scan(Table.RECORDS)
        next(begun)
    with pytest.raises(StorageFailed, match="ended"):
        snapshot.get(Table.RECORDS, b"1")
    with pytest.raises(StorageFailed, match="ended"):
        next(begun)
    with pytest.raises(StorageFailed, match="ended"):
        next(fresh_scan)
    with pytest.raises(StorageFailed, match="ended"):
        snapshot.page(Table.RECORDS, b"", None, 2)


def test_closing_the_store_ends_its_snapshots(store: Store) -> None:
    store.commit({Table.RECORDS: {b"%d" % n: b"" for n in range(100)}})
    with store.snapshot() as snapshot:
        scan = snapshot.scan(Table.RECORDS)
        next(scan)
        store.close()
        with pytest.raises(StorageFailed):
            next(scan)
        with pytest.raises(StorageFailed):
            snapshot.get(Table.RECORDS, b"1")


def test_stats_count_entries(store: Store) -> None:
    store.commit({Table.RECORDS: {b"%d" % n: b"v" * 100 for n in range(50)}})
    store.commit({Table.RECORDS: {b"7": None}, Table.META: {b"m": b""}})
    stats = store.stats()
    assert 49 <= stats.entries[Table.RECORDS] <= 2 * 49  # an entry that is moved may count twice
    assert 1 <= stats.entries[Table.META] <= 2
    assert stats.entries[Table.HEADS] == 0
    assert 49 * 100 < stats.used_bytes <= stats.file_bytes


# Backends against each other


@pytest.mark.parametrize("life", range(5))
def test_all_backends_agree(life: int) -> None:
    """The same random life in every backend: larger batches and longer than Hypothesis does."""
    random = Random(life)
    pool = [b"".join(random.choices(_PIECES, k=random.randint(1, 4))) for _ in range(150)]

    def batch() -> Batch:
        return {
            table: {
                random.choice(pool): random.choice([None, b"", random.randbytes(9), b"x" * 4000])
                for _ in range(random.randrange(40))
            }
            for table in random.sample(sorted(set(Table) - WRITTEN_ONCE, key=str), k=2)
        }

    with ExitStack() as resources:
        stores = [resources.enter_context(fresh()) for fresh in BACKENDS.values()]
        for _ in range(60):
            step = batch()
            start, end = random.choice(pool), random.choice([None, *pool])
            reverse = random.random() < 0.5
            found = []
            for store in stores:
                store.commit(step)
                with store.snapshot() as snapshot:
                    found.append(
                        [list(snapshot.scan(table, start, end, reverse=reverse)) for table in Table]
                    )
                    assert found[-1] == [
                        snapshot.page(table, start, end, 500, reverse=reverse) for table in Table
                    ]
            assert all(other == found[0] for other in found), f"{life=}"
