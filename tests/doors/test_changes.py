"""Changes are shown at least once and never left out, at every door."""

from __future__ import annotations

from itertools import islice
from threading import Thread

import pytest

from crdtdb import Database
from crdtdb.answers import LEFT_OUT
from crdtdb.errors import BadToken, UnknownType
from crdtdb_client import Client
from liveserver import live_server

Door = Database | Client


def shown(door: Door, since: str | None = None) -> list[tuple[str, str]]:
    """Type and key of what changed, until now."""
    events = door.changes(since=since, follow=False)
    return [(event.name.type, event.name.key) for event in events]


def elements(value: object) -> list[object]:
    """The values of a list that is a leaf."""
    assert isinstance(value, list)
    return [one["value"] for one in value]


def test_each_changed_record_is_one_event_with_its_latest_state(door: Door) -> None:
    views, cart = door.counter("shop", "views"), door.set("shop", "cart")
    views.increment()
    cart.add("apple", "pear")
    views.increment()
    cart.remove("pear")
    apple, counted, pear = door.changes(follow=False, include_value=True)
    assert (apple.name, apple.member, apple.deleted) == (cart.name, "apple", False)
    assert (pear.name, pear.member, pear.deleted) == (cart.name, "pear", True)
    assert (counted.name, counted.member, counted.value) == (views.name, LEFT_OUT, 2)
    assert apple.value is LEFT_OUT


def test_a_member_with_a_score_comes_with_it(door: Door) -> None:
    scores = door.zset("game", "scores")
    scores.add("ann", 1)
    scores.add("bo", 0.5)
    scores.increment("ann", 2)
    scores.remove("bo")
    ann, bo = door.changes(follow=False, include_value=True)
    assert (ann.member, ann.value, ann.deleted) == ("ann", 3, False)
    assert (bo.member, bo.value, bo.deleted) == ("bo", LEFT_OUT, True)


def test_an_op_based_leaf_is_one_event_whatever_of_its_log_has_changed(door: Door) -> None:
    cart = door.map("shop", "cart")
    step = {"type": "opcounter", "op": "increment", "by": 2}
    cart.update(["n", "sold"], step)
    cart.update(["n", "sold"], step)
    cart.update(["n", "todo"], {"type": "list", "op": "insert", "value": "x"})
    sold, todo = door.changes(follow=False, include_value=True)
    assert (sold.field, sold.value, sold.member) == (("n", "sold"), 4, LEFT_OUT)
    assert (todo.field, elements(todo.value)) == (("n", "todo"), ["x"])
    cart.remove(["n"])
    cart.update(["n", "sold"], step)
    events = list(door.changes(since=todo.cursor, follow=False, include_value=True))
    assert {(event.field, event.deleted) for event in events} == {
        (("n", "sold"), False),
        (("n", "todo"), True),
    }


def test_a_value_of_null_is_not_one_left_out(door: Door) -> None:
    door.register("shop", "title").set(None)
    door.set("shop", "cart").add(None)
    title, member = door.changes(follow=False, include_value=True)
    assert (title.value, title.member) == (None, LEFT_OUT)
    assert (member.value, member.member) == (LEFT_OUT, None)
    (title, _) = door.changes(follow=False)
    assert title.value is LEFT_OUT


def test_a_reader_goes_on_behind_any_event(door: Door) -> None:
    for key in ("a", "b", "c"):
        door.counter("shop", key).increment()
    first, *_ = door.changes(follow=False)
    assert first.name.key == "a"
    assert shown(door, first.cursor) == [("counter", "b"), ("counter", "c")]
    *_, last = door.changes(follow=False)
    assert shown(door, last.cursor) == []
    door.counter("shop", "a").increment()
    assert shown(door, last.cursor) == [("counter", "a")]


def test_now_is_the_end(door: Door) -> None:
    door.counter("shop", "views").increment()
    assert shown(door, "now") == []


def test_a_reader_says_what_it_wants(door: Door) -> None:
    door.counter("shop", "a").increment()
    door.counter("shop", "b").increment()
    door.flag("shop", "a").enable()
    door.flag("other", "a").enable()
    assert len(list(door.changes("shop", follow=False))) == 3
    assert len(list(door.changes("shop", "counter", follow=False))) == 2
    assert len(list(door.changes("shop", "counter", "a", follow=False))) == 1
    assert len(list(door.changes(type_name="flag", follow=False))) == 2


def test_many_changes_come_page_by_page_and_each_once(door: Door) -> None:
    numbers = door.set("shop", "numbers")
    for start in range(0, 3_000, 1_000):
        numbers.add(*range(start, start + 1_000))
    members = [event.member for event in door.changes(follow=False)]
    assert sorted(members, key=str) == sorted(range(3_000), key=str)


def test_a_follower_gets_what_is_written_while_it_follows(door: Door) -> None:
    views = door.counter("shop", "views")
    views.increment()
    events = door.changes("shop", include_value=True)
    values = []
    for event in islice(events, 4):
        values.append(event.value)
        views.increment()
    assert values == [1, 2, 3, 4]


def test_a_waiting_follower_is_woken_by_a_write() -> None:
    """Whoever writes: another thread of this process, or another client."""
    with Database.in_memory() as database:
        writer = Thread(target=lambda: database.counter("shop", "views").increment())
        events = database.changes(include_value=True)
        writer.start()
        assert next(events).value == 1
        writer.join()
    with live_server() as url, Client(url) as reader, Client(url) as other:
        events = reader.changes(include_value=True)
        writer = Thread(target=lambda: other.counter("shop", "views").increment())
        writer.start()
        assert next(events).value == 1
        writer.join()


def test_closing_the_database_ends_its_followers() -> None:
    database = Database.in_memory()
    shown: list[object] = []
    follower = Thread(target=lambda: shown.extend(database.changes()))
    follower.start()
    database.close()
    follower.join()
    assert shown == []


def test_a_cursor_is_valid_at_every_replica_and_a_false_one_nowhere(door: Door) -> None:
    door.counter("shop", "views").increment()
    with Database.in_memory() as other:
        other.counter("shop", "buys").increment()
        (event,) = other.changes(follow=False)
    assert shown(door, event.cursor) == [("counter", "views")]
    for false in ("", "x", event.cursor[:-1], event.cursor + "A"):
        with pytest.raises(BadToken):
            shown(door, false)


def test_an_unknown_type_is_refused(door: Door) -> None:
    with pytest.raises(UnknownType):
        next(iter(door.changes("shop", "nonsense")))
