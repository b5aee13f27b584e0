"""Damage is found by the scrub, is never taken for absence, and is mended: from the records what
follows from them, from a peer the records themselves."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Final
from unittest.mock import Mock

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING
from crdtdb.damage import MARKER_ROWS, Kind, Marker, Replacement
from crdtdb.errors import PeerError, StorageFailed
from crdtdb.kinds import log_at
from crdtdb.materialised import reread_materialised
from crdtdb.replication.donor import read_page
from crdtdb.replication.mending import ASK_MS, FIRST_MS
from crdtdb.replication.messages import Gone, Page, Pull
from crdtdb.scrub import Scrub
from crdtdb.store.base import Table
from crdtdb.transaction import Erase
from newer import newer_row, newer_whole
from pairs import Pair
from replicas import Replica, exchange, missing

CART: Final = ObjectName("shop", "set", "cart")
MILK: Final = address.member(CART, "milk")
LOG: Final = ObjectName("shop", "opcounter", "log")
LIST: Final = ObjectName("shop", "list", "todo")
MAP: Final = ObjectName("shop", "map", "m")


def fill(a: Replica) -> None:
    """Something of every kind of row."""
    a.do("set", "add", values=["milk", "bread", "eggs"], key="cart")
    a.do("set", "remove", value="eggs", key="cart")
    a.do("counter", "increment", key="views", by=5)
    a.do("opcounter", "increment", key="log")
    a.do("opcounter", "increment", key="gone")
    a.do("opcounter", "delete", key="gone")
    a.do("list", "insert", key="todo", index=0, values=["a", "b"])
    for path in ("gone", "kept"):
        for do in (
            {"type": "opcounter", "op": "increment"},
            {"type": "list", "op": "insert", "values": ["a", "b"]},
            {"type": "text", "op": "insert", "text": "ab"},
            {"type": "flag", "op": "enable"},
        ):
            a.do("map", "update", key="m", field=[path, "x"], do=do)
    a.do("map", "remove", key="m", field=["gone"])
    a.do("map", "update", key="m", field=["gone", "x"], do={"type": "opcounter", "op": "increment"})
    a.do("register", "set", key="title", value="Shop")
    a.do("gset", "add", value=1)
    a.commit(Erase(address.type_prefix("shop", "gset")))
    a.do("gset", "add", value=2)
    a.do("set", "add", value="x", key="wiped")
    a.do("set", "clear", key="wiped")


def pair() -> tuple[Replica, Replica]:
    """Two replicas that show the same."""
    a, b = Replica(1), Replica(2)
    fill(a)
    b.do("set", "add", value="milk", key="cart")
    exchange(a, b)
    return a, b


def flip(a: Replica, table: Table, key: bytes, position: int = -1) -> None:
    """Flip two bits of a stored row: one alone would be put right without a peer."""
    row = bytearray(a.rows()[table][key])
    row[position] ^= 0x41
    a.store.commit({table: {key: bytes(row)}})


def scrub(a: Replica, rows: int = 3) -> list[Any]:
    """One walk; what it found."""
    walk = Scrub()
    found = []
    while not walk.done:
        walk = Scrub(walk.position)  # it goes on from what it says of itself
        found += a.engine.scrub(walk, rows)
    return found


def mend(a: Replica, donor: Replica) -> None:
    """What the two machines say to each other about it."""
    damaged = list(a.engine.damaged)
    a.engine.replace_damaged(
        Replacement(damaged, donor.engine.held(damaged)),
        missing(donor.store, a.seen),
        donor.seen,
        donor.engine.state.time,
    )


def assert_sound(a: Replica, like: Replica) -> None:
    """It shows what the other shows, at once and after another look at everything."""
    assert a.engine.damaged == {}
    assert scrub(a) == []
    assert a.digest() == like.digest()
    with a.engine.digests.view() as view:
        assert view.digest() == like.digest()
    places = a.rows()[Table.SEQUENCE]
    assert sorted(places.values()) == sorted(a.rows()[Table.RECORDS])


def test_a_sound_store_has_no_damage() -> None:
    a, b = pair()
    assert scrub(a) == []
    assert scrub(b) == []
    a.reclaim()
    assert scrub(a) == []


def records(a: Replica) -> Iterator[bytes]:
    return iter(a.rows()[Table.RECORDS])


def test_every_flipped_record_is_found_and_comes_back_from_a_peer() -> None:
    for at in records(pair()[0]):
        for position in (0, 7, 9, 17, -1):  # the place, the checksum, the body
            a, b = pair()
            flip(a, Table.RECORDS, at, position)
            found = scrub(a)
            assert [d.key for d in found if d.kind is Kind.RECORD] == [at]
            mend(a, b)
            assert_sound(a, b)
            assert a.rows()[Table.RECORDS].keys() == b.rows()[Table.RECORDS].keys()


def test_a_record_that_is_gone_comes_back() -> None:
    a, b = pair()
    a.store.commit({Table.RECORDS: {MILK: None}})
    found = scrub(a)
    assert (Kind.RECORD, MILK) in [(damage.kind, damage.key) for damage in found]
    mend(a, b)
    assert_sound(a, b)


def test_all_records_at_once() -> None:
    a, b = pair()
    for at in list(records(a)):
        flip(a, Table.RECORDS, at)
    scrub(a)
    assert set(a.engine.damaged) == set(records(a))
    mend(a, b)
    assert_sound(a, b)


def test_folded_operations_come_back_with_their_base() -> None:
    """The peer has folded what is damaged here: taken for removed, it would be lost."""
    a, b = pair()
    leaf = MAP.prefix + address.leaf(["kept", "x"], "list")
    for prefix in (LOG.prefix, LIST.prefix, leaf):
        (at, *_) = (at for at in records(a) if at.startswith(prefix))
        flip(a, Table.RECORDS, at)
    b.reclaim()
    shown = b.value("opcounter", "log"), b.value("list", "todo")
    scrub(a)
    mend(a, b)
    assert (a.value("opcounter", "log"), a.value("list", "todo")) == shown
    assert a.value("map", "m") == b.value("map", "m")
    assert_sound(a, b)


@pytest.mark.parametrize("field", [None, ["x"]], ids=["an object", "a leaf"])
def test_what_a_peer_has_yet_to_sweep_does_not_come_back(field: list[str] | None) -> None:
    """The cut that hides it there has gone here, where everything was swept."""
    a, b = Replica(1), Replica(2)

    def do(**operation: Any) -> None:
        if field is None:
            a.do("opcounter", **operation)
        else:
            a.do("map", "update", field=field, do={"type": "opcounter", **operation})

    do(op="increment", by=5)
    do(op="reset")
    do(op="increment", by=2)
    exchange(a, b)
    for _ in range(2):
        a.reclaim()
    (at,) = records(a)
    flip(a, Table.RECORDS, at)
    scrub(a)
    mend(a, b)
    assert_sound(a, b)


@pytest.mark.parametrize("kind", ["opcounter", "leaf", "set", "wide"])
def test_what_a_damaged_cut_covered_does_not_come_back(kind: str) -> None:
    """The peer has swept and let the cut go; here, its records are all still there."""
    a, b = Replica(1), Replica(2)

    def step() -> None:
        do = {"type": "opcounter", "op": "increment"}
        match kind:
            case "leaf":
                a.do("map", "update", field=["x"], do=do)
            case "opcounter":
                a.do("opcounter", "increment")
            case _:
                a.do("set", "add", values=[1, 2])

    step()
    match kind:
        case "leaf":
            a.do("map", "remove", field=["x"])
        case "opcounter":
            a.do("opcounter", "reset")
        case "set":
            a.do("set", "clear")
        case _:
            a.commit(Erase(address.type_prefix("shop", "set")))
    b.do("set", "add", key="other", value=3)
    exchange(a, b)
    for _ in range(3):
        b.reclaim()
    (at,) = (at for at in records(a) if address.is_cut(at))
    assert at not in records(b)
    flip(a, Table.RECORDS, at)
    scrub(a)
    mend(a, b)
    assert_sound(a, b)
    newcomer = Replica(3)
    newcomer.pull(a)
    assert newcomer.digest() == b.digest()


@pytest.mark.parametrize("table", [Table.HEADS, Table.FOLDED])
def test_what_follows_from_records_is_made_anew(table: Table) -> None:
    for key in pair()[0].rows()[table]:
        a, b = pair()
        flip(a, table, key)
        log = log_at(key)
        owner = key if log is None else log.owner
        assert [(damage.kind, damage.key) for damage in scrub(a)] == [(Kind.OBJECT, owner)]
        assert_sound(a, b)


def test_a_head_that_counts_wrong() -> None:
    a, b = pair()
    head = a.rows()[Table.HEADS][LOG.prefix]
    a.store.commit({Table.HEADS: {CART.prefix: head}})
    assert [(damage.kind, damage.key) for damage in scrub(a)] == [(Kind.OBJECT, CART.prefix)]
    assert_sound(a, b)


def test_a_sequence_that_is_wrong_is_put_right() -> None:
    for wrong in (None, MILK, b"\x10nothing"):
        a, b = pair()
        places = {at: place for place, at in a.rows()[Table.SEQUENCE].items()}
        bread = address.member(CART, "bread")
        a.store.commit({Table.SEQUENCE: {places[bread]: wrong}})
        assert [(damage.kind, damage.key) for damage in scrub(a)] == [
            (Kind.SEQUENCE, places[bread])
        ]
        assert_sound(a, b)


def test_a_place_that_is_damaged_under_the_walk_is_no_lost_record() -> None:
    """It was looked at last: what it named then was waited for, and nothing was claimed any more.

    Where another record is at that address, the place was let go until the next walk, and with it
    what belongs there: peers took a claim over that for the whole.
    """
    milk, bread = MILK, address.member(CART, "bread")
    phantom = bread[:-2] + bytes((bread[-2] ^ 0x40,)) + bread[-1:]
    for wrong in (milk, phantom):
        a, b = pair()
        (place,) = (place for place, at in a.rows()[Table.SEQUENCE].items() if at == bread)
        for step in range(1_000):
            walk = Scrub()
            for _ in range(step):
                a.engine.scrub(walk, 3)
            if walk.done:
                break
            a.store.commit({Table.SEQUENCE: {place: wrong}})
            while not walk.done:
                a.engine.scrub(walk, 3)
                assert a.rows()[Table.SEQUENCE].get(place) in (wrong, bread)
            scrub(a)
            assert a.rows()[Table.SEQUENCE][place] == bread
            assert_sound(a, b)


def test_nothing_is_claimed_to_whom_may_lack_what_is_damaged() -> None:
    a, b = pair()
    before = NOTHING.with_dot((a.engine.state.incarnation, 1))
    pull = Pull(1, 0, 0, [], [])
    assert isinstance(read_page(a.engine, pull, before), Page)
    flip(a, Table.RECORDS, MILK)
    scrub(a)
    with pytest.raises(StorageFailed):
        read_page(a.engine, pull, before)
    with pytest.raises(StorageFailed):
        a.value("set", "cart")
    a.reopen()  # what is known of it is durable
    assert list(a.engine.damaged) == [MILK]
    with pytest.raises(StorageFailed):
        read_page(a.engine, pull, before)
    mend(a, b)
    assert isinstance(read_page(a.engine, pull, before), Page)


def test_what_is_sound_is_given_to_whom_knows_what_is_damaged() -> None:
    """Because it had seen all of it, or because it has read beyond its place."""
    a, b = pair()
    place, before = a.engine.state.sequence, b.seen
    a.do("set", "add", value="tea", key="cart")  # so what the object holds is too much for b
    row = bytearray(a.rows()[Table.RECORDS][MILK])
    row[:8] = bytes(8)  # where it stands has to be looked for
    a.store.commit({Table.RECORDS: {MILK: bytes(row)}})
    scrub(a)
    tea = address.member(CART, "tea")
    read = Pull(1, a.engine.epochs.latest, place, [], [])
    page = read_page(a.engine, read, before)
    assert isinstance(page, Page)
    assert [at for at, _ in page.records] == [tea]
    assert page.claim is not None
    # What it read of another epoch says nothing, nor does what it drops when it pulls whole.
    assert isinstance(read_page(a.engine, Pull(1, 1, place, [], []), before), Gone)
    with pytest.raises(StorageFailed):
        read_page(a.engine, Pull(1, 0, 0, [], a.seen.flat()), before)
    page = read_page(a.engine, Pull(1, 0, 0, [], []), a.seen)
    assert isinstance(page, Page)
    assert page.records == []


def test_a_damaged_marker_waits_for_who_has_seen_everything() -> None:
    a, b = pair()
    flip(a, Table.RECORDS, MILK)
    scrub(a)
    a.do("set", "add", value="tea", key="other")
    (key,) = (key for key in a.rows()[Table.META] if key.startswith(MARKER_ROWS))
    flip(a, Table.META, key)
    a.reopen()
    assert a.engine.damaged == {MILK: Marker(a.seen, 0)}
    with pytest.raises(PeerError, match="too little"):
        mend(a, b)


def test_a_peer_that_has_not_seen_all_of_it_cannot_mend() -> None:
    a, b = pair()
    a.do("set", "add", value="tea", key="cart")
    flip(a, Table.RECORDS, MILK)
    scrub(a)
    rows = a.rows()
    with pytest.raises(PeerError, match="too little"):
        mend(a, b)
    assert a.rows() == rows


def test_who_lacks_something_else_can_mend() -> None:
    """What the other records of the object come to says how much the damaged one held at most."""
    a, b = pair()
    a.do("counter", "increment", key="views")
    flip(a, Table.RECORDS, MILK)
    scrub(a)
    mend(a, b)
    b.pull(a)
    assert_sound(a, b)


def test_a_text_comes_back_in_the_order_of_its_edits() -> None:
    """Which is not that of its records: who continues has the lesser incarnation."""
    a, b = pair()
    b.do("text", "insert", key="note", index=0, text="milk")
    a.pull(b)
    a.do("text", "insert", key="note", index=4, text=" and bread")
    b.pull(a)
    name = ObjectName("shop", "text", "note")
    for number in range(2):  # without the first the second means nothing
        flip(a, Table.RECORDS, [at for at in records(a) if at.startswith(name.prefix)][number])
        scrub(a)
        mend(a, b)
        assert a.value("text", "note") == "milk and bread"
        assert_sound(a, b)


def test_what_the_peer_changed_since_comes_with_it() -> None:
    a, b = pair()
    flip(a, Table.RECORDS, MILK)
    scrub(a)
    b.do("set", "remove", value="milk", key="cart")
    b.do("set", "add", value="tea", key="cart")
    with pytest.raises(StorageFailed):
        a.pull(b)
    mend(a, b)
    assert a.value("set", "cart") == ["bread", "tea"]
    exchange(a, b)
    assert_sound(a, b)


def test_what_the_peer_removed_and_reclaimed_stays_away() -> None:
    a, b = pair()
    flip(a, Table.RECORDS, MILK)
    scrub(a)
    b.do("set", "remove", value="milk", key="cart")
    b.reclaim()
    mend(a, b)
    assert MILK not in a.rows()[Table.RECORDS]
    assert a.value("set", "cart") == ["bread"]
    assert_sound(a, b)


def test_a_row_of_a_newer_version_is_not_damaged() -> None:
    a, _ = pair()
    row = newer_row(MILK, a.rows()[Table.RECORDS][MILK])
    a.store.commit({Table.RECORDS: {MILK: row}})
    head = newer_whole(a.rows()[Table.HEADS][LOG.prefix])
    a.store.commit({Table.HEADS: {LOG.prefix: head}})
    assert scrub(a) == []


@pytest.mark.parametrize("bits", [1, 2, 4, 0x80, 3])
def test_a_flipped_version_is_damage_and_not_a_newer_one(bits: int) -> None:
    """It was passed over by every walk, and whoever read it was told to use a newer crdtdb.

    Of one bit, the record is put right without a peer; the head is made anew in any case.
    """
    a, b = pair()
    row = bytearray(a.rows()[Table.RECORDS][MILK])
    row[8] ^= bits
    a.store.commit({Table.RECORDS: {MILK: bytes(row)}})
    if bits != 3:  # the second version of a head does not cover its number
        head = bytearray(a.rows()[Table.HEADS][LOG.prefix])
        head[0] ^= bits
        a.store.commit({Table.HEADS: {LOG.prefix: bytes(head)}})
    assert MILK in [damage.key for damage in scrub(a)]
    assert set(a.engine.damaged) == (set() if bits != 3 else {MILK})
    mend(a, b)
    assert_sound(a, b)


def long_list() -> tuple[Replica, Replica]:
    """A list that is stored in many rows, and a field of a map with another."""
    a, b = Replica(1), Replica(2)
    for value in range(4):
        values = [f"{value} {number}" * 20 for number in range(1 if value else 300)]
        a.do("list", "insert", key="todo", index=0, values=values)
        do = {"type": "list", "op": "insert", "values": values}
        a.do("map", "update", key="m", field=["x"], do=do)
    exchange(a, b)
    return a, b


@pytest.mark.parametrize("thorough", [False, True])
def test_a_walk_makes_no_long_value(thorough: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """To make a list of its rows again took seconds, in one step of the event loop."""
    for damaged in (None, 0, 1, 2, "gone"):
        a, b = long_list()
        rows = sorted(key for key in a.rows()[Table.FOLDED] if key.startswith(LIST.prefix))
        assert len(rows) > 3
        if damaged == "gone":
            a.store.commit({Table.FOLDED: {rows[1]: None}})
        elif isinstance(damaged, int):
            flip(a, Table.FOLDED, rows[damaged])
        made = Mock(wraps=reread_materialised)
        with monkeypatch.context() as patched:
            patched.setattr("crdtdb.scrub.reread_materialised", made)
            walk = Scrub(thorough=thorough)
            found = []
            while not walk.done:
                found += a.engine.scrub(walk, 3)
        assert made.called == thorough
        assert [one.key for one in found] == ([] if damaged is None else [LIST.prefix])
        assert_sound(a, b)


def test_only_a_thorough_walk_holds_a_long_value_against_its_head() -> None:
    a, _ = long_list()
    rows = {key: row for key, row in a.rows()[Table.FOLDED].items() if key.startswith(LIST.prefix)}
    a.do("list", "insert", key="todo", index=0, value="later")
    changed = {key: None for key in a.rows()[Table.FOLDED] if key.startswith(LIST.prefix)} | rows
    a.store.commit({Table.FOLDED: changed})  # sound, and of an earlier state
    assert scrub(a) == []
    walk = Scrub(thorough=True)
    found = []
    while not walk.done:
        found += a.engine.scrub(walk, 100)
    assert [damage.key for damage in found] == [LIST.prefix]


def test_a_step_ends_when_rows_are_long() -> None:
    a = Replica(1)
    for number in range(8):
        a.do("register", "set", key=f"r{number}", value="x" * 400_000)
    walk, steps = Scrub(), 0
    while not walk.done:
        before = walk.rows
        assert a.engine.scrub(walk, 64) == []
        steps += 1
        assert walk.rows - before <= 8
    assert walk.rows == 3 * 8
    assert steps >= 1 + 3 + 1


def test_how_far_a_walk_has_come() -> None:
    """Also of one that was gone on with after a restart."""
    a, _ = pair()
    entries = a.store.stats().entries
    walk, told = Scrub(), [0.0]
    assert walk.progress(entries) == 0
    while not walk.done:
        walk = Scrub(walk.position)
        assert a.engine.scrub(walk, 3) == []
        told.append(walk.progress(entries))
    assert told == sorted(told)
    assert len(set(told)) > 10
    assert told[-2] > 0.9
    assert told[-1] == 1


def test_a_place_is_looked_for_among_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole sequence of a large store would keep everything else waiting."""
    a, _ = pair()
    monkeypatch.setattr("crdtdb.mender._MOST_ENTRIES", 2)
    oldest = a.rows()[Table.SEQUENCE]
    for place in (min(oldest), max(oldest)):
        at = oldest[place]
        a.store.commit({Table.RECORDS: {at: bytes(8) + b"\x01" + bytes(20)}})
        scrub(a)
        assert a.engine.damaged[at].place == (place == max(oldest)) * int.from_bytes(place, "big")


def test_writes_go_on_while_it_walks() -> None:
    """An object that changes under the walk is not compared."""
    a, b = pair()
    walk = Scrub()
    for number in range(10):
        a.do("set", "add", values=[f"{number} {i}" for i in range(20)], key="cart")
        assert a.engine.scrub(walk, 7) == []
    exchange(a, b)
    assert_sound(a, b)


# -- machines -------------------------------------------------------------------------------------


def test_a_cluster_mends_itself() -> None:
    pair = Pair()
    pair.run(2_000)
    for number in range(40):
        pair.write("a", "set", "add", key="cart", value=number)
        pair.write("b", "counter", "increment", key=f"n{number}")
    pair.run(2_000)
    a, b = pair.replicas["a"], pair.replicas["b"]
    assert a.digest() == b.digest()
    hit = Random(1).sample([at for at in records(a) if b"_system" not in at], 30)
    for at in hit:
        flip(a, Table.RECORDS, at)
    mending = pair.machines["a"].mending
    assert mending.progress is None
    pair.run(FIRST_MS)
    assert mending.found
    pair.run(40 * ASK_MS)
    assert (mending.found, mending.mended, mending.walks) == (30, 30, 1)
    assert_sound(a, b)


def test_what_only_the_damaged_one_has_gets_away() -> None:
    """Its push was lost. Before the other has seen that, it cannot mend; so it must get it."""
    pair = Pair()
    pair.run(2_000)
    for number in range(20):
        pair.write("a", "set", "add", key="cart", value=number)
    pair.run(2_000)
    a, b = pair.replicas["a"], pair.replicas["b"]
    flip(a, Table.RECORDS, address.member(CART, 7))
    a.do("set", "add", key="cart", value=20)  # the machine is not told, so nobody hears of it
    scrub(a)
    assert a.engine.damaged
    pair.run(10 * ASK_MS)
    assert b.value("set", "cart") == list(range(21))
    assert_sound(a, b)


def test_both_write_while_one_mends() -> None:
    pair = Pair()
    pair.run(2_000)
    for number in range(20):
        pair.write("a", "set", "add", key="cart", value=number)
    pair.run(2_000)
    a, b = pair.replicas["a"], pair.replicas["b"]
    at = address.member(CART, 7)
    flip(a, Table.RECORDS, at)
    with pytest.raises(StorageFailed):  # it touches what is damaged, and is not acknowledged to b
        pair.write("b", "set", "remove", key="cart", value=7)
    for _ in range(300):
        pair.write("b", "counter", "increment", key="views")
        pair.write("a", "counter", "increment", key="mine")
        pair.tick()
    pair.run(5_000)
    mending = pair.machines["a"].mending
    assert (mending.found, mending.mended) == (1, 1)
    assert a.value("set", "cart") == [n for n in range(20) if n != 7]
    assert_sound(a, b)
