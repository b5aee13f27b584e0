"""What an operation costs does not depend on how large its object is: counted, for every type."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from crdtdb.address import ObjectName
from crdtdb.answers import Order
from crdtdb.datatype import ScoredType
from crdtdb.errors import CallerError
from crdtdb.query import Query
from crdtdb.rankings import Rankings
from crdtdb.reading import Reading
from crdtdb.store.base import Batch
from crdtdb.store.memory import MemoryStore
from crdtdb.types import CATALOGUE
from operations import Plain, all_operations, creation
from replicas import Replica, update

SMALL, LARGE = 3, 300
#: What removes each member by itself.
_BY_NAME = {("rwset", "clear"), ("zset", "clear"), ("zset", "delete")}


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
    if CATALOGUE[type_name].collection:
        replica.do(type_name, "add", values=members)
        return replica
    for _ in range(size):
        replica.commit(update(name, creation(type_name)))
    return replica


def _calls(
    type_name: str, operation: Plain, size: int, monkeypatch: pytest.MonkeyPatch
) -> Counter[str]:
    replica = _large(type_name, size)
    calls: Counter[str] = Counter()
    snapshot, commit = MemoryStore.snapshot, MemoryStore.commit

    def committed(store: MemoryStore, batch: Batch) -> Any:
        calls["puts"] += sum(map(len, batch.values()))
        return commit(store, batch)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "snapshot", lambda store: _Counted(snapshot(store), calls))
        patch.setattr(MemoryStore, "commit", committed)
        with suppress(CallerError):  # what is refused costs no more
            replica.commit(update(ObjectName("shop", type_name, "k"), operation))
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
        assert small["gets"]
        assert _calls(type_name, operation, LARGE, monkeypatch) == small, operation


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
