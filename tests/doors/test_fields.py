"""Maps have the same methods, values and problems at all doors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from crdtdb import Database
from crdtdb.answers import LEFT_OUT, Conflict, Lost
from crdtdb.errors import BadRequest, Gone, InvalidOperation, TooLarge
from crdtdb.limits import LIMITS
from crdtdb.store.memory import MemoryStore
from crdtdb_client import Client
from replicas import START_MS, Replica, exchange

Door = Database | Client
Opened = Callable[[MemoryStore], AbstractContextManager[Door]]

STEP = {"type": "counter", "op": "increment"}


def test_a_map_is_read_whole_by_field_and_in_pages(door: Door) -> None:
    cart = door.map("shop", "cart")
    assert (cart.get().value, cart.get().exists, cart.size()) == ({}, False, 0)
    assert cart.update(["items", "apple"], {**STEP, "by": 3}).size == 1
    assert cart.update(["items"], {"type": "register", "op": "set", "value": "x"}).changed
    assert cart.update(["tags"], {"type": "set", "op": "add", "values": ["b", "a", 1]}).size == 5
    assert cart.get().value == {"items": {"apple": 3}, "tags": [1, "a", "b"]}
    leaves: list[dict[str, Any]] = [
        {"field": ["items"], "type": "register", "value": "x"},
        {"field": ["items", "apple"], "type": "counter", "value": 3},
        {"field": ["tags"], "type": "set", "value": [1, "a", "b"]},
    ]
    assert cart.page().value == leaves
    assert cart.page(["items"]).value == leaves[:2]
    assert cart.page(["item"]).value == []
    first = cart.page(limit=3)
    assert first.value == [*leaves[:2], {**leaves[2], "value": [1]}]
    second = cart.page(after=first.next, limit=3)
    assert (second.value, second.next) == ([{**leaves[2], "value": ["a", "b"]}], None)
    with pytest.raises(BadRequest):
        cart.page(["items"], after=first.next)


def test_a_field_shows_the_first_of_its_types_and_the_others(door: Door) -> None:
    cart = door.map("shop", "cart")
    cart.update(["a", "b"], STEP)
    cart.update(["a"], {"type": "set", "op": "add", "value": 1})
    cart.update(["a"], {"type": "register", "op": "set", "value": "x"})
    found = cart.field(["a"])
    assert (found.field, found.type, found.value) == (("a",), "map", {"b": 1})
    assert found.others == {"register": "x", "set": [1]}
    cart.update(["a"], STEP)
    assert (cart.field(["a"]).type, cart.field(["a"]).value) == ("counter", 1)
    nothing = cart.field(["c", "b", "a"])
    assert (nothing.type, nothing.value, nothing.others) == (None, None, {})


def test_a_field_is_not_below_a_leaf(door: Door) -> None:
    """It would be hidden by it, or hide it. What replicas that did not know do together stays."""
    cart = door.map("shop", "cart")
    cart.update(["a", "b"], STEP)
    for ask in (
        lambda: cart.update(["a", "b", "c", "d"], STEP),
        lambda: cart.field(["a", "b", "c"]),
        lambda: cart.page(["a", "b", "c"]),
    ):
        with pytest.raises(InvalidOperation, match="'a/b' is a counter here") as refused:
            ask()
        assert refused.value.fields[0].field == "field"
    assert cart.page().value == [{"field": ["a", "b"], "type": "counter", "value": 1}]
    assert not cart.remove(["a", "b", "c"]).changed
    cart.remove(["a", "b"])
    assert cart.update(["a", "b", "c", "d"], STEP).changed
    cart.update(["a"], {"type": "flag", "op": "enable"})
    assert cart.update(["a", "b", "c", "d"], STEP).changed
    assert cart.update(["a", "b", "c"], STEP).changed


def test_a_remove_gives_back_what_a_field_showed(door: Door) -> None:
    cart = door.map("shop", "cart")
    cart.update(["a", "old"], {"type": "flag", "op": "enable"})
    shown = cart.field(["a"]).seen
    cart.update(["a", "new"], {"type": "flag", "op": "enable"})
    assert cart.remove(["a"], seen=shown).size == 1
    assert cart.get().value == {"a": {"new": True}}
    assert cart.update(["a", "new"], {"type": "flag", "op": "disable", "seen": shown}).size == 1
    assert cart.delete().changed
    assert not cart.get().exists


def test_a_field_that_is_too_much_for_one_answer_is_read_in_pages(door: Door) -> None:
    cart = door.map("shop", "cart")
    many = list(range(LIMITS.page_items))
    cart.update(["a", "b"], {"type": "set", "op": "add", "values": many})
    assert cart.field(["a"]).value == {"b": many}
    cart.update(["a", "b"], {"type": "set", "op": "add", "value": "one more"})
    for path in (["a"], ["a", "b"]):
        with pytest.raises(TooLarge) as refused:
            cart.field(path)
        assert refused.value.fields[0].field == "field"


def test_changes_tell_field_and_member(door: Door) -> None:
    cart = door.map("shop", "cart")
    cart.update(["a", "n"], {**STEP, "by": 2})
    cart.update(["a", "s"], {"type": "set", "op": "add", "value": "x"})
    told = list(door.changes("shop", include_value=True, follow=False))
    assert [(e.field, e.member, e.deleted, e.value) for e in told] == [
        (("a", "n"), LEFT_OUT, False, 2),
        (("a", "s"), "x", False, LEFT_OUT),
    ]
    cart.remove(["a"])
    told = list(door.changes("shop", since=told[-1].cursor, follow=False))
    assert [(e.field, e.member, e.deleted) for e in told] == [
        (("a", "n"), LEFT_OUT, True),
        (("a", "s"), "x", True),
    ]


def test_an_explanation_tells_of_a_field(door: Door) -> None:
    cart = door.map("shop", "cart")
    cart.update(["a", "n"], STEP)
    cart.update(["a", "s"], {"type": "set", "op": "add", "value": "x"})
    cart.update(["b"], {"type": "flag", "op": "enable"})
    records = cart.explain(["a"])["records"]
    assert [(r["kind"], r["field"], r["type"], r.get("member")) for r in records] == [
        ("leaf", ["a", "n"], "counter", None),
        ("leaf", ["a", "s"], "set", "x"),
    ]
    assert records[0]["entries"][0]["added"] == 1
    assert len(cart.explain()["records"]) == 3


def test_a_conflict_tells_its_field(opened: Opened) -> None:
    here, there = Replica(1), Replica(2, now_ms=START_MS + 7)
    for replica, value in ((here, "here"), (there, "there")):
        do = {"type": "register", "op": "set", "value": value}
        replica.do("map", "update", key="cart", field=["a", "title"], do=do)
    exchange(here, there)
    with opened(here.store) as door:
        cart = door.map("shop", "cart")
        lost = Lost("here", "eu-1", START_MS)
        (conflict,) = door.conflicts()
        assert conflict == Conflict(cart.name, conflict.at_ms, "there", (lost,), ("a", "title"))


def test_what_is_not_of_maps_is_refused(door: Door) -> None:
    cart, members = door.map("shop", "cart").name, door.set("shop", "cart").name
    with pytest.raises(InvalidOperation) as refused:
        door.field(members, ["a"])
    assert refused.value.fields[0].field == "field"
    with pytest.raises(InvalidOperation) as refused:
        door.read(members, prefix=["a"])
    assert refused.value.fields[0].field == "prefix"
    with pytest.raises(InvalidOperation):
        door.contains(cart, "a")
    with pytest.raises(InvalidOperation) as refused:
        door.read(cart, from_=1)
    assert refused.value.fields[0].field == "from"
    with pytest.raises(InvalidOperation):
        door.read(cart, reverse=True)
    with pytest.raises(InvalidOperation):
        door.explain(cart, "a")
    for path in ([], ["x"] * 17):
        with pytest.raises(BadRequest) as wrong:
            door.field(cart, path)
        assert wrong.value.fields[0].field == "field"


def test_an_export_of_a_map_is_imported_again(door: Door) -> None:
    cart = door.map("shop", "cart")
    cart.update(["a", "n"], {**STEP, "by": LIMITS.step})
    cart.update(["a", "n"], {**STEP, "by": LIMITS.step})
    cart.update(["a"], {"type": "hll", "op": "add", "values": [1, 2]})
    cart.update(["z"], {"type": "zset", "op": "add", "member": 1, "score": 2.5})
    cart.update(["z"], {"type": "opcounter", "op": "decrement", "by": 7})
    cart.update(["z"], {"type": "text", "op": "insert", "text": "hé"})
    lines = list(door.export("shop"))
    with Database.in_memory() as other:
        assert other.import_(lines).failed == 0
        assert other.map("shop", "cart").page().value == cart.page().value


def test_an_op_based_leaf_is_written_read_and_removed_like_any_other(door: Door) -> None:
    cart = door.map("shop", "cart")
    assert cart.update(["a", "n"], {"type": "opcounter", "op": "increment", "by": 5}).size == 1
    insert = {"type": "list", "op": "insert", "values": ["x", "y"]}
    assert cart.update(["a", "todo"], insert).size == 2
    cart.update(["a", "note"], {"type": "text", "op": "insert", "text": "hé"})
    with door.transaction() as tx:
        for index in (0, 1):
            do = {"type": "text", "op": "insert", "index": index, "text": str(index)}
            tx.map("shop", "cart").update(["a", "note"], do)
        tx.map("shop", "cart").update(["a", "n"], {"type": "opcounter", "op": "decrement"})
    todo: Any = cart.field(["a", "todo"]).value
    assert [one["value"] for one in todo] == ["x", "y"]
    assert cart.get().value == {"a": {"n": 4, "note": "01hé", "todo": todo}}
    delete = {"type": "list", "op": "delete", "ids": [todo[0]["id"]]}
    cart.update(["a", "todo"], delete)
    assert cart.field(["a", "todo"]).value == todo[1:]
    with pytest.raises(Gone):
        cart.update(["a", "todo"], delete)
    with pytest.raises(InvalidOperation) as refused:
        cart.remove(["a"], seen=cart.get().seen)
    assert refused.value.fields[0].field == "seen"
    assert cart.remove(["a"]).size == 0
    assert (cart.get().value, cart.get().exists) == ({}, False)
