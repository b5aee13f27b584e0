"""The digest tree after any history is the tree of what is there, whatever order it came in."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtdb import address, digests, rows
from crdtdb.digests import END, START, Digest, DigestView, digest_from_scratch
from crdtdb.errors import StorageFailed
from crdtdb.store.base import Batch
from crdtdb.transaction import Erase
from replicas import Replica, exchange

KEYS: Final = [f"k{number}" for number in range(12)]
WRITES: Final = st.one_of(
    st.tuples(st.just("set"), st.just("add"), st.sampled_from(KEYS), st.integers(0, 3)),
    st.tuples(st.just("set"), st.just("remove"), st.sampled_from(KEYS), st.integers(0, 3)),
    st.tuples(st.just("set"), st.just("clear"), st.sampled_from(KEYS), st.none()),
    st.tuples(st.just("counter"), st.just("increment"), st.sampled_from(KEYS), st.none()),
    st.tuples(st.just("opcounter"), st.just("increment"), st.sampled_from(KEYS), st.none()),
    st.tuples(st.just("opcounter"), st.just("delete"), st.sampled_from(KEYS), st.none()),
)
STEPS: Final = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.one_of(
            WRITES,
            st.sampled_from(["erase", "pull", "reclaim", "reopen", "ask", "ask", "fail", "scrub"]),
        ),
    ),
    max_size=40,
)


def step(replicas: list[Replica], which: int, what: Any) -> None:
    a, b = replicas[which], replicas[1 - which]
    match what:
        case "erase":
            a.commit(Erase(address.type_prefix("shop", "set")))
        case "pull":
            a.pull(b)
        case "reclaim":
            a.reclaim(a.seen.meet(b.seen))
        case "reopen":
            a.reopen()
        case "ask":
            check(a)
        case "fail":
            fail(a)
        case "scrub":
            pass
        case type_name, op, key, value:
            a.do(type_name, op, key=key, **({} if value is None else {"value": value}))


def fail(a: Replica) -> None:
    """A write that the disk refuses."""

    def refuse(_: Batch) -> None:
        raise StorageFailed("refused")

    with patch.object(a.store, "commit", refuse), pytest.raises(StorageFailed):
        a.do("counter", "increment", key=KEYS[0])


def check(a: Replica) -> None:
    with a.engine.digests.view() as view:
        assert view.digest() == digest_from_scratch(view.snapshot)
        prefixes = [prefix for prefix, _ in view.objects(START, END)]
        for start, end in pairwise([START, *prefixes[::3], END]):
            assert view.digest(start, end) == digest_from_scratch(view.snapshot, start, end)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_the_tree_is_that_of_what_is_there(steps: list[tuple[int, Any]]) -> None:
    with patch.object(digests, "PAGE_HEADS", 2):
        replicas = [Replica(1), Replica(2)]
        for which, what in steps:
            step(replicas, which, what)
        for replica in replicas:
            check(replica)
        exchange(*replicas)
        a, b = (asked(replica) for replica in replicas)
        assert a == b
        for replica in replicas:
            check(replica)


def asked(a: Replica) -> Digest:
    with a.engine.digests.view() as view:
        return view.digest()


def test_a_note_of_a_write_that_is_under_way_counts_when_it_is_durable() -> None:
    a = Replica(1)
    a.do("counter", "increment")
    before = asked(a)
    seen: list[Digest] = []
    commit = a.store.commit

    def look_around(batch: Batch) -> None:
        seen.append(asked(a))
        commit(batch)
        seen.append(asked(a))

    with patch.object(a.store, "commit", look_around):
        a.do("counter", "increment")
    assert seen == [before, asked(a)]
    assert before != asked(a)
    check(a)


def test_it_is_loaded_once_and_then_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    a = Replica(1)
    monkeypatch.setattr(digests, "PAGE_HEADS", 4)
    for number in range(100):
        a.do("counter", "increment", key=f"{number:03}")
    asked(a)
    scanned = 0
    scan_heads = rows.scan_heads

    def counted(*arguments: Any) -> Any:
        nonlocal scanned
        for entry in scan_heads(*arguments):
            scanned += 1
            yield entry

    monkeypatch.setattr(digests, "scan_heads", counted)
    for number in range(100):
        a.do("counter", "increment", key=f"{number:03}")
        asked(a)
    assert scanned == 0
    with a.engine.digests.view() as view:
        bounds = [prefix for prefix, _ in view.objects(START, END)]
        scanned = 0
        view.digest(bounds[1], bounds[98])
        assert scanned <= 2 * (4 + 1)
    a.do("counter", "increment", key="000.5")  # a page grows, and is divided when it is too large
    for number in range(20):
        a.do("counter", "increment", key=f"000.5{number}")
    scanned = 0
    check_sum = asked(a)
    assert 0 < scanned < 60
    with a.store.snapshot() as snapshot:
        assert check_sum == digest_from_scratch(snapshot)


def test_bounds_divide_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    a = Replica(1)
    monkeypatch.setattr(digests, "PAGE_HEADS", 4)
    for number in range(160):
        a.do("counter", "increment", key=f"{number:03}")
    with a.engine.digests.view() as view:
        assert counts(view, view.bounds(START, END, 16)) == pytest.approx([10] * 16, abs=7)
        prefixes = [prefix for prefix, _ in view.objects(START, END)]
        few = view.bounds(prefixes[3], prefixes[6], 16)
        assert few == prefixes[4:6]


def counts(view: DigestView, bounds: list[bytes]) -> list[int]:
    edges = [START, *bounds, END]
    return [view.digest(start, end).objects for start, end in pairwise(edges)]


def test_the_systems_buckets_do_not_count() -> None:
    a = Replica(1)
    asked(a)
    with a.store.snapshot() as snapshot:
        assert digest_from_scratch(snapshot) == (0, 0)


def test_a_write_that_changes_very_many_is_loaded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    a = Replica(1)
    monkeypatch.setattr(digests, "MOST_NOTED", 2)
    for number in range(10):
        a.do("set", "add", key=f"{number}", value=1)
    check(a)
    a.commit(Erase(address.type_prefix("shop", "set")))
    assert asked(a) == (0, 0)
    check(a)
