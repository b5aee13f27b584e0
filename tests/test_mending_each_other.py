"""Several replicas are damaged at once: each mends of the others what it has, whatever it claims.

None of them may claim anything to the others, for each has written something to what is damaged
there, and nobody has heard of that. Once they waited for each other for ever.
"""

from __future__ import annotations

from typing import Final

import msgspec
import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING
from crdtdb.damage import Kind
from crdtdb.errors import PeerError, StorageFailed
from crdtdb.replication import Send, mending
from crdtdb.replication.messages import Mended, Refused, Sender, read_frame
from crdtdb.scrub import Scrub
from crdtdb.store.base import Table
from pairs import Pair
from replicas import Replica

#: What each of three replicas has written, and is damaged there.
KEYS: Final = {"a": "apples", "b": "bread", "c": "corn"}
MANY: Final = 20


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "ASK_MS", 100)


def member(key: str, value: int) -> bytes:
    return address.member(ObjectName("shop", "set", key), value)


def flip(a: Replica, at: bytes, bits: int = 0x41, byte: int = -1) -> None:
    """Flip bits of a stored record."""
    row = bytearray(a.rows()[Table.RECORDS][at])
    row[byte] ^= bits
    a.store.commit({Table.RECORDS: {at: bytes(row)}})


def look_at_all(a: Replica) -> list[bytes]:
    """One walk; which records it found damaged."""
    walk, found = Scrub(), []
    while not walk.done:
        found += a.engine.scrub(walk, 100)
    return [damage.key for damage in found if damage.kind is Kind.RECORD]


def assert_equal(cluster: Pair) -> None:
    replicas = list(cluster.replicas.values())
    for replica in replicas:
        assert replica.engine.damaged == {}
        assert look_at_all(replica) == []
    assert len({replica.digest() for replica in replicas}) == 1
    assert len({replica.seen for replica in replicas}) == 1


def unclaimable(count: int) -> Pair:
    """So many replicas, each damaged where it alone has written since."""
    cluster = Pair(*(Replica(number) for number in range(1, count + 1)))
    cluster.run(10_000)
    assert all(len(machine.members) == count for machine in cluster.machines.values())
    for name in cluster.replicas:
        for value in range(3):
            cluster.write(name, "set", "add", key=KEYS[name], value=value)
        cluster.write(name, "list", "insert", key=KEYS[name], index=0, values=["x", "y"])
    for name, replica in cluster.replicas.items():  # nobody is told, nor has asked so far
        replica.do("set", "add", key=KEYS[name], value=3)
        replica.do("list", "insert", key=KEYS[name], index=1, value="z")
        todo = ObjectName("shop", "list", KEYS[name]).prefix
        insert = next(at for at in replica.rows()[Table.RECORDS] if at.startswith(todo))
        flip(replica, member(KEYS[name], 1))
        flip(replica, insert)
        assert look_at_all(replica) == [insert, member(KEYS[name], 1)]
    return cluster


@pytest.mark.parametrize("count", [2, 3])
def test_who_may_claim_nothing_gives_what_is_sound(count: int) -> None:
    cluster = unclaimable(count)
    cluster.run(3_000)
    for name, replica in cluster.replicas.items():
        assert cluster.machines[name].mending.mended == 2
        assert replica.value("set", KEYS[name]) == [0, 1, 2, 3]
        assert [entry["value"] for entry in replica.value("list", KEYS[name])] == ["x", "z", "y"]
    assert_equal(cluster)


def test_it_comes_without_a_claim() -> None:
    cluster = unclaimable(2)
    said: list[object] = []
    step = cluster.machines["a"].step

    def heard(sender: Sender, frame: bytes, now_ms: int, via: str = "") -> list[Send]:
        message = read_frame(frame)
        said.extend([message] if isinstance(message, Mended | Refused) else [])
        return step(sender, frame, now_ms, via)

    cluster.machines["a"].step = heard  # type: ignore[method-assign]
    cluster.run(1_000)
    first = next(message for message in said if isinstance(message, Mended))
    assert (first.claim.seen, first.records) == ([], [])
    assert {at for at, _ in first.held} >= {member("apples", 1)}


def test_what_has_changed_is_not_put_back() -> None:
    """Only the very record that was there may be, for nothing says what the peer has seen."""
    cluster = unclaimable(2)
    a, b = cluster.replicas.values()
    at = member("apples", 1)
    b.do("set", "remove", key="apples", value=1)
    b.do("set", "add", key="apples", value=1)
    rows = a.rows()
    assert a.engine.put_back(b.engine.sound([at])) == 0
    assert a.rows() == rows
    (_, other) = b.engine.sound([member("apples", 2)])[0]
    assert a.engine.put_back([(at, other)]) == 0


def test_only_what_this_replica_has_seen_is_put_back() -> None:
    """The dots of a record that was here are known here."""
    a, b = Replica(1), Replica(2)
    b.do("set", "add", key="apples", value=1)
    a.pull(b)
    at = member("apples", 1)
    flip(a, at)
    look_at_all(a)
    a.engine._state = msgspec.structs.replace(a.engine.state, seen=NOTHING)  # as if it were not
    with pytest.raises(PeerError):
        a.engine.put_back(b.engine.sound([at]))


# -- what nobody has ------------------------------------------------------------------------------


def lost_everywhere(lost: int) -> Pair:
    """Two replicas that are level, with so many records that are damaged at both.

    And one more at each, after those, that is not.
    """
    cluster = Pair()
    cluster.run(2_000)
    for value in range(lost):
        cluster.write("a", "set", "add", key=f"k{value:02}", value=value)
    for key in ("y", "z"):
        cluster.write("a", "set", "add", key=key, value=1)
    cluster.run(5_000)
    for name, key in (("a", "y"), ("b", "z")):
        replica = cluster.replicas[name]
        for value in range(lost):
            flip(replica, member(f"k{value:02}", value))
        flip(replica, member(key, 1))
        look_at_all(replica)
    return cluster


@pytest.mark.parametrize("lost", [1, MANY])
def test_what_is_damaged_everywhere_keeps_nothing_else_waiting(lost: int) -> None:
    """The records asked for were always the first; beyond those that nobody has, none was mended.

    And who was asked for several, and had one of them damaged, gave none.
    """
    cluster = lost_everywhere(lost)
    cluster.run(20_000)
    everywhere = {member(f"k{value:02}", value) for value in range(lost)}
    for name, replica in cluster.replicas.items():
        assert set(replica.engine.damaged) == everywhere
        assert set(cluster.machines[name].damaged) == everywhere
        assert replica.value("set", "y") == replica.value("set", "z") == [1]
        with pytest.raises(StorageFailed):
            replica.value("set", "k00")
    for name in cluster.replicas:  # what is written since comes, of those objects, too
        cluster.write(name, "counter", "increment", key="views")
        cluster.replicas[name].do("set", "add", key="k00", value=name)
    cluster.run(20_000)
    a, b = cluster.replicas.values()
    assert a.seen == b.seen
    assert a.value("counter", "views") == b.value("counter", "views") == 2


def test_a_pull_mends_what_its_donor_has_though_that_is_damaged_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Too much has been missed for one message: so the pull asks, and the donor lacks one."""
    monkeypatch.setattr("crdtdb.replication.donor.PAGE_RECORDS", 10)
    monkeypatch.setattr(mending, "MOST_PAGES", 2)
    cluster = lost_everywhere(1)
    a, b = cluster.replicas.values()
    for value in range(100, 200):
        b.do("set", "add", key="y", value=value)
    b.do("set", "remove", key="y", value=1)
    cluster.run(20_000)
    assert a.value("set", "y") == b.value("set", "y") == list(range(100, 200))
    assert set(a.engine.damaged) == set(b.engine.damaged) == {member("k00", 0)}


# -- what a record says itself --------------------------------------------------------------------


def test_one_flipped_bit_is_put_right_whoever_else_has_the_record() -> None:
    """Any bit of the place, of the version, of the checksum, of the body."""
    a = Replica(1)
    a.do("set", "add", key="apples", value=1)
    a.do("text", "insert", key="apples", index=0, text="only here")
    before = a.rows()
    for at, row in before[Table.RECORDS].items():
        for byte in range(len(row)):
            flip(a, at, 1 << byte % 8, byte)
            assert look_at_all(a) == [at]
            assert a.engine.damaged == {}
            assert a.rows() == before


def test_where_a_sector_is_lost_no_bit_is_tried() -> None:
    """It would take long, and is no flipped bit."""
    a = Replica(1)
    a.do("set", "add", key="apples", values=list(range(9)))
    for value in range(9):
        flip(a, member("apples", value), 1)
    assert len(look_at_all(a)) == len(a.engine.damaged) == 9


def test_a_long_record_is_left_to_peers() -> None:
    a = Replica(1)
    a.do("register", "set", key="apples", value="x" * 2_500)
    at = next(at for at in a.rows()[Table.RECORDS] if b"register" in at)
    flip(a, at, 1)
    assert look_at_all(a) == list(a.engine.damaged) == [at]
