"""Deadlines are given, shown and taken away in the same words at all doors."""

from __future__ import annotations

import json
import time
from typing import Final

import pytest

from crdtdb import Database
from crdtdb.errors import BadRequest, InvalidOperation
from crdtdb_client import Client

Door = Database | Client

_HOUR_MS: Final = 3_600_000


def _later_ms() -> int:
    return time.time_ns() // 1_000_000 + _HOUR_MS


def test_a_deadline_is_given_shown_and_taken_away(door: Door) -> None:
    cart, at_ms = door.set("shop", "cart:42"), _later_ms()
    assert not cart.expire(at_ms=at_ms).changed
    cart.add("apple")
    assert cart.page().expires_at_ms is None
    assert cart.expire(at_ms=at_ms).changed
    assert cart.page().expires_at_ms == at_ms
    assert not cart.expire(at_ms=at_ms).changed
    assert cart.persist().changed
    assert cart.page().expires_at_ms is None
    cart.expire(in_ms=_HOUR_MS)
    assert abs((cart.page().expires_at_ms or 0) - at_ms) < _HOUR_MS / 2


def test_every_type_shows_its_deadline(door: Door) -> None:
    at_ms = _later_ms()
    title, views = door.register("shop", "title"), door.counter("shop", "views")
    note, stock = door.text("shop", "note"), door.map("shop", "stock")
    title.set("Sale")
    views.increment()
    note.append("hi")
    stock.update(["a"], {"type": "set", "op": "add", "value": 1})
    for handle in (title, views, note):
        handle.expire(at_ms=at_ms)
        assert handle.get().expires_at_ms == at_ms
    stock.expire(at_ms=at_ms)
    assert stock.page().expires_at_ms == at_ms
    assert [read.expires_at_ms for read in door.read_together([title.name, note.name])] == [
        at_ms
    ] * 2


def test_what_no_deadline_can_be(door: Door) -> None:
    cart = door.set("shop", "cart:42")
    cart.add("apple")
    with pytest.raises(InvalidOperation, match="has passed") as refused:
        cart.expire(at_ms=1_000)
    assert refused.value.fields[0].field == "at_ms"
    for given in ({}, {"in_ms": 5, "at_ms": _later_ms()}, {"in_ms": -5}, {"in_ms": 0}):
        with pytest.raises(BadRequest):
            cart.expire(**given)
    with pytest.raises(InvalidOperation, match="bcounter has no operation 'expire'"):
        door.bcounter("shop", "stock").expire(in_ms=5)
    assert cart.page().expires_at_ms is None


def test_a_deadline_in_a_transaction_and_in_its_explanation(door: Door) -> None:
    at_ms = _later_ms()
    with door.transaction() as tx:
        tx.set("shop", "cart:42").add("apple")
        tx.set("shop", "cart:42").expire(at_ms=at_ms)
    assert [written.changed for written in tx.results] == [True, True]
    why = door.set("shop", "cart:42").explain()
    assert why["expiry"]["expires_at_ms"] == at_ms
    assert [entry["state"] for entry in why["expiry"]["entries"]] == ["in force"]


def test_a_deadline_is_exported_and_imported(door: Door) -> None:
    at_ms = _later_ms()
    door.set("shop", "cart:42").add("apple")
    door.set("shop", "cart:42").expire(at_ms=at_ms)
    door.list("shop", "todo").append("apple")
    door.list("shop", "todo").expire(at_ms=at_ms)
    lines = list(door.export("shop"))
    assert [json.loads(line)["expires_at_ms"] for line in lines] == [at_ms] * 2
    cart = next(line for line in lines if b"cart:42" in line)
    past = cart.replace(str(at_ms).encode(), b"1000").replace(b"cart:42", b"cart:43")
    with Database.in_memory() as other:
        done = other.import_([*lines, past])
        assert (done.written, done.failed) == ({"set": 1, "list": 1}, 1)
        assert other.set("shop", "cart:42").get().expires_at_ms == at_ms
        assert not other.set("shop", "cart:43").get().exists
