"""The first difference between two replicas is found in O(log n) exchanges, and named."""

from __future__ import annotations

from math import ceil, log
from random import Random
from typing import Final

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.comparing import (
    LISTED,
    PARTS,
    Answer,
    Ask,
    Difference,
    Question,
    Unsettled,
    answer,
    find_difference,
)
from crdtdb.errors import BadRequest
from crdtdb.record import Record
from crdtdb.rows import read_record
from crdtdb.store.base import Table
from replicas import Replica, exchange

CART: Final = ObjectName("shop", "set", "cart")
MAP: Final = ObjectName("shop", "map", "m")


class Counted:
    """Asks a replica, and counts how often."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.questions = 0

    def __call__(self, question: Question) -> Answer:
        self.questions += 1
        return answer(self.replica.engine.digests, question)


def of(replica: Replica) -> Ask:
    return Counted(replica)


def filled(objects: int) -> tuple[Replica, Replica]:
    a, b = Replica(1), Replica(2)
    for number in range(objects):
        (a if number % 2 else b).do("counter", "increment", key=f"{number:05}")
    exchange(a, b)
    return a, b


def diverge(a: Replica, *changes: tuple[str, str, dict[str, object]]) -> None:
    """Change what a replica shows and nothing of what it has seen, as a bug would."""
    state = a.engine.state
    for type_name, op, arguments in changes:
        a.do(type_name, op, **arguments)  # type: ignore[arg-type]
    a.engine._state = state
    a.store.commit({Table.META: {b"state": state.encode()}})


@pytest.mark.parametrize("objects", [0, 1, 50, 3_000])
def test_equal_replicas_take_one_exchange(objects: int) -> None:
    a, b = (Counted(replica) for replica in filled(objects))
    assert find_difference(a, b) is None
    assert (a.questions, b.questions) == (1, 1)


@pytest.mark.parametrize("objects", [10, 300, 5_000])
def test_one_object_that_differs_is_named_in_few_exchanges(objects: int) -> None:
    a, b = filled(objects)
    key = f"{Random(objects).randrange(objects):05}"
    diverge(a, ("counter", "increment", {"key": key}))
    mine, theirs = Counted(a), Counted(b)
    found = find_difference(mine, theirs)
    name = ObjectName("shop", "counter", key)
    assert found is not None
    assert (found.start, found.end) == (name.prefix, name.prefix)
    assert found.mine is not None
    assert found.theirs is not None
    assert found.mine.digest != found.theirs.digest
    most = 2 + max(0, ceil(log(max(objects / LISTED, 1), PARTS / 2)))
    assert mine.questions == theirs.questions <= most


def test_what_only_one_side_has() -> None:
    a, b = filled(200)
    diverge(a, *[("set", "add", {"key": f"only {n:04}", "value": 1}) for n in range(1_000)])
    for mine, theirs, has in ((a, b, "mine"), (b, a, "theirs")):
        counted = Counted(mine)
        found = find_difference(counted, of(theirs))
        assert found is not None
        assert found.start == ObjectName("shop", "set", "only 0000").prefix
        assert (found.mine is None, found.theirs is None) == (has == "theirs", has == "mine")
        assert counted.questions <= 5


def test_the_member_that_differs() -> None:
    a, b = Replica(1), Replica(2)
    a.do("set", "add", key="cart", values=[f"{n:04}" for n in range(1_000)])
    exchange(a, b)
    diverge(b, ("set", "remove", {"key": "cart", "value": "0777"}))
    found = find_difference(of(a), of(b))
    assert found is not None
    assert found.start == CART.prefix
    within = find_difference(of(a), of(b), CART)
    at = address.member(CART, "0777")
    assert within is not None
    assert (within.start, within.mine is None, within.theirs) == (at, False, None)


@pytest.mark.parametrize("members", [100, 10_000])
def test_one_member_that_differs_is_named_in_few_exchanges(members: int) -> None:
    a, b = Replica(1), Replica(2)
    values = [f"{n:05}" for n in range(members)]
    for start in range(0, members, 1_000):
        a.do("set", "add", key="cart", values=values[start : start + 1_000])
    exchange(a, b)
    for place in (0, members // 3, members - 1):
        diverge(b, ("set", "remove", {"key": "cart", "value": values[place]}))
        mine, theirs = Counted(a), Counted(b)
        within = find_difference(mine, theirs, CART)
        assert within is not None
        assert within.start == address.member(CART, values[place])
        most = 2 + max(0, ceil(log(max(members / LISTED, 1), PARTS / 2)))
        assert mine.questions == theirs.questions <= most
        diverge(a, ("set", "remove", {"key": "cart", "value": values[place]}))


def test_an_object_whose_records_agree_differs_in_its_head() -> None:
    a, b = filled(3)
    name = ObjectName("shop", "counter", "00001")
    heads = a.rows()[Table.HEADS]
    other = heads[ObjectName("shop", "counter", "00002").prefix]
    a.store.commit({Table.HEADS: {name.prefix: other}})
    found = find_difference(of(a), of(b))
    assert found is not None
    assert found.start == name.prefix
    assert find_difference(of(a), of(b), name) is None


def test_who_has_not_seen_all_does_not_differ() -> None:
    a, b = filled(100)
    a.do("counter", "increment", key="00007")
    with pytest.raises(Unsettled) as raised:
        find_difference(of(a), of(b))
    assert raised.value.theirs.missing(raised.value.mine) == 0 or raised.value.mine != b.seen
    assert (raised.value.mine, raised.value.theirs) == (a.seen, b.seen)
    exchange(a, b)
    assert find_difference(of(a), of(b)) is None


def test_who_goes_on_while_asked_is_not_judged() -> None:
    a, b = filled(1_000)
    diverge(a, ("counter", "increment", {"key": "00700"}))
    theirs = Counted(b)

    def busy(question: Question) -> Answer:
        if theirs.questions == 1:
            b.do("counter", "increment", key="00001")
        return theirs(question)

    with pytest.raises(Unsettled):
        find_difference(of(a), busy)


def test_what_does_not_count_as_a_difference() -> None:
    """Tombstones, cuts, folded operations and places are each replica's own business."""
    a, b = Replica(1), Replica(2)
    a.do("set", "add", key="cart", values=["x", "y"])
    a.do("set", "remove", key="cart", value="x")
    a.do("set", "add", key="gone", value=1)
    a.do("set", "clear", key="gone")
    a.do("opcounter", "increment", key="log")
    for path in ("a", "b"):
        do = {"type": "opcounter", "op": "increment"}
        a.do("map", "update", key="m", field=[path], do=do)
    a.do("map", "remove", key="m", field=["a"])
    exchange(a, b)
    a.reclaim()
    assert a.rows()[Table.RECORDS] != b.rows()[Table.RECORDS]
    assert find_difference(of(a), of(b)) is None
    assert find_difference(of(a), of(b), CART) is None
    assert find_difference(of(a), of(b), MAP) is None


def test_an_op_based_leaf_that_differs_is_one_part_of_its_map() -> None:
    """It is named as a whole, for its operations are not what two replicas have in common."""
    a, b = Replica(1), Replica(2)
    for path in ("a", "b", "c"):
        do = {"type": "opcounter", "op": "increment"}
        a.do("map", "update", key="m", field=[path], do=do)
    exchange(a, b)
    a.reclaim()
    diverge(
        a,
        ("map", "update", {"key": "m", "field": ["b"], "do": {"type": "opcounter", "op": "reset"}}),
    )
    found = find_difference(of(a), of(b), MAP)
    assert isinstance(found, Difference)
    assert found.start == found.end == MAP.prefix + address.leaf(["b"], "opcounter", address.OWN)
    assert (found.mine, found.theirs is None) == (None, False)


def test_positions_out_of_order_are_refused() -> None:
    a, _ = filled(1)
    for question in (
        Question(b"\x10b", b"\x10a"),
        Question(b"\x10a", b"\x10c", (b"\x10d",)),
        Question(b"\x08"),
        Question(CART.prefix, b"\x10z", object=CART),
    ):
        with pytest.raises(BadRequest, match="order"):
            answer(a.engine.digests, question)


def test_a_difference_shows_what_is_where() -> None:
    a, b = filled(2)
    diverge(a, ("counter", "increment", {"key": "00000"}))
    found = find_difference(of(a), of(b), ObjectName("shop", "counter", "00000"))
    assert isinstance(found, Difference)
    with a.store.snapshot() as snapshot:
        record, _ = read_record(snapshot, found.start)
    assert isinstance(record, Record)
