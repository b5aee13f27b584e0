"""Whatever row of a replica is damaged while it is down: it starts, and is put right.

Only its own state it cannot do without (`test_damaged_rows`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from crdtdb import Database, address
from crdtdb.causal import VersionVector
from crdtdb.reading import Reading
from crdtdb.replication import Phase, mending
from crdtdb.replication.evictions import evicting, read_evictions
from crdtdb.replication.laid import laying, read_floors
from crdtdb.replication.members import SYSTEM_PREFIX, Member, adding, read_members
from crdtdb.replication.messages import Sender
from crdtdb.scrub import Scrub
from crdtdb.state import STATE_KEY
from crdtdb.store.base import Table
from crdtdb.store.memory import MemoryStore
from crdtdb.transaction import Erase
from pairs import Pair
from replicas import Replica

GONE: Final = Member(77, "c", "", "c")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits to look for damage, or to ask for what is damaged."""
    monkeypatch.setattr(mending, "FIRST_MS", 1_000)
    monkeypatch.setattr(mending, "ASK_MS", 100)


def written() -> Pair:
    """Two replicas that are level, with rows of every kind, of the system's own, too."""
    pair = Pair()
    pair.run(2_000)
    a = pair.replicas["a"]
    a.do("set", "add", values=["milk", "bread", "eggs"], key="cart")
    a.do("set", "remove", value="eggs", key="cart")
    a.do("opcounter", "increment", key="log")
    a.do("list", "insert", key="todo", index=0, values=["a", "b"])
    a.engine.commit([evicting([GONE], "a", 0)])
    a.engine.commit([laying(VersionVector().floor, {GONE.incarnation: 5})])
    pair.run(8_000)
    assert a.reclaim()
    a.do("gset", "add", value=1)
    a.commit(Erase(address.type_prefix("shop", "gset")))
    pair.run(2_000)
    assert pair.replicas["b"].seen == a.seen
    return pair


def rows_of(replica: Replica) -> Iterator[tuple[Table, bytes]]:
    for table, rows in replica.rows().items():
        yield from ((table, key) for key in rows if key != STATE_KEY)


def stopped(replica: Replica, flipped: tuple[Table, bytes], position: int) -> Replica:
    """A copy of a replica that is down, with one bit of one row flipped."""
    copy = Replica(replica.number + 10)
    copy.store = replica.store.copy()
    table, key = flipped
    row = bytearray(replica.rows()[table][key])
    row[position] ^= 0x40
    copy.store.commit({table: {key: bytes(row)}})
    copy.reopen()
    return copy


def known(replica: Replica) -> tuple[Any, ...]:
    """What a replica knows of its cluster."""
    with replica.store.snapshot() as snapshot:
        reading = Reading(snapshot)
        return read_members(reading), read_evictions(reading), read_floors(reading, {})


def test_a_replica_starts_and_is_put_right_whatever_is_damaged() -> None:
    original = written()
    a, b = original.replicas["a"], original.replicas["b"]
    for flipped in rows_of(a):
        for position in (-1, 9 if flipped[0] is not Table.META else 2):
            if position >= len(a.rows()[flipped[0]][flipped[1]]):
                continue
            damaged = stopped(a, flipped, position)
            other = Replica(b.number + 20)
            other.store = b.store.copy()
            other.reopen()
            pair = Pair(damaged, other)
            assert pair.machines["a"].phase is Phase.SERVING, flipped
            assert pair.machines["a"].members.keys() >= known(a)[0].keys(), flipped
            pair.run(4_000)
            damaged.do("set", "add", value="tea", key="cart")
            damaged.do("counter", "increment", key="views")
            pair.run(2_000)
            assert damaged.value("set", "cart") == ["bread", "milk", "tea"], flipped
            assert damaged.digest() == other.digest(), flipped
            assert known(damaged) == known(other), flipped
            assert not damaged.engine.damaged, flipped
            walk = Scrub()
            while not walk.done:
                assert damaged.engine.scrub(walk, 100) == [], flipped


def test_what_is_known_of_the_cluster_is_right_before_anybody_goes_by_it() -> None:
    """A head that is damaged says nothing of a member; its records do, and no peer is needed."""
    original = written()
    a, b = original.replicas["a"], original.replicas["b"]
    heads = [key for key in a.rows()[Table.HEADS] if key.startswith(SYSTEM_PREFIX)]
    assert len(heads) >= 4
    for prefix in heads:
        damaged = stopped(a, (Table.HEADS, prefix), -1)
        pair = Pair(damaged, b)
        assert known(damaged) == known(a)
        assert pair.machines["a"].members == known(a)[0]
        assert pair.machines["a"].mending.found == 1


def test_a_damaged_name_is_what_the_others_call_it() -> None:
    store = MemoryStore()
    engine = Database(store, replica="eu-1").engine
    me = Sender("crdtdb", engine.take_incarnation(), "eu-1", "", "", False)
    row = meta(store)[b"replica"]
    for position in range(len(row)):
        flipped = row[:position] + bytes((row[position] ^ 0x40,)) + row[position + 1 :]
        alone = store.copy()
        alone.commit({Table.META: {b"replica": flipped}})
        assert Database(alone).replica != "eu-1", "nobody has said it, so it takes another"
        assert Database(alone, replica="eu-1").replica == "eu-1"
    engine.commit([adding(me)])
    for position in range(len(row)):
        flipped = row[:position] + bytes((row[position] ^ 0x40,)) + row[position + 1 :]
        store.commit({Table.META: {b"replica": flipped}})
        assert Database(store).replica == "eu-1"


def meta(store: MemoryStore) -> dict[bytes, bytes]:
    with store.snapshot() as snapshot:
        return dict(snapshot.scan(Table.META))
