"""Materialised values that are stored as a checkpoint and steps: the same as if written whole."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Final

import pytest

from crdtdb import materialised
from crdtdb.address import ObjectName
from crdtdb.errors import StorageFailed
from crdtdb.limits import LIMITS, Limits
from crdtdb.scrub import Scrub
from crdtdb.store.base import Batch, Table
from crdtdb.store.memory import MemoryStore
from crdtdb.types import list as list_module
from operations import Plain
from oracle.checks import check_books
from oracle.executions import Execution
from replicas import Replica, exchange, update

LIST: Final = ObjectName("shop", "list", "k")
KIND: Final = list_module.TYPE
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: Patch) -> None:
    monkeypatch.setattr(materialised, "_kept", materialised._Kept())


def forget(monkeypatch: Patch) -> None:
    """Nothing is in memory any more."""
    monkeypatch.setattr(materialised, "_kept", materialised._Kept())


def edits(random: Random, replica: Replica) -> Iterator[Plain]:
    """What somebody does to a list, one after the other."""
    while True:
        size = len(replica.value("list", "k") or [])
        if size and random.random() < 0.3:
            yield {"op": "delete", "index": random.randrange(size)}
        else:
            yield {"op": "insert", "value": random.random(), "index": random.randint(0, size)}


def large() -> Replica:
    """A replica with a list that is stored as a checkpoint and a few steps."""
    replica = Replica(1)
    replica.do("list", "insert", values=[f"value {number}" for number in range(100)])
    for number in range(5):
        replica.do("list", "insert", value=f"more {number}", index=number * 7)
    assert len(rows(replica)) == 6
    return replica


def rows(replica: Replica) -> dict[bytes, bytes]:
    return replica.rows()[Table.FOLDED]


def damage(replica: Replica, number: int, *, gone: bool) -> None:
    """Let a row of the list go, or flip a bit of it."""
    key, row = sorted(rows(replica).items())[number]
    flipped = row[:-1] + bytes((row[-1] ^ 0x40,))
    replica.store.commit({Table.FOLDED: {key: None if gone else flipped}})


def reread(replica: Replica) -> object:
    """What is stored, whatever is in memory."""
    with replica.store.snapshot() as snapshot:
        return KIND.value(materialised.reread_materialised(snapshot, LIST.prefix, KIND).value)


@pytest.mark.parametrize("kept_bytes", [0, 1_000, LIMITS.folded_bytes])
def test_random_executions_with_steps(kept_bytes: int, monkeypatch: Patch) -> None:
    """Nothing is too small for steps, and little, or nothing, of it is kept in memory."""
    written = 0
    pack = materialised._pack_steps

    def counted(*arguments: Any) -> bytes:
        nonlocal written
        written += 1
        return pack(*arguments)

    monkeypatch.setattr(materialised, "_SMALL_BYTES", 0)
    monkeypatch.setattr(materialised, "_SHARE", 100)
    monkeypatch.setattr(materialised, "_pack_steps", counted)
    monkeypatch.setattr(materialised, "LIMITS", Limits(folded_bytes=kept_bytes))
    for seed in range(12):
        Execution(seed, ("list",)).run()
    assert written > 100


def test_a_list_is_the_same_wherever_its_steps_begin() -> None:
    random, a = Random(7), Replica(1)
    for _, plain in zip(range(400), edits(random, a), strict=False):
        a.commit(update(LIST, plain))
        assert reread(a) == a.value("list", "k")
    check_books(a.store)
    assert len(rows(a)) > 2


def test_who_finds_nothing_in_memory_reads_the_same(monkeypatch: Patch) -> None:
    replica = large()
    shown = replica.value("list", "k")
    forget(monkeypatch)
    assert replica.value("list", "k") == shown
    replica.reopen()
    replica.do("list", "insert", value="last")
    assert [item["value"] for item in replica.value("list", "k")][-1] == "last"
    check_books(replica.store)


def test_a_deleted_list_leaves_no_steps() -> None:
    replica = large()
    replica.do("list", "delete")
    assert rows(replica) == {}


def test_a_new_checkpoint_takes_the_steps_away() -> None:
    replica = large()
    counts = []
    for _ in range(300):
        replica.do("list", "insert", value="more", index=1)
        counts.append(len(rows(replica)))
    assert 1 in counts
    assert max(counts) > 30
    assert min(counts[counts.index(1) + 1 :]) >= 1
    check_books(replica.store)


def test_a_list_that_grows_takes_no_more_than_so_many_steps(monkeypatch: Patch) -> None:
    monkeypatch.setattr(materialised, "_STEPS_MOST", 10)
    replica = large()
    for _ in range(30):
        replica.do("list", "insert", value="more", index=1)
        assert len(rows(replica)) <= 11


def test_a_commit_that_fails_leaves_nothing_behind(monkeypatch: Patch) -> None:
    """What it had worked out is in memory, under a name that nothing stored has."""
    replica = large()
    shown = replica.value("list", "k")

    def failing(store: MemoryStore, batch: Batch) -> None:
        raise StorageFailed("no")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "commit", failing)
        with pytest.raises(StorageFailed):
            replica.do("list", "insert", value="lost")
    assert replica.value("list", "k") == shown
    replica.do("list", "insert", value="last")
    assert len(replica.value("list", "k")) == len(shown) + 1
    check_books(replica.store)


def test_a_reader_of_an_older_state_sees_that(monkeypatch: Patch) -> None:
    replica = large()
    shown = replica.value("list", "k")
    with replica.store.snapshot() as snapshot:
        replica.do("list", "insert", value="later")
        older = materialised.read_materialised(snapshot, LIST.prefix, KIND).value
    assert KIND.value(older) == shown
    assert len(replica.value("list", "k")) == len(shown) + 1


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("damaged", [True, False])
def test_what_is_damaged_or_gone_is_not_read(
    number: int, damaged: bool, monkeypatch: Patch
) -> None:
    replica = large()
    damage(replica, number, gone=not damaged)
    forget(monkeypatch)
    with pytest.raises(StorageFailed):
        replica.value("list", "k")


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("gone", [True, False])
def test_damage_is_found_and_mended(number: int, gone: bool, monkeypatch: Patch) -> None:
    """Also that of rows which nobody looks at while the value is in memory."""
    replica = large()
    shown = replica.value("list", "k")
    damage(replica, number, gone=gone)
    walk = Scrub()
    found = []
    while not walk.done:
        found += replica.engine.scrub(walk, 50)
    assert [one.key for one in found] == [LIST.prefix]
    forget(monkeypatch)
    assert replica.value("list", "k") == shown
    check_books(replica.store)


def test_a_replica_that_pulls_all_of_it_has_no_steps_of_before() -> None:
    a, b = large(), Replica(2)
    exchange(a, b)
    a.do("list", "insert", value="last", index=0)
    exchange(a, b)
    assert a.value("list", "k") == b.value("list", "k") == reread(b)
    check_books(b.store)


def test_what_is_kept_in_memory_is_bounded(monkeypatch: Patch) -> None:
    monkeypatch.setattr(materialised, "LIMITS", Limits(folded_bytes=100_000))
    for number in range(5):
        replica = Replica(number)
        replica.do("list", "insert", values=[f"value {n}" for n in range(300)])
        replica.do("list", "insert", value="last")
    kept = materialised._kept
    assert 0 < kept.held_bytes <= 100_000
    assert len(kept._values) == 2


def test_a_value_takes_no_more_memory_than_is_said() -> None:
    """One that grew by a commit at a time: only the latest is kept."""
    replica = large()
    for number in range(200):
        replica.do("list", "insert", value=number, index=number % 50)
    (kept,) = materialised._kept._values.values()
    assert kept.value.size == 305
    assert folded_size(replica) == kept.rows.size_bytes


def folded_size(replica: Replica) -> int:
    return sum(map(len, rows(replica).values()))
