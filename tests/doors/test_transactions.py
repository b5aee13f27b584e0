"""Transactions take effect whole or not at all, at every door."""

from __future__ import annotations

import pytest

from crdtdb import Database
from crdtdb.errors import BadRequest
from crdtdb.limits import LIMITS
from crdtdb.types import CATALOGUE
from crdtdb_client import Client
from operations import creation

Door = Database | Client


def test_a_transaction_takes_effect_whole(door: Door) -> None:
    with door.transaction() as tx:
        tx.counter("shop", "sold").increment()
        tx.set("shop", "buyers").add("ann", "bo")
        assert door.counter("shop", "sold").get().value == 0
    assert door.counter("shop", "sold").get().value == 1
    assert list(door.set("shop", "buyers")) == ["ann", "bo"]
    with door.transaction():
        pass
    assert door.counter("shop", "sold").get().value == 1


def test_every_type_can_be_written_in_a_transaction(door: Door) -> None:
    with door.transaction() as tx:
        for type_name in CATALOGUE:
            getattr(tx, type_name)("b", "k")._do(**creation(type_name))
    assert len(door.types("b")) == len(tx.results) == len(CATALOGUE)
    assert [written.changed for written in tx.results] == [True] * len(CATALOGUE)


def test_afterwards_it_says_what_each_write_did(door: Door) -> None:
    with door.transaction() as tx:
        tx.counter("shop", "sold").increment(2)
        tx.set("shop", "buyers").add("ann", "bo")
        tx.set("shop", "buyers").remove("cy")
        assert tx.results == []
    assert [written.changed for written in tx.results] == [True, True, False]
    assert [written.value for written in tx.results] == [2, None, None]
    assert [written.size for written in tx.results] == [None, 2, 2]


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


def test_a_transaction_has_a_bound(door: Door) -> None:
    def sell(times: int) -> None:
        with door.transaction() as tx:
            for _ in range(times):
                tx.counter("shop", "sold").increment()

    with pytest.raises(BadRequest) as caught:
        sell(LIMITS.transaction_operations + 1)
    assert caught.value.fields[0].limit == LIMITS.transaction_operations
    sell(LIMITS.transaction_operations)
    assert door.counter("shop", "sold").get().value == LIMITS.transaction_operations


def test_a_read_context_counts_in_a_transaction_too(door: Door) -> None:
    cart = door.set("shop", "cart")
    cart.add("apple")
    seen = cart.get().seen
    cart.add("pear")
    with door.transaction() as tx:
        tx.set("shop", "cart").clear(seen=seen)
        tx.counter("shop", "checkouts").increment()
    assert list(cart) == ["pear"]
