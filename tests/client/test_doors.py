"""The embedded door and the one over HTTP have the same methods, answers and errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from crdtdb import Database
from crdtdb.address import ObjectName
from crdtdb.errors import BadRequest, InvalidOperation, Problem, UnknownType
from crdtdb.limits import LIMITS
from crdtdb_client import Client
from liveserver import live_server

Door = Database | Client


@pytest.fixture(params=["embedded", "http"])
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    if request.param == "embedded":
        with Database.in_memory(replica="eu-1") as database:
            yield database
    else:
        with live_server("eu-1") as url, Client(url) as client:
            yield client


def test_counters(door: Door) -> None:
    for counter in (door.counter("shop", "views"), door.opcounter("shop", "views")):
        assert counter.increment(5).value == 5
        assert counter.decrement(2).value == 3
        assert (counter.get().value, counter.get().exists) == (3, True)
        assert counter.reset().value == 0
        assert not counter.reset().changed
    assert door.gcounter("shop", "views").increment().value == 1


def test_a_counter_knows_no_bound(door: Door) -> None:
    most = {"op": "increment", "by": LIMITS.step}
    name = ObjectName("shop", "counter", "huge")
    for _ in range(3):
        written = door.update(name, [most] * LIMITS.transaction_operations)
    assert written.value == 3 * LIMITS.transaction_operations * LIMITS.step > 2**64
    assert door.counter("shop", "huge").get().value == written.value


@pytest.mark.parametrize("value", [None, True, -1.5, 2**64 - 1, "ü\0\u2028", [1, [2]], {"a": {}}])
def test_registers_give_back_what_was_put_in(door: Door, value: Any) -> None:
    title = door.register("shop", "title")
    assert title.get().value is None
    assert title.set(value).value == value
    found = title.get()
    assert (found.value, found.exists, found.replica) == (value, True, "eu-1")


def test_a_read_context_limits_what_a_write_replaces(door: Door) -> None:
    price = door.mvregister("shop", "price")
    price.set(1)
    seen = price.get().seen
    price.set(2)
    assert price.set(3, seen=seen).value == [2, 3]


def test_flags(door: Door) -> None:
    for flag in (door.flag("shop", "open"), door.dwflag("shop", "open")):
        assert flag.enable().value is True
        assert flag.disable().value is False
        assert flag.get().value is False


def test_sets(door: Door) -> None:
    cart = door.set("shop", "cart")
    assert cart.add("pear", 1, 1.0, True, None).size == 4
    assert list(cart) == [None, True, 1, "pear"]
    assert len(cart) == 4
    assert True in cart
    assert "1" not in cart
    assert cart.remove("pear", "plum").size == 3
    assert cart.clear().size == 0
    assert not cart.get().exists
    assert door.gset("shop", "seen").add("ann").size == 1


def test_pages_go_through_a_set_in_order_and_back(door: Door) -> None:
    numbers = door.set("shop", "numbers")
    for start in range(0, 2_500, 500):
        numbers.add(*range(start, start + 500))
    assert list(numbers) == list(range(2_500))
    page = numbers.page(limit=2)
    assert (page.value, page.size) == ([0, 1], 2_500)
    assert numbers.page(page.next, 2).value == [2, 3]
    assert numbers.page(limit=2, reverse=True).value == [2_499, 2_498]


def test_a_key_holds_one_object_per_type_and_a_read_says_so(door: Door) -> None:
    door.set("shop", "cart").add("pear")
    assert door.counter("shop", "cart").get().also == ("set",)


def test_a_transaction_takes_effect_whole_or_not_at_all(door: Door) -> None:
    with door.transaction() as tx:
        tx.counter("shop", "sold").increment()
        tx.set("shop", "buyers").add("ann", "bo")
    assert door.counter("shop", "sold").get().value == 1
    assert list(door.set("shop", "buyers")) == ["ann", "bo"]
    with door.transaction():
        pass
    assert door.counter("shop", "sold").get().value == 1


def test_a_refused_operation_takes_its_whole_transaction_with_it(door: Door) -> None:
    def sell_too_much() -> None:
        with door.transaction() as tx:
            tx.flag("shop", "open").enable()
            tx.counter("shop", "sold").increment(0)

    with pytest.raises(BadRequest):
        sell_too_much()
    assert door.digest().objects == 0


def test_an_error_in_the_block_leaves_nothing_written(door: Door) -> None:
    def change_of_mind() -> None:
        with door.transaction() as tx:
            tx.flag("shop", "open").enable()
            raise KeyError

    with pytest.raises(KeyError):
        change_of_mind()
    assert door.digest().objects == 0


def test_digests_are_equal_when_two_replicas_show_the_same(door: Door) -> None:
    empty = door.digest()
    door.flag("shop", "open").enable()
    assert (door.digest().objects, door.digest() == empty) == (1, False)


@pytest.mark.parametrize(
    ("type_name", "key", "plain", "problem", "field"),
    [
        ("counter", "k", {"op": "increment", "by": 0}, BadRequest, "by"),
        ("counter", "k", {"op": "increment", "by": True}, BadRequest, "by"),
        ("counter", "k", {"op": "explode"}, InvalidOperation, "op"),
        ("counter", "", {"op": "increment"}, BadRequest, "key"),
        ("counter", "k" * 1_025, {"op": "increment"}, BadRequest, "key"),
        ("nonsense", "k", {"op": "increment"}, UnknownType, None),
        ("..", "k", {"op": "increment"}, UnknownType, None),
    ],
)
def test_errors_are_the_same_classes_and_name_the_field(
    door: Door,
    type_name: str,
    key: str,
    plain: dict[str, Any],
    problem: type[Problem],
    field: str | None,
) -> None:
    with pytest.raises(problem) as caught:
        door.update(ObjectName("shop", type_name, key), [plain])
    assert caught.value.detail
    if field is not None:
        assert caught.value.fields[0].field == field


@pytest.mark.parametrize("value", [float("nan"), 2**64, {1: 2}, {1, 2}, b"x", "\ud800", object()])
def test_what_is_not_json_is_refused_at_both_doors(door: Door, value: Any) -> None:
    with pytest.raises(BadRequest):
        door.register("shop", "title").set(value)
    with pytest.raises(BadRequest):
        door.set("shop", "cart").add(value)
    assert door.digest().objects == 0
