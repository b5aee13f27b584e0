"""The loss of what is damaged, and what nobody else has, is accepted: what goes, and what stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import pytest

from crdtdb import address
from crdtdb.abandoning import owner_of
from crdtdb.address import ObjectName
from crdtdb.errors import InvalidOperation, StorageFailed
from crdtdb.replication.members import SYSTEM_PREFIX
from crdtdb.rows import scan_records
from crdtdb.store.base import Table
from crdtdb.transaction import Erase
from replicas import Replica, exchange
from test_mending import flip, records, scrub

_LATER_MS: Final = 3_600_000


def _name(type_name: str) -> ObjectName:
    return ObjectName("shop", type_name, "k")


def _below(a: Replica, prefix: bytes) -> list[bytes]:
    return [at for at in records(a) if at.startswith(prefix)]


def _lose(a: Replica, addresses: Iterable[bytes]) -> None:
    for at in addresses:
        flip(a, Table.RECORDS, at)
    scrub(a)
    assert set(a.engine.damaged) == set(addresses)


def _accept(a: Replica) -> bool:
    """Accept all losses; would some object go whole?"""
    damaged = list(a.engine.damaged)
    owners = {owner_of(at) for at in damaged}
    whole = [
        a.engine.would_go_whole(owner, [at for at in damaged if owner_of(at) == owner])
        for owner in owners
    ]
    before = a.seen
    push = a.engine.abandon(damaged)
    assert push is not None
    assert a.seen.missing(before) == 0
    assert before.missing(a.seen) == push.last - push.first + 1 == len(owners)
    return any(whole)


def _assert_same(*replicas: Replica) -> None:
    for a in replicas:
        assert a.engine.damaged == {}
        assert scrub(a) == []
        with a.engine.digests.view() as view:
            assert view.digest() == a.digest()
    assert len({a.digest() for a in replicas}) == 1
    assert len({a.seen for a in replicas}) == 1


def _pair() -> tuple[Replica, Replica]:
    a, b = Replica(1), Replica(2)
    b.do("counter", "increment", key="other")
    exchange(a, b)
    return a, b


def _write(a: Replica, type_name: str) -> None:
    """Something that two replicas may do at once."""
    match type_name:
        case "set" | "gset" | "rwset" | "hll":
            a.do(type_name, "add", values=["milk", "bread"])
        case "zset":
            a.do(type_name, "add", member="milk", score=1)
            a.do(type_name, "increment", member="bread", by=2)
        case "register" | "mvregister" | "max" | "min":
            a.do(type_name, "set", value=a.number)
        case "flag" | "dwflag":
            a.do(type_name, "enable")
        case "list":
            a.do(type_name, "insert", index=0, values=["milk", "bread"])
        case "map":
            for do in (
                {"type": "counter", "op": "increment"},
                {"type": "list", "op": "insert", "values": ["x"]},
                {"type": "opcounter", "op": "increment"},
            ):
                a.do(type_name, "update", field=["x", "y"], do=do)
            a.do(type_name, "update", field=["z"], do={"type": "set", "op": "add", "value": 1})
        case _:
            a.do(type_name, "increment", by=5)


_TYPES: Final = (
    *("counter", "gcounter", "register", "mvregister", "flag", "dwflag", "set", "gset", "rwset"),
    *("zset", "map", "list", "opcounter", "max", "min", "hll"),
)


@pytest.mark.parametrize("known", [False, True], ids=["only here", "elsewhere, too"])
@pytest.mark.parametrize("type_name", _TYPES)
def test_every_record_of_every_type(type_name: str, known: bool) -> None:
    """Whichever record it is: the replicas become equal, and go on."""
    number = 0
    while True:
        a, b = _pair()
        if known:
            _write(a, type_name)
            exchange(a, b)
            _write(b, type_name)  # concurrent to what is lost
        _write(a, type_name)
        addresses = _below(a, _name(type_name).prefix)
        if number == len(addresses):
            return
        _lose(a, [addresses[number]])
        _accept(a)
        exchange(a, b)
        _assert_same(a, b)
        for one in (a, b):
            _write(one, type_name)
        exchange(a, b)
        _assert_same(a, b)
        for _ in range(3):
            a.reclaim()
            b.reclaim()
        _assert_same(a, b)
        newcomer = Replica(3)
        newcomer.pull(a)
        assert newcomer.digest() == a.digest()
        number += 1


@pytest.mark.parametrize("type_name", _TYPES)
def test_everything_of_an_object_at_once(type_name: str) -> None:
    a, b = _pair()
    _write(a, type_name)
    _lose(a, _below(a, _name(type_name).prefix))
    _accept(a)
    exchange(a, b)
    _assert_same(a, b)
    assert not a.exists(type_name)


def test_what_is_sound_stays() -> None:
    a, b = _pair()
    a.do("set", "add", values=["milk", "bread"])
    a.do("counter", "increment", by=5)
    _lose(a, [address.member(_name("set"), "milk")])
    assert not _accept(a)
    exchange(a, b)
    for one in (a, b):
        assert one.value("set") == ["bread"]
        assert one.value("counter") == 5


def test_what_is_written_elsewhere_meanwhile_stays() -> None:
    a, b = _pair()
    a.do("set", "add", value="milk")
    a.do("counter", "increment", by=5)
    exchange(a, b)
    a.do("set", "add", value="milk")
    a.do("counter", "increment", by=100)
    b.do("set", "add", value="milk")
    _lose(a, [address.member(_name("set"), "milk"), _name("counter").prefix + address.OWN])
    _accept(a)
    exchange(a, b)
    _assert_same(a, b)
    assert a.value("set") == ["milk"]
    assert a.value("counter") == 0  # what others still held of it goes, too
    b.do("counter", "increment", by=5)
    exchange(a, b)
    assert a.value("counter") == b.value("counter") == 5


def test_of_a_log_all_goes_and_of_a_map_only_the_leaf() -> None:
    a, b = _pair()
    _write(a, "list")
    _write(a, "map")
    leaf = _name("map").prefix + address.leaf(["x", "y"], "list")
    _lose(a, [_below(a, leaf)[0]])
    assert not _accept(a)
    _lose(a, [_below(a, _name("list").prefix)[0]])
    assert _accept(a)
    exchange(a, b)
    _assert_same(a, b)
    assert not b.exists("list")
    with b.store.snapshot() as snapshot:
        below = list(scan_records(snapshot, _name("map").prefix, None))
    tails = (address.split_object(at)[1] for at, record in below if record.live)
    assert {address.leaf_of(tail).type for tail in tails} == {"counter", "opcounter", "set"}


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("everywhere", [False, True])
def test_of_a_damaged_cut_nothing_is_lost(wide: bool, everywhere: bool) -> None:
    """Its object's head, or a row of the replica's own, tells what it covered."""
    a, b = _pair()
    a.do("set", "add", values=["milk", "bread"])
    exchange(a, b)
    if wide:
        a.commit(Erase(address.type_prefix("shop", "set")))
    else:
        a.do("set", "clear")
    a.do("set", "add", value="tea")
    (at,) = (at for at in records(a) if address.is_cut(at))
    if everywhere:
        exchange(a, b)
        _lose(b, [at])
    _lose(a, [at])
    assert not _accept(a)
    if everywhere:
        _accept(b)
    exchange(a, b)
    _assert_same(a, b)
    assert a.value("set") == b.value("set") == ["tea"]


def test_a_wide_cut_of_which_nothing_is_left_but_heads() -> None:
    a, b = _pair()
    a.do("set", "add", values=["milk", "bread"])
    exchange(a, b)
    a.commit(Erase(address.type_prefix("shop", "set")))
    a.do("set", "add", value="tea")
    (at,) = (at for at in records(a) if address.is_cut(at))
    (row,) = (key for key in a.rows()[Table.META] if key.startswith(b"cut/"))
    flip(a, Table.RECORDS, at)
    flip(a, Table.META, row)
    a.reopen()
    scrub(a)
    _accept(a)
    exchange(a, b)
    _assert_same(a, b)
    assert a.value("set") == b.value("set") == ["tea"]


@pytest.mark.parametrize("type_name", ["set", "counter", "map", "opcounter"])
@pytest.mark.parametrize("is_cut", [False, True])
def test_of_what_has_a_deadline_all_goes(type_name: str, is_cut: bool) -> None:
    """Nobody can tell any more what of it was over."""
    a, b = _pair()
    _write(a, type_name)
    a.do(type_name, "expire", in_ms=1_000)
    exchange(a, b)
    a.now_ms = b.now_ms = a.now_ms + _LATER_MS
    _write(a, type_name)
    a.do(type_name, "expire", in_ms=9_000)
    prefix = _name(type_name).prefix
    at = address.cut(prefix) if is_cut else prefix + address.EXPIRY
    assert at in records(a)
    _lose(a, [at])
    assert _accept(a)
    exchange(a, b)
    _assert_same(a, b)
    assert not b.exists(type_name)


def test_with_a_damaged_head() -> None:
    a, b = _pair()
    _write(a, "set")
    exchange(a, b)
    a.do("set", "clear")
    a.do("set", "add", value="tea")
    flip(a, Table.HEADS, _name("set").prefix)
    _lose(a, [address.cut(_name("set").prefix)])
    assert _accept(a)
    exchange(a, b)
    _assert_same(a, b)
    assert b.value("set") == []


def test_a_row_at_no_address_just_goes() -> None:
    a, b = _pair()
    a.do("set", "add", values=["milk", "bread"])
    at = address.member(_name("set"), "milk")
    phantom = at[:-2] + b"\xff\xff"
    row = a.rows()[Table.RECORDS][at]
    a.store.commit({Table.RECORDS: {at: None, phantom: row}})
    scrub(a)
    assert set(a.engine.damaged) == {at, phantom}
    a.engine.abandon([at, phantom])
    exchange(a, b)
    _assert_same(a, b)
    assert b.value("set") == ["bread"]


def _text(a: Replica) -> bytes:
    a.do("text", "insert", index=0, text="milk")
    return _below(a, _name("text").prefix)[0]


def _leaf_text(a: Replica) -> bytes:
    a.do("map", "update", field=["x"], do={"type": "text", "op": "insert", "text": "ab"})
    return _below(a, _name("map").prefix)[0]


def _rights(a: Replica) -> bytes:
    a.do("bcounter", "create", min=0, max=5)
    return _below(a, _name("bcounter").prefix)[0]


def _member(a: Replica) -> bytes:
    return address.own(ObjectName(SYSTEM_PREFIX[1:].split(b"\0")[0].decode(), "register", "m"))


@pytest.mark.parametrize("lost", [_text, _leaf_text, _rights, _member])
def test_what_cannot_be_given_up_by_itself(lost: Callable[[Replica], Any]) -> None:
    a, _ = _pair()
    a.do("set", "add", value="milk")
    at = lost(a)
    if at in list(records(a)):
        _lose(a, [at])
    rows = a.rows()
    with pytest.raises(InvalidOperation, match="empty directory"):
        a.engine.would_go_whole(owner_of(at), [at])
    with pytest.raises(InvalidOperation, match="empty directory"):
        a.engine.abandon([at])
    assert a.rows() == rows


def test_more_damage_of_the_object_has_to_be_found_first() -> None:
    a, _ = _pair()
    a.do("set", "add", values=["milk", "bread"])
    _lose(a, [address.member(_name("set"), "milk")])
    flip(a, Table.RECORDS, address.member(_name("set"), "bread"))
    rows = a.rows()
    with pytest.raises(StorageFailed):
        a.engine.abandon(list(a.engine.damaged))
    assert a.rows() == rows


def test_it_is_durable_and_dots_go_on() -> None:
    a, b = _pair()
    a.do("set", "add", value="milk")
    _lose(a, [address.member(_name("set"), "milk")])
    _accept(a)
    seen, incarnation = a.seen, a.engine.state.incarnation
    a.reopen()
    assert a.engine.damaged == {}
    assert a.seen == seen
    a.do("set", "add", value="milk")
    assert a.seen.get(incarnation) == seen.get(incarnation) + 1
    exchange(a, b)
    assert b.value("set") == ["milk"]
