"""A merge of many records is worked out ahead, while local commits go on; then it is one commit."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.ahead import Ahead
from crdtdb.draft import Span
from crdtdb.errors import InvalidOperation, Problem
from crdtdb.joining import Part, Records
from crdtdb.kinds import log_of
from crdtdb.replication import Phase, donor, staging
from crdtdb.replication.messages import Evicted, Push, read_vector, write_frame
from crdtdb.rows import head_of, record_of
from crdtdb.scrub import Scrub
from crdtdb.store.base import Table
from crdtdb.transaction import Erase
from operations import OPERATIONS, random_operation
from pulling import RECORDS, Pulling
from replicas import Replica, Staged, acquaint, update

_KEYS = ("k0", "k1", "k2")


# -- the engine -----------------------------------------------------------------------------------


def _write(replica: Replica, type_name: str, random: Random, count: int) -> None:
    for _ in range(count):
        key = random.choice(_KEYS)
        name = ObjectName("shop", type_name, key)
        plain = random_operation(type_name, random)
        if random.random() < 0.15:
            plain = {"op": "delete"}
        with suppress(Problem):  # not every operation is possible in every state
            replica.commit(update(name, plain))


def _parts(records: Records, most: int) -> list[Part]:
    """Records in the order of their addresses, in parts that divide no log."""
    places = {at: place for place, (at, _) in enumerate(records)}
    parts: list[list[tuple[bytes, bytes]]] = []
    for at, data in sorted(records):
        log = log_of(at)
        if not parts or (len(parts[-1]) >= most and not (log and parts[-1][-1][0].startswith(log))):
            parts.append([])
        parts[-1].append((at, data))
    ends = [part[0][0] for part in parts[1:]]
    return [
        Part(sorted(part, key=lambda entry: places[entry[0]]), Span(b"", end))
        for part, end in zip(parts, [*ends, None], strict=True)
    ]


def _of(records: Records, prefixes: Collection[bytes]) -> Records:
    starts = tuple(start for prefix in prefixes for start in (prefix, address.cut(prefix)))
    return [entry for entry in records if entry[0].startswith(starts)]


def _twin(replica: Replica) -> Replica:
    twin = Replica(replica.number)
    twin.store = replica.store.copy()
    twin.now_ms = replica.now_ms
    twin.reopen()
    return twin


def _said(replica: Replica) -> dict[str, Any]:
    """What is in the rows, but for places in the sequence."""
    rows = replica.rows()
    return {
        "records": {at: record_of(at, row)[0] for at, row in rows[Table.RECORDS].items()},
        "heads": {
            prefix: head_of(prefix, row).numbered(0) for prefix, row in rows[Table.HEADS].items()
        },
        "in order": sorted(rows[Table.SEQUENCE].values()),
        "lost": len(rows[Table.CONFLICTS]),
        "seen": replica.seen,
        "digest": replica.digest(),
    }


def _is_sound(replica: Replica) -> bool:
    scrub = Scrub()
    while not scrub.done:
        if replica.engine.scrub(scrub, 1_000):
            return False
    return True


def _apart(type_name: str, random: Random) -> tuple[Replica, Replica]:
    """Two replicas that have something in common and something that the other lacks."""
    a, b = Replica(1), Replica(2)
    acquaint(a, b)
    for replica in (a, b):
        _write(replica, type_name, random, 4)
    a.pull(b)
    b.pull(a)
    _write(a, type_name, random, 12)
    _write(b, type_name, random, 4)
    return a, b


def _merge_ahead(b: Replica, staged: Staged, parts: list[Part], local: list[Any]) -> None:
    """Work all parts out, with some local writes after each, and end it."""
    b.engine.begin_ahead()
    for part, writes in zip(parts, local, strict=True):
        b.engine.work_ahead(part, staged.seen)
        _carry_out(b, writes)
    ahead = b.engine.ahead
    assert ahead is not None
    if ahead.is_stale:
        b.engine.ahead = None
        b.merge(*staged)
    else:
        b.engine.merge_ahead(lambda some: _of(staged.records, some), staged.seen, staged.time)


def _carry_out(replica: Replica, writes: list[Any]) -> None:
    for write in writes:
        with suppress(Problem):
            replica.commit(write)


def _local(type_name: str, random: Random) -> list[Any]:
    writes: list[Any] = []
    for _ in range(random.randrange(3)):
        name = ObjectName("shop", type_name, random.choice(_KEYS))
        if random.random() < 0.03:
            writes.append(Erase(address.bucket_prefix("shop")))
        else:
            is_delete = random.random() < 0.2
            plain = {"op": "delete"} if is_delete else random_operation(type_name, random)
            with suppress(InvalidOperation):
                writes.append(update(name, plain))
    return writes


@pytest.mark.parametrize("type_name", sorted(OPERATIONS))
def test_it_comes_to_what_a_merge_at_once_comes_to(type_name: str) -> None:
    """Whatever is written here after each of its parts."""
    done_again = 0
    for seed in range(25):
        random = Random(f"{type_name} {seed}")
        a, b = _apart(type_name, random)
        staged = b.stage(a)
        parts = _parts(staged.records, 1 + seed % 3)
        local = [_local(type_name, random) for _ in parts]
        twin = _twin(b)
        for writes in local:
            _carry_out(twin, writes)
        twin.merge(*staged)
        _merge_ahead(b, staged, parts, local)
        done_again += any(local)
        assert _said(b) == _said(twin), f"seed {seed}"
        assert _is_sound(b), f"seed {seed}"
    assert done_again > 5


@pytest.mark.parametrize("type_name", ["set", "counter", "map", "text"])
def test_who_does_nothing_again_is_noticed(type_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted mistake: what local commits have changed meanwhile is overwritten."""
    monkeypatch.setattr(Ahead, "note", lambda *_: None)
    with pytest.raises(AssertionError, match="seed"):
        test_it_comes_to_what_a_merge_at_once_comes_to(type_name)


def test_another_merge_in_between_makes_it_stale() -> None:
    a, b, c = Replica(1), Replica(2), Replica(3)
    a.do("set", "add", value=1)
    c.do("set", "add", value=2)
    staged = b.stage(a)
    b.engine.begin_ahead()
    b.engine.work_ahead(Part(staged.records, Span(b"", None)), staged.seen)
    assert b.engine.ahead is not None
    assert not b.engine.ahead.is_stale
    b.pull(c)
    assert b.engine.ahead.is_stale


def test_a_cut_over_several_objects_makes_it_stale() -> None:
    a, b = Replica(1), Replica(2)
    a.do("set", "add", value=1)
    b.do("set", "add", value=2)
    staged = b.stage(a)
    b.engine.begin_ahead()
    b.engine.work_ahead(Part(staged.records, Span(b"", None)), staged.seen)
    b.commit(Erase(address.bucket_prefix("shop")))
    assert b.engine.ahead is not None
    assert b.engine.ahead.is_stale


def test_what_is_kept_of_as_many_as_one_commit_takes() -> None:
    """Of 64 MiB that a catch-up may take, with the frame of the log that it becomes."""
    a, b, count = Replica(1), Replica(2), 400
    names = [ObjectName("shop", "register", f"key-{i:08}") for i in range(count)]
    a.commit(*(update(name, {"op": "set", "value": "x" * 50}) for name in names))
    staged = b.stage(a)
    b.engine.begin_ahead()
    for part in _parts(staged.records, 128):
        b.engine.work_ahead(part, staged.seen)
    assert b.engine.ahead is not None
    kept_bytes = b.engine.ahead._layer.size_bytes / count
    assert 400 < kept_bytes < 800
    assert staging.ONE_COMMIT_RECORDS * kept_bytes < 40 * 2**20


# -- a pull ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(donor, "PAGE_RECORDS", 10)
    monkeypatch.setattr(staging, "SHORT_PART_RECORDS", 8)
    monkeypatch.setattr("crdtdb.replication.repair.SHORT_PART_RECORDS", 8)


#: Steps after the first one until all is worked out.
PARTS = 12


def _working() -> Pulling:
    """A replica that has all of a pull and has worked out the first part of it."""
    pair = Pulling(served=True)
    pair.write()
    for _ in range(1_000):
        if pair.puller.engine.ahead is not None:
            return pair
        pair.tick()
    raise AssertionError("it never did")


def _shown(pair: Pulling) -> int:
    return sum(len(pair.puller.value("set", f"k{i}")) for i in range(7))


@pytest.mark.parametrize("parts", [0, 1, 4, 8, 11])
def test_local_writes_to_the_same_objects_in_between(parts: int) -> None:
    pair = _working()
    for _ in range(parts):
        pair.tick()
    assert pair.puller.engine.ahead is not None
    assert _shown(pair) == 0, "a part shows"
    for key in ("k0", "k3", "k6"):
        pair.put(pair.puller, key, 1_000)
        pair.put(pair.puller, key, 3)
    pair.puller.do("set", "delete", key="k5")
    pair.run_until_equal()
    pair.run(5_000)
    assert pair.donor.digest() == pair.puller.digest()
    assert _shown(pair) >= RECORDS + 3
    assert _is_sound(pair.puller)


def _merged_at_once(pair: Pulling) -> Replica:
    """What the puller would be that took in now all that is staged."""
    twin, pull = _twin(pair.puller), staging.Staging(pair.puller.engine)
    twin.merge(pull.everything(), read_vector(pull.claim.seen), pull.claim.time)
    return twin


@pytest.mark.parametrize("parts", range(PARTS))
@pytest.mark.parametrize("then", [None, "remove", "delete"])
def test_local_commits_change_records_that_are_worked_out(parts: int, then: str | None) -> None:
    """Between any two steps: the first record that is worked out, and the last."""
    pair = _working()
    for _ in range(parts):
        pair.tick()
    ahead = pair.puller.engine.ahead
    assert ahead is not None
    worked_out = sorted(ahead.addresses)
    for prefix, tail in map(address.split_object, (worked_out[0], worked_out[-1])):
        key = address.name_of(prefix).key
        member: dict[str, Any] = {"value": address.member_value(tail)}
        pair.puller.do("set", "add", key=key, **member)
        if then is not None:
            pair.puller.do("set", then, key=key, **(member if then == "remove" else {}))
    while not pair.puller.seen.includes(pair.donor.seen):
        assert pair.puller.engine.ahead is ahead, "it was begun anew"
        twin = _merged_at_once(pair)
        pair.tick()
    assert _said(pair.puller) == _said(twin)
    assert _is_sound(pair.puller)


@pytest.mark.parametrize("parts", range(PARTS))
def test_a_kill_in_between(parts: int) -> None:
    pair = _working()
    for _ in range(parts):
        pair.tick()
    assert pair.puller.engine.ahead is not None
    asked = len(pair.asked)
    pair.restart()
    assert _shown(pair) == 0
    pair.run_until_equal()
    assert len(pair.asked) == asked, "what was there was asked for again"


def test_who_is_evicted_meanwhile_takes_nothing_in() -> None:
    pair = _working()
    evicted = write_frame(Evicted(pair.puller.engine.state.incarnation))
    pair.machine.step(pair.machines["a"].me, evicted, pair.now_ms)
    assert pair.machine.phase is Phase.EVICTED
    assert pair.puller.engine.ahead is None
    pair.run(3_000)
    assert _shown(pair) == 0


def test_a_push_in_between_is_held_until_it_is_through() -> None:
    pair = _working()
    third = Replica(3)
    committed = third.commit(update(ObjectName("shop", "set", "k1"), {"op": "add", "value": 7_000}))
    push = committed.push
    assert push is not None
    flat = push.deps.flat()
    message = Push(push.origin, push.first, push.last, flat, push.time, list(push.records))
    me = pair.machines["a"].me
    third_me = type(me)(me.cluster, push.origin, "c", "", "c", False)
    pair.machine.step(third_me, write_frame(message), pair.now_ms)
    assert 7_000 not in pair.puller.value("set", "k1")
    for _ in range(100):
        pair.tick()
    assert 7_000 in pair.puller.value("set", "k1")
    assert _shown(pair) == RECORDS + 1


def test_who_always_cuts_in_between_merges_at_once() -> None:
    """It is begun a few times, and never put off for ever."""
    pair = _working()
    for number in range(200):
        pair.puller.do("set", "add", key=f"other-{number}", value=1)
        pair.puller.commit(Erase(address.key_prefix("shop", "set", "other-")))
        pair.tick()
        if pair.puller.seen.includes(pair.donor.seen):
            break
    assert _shown(pair) == RECORDS
