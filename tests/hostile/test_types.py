"""Attacks on what a type relies on, for every type of the catalogue; and on folded values.

Each payload an honest replica stores is replaced by others. A push that a type does not refuse must
leave the two honest replicas equal, and nobody who reads it may stumble.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.record import Record
from crdtdb.replication.messages import Claim, Page
from crdtdb.types import CATALOGUE
from hostile.arena import ATTACKER, Arena, sent
from operations import creation
from replicas import Replica, missing, update

#: What no type writes.
_BROKEN: Final[dict[str, Any]] = {
    "of another kind": msgspec.msgpack.Ext(5, b"x"),
    "a huge number": (1 << 64) - 1,
    "not a number": float("nan"),
    "a nest": [[[[[[]]]]]],
    "a table": {"a": {"b": None}},
}
DOT: Final = (ATTACKER, 1)


def _honest_records(type_name: str) -> list[tuple[bytes, Record]]:
    """What the attacker would push if it were honest."""
    peer = Replica(9, entropy=lambda bits: ATTACKER)
    peer.commit(update(ObjectName("shop", type_name, "k"), creation(type_name)))
    return [(at, codec.decode_record(at, data)) for at, data in missing(peer.store, NOTHING)]


def _push_all(arena: Arena, records: list[tuple[bytes, Record]]) -> str | None:
    last = max(counter for _, r in records for _, counter in r.context.items())
    stored = [(at, codec.encode_record(at, record)) for at, record in records]
    return arena.attack(arena.push(*stored, last=last))


@pytest.mark.parametrize("type_name", CATALOGUE)
def test_an_honest_object_is_taken(arena: Arena, type_name: str) -> None:
    """Else the attacks would prove nothing."""
    assert _push_all(arena, _honest_records(type_name)) is None
    assert arena.a.replica.exists(type_name)
    arena.recover()


@pytest.mark.parametrize("broken", _BROKEN)
@pytest.mark.parametrize("type_name", CATALOGUE)
def test_a_broken_payload(arena: Arena, type_name: str, broken: str) -> None:
    """Refused, with the good records around it."""
    records = _honest_records(type_name)
    for i, (at, record) in enumerate(records):
        if not record.live:
            continue
        live = dict.fromkeys(record.live, _BROKEN[broken])
        others = [*records[:i], (at, Record(live, record.context)), *records[i + 1 :]]
        assert _push_all(arena, others) == "bad-record", at
    assert arena.a.seen.get(ATTACKER) == 0
    arena.recover()


@pytest.mark.parametrize("type_name", CATALOGUE)
def test_a_broken_payload_in_a_page(arena: Arena, type_name: str) -> None:
    """It blocks the claim that comes with it."""
    stored = [
        (at, codec.encode_record(at, Record(dict.fromkeys(r.live, _BROKEN["a nest"]), r.context)))
        for at, r in _honest_records(type_name)
    ]
    claimed = arena.a.seen.with_dot((ATTACKER, 1_000)).flat()
    arena.offer(lambda pull: Page(pull.session, pull.since, 1, 9, stored, Claim(claimed, 0)))
    assert arena.a.refused("bad-record") == 1
    assert arena.a.seen.get(ATTACKER) == 0
    assert not arena.a.replica.exists(type_name) or type_name in ("set", "opcounter")
    arena.recover()


@pytest.mark.parametrize("type_name", CATALOGUE)
def test_a_record_of_one_type_at_another(arena: Arena, type_name: str) -> None:
    """Whatever it does, both honest replicas can read it and are equal."""
    for other in CATALOGUE:
        records = []
        prefix = ObjectName("shop", type_name, "k").prefix
        for at, record in _honest_records(other):
            _, tail = address.split_object(at)
            records.append((prefix + tail, record))
        counter = arena.a.seen.get(ATTACKER)
        moved = [(at, _shifted(r, counter)) for at, r in records]
        last = max(n for _, r in moved for _, n in r.context.items())
        stored = [(at, codec.encode_record(at, record)) for at, record in moved]
        arena.attack(arena.push(*stored, first=counter + 1, last=last))
        arena.a.replica.value(type_name)
    arena.recover()
    assert arena.b.replica.value(type_name) == arena.a.replica.value(type_name)


def _shifted(record: Record, by: int) -> Record:
    """The same operations with later dots."""
    live = {(incarnation, n + by): payload for (incarnation, n), payload in record.live.items()}
    return Record(live, VersionVector({i: n + by for i, n in record.context.items()}))


# -- folded values --------------------------------------------------------------------------------

_COUNTER: Final = ObjectName("shop", "opcounter", "k")


_LEAF: Final = ObjectName("shop", "map", "k").prefix + address.leaf(["x"], "opcounter")


def test_a_folded_value_in_a_push(arena: Arena) -> None:
    """It once stood for the operations of others too, and took out what they had counted."""
    for at in (address.base(_COUNTER), _LEAF + address.BASE):
        base = sent(at, "1000", DOT, *arena.a.seen.items())
        assert arena.attack(arena.push(base)) == "forged-base"
    assert arena.a.replica.value("opcounter") == 1
    arena.recover()
    assert arena.b.replica.value("opcounter") == 1


def test_a_folded_value_of_what_nobody_has_seen(arena: Arena) -> None:
    base = sent(address.base(_COUNTER), "1000", DOT, (arena.b.incarnation, 1_000))
    claimed = arena.a.seen.with_dot(DOT).flat()
    arena.offer(lambda pull: Page(pull.session, pull.since, 1, 9, [base], Claim(claimed, 0)))
    assert arena.a.refused("beyond-claim") == 1
    assert arena.a.replica.value("opcounter") == 1
    arena.recover()


def test_a_folded_value_of_what_was_seen(arena: Arena) -> None:
    """What it stands for is here already, operation by operation."""
    base = sent(address.base(_COUNTER), "1000", *arena.a.seen.items())
    claimed = arena.a.seen.with_dot(DOT).flat()
    arena.offer(lambda pull: Page(pull.session, pull.since, 1, 9, [base], Claim(claimed, 0)))
    assert arena.a.replica.value("opcounter") == 1
    arena.recover()


def test_two_folded_values(arena: Arena) -> None:
    """Of one object there is one."""
    at = address.base(_COUNTER)
    context = VersionVector.of([DOT, (ATTACKER, 2)])
    base = at, codec.encode_record(at, Record({DOT: "1", (ATTACKER, 2): "2"}, context))
    claimed = arena.a.seen.with_dot((ATTACKER, 2)).flat()
    arena.offer(lambda pull: Page(pull.session, pull.since, 1, 9, [base], Claim(claimed, 0)))
    assert arena.a.refused("bad-record") == 1
    arena.recover()
