"""Objects have the same methods, values and read contexts at all doors."""

from __future__ import annotations

from typing import Any

import pytest
from pycrdt import Doc, Text

from crdtdb import Database
from crdtdb.address import ObjectName
from crdtdb.answers import Rights
from crdtdb.errors import BadRequest, ConflictingBounds, Gone, InvalidOperation, OutOfBounds
from crdtdb.handles import Flag
from crdtdb.limits import LIMITS
from crdtdb.types._yjs import EDITORS
from crdtdb_client import Client

Door = Database | Client


def test_counters(door: Door) -> None:
    for counter in (door.counter("shop", "views"), door.opcounter("shop", "views")):
        assert counter.increment(5).value == 5
        assert counter.decrement(2).value == 3
        assert (counter.get().value, counter.get().exists) == (3, True)
        assert counter.reset().value == 0
        assert not counter.reset().changed
        counter.increment()
        assert counter.delete().value == 0
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


def test_texts(door: Door) -> None:
    note = door.text("home", "note")
    assert note.append("buy 🍐").size == 5
    assert note.insert(4, "an apple, a ").size == 17
    assert note.remove(14).changed
    found = note.get()
    assert (found.value, found.exists, found.size) == ("buy an apple,  🍐", True, None)
    enrolled, other = note.enrol(), note.enrol()
    assert enrolled.client != other.client
    assert enrolled.update == other.update == note.difference()
    editor: Doc[Any] = Doc(client_id=enrolled.client)
    text = editor.get("text", type=Text)
    editor.apply_update(enrolled.update)
    assert str(text) == found.value
    state = editor.get_state()
    text += "!"
    assert note.update(editor.get_update(state)).size == 17
    assert not note.update(editor.get_update()).changed
    note.insert(0, "> ")
    editor.apply_update(note.difference(editor.get_state()))
    assert str(text) == note.get().value == "> buy an apple,  🍐!"
    with door.transaction() as tx:
        tx.text("home", "note").append("?")
        tx.text("home", "note").remove(0, 2)
    assert [result.size for result in tx.results] == [20, 18]
    assert [record["kind"] for record in note.explain()["records"]] == ["operation"] * 6
    with pytest.raises(InvalidOperation, match="18 characters here"):
        note.insert(19, "x")
    with pytest.raises(BadRequest, match="state vector"):
        note.difference(b"\xff")
    stranger: Doc[Any] = Doc(client_id=enrolled.client - 1 - EDITORS)
    stranger.get("text", type=Text).insert(0, "x")
    with pytest.raises(InvalidOperation, match="not given out"):
        note.update(stranger.get_update())
    with pytest.raises(InvalidOperation, match="no other format"):
        door.difference(ObjectName("home", "set", "note"))
    assert note.delete().size == 0
    assert not note.get().exists


def test_lists(door: Door) -> None:
    todo = door.list("home", "todo")
    assert todo.append("wash", "dry").size == 2
    assert todo.insert(1, {"rinse": 1.0}).size == 3
    wash, rinse, dry = [entry["id"] for entry in todo]
    todo.insert_after(rinse, "spin")
    todo.insert_before(wash, "sort", None)
    found = todo.get()
    assert [entry["value"] for entry in found.value] == [
        *("sort", None, "wash", {"rinse": 1}, "spin", "dry")
    ]
    assert (found.size, found.exists, found.seen) == (6, True, None)
    page = todo.page(limit=2, from_=1, to=4)
    assert [entry["value"] for entry in page.value] == [None, "wash"]
    page = todo.page(page.next, 2, from_=1, to=4)
    assert ([entry["id"] for entry in page.value], page.next) == ([rinse], None)
    assert [entry["id"] for entry in todo.page(limit=1, reverse=True).value] == [dry]
    assert todo.contains({"rinse": 1})
    assert not todo.contains("fold")
    assert todo.remove(wash, dry).size == 4
    assert todo.remove_at(0, 2).size == todo.size() == 2
    with pytest.raises(Gone, match="deleted, or has not arrived"):
        todo.insert_after(dry, "late")
    with pytest.raises(BadRequest):
        todo.remove()
    assert [record["kind"] for record in todo.explain()["records"]] == ["operation"] * 6
    assert todo.delete().size == 0
    assert todo.get().value == []


def test_flags(door: Door) -> None:
    for flag in (door.flag("shop", "open"), door.dwflag("shop", "open")):
        assert flag.enable().value is True
        assert flag.disable().value is False
        assert flag.get().value is False


def test_sets(door: Door) -> None:
    cart = door.set("shop", "cart")
    assert cart.add("pear", 1, 1.0, True, None).size == 4
    assert cart.get().value == [None, True, 1, "pear"]
    assert cart.size() == 4
    assert cart.contains(True)
    assert not cart.contains("1")
    assert cart.remove("pear", "plum").size == 3
    assert cart.clear().size == 0
    assert not cart.get().exists
    assert door.gset("shop", "seen").add("ann").size == 1


def test_sets_where_removing_wins(door: Door) -> None:
    banned = door.rwset("shop", "banned")
    assert banned.remove("ann").size == 0
    assert banned.add("ann", "bo", 1, 1.0).size == 3
    seen = banned.get().seen
    banned.add("cy")
    assert banned.remove("ann", "dee", seen=seen).size == 3
    assert (list(banned), "ann" in banned, len(banned)) == ([1, "bo", "cy"], False, 3)
    assert banned.clear(seen=seen).size == 1
    assert banned.clear().size == 0
    assert not banned.get().exists
    assert banned.add("ann").size == 1


def test_extremes(door: Door) -> None:
    fastest, slowest = door.min("shop", "seconds"), door.max("shop", "seconds")
    assert (fastest.get().value, fastest.get().exists) == (None, False)
    for seconds in (2.5, 1, 4, 1.0):
        fastest.set(seconds)
        slowest.set(seconds)
    assert (fastest.get().value, slowest.get().value) == (1, 4)
    assert not slowest.set(3).changed
    assert slowest.set([9, "ann"]).value == [9, "ann"]
    seen = slowest.get().seen
    slowest.set([9, "bo"])
    assert slowest.delete(seen=seen).value == [9, "bo"]
    assert slowest.delete().value is None


def test_sketches_estimate_how_many_different_values_there_were(door: Door) -> None:
    visitors = door.hll("shop", "visitors")
    assert visitors.add("ann", 1, True, 1.0).value == 3
    assert not visitors.add("ann").changed
    for start in range(0, 4_000, 500):
        visitors.add(*range(start, start + 500))
    assert visitors.get().value == pytest.approx(4_002, rel=0.05)
    assert visitors.delete().value == 0


def test_bounded_counters(door: Door) -> None:
    stock = door.bcounter("shop", "stock")
    assert (stock.get().value, stock.get().exists) == (0, False)
    assert stock.rights() == Rights(0, None, False, ())
    assert stock.create(min=2, max=10).value == 2
    assert stock.increment(5).value == 7
    assert stock.decrement().value == 6
    with pytest.raises(OutOfBounds) as refused:
        stock.decrement(5)
    assert refused.value.fields == (("by", "beyond `min`", 4),)
    with pytest.raises(OutOfBounds):
        stock.increment(5)
    with pytest.raises(ConflictingBounds):
        stock.create(max=11)
    with pytest.raises(InvalidOperation, match="no member is named 'us-1'"):
        stock.transfer("us-1", 1)
    with pytest.raises(InvalidOperation, match="has its rights already"):
        stock.transfer("eu-1", 1, rights="increment")
    with pytest.raises(InvalidOperation):
        stock.delete()
    (held,) = stock.rights().held
    assert (held.replica, held.decrement, held.increment) == ("eu-1", 4, 4)
    assert not stock.create(min=2, max=10).changed


def test_sorted_sets(door: Door) -> None:
    scores = door.zset("game", "scores")
    assert scores.add("ann", 10).size == 1
    assert scores.add("bo", 2.5).size == 2
    assert not scores.add("bo", 2.5).changed
    assert scores.increment("bo", 10).changed
    assert scores.increment({"team": [1]}).size == 3
    assert (scores.score("bo"), scores.rank("bo")) == (12.5, 2)
    assert (scores.score("cy"), scores.rank("cy")) == (None, None)
    assert scores.get().value == [
        {"member": "ann", "score": 10},
        {"member": "bo", "score": 12.5},
        {"member": {"team": [1]}, "score": 1},
    ]
    assert [one["score"] for one in scores.page(order="score").value] == [1, 10, 12.5]
    seen = scores.get().seen
    scores.add("ann", 0)
    assert scores.contains("ann")
    assert scores.remove("ann", seen=seen).size == 3
    assert scores.remove("ann").size == 2
    assert scores.explain("bo")["records"][0]["member"] == "bo"
    assert scores.clear(seen=seen).size == 0
    assert ("bo" in scores, len(scores), list(scores)) == (False, 0, [])


def test_pages_of_a_sorted_set_in_every_order(door: Door) -> None:
    scores = door.zset("game", "scores")
    name = scores.name
    for start in range(0, 1_500, 500):
        adds = [
            {"op": "add", "member": number, "score": -number}
            for number in range(start, start + 500)
        ]
        door.update(name, adds)
    top = scores.page(order="score", reverse=True, limit=2)
    assert [one["member"] for one in top.value] == [0, 1]
    following = scores.page(top.next, 2, order="score", reverse=True)
    assert [one["member"] for one in following.value] == [2, 3]
    ranked = scores.page(order="rank", from_=10, to=1_200, limit=1_000)
    assert ranked.value[0] == {"member": 1_489, "score": -1_489, "rank": 10}
    rest = scores.page(ranked.next, 1_000, order="rank", from_=10, to=1_200)
    assert (len(ranked.value) + len(rest.value), rest.next) == (1_190, None)
    bounded = scores.page(order="score", from_=-3, to=-0.5)
    assert [one["score"] for one in bounded.value] == [-3, -2, -1]
    with pytest.raises(BadRequest):
        scores.page(ranked.next, 1_000, order="rank", from_=11, to=1_200)


def test_what_has_no_scores_is_not_ranked(door: Door) -> None:
    cart = door.set("shop", "cart")
    cart.add("apple")
    with pytest.raises(InvalidOperation) as refused:
        door.read(cart.name, order="score")
    assert refused.value.fields[0].field == "order"
    with pytest.raises(InvalidOperation):
        door.standing(cart.name, "apple")


def test_no_member_has_a_score_that_is_not_finite(door: Door) -> None:
    scores = door.zset("game", "scores")
    for score in (float("inf"), float("nan")):
        with pytest.raises(BadRequest):
            scores.add("ann", score)
        with pytest.raises(BadRequest):
            scores.increment("ann", score)
    assert not scores.get().exists


def test_collections_are_read_like_any_other(door: Door) -> None:
    cart = door.set("shop", "cart")
    cart.add(1, 2)
    assert (list(cart), len(cart), 1 in cart, True in cart) == ([1, 2], 2, True, False)


def test_pages_go_through_a_set_in_order_and_back(door: Door) -> None:
    numbers = door.set("shop", "numbers")
    for start in range(0, 2_500, 500):
        numbers.add(*range(start, start + 500))
    assert list(numbers) == list(range(2_500))
    page = numbers.page(limit=2)
    assert (page.value, page.size) == ([0, 1], 2_500)
    assert numbers.page(page.next, 2).value == [2, 3]
    assert numbers.page(limit=2, reverse=True).value == [2_499, 2_498]


def test_a_page_can_be_bounded_by_values(door: Door) -> None:
    members = door.set("shop", "members")
    members.add(None, False, 1, 2, 3, "1", "2")
    assert members.page(from_=2).value == [2, 3, "1", "2"]
    assert members.page(from_=1, to="1").value == [1, 2, 3]
    assert members.page(from_=None, to=False).value == [None]
    first = members.page(limit=2, from_=1, to="2", reverse=True)
    assert first.value == ["1", 3]
    assert members.page(first.next, 2, from_=1, to="2", reverse=True).value == [2, 1]


# -- read contexts --------------------------------------------------------------------------------


def test_a_set_replaces_only_what_the_read_showed(door: Door) -> None:
    price = door.mvregister("shop", "price")
    price.set(1)
    seen = price.get().seen
    price.set(2)
    assert price.set(3, seen=seen).value == [2, 3]


def test_a_removal_takes_out_only_what_the_read_showed(door: Door) -> None:
    cart = door.set("shop", "cart")
    cart.add("apple", "pear", "plum")
    seen = cart.get().seen
    cart.add("apple", "quince")
    assert cart.remove("apple", "pear", seen=seen).size == 3
    assert list(cart) == ["apple", "plum", "quince"]
    assert cart.clear(seen=seen).size == 2
    assert cart.delete(seen=seen).size == 2
    assert cart.delete().size == 0


@pytest.mark.parametrize("type_name", ["flag", "dwflag"])
def test_a_disable_clears_only_what_the_read_showed(door: Door, type_name: str) -> None:
    flag: Flag = getattr(door, type_name)("shop", "open")
    flag.enable()
    seen = flag.get().seen
    flag.disable()
    flag.enable()
    assert flag.disable(seen=seen).value is (type_name == "flag")


# -- more than one object -------------------------------------------------------------------------


def test_a_key_holds_one_object_per_type_and_a_read_says_so(door: Door) -> None:
    door.set("shop", "cart").add("pear")
    assert door.counter("shop", "cart").get().also == ("set",)


def test_objects_are_read_together(door: Door) -> None:
    sold, buyers = door.counter("shop", "sold"), door.set("shop", "buyers")
    sold.increment(3)
    buyers.add("ann")
    reads = door.read_together([sold.name, buyers.name, sold.name])
    assert [read.value for read in reads] == [3, ["ann"], 3]
    assert (reads[1].size, reads[1].exists, reads[1].replica) == (1, True, "eu-1")
    assert reads[1].seen is not None


def test_what_there_is_can_be_listed(door: Door) -> None:
    for start in range(0, 250, 125):
        with door.transaction() as tx:
            for number in range(start, start + 125):
                tx.counter(f"b{number:03}", f"k{number:03}").increment()
                tx.flag("flags", f"k{number:03}").enable()
    assert list(door.buckets()) == [*(f"b{number:03}" for number in range(250)), "flags"]
    assert door.types("flags") == ["flag"]
    found = list(door.objects("flags", "flag"))
    assert len(found) == 250
    assert found[0][0] == ObjectName("flags", "flag", "k000")
    assert found[0][1].value is True
    assert [name.key for name, _ in door.objects("flags", "flag", "k12")] == [
        f"k12{digit}" for digit in range(10)
    ]
    assert list(door.objects("flags", "counter")) == []
    assert door.types("nothing") == []


def test_why_an_object_reads_as_it_does(door: Door) -> None:
    title = door.register("shop", "title")
    title.set("Sale")
    explained = title.explain()
    (entry,) = explained["records"][0]["entries"]
    assert (entry["value"], entry["state"]) == ("Sale", "wins")
    assert list(explained["replicas"].values()) == ["eu-1"]
    cart = door.set("shop", "cart")
    cart.add("apple", "pear", 3)
    assert [record["member"] for record in cart.explain()["records"]] == [3, "apple", "pear"]
    assert [record["member"] for record in cart.explain("pear")["records"]] == ["pear"]
    assert cart.explain("plum")["records"] == []


def test_digests_are_equal_when_two_replicas_show_the_same(door: Door) -> None:
    empty = door.digest()
    door.flag("shop", "open").enable()
    assert (door.digest().objects, door.digest() == empty) == (1, False)
