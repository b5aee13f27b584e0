"""A damaged row on disk is an error with a message, never another answer.

Every byte of every kind of row is damaged in turn; then everything is read and written that
touches it, and everything that does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

import pytest

from crdtdb import address, codec, jsonbytes
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.changes import BEGINNING, ChangePage, Scope, read_changes
from crdtdb.epochs import EPOCHS_KEY, Epochs
from crdtdb.errors import DamagedStore, NewerFormat, StorageFailed
from crdtdb.reclaimed import RECLAIMED_KEY, Reclaimed
from crdtdb.replication.donor import read_page
from crdtdb.replication.messages import Page, Pull
from crdtdb.rows import WIDE_CUT_ROWS
from crdtdb.state import STATE_KEY
from crdtdb.store.base import Table
from crdtdb.transaction import Erase, IdempotencyKey, Transaction
from newer import newer_row, newer_whole
from replicas import Replica, update

CART: Final = ObjectName("shop", "set", "cart")
MILK: Final = address.member(CART, "milk")
VIEWS: Final = ObjectName("shop", "counter", "views")
LOG: Final = ObjectName("shop", "opcounter", "log")
TITLE: Final = ObjectName("shop", "register", "title")
KEY: Final = IdempotencyKey("once", 1)
#: The row that repeats the answer to it.
ANSWER: Final = b"idempotency/answer/once"

#: A record row begins with its place in the sequence.
_PLACE: Final = 8


def written() -> Replica:
    """A replica with something of every kind of row."""
    a = Replica(1)
    a.do("set", "add", values=["milk", "bread"], key="cart")
    a.do("counter", "increment", key="views")
    a.do("opcounter", "increment", key="log")
    a.do("gset", "add", value=1)
    a.commit(Erase(address.type_prefix("shop", "gset")))
    set_title_once(a)
    return a


def damaged(
    table: Table, key: bytes, original: Replica | None = None
) -> Iterator[tuple[Replica, bytes]]:
    """That replica with one byte of one row changed, or with the row cut short."""
    original = original or written()
    row = original.rows()[table][key]
    for position in range(len(row)):
        flipped = bytes((row[position] ^ 0x40,))
        for bad in (row[:position] + flipped + row[position + 1 :], row[:position]):
            a = Replica(1)
            a.store = original.store.copy()
            a.reopen()
            a.store.commit({table: {key: bad}})
            yield a, bad


# What may be tried --------------------------------------------------------------------------------

Attempt: TypeAlias = Callable[[Replica], Any]


def read(name: ObjectName) -> Attempt:
    return lambda a: a.value(name.type, name.key)


def cover(a: Replica) -> VersionVector:
    """What every answer at a door says that it covers."""
    with a.reading() as reading:
        return reading.seen


def contains(member: str) -> Attempt:
    def attempt(a: Replica) -> bool:
        with a.reading() as reading:
            return reading.contains(CART, jsonbytes.encode(member))

    return attempt


def do(name: ObjectName, op: str, **arguments: Any) -> Attempt:
    return lambda a: a.do(name.type, op, key=name.key, **arguments)


def erase(prefix: bytes) -> Attempt:
    return lambda a: a.commit(Erase(prefix))


def set_title_once(a: Replica) -> None:
    """With an idempotency key."""
    update_title = update(TITLE, {"op": "set", "value": "Shop"})
    (outcome,) = a.engine.commit([Transaction((update_title,), key=KEY)]).outcomes
    if outcome.error is not None:
        raise outcome.error


def digest(a: Replica) -> Any:
    return a.digest()


def give(a: Replica) -> Page:
    """A page of a pull, for a peer that has nothing."""
    page = read_page(a.engine, Pull(1, 0, 0, [], []), NOTHING)
    assert isinstance(page, Page)
    return page


def take(a: Replica) -> None:
    """Another replica's operations on everything."""
    b = Replica(2)
    b.do("set", "add", value="milk", key="cart")
    b.do("counter", "increment", key="views")
    b.do("opcounter", "delete", key="log")
    b.do("opcounter", "increment", key="log")
    b.commit(Erase(address.bucket_prefix("shop")))
    a.merge(give(b).records, b.seen, 0)


def feed(a: Replica) -> ChangePage:
    """The change feed from its beginning."""
    with a.store.snapshot() as snapshot:
        return read_changes(snapshot, BEGINNING, Scope(), 100)


def refused(a: Replica, attempts: Iterable[Attempt]) -> None:
    """Each fails with a message, and nothing changes."""
    state, rows = a.engine.state, a.rows()
    for attempt in attempts:
        with pytest.raises(StorageFailed, match="damaged on disk") as caught:
            attempt(a)
        assert caught.value.status == 503
        assert (a.engine.state, a.rows()) == (state, rows)


def goes_on(a: Replica) -> None:
    """What does not touch the damage works as if there were none."""
    assert read(VIEWS)(a) == 1
    assert do(VIEWS, "increment")(a).value == 2


# Rows ---------------------------------------------------------------------------------------------


def test_a_damaged_record() -> None:
    attempts = [
        read(CART),
        contains("milk"),
        do(CART, "add", value="milk"),
        do(CART, "remove", values=["bread", "milk"]),
        take,
        give,
        feed,
    ]
    for a, _ in damaged(Table.RECORDS, MILK):
        refused(a, attempts)
        assert contains("bread")(a)
        goes_on(a)


def test_a_damaged_head() -> None:
    attempts = [
        read(CART),
        contains("milk"),
        digest,
        do(CART, "add", value="milk"),
        do(CART, "clear"),
        erase(address.bucket_prefix("shop")),
        take,
        feed,
    ]
    for a, _ in damaged(Table.HEADS, CART.prefix):
        refused(a, attempts)
        goes_on(a)


def test_a_damaged_folded_value() -> None:
    for a, _ in damaged(Table.FOLDED, LOG.prefix):
        refused(a, [read(LOG), do(LOG, "increment")])
        goes_on(a)


def test_a_damaged_record_of_a_cut() -> None:
    prefix = address.type_prefix("shop", "gset")
    for a, _ in damaged(Table.RECORDS, address.cut(prefix)):
        refused(a, [give, feed])
        a.do("gset", "add", value=2)
        refused(a, [erase(prefix)])
        goes_on(a)


def test_a_damaged_answer_that_was_kept_for_a_key() -> None:
    for a, _ in damaged(Table.META, ANSWER):
        refused(a, [set_title_once])
        goes_on(a)


def test_a_damaged_state_keeps_a_replica_from_opening_and_says_what_to_do() -> None:
    for a, _ in damaged(Table.META, STATE_KEY):
        rows = a.rows()
        with pytest.raises(DamagedStore, match="empty directory"):
            a.reopen()
        assert a.rows() == rows


def test_a_state_of_a_newer_version_says_so() -> None:
    a = written()
    a.store.commit({Table.META: {STATE_KEY: newer_whole(a.rows()[Table.META][STATE_KEY])}})
    with pytest.raises(NewerFormat, match="newer crdtdb"):
        a.reopen()


def test_a_state_that_is_gone_is_no_new_replica() -> None:
    a = written()
    a.store.commit({Table.META: {STATE_KEY: None}})
    with pytest.raises(DamagedStore, match="missing"):
        a.reopen()


SHOP_GSETS: Final = WIDE_CUT_ROWS + address.type_prefix("shop", "gset")


@pytest.mark.parametrize("key", [EPOCHS_KEY, RECLAIMED_KEY, SHOP_GSETS])
def test_what_can_be_told_anew_of_a_damaged_row_of_the_replica_itself(key: bytes) -> None:
    original = written()
    if key == RECLAIMED_KEY:
        original.do("set", "remove", value="bread", key="cart")
        assert original.reclaim()
    for a, _ in damaged(Table.META, key, original):
        a.reopen()
        assert a.engine.epochs == (Epochs() if key == EPOCHS_KEY else original.engine.epochs)
        let_go = original.engine.reclaimed
        if key == RECLAIMED_KEY:
            let_go = Reclaimed(a.seen, a.engine.state.sequence)
        assert a.engine.reclaimed == let_go
        mended = a.rows()
        for table in Table:
            if table is not Table.META:
                assert mended[table] == original.rows()[table]
        if key == SHOP_GSETS:
            assert mended == original.rows()
        a.reopen()
        assert a.rows() == mended
        a.do("gset", "add", value=2)
        assert a.value("gset") == [2]


def test_a_wide_cut_whose_record_is_damaged_too_is_still_in_the_heads() -> None:
    a = written()
    at = SHOP_GSETS.removeprefix(WIDE_CUT_ROWS)
    for table, key in ((Table.META, SHOP_GSETS), (Table.RECORDS, address.cut(at))):
        a.store.commit({table: {key: a.rows()[table][key][:-1]}})
    a.reopen()
    assert a.value("gset") == []
    goes_on(a)


def test_a_state_that_is_damaged_while_the_replica_is_open() -> None:
    for a, _ in damaged(Table.META, STATE_KEY):
        refused(a, [cover, give, feed])


@pytest.mark.parametrize("attempt", [give, feed])
def test_a_record_that_is_gone_from_under_its_sequence(attempt: Attempt) -> None:
    a = written()
    a.store.commit({Table.RECORDS: {MILK: None}})
    with pytest.raises(StorageFailed, match="not there"):
        attempt(a)


def test_a_row_with_the_place_of_another_once_hid_that_one_from_peers() -> None:
    """The next write to it would have deleted the other record's entry in the sequence."""
    a = written()
    rows = a.rows()[Table.RECORDS]
    bread = rows[address.member(CART, "bread")]
    a.store.commit({Table.RECORDS: {MILK: bread[:_PLACE] + rows[MILK][_PLACE:]}})
    refused(a, [do(CART, "add", value="milk"), take, give])
    assert address.member(CART, "bread") in a.rows()[Table.SEQUENCE].values()


@pytest.mark.parametrize("attempt", [give, feed])
def test_a_sequence_that_names_a_record_in_the_place_of_another(attempt: Attempt) -> None:
    a = written()
    places = {at: place for place, at in a.rows()[Table.SEQUENCE].items()}
    a.store.commit({Table.SEQUENCE: {places[MILK]: address.member(CART, "bread")}})
    refused(a, [attempt])


def test_a_row_of_a_newer_version_says_so() -> None:
    a = written()
    row = a.rows()[Table.RECORDS][MILK]
    version = codec.RECORD_VERSION
    assert row[_PLACE] == version
    a.store.commit({Table.RECORDS: {MILK: newer_row(MILK, row)}})
    with pytest.raises(StorageFailed, match=f"version {version + 1}; this crdtdb reads {version}"):
        a.value("set", "cart")
