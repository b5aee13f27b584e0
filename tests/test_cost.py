"""What an operation costs does not depend on how large its object is: counted, for every type."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from crdtdb import Database, address
from crdtdb.address import ObjectName
from crdtdb.answers import Order
from crdtdb.datatype import CollectionType, DocumentType, NestedType, ScoredType
from crdtdb.errors import CallerError
from crdtdb.fields import at_field, nested, read_leaves
from crdtdb.query import Query
from crdtdb.rankings import Rankings
from crdtdb.reading import PageQuery, Reading
from crdtdb.store.base import Batch
from crdtdb.store.memory import MemoryStore
from crdtdb.types import CATALOGUE
from operations import Plain, all_operations, creation
from replicas import Replica, update

SMALL, LARGE = 3, 300
#: Numbers take more bytes when there are more of them.
_LONGER_NUMBERS_BYTES = 32
DELETE: Plain = {"op": "delete", "index": 0}
#: What removes each member by itself.
_BY_NAME = {
    ("rwset", "clear"),
    ("zset", "clear"),
    ("zset", "delete"),
    ("map", "delete"),
}


class _Counted:
    """A snapshot that counts what is looked up: each get, and each entry that a scan comes to."""

    def __init__(self, snapshot: Any, calls: Counter[str]) -> None:
        self._snapshot = snapshot
        self._calls = calls

    def get(self, *arguments: Any) -> Any:
        self._calls["gets"] += 1
        return self._snapshot.get(*arguments)

    def scan(self, *arguments: Any, **options: Any) -> Any:
        for entry in self._snapshot.scan(*arguments, **options):
            self._calls["entries"] += 1
            yield entry

    def page(self, *arguments: Any, **options: Any) -> Any:
        entries = self._snapshot.page(*arguments, **options)
        self._calls["entries"] += len(entries)
        return entries

    def __getattr__(self, name: str) -> Any:
        return getattr(self._snapshot, name)

    def __enter__(self) -> _Counted:
        self._snapshot.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._snapshot.__exit__(*error)


def _large(type_name: str, size: int) -> Replica:
    """A replica whose object has so many members, or as many operations behind it."""
    replica = Replica(1)
    name = ObjectName("shop", type_name, "k")
    members = [f"m{number}" for number in range(size)]
    if isinstance(CATALOGUE[type_name], ScoredType):
        scored = [{"op": "add", "member": member, "score": 1} for member in members]
        replica.commit(*(update(name, plain) for plain in scored))
        return replica
    if isinstance(CATALOGUE[type_name], NestedType):
        do = {"type": "flag", "op": "enable"}
        fields = [{"op": "update", "field": [member], "do": do} for member in members]
        replica.commit(*(update(name, plain) for plain in fields))
        return replica
    if isinstance(CATALOGUE[type_name], CollectionType):
        replica.do(type_name, "add", values=members)
        return replica
    replica.commit(*(update(name, creation(type_name)) for _ in range(size)))
    return replica


def _calls(
    type_name: str, operation: Plain, size: int, monkeypatch: pytest.MonkeyPatch, times: int = 1
) -> Counter[str]:
    """What an operation on an object of so many members looks up and writes."""
    name = ObjectName("shop", type_name, "k")
    return _calls_on(_large(type_name, size), name, operation, monkeypatch, times)


def _calls_on(
    replica: Replica,
    name: ObjectName,
    operation: Plain,
    monkeypatch: pytest.MonkeyPatch,
    times: int = 1,
) -> Counter[str]:
    """What an operation looks up and writes."""
    calls: Counter[str] = Counter()
    snapshot, commit = MemoryStore.snapshot, MemoryStore.commit

    def committed(store: MemoryStore, batch: Batch) -> Any:
        calls["puts"] += sum(map(len, batch.values()))
        for rows in batch.values():
            calls["bytes"] += sum(len(key) + len(row or b"") for key, row in rows.items())
        return commit(store, batch)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "snapshot", lambda store: _Counted(snapshot(store), calls))
        patch.setattr(MemoryStore, "commit", committed)
        for _ in range(times):
            with suppress(CallerError):  # what is refused costs no more
                replica.commit(update(name, operation))
    return calls


def _distinct(operations: list[Plain]) -> list[Plain]:
    return [one for i, one in enumerate(operations) if one not in operations[:i]]


@pytest.mark.parametrize("type_name", CATALOGUE)
def test_an_operation_makes_as_many_store_calls_on_a_large_object_as_on_a_small_one(
    type_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for operation in _distinct(all_operations(type_name)):
        if (type_name, operation["op"]) in _BY_NAME:
            continue
        small = _calls(type_name, operation, SMALL, monkeypatch)
        large = _calls(type_name, operation, LARGE, monkeypatch)
        small_bytes, large_bytes = small.pop("bytes", 0), large.pop("bytes", 0)
        assert small["gets"]
        assert large == small, operation
        if not isinstance(CATALOGUE[type_name], DocumentType):  # these are written whole
            assert large_bytes <= small_bytes + _LONGER_NUMBERS_BYTES, operation


@pytest.mark.parametrize(
    ("step", "then"),
    [
        ({"type": "opcounter", "op": "increment"}, {"type": "opcounter", "op": "decrement"}),
        ({"type": "opcounter", "op": "increment"}, {"type": "opcounter", "op": "reset"}),
        ({"type": "opcounter", "op": "increment"}, {"type": "opcounter", "op": "delete"}),
        (
            {"type": "list", "op": "insert", "value": "a"},
            {"type": "list", "op": "insert", "index": 1, "value": "b"},
        ),
        ({"type": "list", "op": "insert", "value": "a"}, {"type": "list", "op": "delete"}),
    ],
    ids=lambda do: do["op"],
)
def test_an_operation_on_an_op_based_leaf_costs_the_same_however_much_was_done_to_it(
    step: Plain, then: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = ObjectName("shop", "map", "k")

    def written(times: int) -> Replica:
        replica = Replica(1)
        replica.commit(
            *(update(name, {"op": "update", "field": ["a"], "do": step}) for _ in range(times))
        )
        return replica

    operation = {"op": "update", "field": ["a"], "do": then}
    counted = [_calls_on(written(size), name, operation, monkeypatch) for size in (SMALL, LARGE)]
    small, large = ({kind: n for kind, n in one.items() if kind != "bytes"} for one in counted)
    assert small == large


@pytest.mark.parametrize("op", [{"op": "insert", "value": "a", "index": 1}, DELETE])
def test_what_commits_write_to_a_list_does_not_grow_with_it(
    op: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On average, that is: now and then one writes the list whole."""
    counted = [_calls("list", op, size, monkeypatch, LARGE) for size in (LARGE, 10 * LARGE)]
    small, large = counted
    assert all(large[kind] <= 1.2 * small[kind] for kind in large)


def test_a_clear_of_a_remove_wins_set_costs_what_removing_its_members_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = [f"m{number}" for number in range(LARGE)]
    removed = _calls("rwset", {"op": "remove", "values": members}, LARGE, monkeypatch)
    cleared = _calls("rwset", {"op": "clear"}, LARGE, monkeypatch)
    assert cleared["puts"] == removed["puts"]
    assert cleared["gets"] + cleared["entries"] <= 3 * removed["gets"]


@pytest.mark.parametrize("op", ["clear", "delete"])
def test_emptying_a_sorted_set_costs_so_much_for_each_member(
    op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = _calls("zset", {"op": op}, SMALL, monkeypatch)
    large = _calls("zset", {"op": op}, LARGE, monkeypatch)
    assert large["puts"]
    assert all(large[kind] <= small[kind] * LARGE / SMALL for kind in large)


def test_removing_all_fields_of_a_map_costs_so_much_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = _calls("map", {"op": "delete"}, SMALL, monkeypatch)
    large = _calls("map", {"op": "delete"}, LARGE, monkeypatch)
    assert large["puts"]
    assert all(large[kind] <= small[kind] * LARGE / SMALL for kind in large)


@pytest.mark.parametrize("path", [("m1",), ("n", "leaf"), ("missing",)])
def test_a_field_is_read_with_as_many_store_calls_however_large_the_map(
    path: tuple[str, ...],
) -> None:
    counted: list[Counter[str]] = []
    for size in (SMALL, LARGE):
        replica, calls = _large("map", size), Counter[str]()
        leaf = {"type": "register", "op": "set", "value": 1}
        replica.do("map", "update", field=["n", "leaf"], do=leaf)
        with replica.store.snapshot() as snapshot:
            name = ObjectName("shop", "map", "k")
            at_field(Reading(_Counted(snapshot, calls)), name, path)
        counted.append(calls)
    assert counted[0] == counted[1]
    assert counted[0].total()


def test_a_page_of_leaves_costs_the_same_from_anywhere_in_a_map_of_any_size() -> None:
    name, counted = ObjectName("shop", "map", "k"), []
    for size, behind in ((SMALL, "m0"), (LARGE, "m0"), (LARGE, "m150")):
        replica, calls = _large("map", size), Counter[str]()
        with replica.store.snapshot() as snapshot:
            reading = Reading(_Counted(snapshot, calls))
            position = address.leaf([behind], "flag", address.OWN)
            page = read_leaves(reading, name, PageQuery(1, position))
            assert len(page.leaves) == 1
            nested(reading, name, page)
        counted.append(calls)
    assert counted[0] == counted[1] == counted[2]


def _page_calls(order: Order, size: int) -> Counter[str]:
    """The store calls of a page, where an earlier one has been read and something written since."""
    replica, rankings = _large("zset", size), Rankings()
    name, query = ObjectName("shop", "zset", "k"), Query(limit=2, order=order)
    calls: Counter[str] = Counter()
    for _ in range(2):
        replica.do("zset", "increment", member="m1")
        calls.clear()
        with replica.store.snapshot() as snapshot:
            reading = Reading(_Counted(snapshot, calls))
            page = rankings.page(reading, name, reading.head(name.prefix), query, None)
        assert len(page.items) == 2
    assert rankings.loads == 1
    return calls


@pytest.mark.parametrize("order", ["score", "rank"])
def test_a_page_in_the_order_of_scores_makes_as_many_store_calls_on_a_large_set(
    order: Order,
) -> None:
    assert _page_calls(order, LARGE) == _page_calls(order, SMALL)


def test_reading_large_values_takes_no_memory_for_good() -> None:
    """Only small records are kept decoded: thousands of large ones would not fit."""
    with Database.in_memory() as database:
        titles = [database.register("shop", f"title {number}") for number in range(64)]
        for title in titles:
            title.set("x" * 100_000)
        tracemalloc.start()
        try:
            for title in titles:
                title.get()
            kept_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert kept_bytes < 1_000_000
