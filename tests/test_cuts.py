"""Cuts and read contexts: exactly what was seen goes, at every replica."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any, Final

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.errors import InvalidOperation
from crdtdb.transaction import Erase
from crdtdb.types import CATALOGUE
from operations import creation, random_operation
from oracle.checks import check_books
from replicas import Replica, exchange, update

BUCKET: Final = Erase(address.bucket_prefix("shop"))
COUNTERS: Final = ("counter", "gcounter", "opcounter")


# Erasing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize(
    "erase",
    [
        BUCKET,
        Erase(address.type_prefix("shop", "counter")),
        Erase(address.key_prefix("shop", "gcounter", "k")),
        Erase(address.key_prefix("shop", "opcounter", "")),
    ],
    ids=["bucket", "type", "key", "no key"],
)
def test_an_erase_removes_exactly_the_steps_it_saw(counter: str, erase: Erase) -> None:
    """A running total is not a dot; a cut alone would leave or take all of it."""
    a, b = Replica(1), Replica(2)
    b.do(counter, "increment", by=5)
    a.pull(b)
    b.do(counter, "increment", by=2)
    erased = a.commit(erase).outcomes[0].results[0].changed
    exchange(a, b)
    assert a.value(counter) == (2 if erased else 7)


def test_an_erase_sees_a_counter_that_was_reset_before() -> None:
    a, b = Replica(1), Replica(2)
    b.do("counter", "increment", by=5)
    a.pull(b)
    a.do("counter", "reset")
    b.do("counter", "increment", by=2)
    a.commit(BUCKET)
    exchange(a, b)
    assert a.value("counter") == b.value("counter") == 2


def test_an_erase_says_how_many_objects_it_removed() -> None:
    a = Replica(1)
    a.do("counter", "increment")
    a.do("register", "set", value=1)
    a.do("set", "add", values=[1, 2])
    a.do("set", "add", value=1, key="emptied")
    a.do("set", "clear", key="emptied")
    a.do("dwflag", "disable")
    (result,) = a.commit(BUCKET).outcomes[0].results
    assert (result.changed, result.size) == (True, 3)
    (result,) = a.commit(BUCKET).outcomes[0].results
    assert (result.changed, result.size) == (False, 0)


def test_an_erase_of_a_key_prefix_leaves_other_keys() -> None:
    a, b = Replica(1), Replica(2)
    for key in ("cart", "cart:1", "car", "d"):
        a.do("set", "add", value=1, key=key)
        a.do("gset", "add", value=1, key=key)
    a.commit(Erase(address.key_prefix("shop", "set", "cart")))
    exchange(a, b)
    left = {(t, k) for t in ("set", "gset") for k in ("cart", "cart:1", "car", "d")}
    left -= {("set", "cart"), ("set", "cart:1")}
    assert {(t, k) for t, k in left if b.exists(t, k)} == left
    assert not b.exists("set", "cart")
    assert not b.exists("set", "cart:1")


@pytest.mark.parametrize("type_name", [n for n, kind in CATALOGUE.items() if kind.deletable])
def test_what_is_concurrent_to_an_erase_survives_it(type_name: str) -> None:
    """Also an object that the erasing replica had never heard of."""
    a, b = Replica(1), Replica(2)
    for replica, key in ((a, "known"), (b, "known"), (b, "unknown")):
        replica.commit(update(ObjectName("shop", type_name, key), creation(type_name)))
    a.commit(BUCKET)
    alone = b.value(type_name, "known")
    exchange(a, b)
    assert a.value(type_name, "known") == alone
    assert a.exists(type_name, "unknown")
    for replica in (a, b):
        check_books(replica.store)


# Cuts of one object -------------------------------------------------------------------------------


def test_a_cut_leaves_a_concurrent_add() -> None:
    a, b = Replica(1), Replica(2)
    a.do("set", "add", values=["x", "y"])
    b.pull(a)
    b.do("set", "add", value="y")
    a.do("set", "clear")
    exchange(a, b)
    assert a.value("set") == ["y"]


def test_a_cut_with_an_older_read_context_does_not_shrink_an_earlier_one() -> None:
    """The later cut takes the earlier one's place, so it must cover what that one covered."""
    a, b = Replica(1), Replica(2)
    a.do("set", "add", value="x")
    older = a.seen
    a.do("set", "add", value="y")
    b.pull(a)
    a.do("set", "clear")
    a.do("set", "add", value="z")
    a.do("set", "clear", seen=older)
    exchange(a, b)
    assert b.value("set") == ["z"]


def test_concurrent_cuts_add_up() -> None:
    a, b = Replica(1), Replica(2)
    a.do("set", "add", value="x")
    b.do("set", "add", value="y")
    exchange(a, b)
    a.do("set", "add", value="z")
    shown = a.seen
    a.do("set", "clear", seen=shown)
    b.do("set", "clear")
    exchange(a, b)
    assert a.value("set") == []
    a.do("set", "add", value="x")
    exchange(a, b)
    assert b.value("set") == ["x"]


def test_members_come_back_after_a_cut_only_by_being_added() -> None:
    a, b, c = Replica(1), Replica(2), Replica(3)
    a.do("set", "add", values=["x", "y"])
    late = c.stage(a)
    b.pull(a)
    b.do("set", "clear")
    c.pull(b)
    c.do("set", "add", value="y")
    c.claim(late)
    exchange(a, b, c)
    assert a.value("set") == ["y"]


# Forged contexts ----------------------------------------------------------------------------------


def _forged(random: Random, replicas: list[Replica]) -> VersionVector:
    """Any vector at all, causally closed or not, of the past or of the future."""
    incarnations = [replica.engine.state.incarnation for replica in replicas]
    return VersionVector({i: random.randint(1, 12) for i in incarnations if random.random() < 0.6})


def _removal(type_name: str, random: Random) -> dict[str, Any]:
    """An operation that takes a read context."""
    while True:
        operation = random_operation(type_name, random)
        if "seen" in _fields(type_name, operation["op"]):
            return operation


def _fields(type_name: str, op: str) -> tuple[str, ...]:
    if op == "delete":
        return ("seen",)
    structs = {str(o.__struct_config__.tag): o for o in CATALOGUE[type_name].operations}
    return structs[op].__struct_fields__


@pytest.mark.parametrize("type_name", [n for n, kind in CATALOGUE.items() if kind.removable])
def test_a_forged_read_context_removes_the_same_everywhere(type_name: str) -> None:
    """It may remove what no honest read would have shown alone, but it cannot divide replicas."""
    for seed in range(25):
        random = Random(seed)
        replicas = [Replica(n) for n in range(1, 4)]
        name = ObjectName("shop", type_name, "k")
        for _ in range(12):
            replica, other = random.sample(replicas, 2)
            # What is refused, as where a leaf of a map cannot be split, changes nothing.
            with suppress(InvalidOperation):
                replica.commit(update(name, random_operation(type_name, random)))
            if random.random() < 0.6:
                removal = _removal(type_name, random)
                with suppress(InvalidOperation):
                    replica.commit(update(name, removal, _forged(random, replicas)))
            if random.random() < 0.5:
                replica.pull(other)
            check_books(replica.store)
        exchange(*replicas)
        assert len({replica.show(name) for replica in replicas}) == 1
