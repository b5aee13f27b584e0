"""What deletions leave half empty is packed while nobody writes, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final
from unittest.mock import patch

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtdb.store.base import Batch, Table
from crdtdb.store.lmdb import LmdbStore
from crdtdb.store.lmdb.packing import RUN_ENTRIES
from crdtdb.store.logged import LoggedStore, Pace
from crdtdb.store.logged.holes import Holes

_STAY, _GO, _TOGETHER = 6_000, 18_000, 3_000
#: Packs at once when nobody writes; everything that is deleted is noted.
_EAGER: Final = Pace(idle_s=0.001, rest_s=0.0, least_gone=1)
#: The same, where entries are in place before they are deleted.
_SMALL: Final = _EAGER._replace(layer_entries=1_000)
_PATIENCE_S: Final = 50.0


def _entries(random: Random, number: int) -> dict[bytes, bytes]:
    return {random.randbytes(20): random.randbytes(random.randint(30, 90)) for _ in range(number)}


def _batches(entries: dict[bytes, bytes], *, gone: bool = False) -> Iterator[Batch]:
    keys = list(entries)
    for start in range(0, len(keys), _TOGETHER):
        part = keys[start : start + _TOGETHER]
        yield {Table.RECORDS: {key: None if gone else entries[key] for key in part}}


def _used_pages(store: LmdbStore) -> int:
    return store.stats().used_bytes // 4_096


def _rows(store: LmdbStore | LoggedStore, table: Table = Table.RECORDS) -> dict[bytes, bytes]:
    with store.snapshot() as snapshot:
        rows = list(snapshot.scan(table))
    assert rows == sorted(rows)
    return dict(rows)


def _pack(store: LmdbStore, start: bytes = b"", end: bytes | None = None) -> int:
    """Pack all there is; returns in how many steps."""
    steps = 1
    while (end := store.pack(Table.RECORDS, start, end)) is not None:
        steps += 1
    return steps


@pytest.mark.parametrize("choices", range(3))
def test_what_is_left_takes_as_little_as_if_there_had_been_no_more(
    tmp_path: Path, choices: int
) -> None:
    """Scattered deletions leave two to three times the pages; packed in runs they are full."""
    random = Random(choices)
    staying, going = _entries(random, _STAY), _entries(random, _GO)
    with closing(LmdbStore.open(tmp_path / "never")) as never:
        never.commit({Table.RECORDS: dict(staying)})
        least = _used_pages(never)
    with closing(LmdbStore.open(tmp_path / "after")) as store:
        for batch in (*_batches(staying | going), *_batches(going, gone=True)):
            store.commit(batch)
        assert _used_pages(store) > 2 * least
        assert _pack(store) == -(-_STAY // RUN_ENTRIES)
        assert _rows(store) == staying
        assert _used_pages(store) < 1.06 * least
        _pack(store)
        assert _used_pages(store) < 1.06 * least


_keys: Final = st.one_of(
    st.binary(min_size=1, max_size=3), st.integers(400, 1_100).map(lambda size: b"k" * size)
)


@given(
    rows=st.dictionaries(_keys, st.integers(0, 9_000), max_size=60),
    start=st.binary(max_size=2),
    end=st.one_of(st.none(), _keys),
)
@settings(max_examples=40)
def test_packing_changes_nothing_that_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[bytes, int],
    start: bytes,
    end: bytes | None,
) -> None:
    """Whatever the keys, and values of several pages; short runs, so that there are many."""
    entries = {key: bytes(size) for key, size in rows.items()}
    path = tmp_path_factory.mktemp("store") / "data"
    with (
        closing(LmdbStore.open(path)) as store,
        patch("crdtdb.store.lmdb.packing.RUN_ENTRIES", 7),
    ):
        store.commit({Table.RECORDS: dict(entries)})
        _pack(store, start, end)
        assert _rows(store) == entries


def test_a_store_packs_itself_while_nobody_writes(tmp_path: Path) -> None:
    random = Random(1)
    staying, going = _entries(random, _STAY), _entries(random, _GO)
    with closing(LoggedStore.open(tmp_path / "data", pace=_SMALL)) as store:
        for batch in (*_batches(staying | going), *_batches(going, gone=True)):
            store.commit(batch)
        with store._changed:
            assert store._changed.wait_for(lambda: store.is_settled, _PATIENCE_S)
        assert _rows(store) == staying
        assert _used_pages(store._tables) * 4_096 < 1.2 * sum(
            len(key) + len(value) + 10 for key, value in staying.items()
        )


def test_what_keeps_a_store_from_packing_keeps_it_from_nothing_else(tmp_path: Path) -> None:
    with (
        patch("crdtdb.store.lmdb.store.pack_run", side_effect=lmdb.MapFullError("full")) as packing,
        closing(LoggedStore.open(tmp_path / "data", pace=_EAGER)) as store,
    ):
        store.commit({Table.RECORDS: {b"a": b"1", b"b": b"2"}})
        store.commit({Table.RECORDS: {b"a": None}})
        with store._changed:
            assert store._changed.wait_for(lambda: packing.called, _PATIENCE_S)
        store.commit({Table.RECORDS: {b"c": b"3"}})
        assert _rows(store) == {b"b": b"2", b"c": b"3"}
    with closing(LoggedStore.open(tmp_path / "data")) as store:
        assert _rows(store) == {b"b": b"2", b"c": b"3"}


def test_few_deletions_are_not_worth_it(tmp_path: Path) -> None:
    """Neither by themselves, nor beside all that is there."""
    with closing(LmdbStore.open(tmp_path / "data")) as tables:
        tables.commit({Table.RECORDS: {b"%d" % number: b"" for number in range(12)}})
        holes = Holes(2)
        holes.note({Table.HEADS: {b"x": None}, Table.RECORDS: dict.fromkeys((b"a", b"c"))})
        assert not holes.are_due(tables)
        holes.note({Table.RECORDS: {b"b": None, b"d": b"stays"}})
        assert holes.are_due(tables)
        with patch.object(tables, "pack", return_value=None) as pack:
            holes.pack(tables)
        pack.assert_called_once_with(Table.RECORDS, b"a", b"c\1")
        assert not holes.are_due(tables)
