"""Attacks on membership and stability: what everybody waits for, and who counts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, format_incarnation
from crdtdb.jsonvalue import dump
from crdtdb.reading import SYSTEM_BUCKET
from crdtdb.replication import Phase
from crdtdb.replication.messages import Evicted, Summary
from crdtdb.replication.reclaiming import FEED_MS
from hostile.arena import ATTACKER, Arena, sent


def planted(key: str, value: Any) -> tuple[bytes, bytes]:
    """A register in the bucket that members are kept in."""
    at = address.own(ObjectName(SYSTEM_BUCKET, "register", key))
    return sent(at, (0, dump(value)), (ATTACKER, 1))


BAD_KEYS = ["", "x", "-1", "+1", " 1", "1_0", "0x1f", "f" * 16 + "f", "F" * 16, "1" * 300, "٣"]


@pytest.mark.parametrize("key", BAD_KEYS)
@pytest.mark.parametrize("kind", ["member/", "evicted/"])
def test_keys_that_name_no_incarnation(arena: Arena, kind: str, key: str) -> None:
    """Such a key is nobody. It once kept every replica that had heard of it from starting."""
    members = dict(arena.a.machine.members)
    assert arena.attack(arena.push(planted(kind + key, {"name": "x", "endpoint": "x"}))) is None
    assert arena.a.machine.members == members
    assert not arena.a.machine.evictions
    arena.recover()


@pytest.mark.parametrize("value", [None, 1, "x", [], [1], True])
def test_members_that_are_none(arena: Arena, value: Any) -> None:
    members = dict(arena.a.machine.members)
    key = "member/" + format_incarnation(99)
    assert arena.attack(arena.push(planted(key, value))) is None
    assert arena.a.machine.members == members
    arena.recover()


@pytest.mark.parametrize(
    "value", [{}, {"name": None, "endpoint": 5}, {"name": [], "at_ms": "late"}, {"at_ms": 1e300}]
)
@pytest.mark.parametrize("kind", ["member/", "evicted/"])
def test_members_of_another_shape(arena: Arena, kind: str, value: Any) -> None:
    """They may count, as who writes to that bucket says; nothing stops because of them."""
    key = kind + format_incarnation(99)
    assert arena.attack(arena.push(planted(key, value))) is None
    arena.recover()


def test_made_up_members(arena: Arena) -> None:
    """They block reclaiming, which `blocking` says, until an operator evicts them; no more."""
    records = []
    for number in range(100):
        at = address.own(
            ObjectName(SYSTEM_BUCKET, "register", "member/" + format_incarnation(1_000 + number))
        )
        value = dump({"name": "ghost", "region": "", "endpoint": ""})
        records.append(sent(at, (0, value), (ATTACKER, number + 1)))
    assert arena.attack(arena.push(*records, last=100)) is None
    assert arena.a.machine.blocking().keys() >= set(range(1_000, 1_100))
    arena.recover()
    arena.a.machine.evict("ghost")
    arena.recover()
    assert not arena.a.machine.blocking().keys() & set(range(1_000, 1_100))


def test_an_honest_member_struck_off(arena: Arena) -> None:
    """Its entry is removed: it sees that, and writes itself in again."""
    entry = ObjectName(
        SYSTEM_BUCKET, "register", "member/" + format_incarnation(arena.b.incarnation)
    )
    gone = sent(address.own(entry), ..., (ATTACKER, 1), *arena.a.seen.items())
    assert arena.attack(arena.push(gone)) is None
    arena.recover()
    assert arena.b.incarnation in arena.a.machine.members


def test_an_honest_member_evicted(arena: Arena) -> None:
    """Whoever may speak at all may evict, as any operator may: it is fenced, and can rejoin."""
    b = arena.b.incarnation
    value = {"name": "b", "endpoint": "b", "by": "x", "at_ms": 0}
    eviction = planted("evicted/" + format_incarnation(b), value)
    assert arena.attack(arena.push(eviction)) is None
    arena.run(5_000)
    assert arena.b.machine.phase is Phase.EVICTED
    arena.rejoin(arena.b)
    arena.run(10_000)
    arena.recover()


def test_an_eviction_of_nobody(arena: Arena) -> None:
    """Who is told of the eviction of another incarnation does not mind."""
    for incarnation in (0, ATTACKER, arena.b.incarnation, (1 << 64) - 1):
        assert arena.attack(Evicted(incarnation)) is None
    assert arena.a.machine.phase is Phase.SERVING
    arena.recover()


def test_reports_of_those_who_do_not_count(arena: Arena) -> None:
    """Anybody can make up members; what they are said to have seen is not kept."""
    for start in range(0, 100_000, 20_000):
        reports: dict[int, list[int]] = {number: [] for number in range(start, start + 20_000)}
        assert arena.attack(Summary([], 0, reports, False)) is None
        negative = {-1 - number: arena.a.seen.flat() for number in range(100)}
        assert arena.attack(Summary([], 0, negative, False)) is None
    cluster = arena.a.machine._cluster
    assert len(cluster.counting.reports._counted) + len(cluster.counting.reports._waiting) <= 4
    assert len(cluster.counting.reported_ms) <= 4
    arena.recover()


def test_reports_ahead_of_what_is_here(arena: Arena) -> None:
    """They wait, one per member, until this replica has seen as much."""
    b = arena.b.incarnation
    for ahead in range(1, 1_000):
        reported = arena.a.seen.with_dot((b, 1_000 + ahead)).flat()
        assert arena.attack(Summary([], 0, {b: reported}, False)) is None
    assert not arena.a.machine.stable().covers((b, 1_000))
    assert arena.a.seen.includes(arena.a.machine.stable())
    arena.recover()


def test_reports_that_make_things_look_stable(arena: Arena) -> None:
    """`b` is away, and the attacker says that it has seen all: what is deleted is reclaimed.

    `b` then gets everything anew, and what was deleted does not come back.
    """
    arena.run(5_000)
    arena.away = {"b"}
    arena.write("set", "add", value="short-lived")
    arena.write("set", "remove", value="short-lived")
    arena.write("set", "add", by_whom="b", value="unheard of")
    report = {arena.b.incarnation: arena.a.seen.flat()}
    for _ in range(20):
        assert arena.attack(Summary(arena.a.seen.flat(), 0, report, False)) is None
        arena.run(FEED_MS // 10, FEED_MS // 100)
    assert arena.a.replica.engine.reclaimed.records > 0, "the attack has no effect any more"
    arena.away = set()
    arena.recover()
    assert "unheard of" in arena.a.replica.value("set")
    assert "short-lived" not in arena.b.replica.value("set")


def test_a_joiner_that_never_comes_back(arena: Arena) -> None:
    """It is a member, blocks reclaiming, is named as the one who does, and nothing else waits."""
    arena.join()
    arena.run(10_000)
    arena.recover()
    assert ATTACKER in arena.a.machine.blocking()
    assert arena.a.machine.stable() == NOTHING


def test_a_joiner_of_another_name_at_an_endpoint(arena: Arena) -> None:
    """It takes nobody's place among the members."""
    impostor = msgspec.structs.replace(arena.attacker, endpoint="b", name="b")
    arena.attack(Summary([], 0, {}, True), impostor)
    arena.run(5_000)
    arena.recover()
    assert arena.b.incarnation in arena.a.machine.members
