"""What lost to a concurrent write is told, and can be written again, at every door."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from crdtdb import Database
from crdtdb.address import ObjectName
from crdtdb.answers import Conflict, Lost
from crdtdb.causal import format_incarnation
from crdtdb.errors import BadRequest, UnknownType
from crdtdb.limits import LIMITS
from crdtdb.store.memory import MemoryStore
from crdtdb_client import Client
from replicas import START_MS, Replica, exchange

Opened = Callable[[MemoryStore], AbstractContextManager[Database | Client]]


def contended(*keys: str) -> tuple[Replica, Replica]:
    """Two replicas that wrote registers without seeing each other, and then met."""
    here, there = Replica(1), Replica(2, now_ms=START_MS + 7)
    for key in keys:
        here.do("register", "set", key=key, value=f"{key} here")
        there.do("register", "set", key=key, value=f"{key} there")
        here.now_ms += 1_000
        there.now_ms += 1_000
        exchange(here, there)
    return here, there


def test_the_loser_is_told_with_its_writer_and_what_it_lost_to(opened: Opened) -> None:
    here, there = contended("title")
    title = ObjectName("shop", "register", "title")
    with opened(here.store) as door:
        (conflict,) = door.conflicts()
        lost = Lost("title here", "eu-1", START_MS)
        assert conflict == Conflict(title, here.now_ms, "title there", (lost,))
    # The other replica has never heard what this one is called.
    stranger = format_incarnation(here.engine.state.incarnation)
    with opened(there.store) as door:
        (conflict,) = door.conflicts()
        assert conflict.lost == (Lost("title here", stranger, START_MS),)


def test_the_latest_come_first_and_a_reader_says_what_it_wants(opened: Opened) -> None:
    here, _ = contended("a", "b", "c/d")
    with opened(here.store) as door:

        def keys(*scope: str | None) -> list[str]:
            return [conflict.name.key for conflict in door.conflicts(*scope)]

        assert keys() == ["c/d", "b", "a"]
        assert keys("shop") == keys(None, "register") == keys("shop", "register") == keys()
        assert keys("shop", "register", "c/d") == keys(None, None, "c/d") == ["c/d"]
        assert keys("other") == keys(None, "set") == keys("shop", "register", "x") == []


def test_a_value_comes_back_by_an_ordinary_write_and_that_is_no_conflict(opened: Opened) -> None:
    here, _ = contended("title")
    with opened(here.store) as door:
        (conflict,) = door.conflicts("shop")
        title = door.register("shop", conflict.name.key)
        assert title.get().value == "title there"
        title.set(conflict.lost[0].value)
        assert title.get().value == "title here"
        assert list(door.conflicts("shop")) == [conflict]


def test_nothing_lost_is_nothing_told(opened: Opened) -> None:
    with opened(MemoryStore()) as door:
        door.register("shop", "title").set(1)
        door.register("shop", "title").set(2)
        door.counter("shop", "views").increment()
        assert list(door.conflicts()) == []


def test_many_come_page_by_page_and_each_once(opened: Opened) -> None:
    here, there = Replica(1), Replica(2)
    many = [f"{number:04}" for number in range(LIMITS.page_items + 5)]
    for key in many:
        here.do("register", "set", key=key, value=key)
        there.do("register", "set", key=key, value=key)
    exchange(here, there)
    with opened(here.store) as door:
        assert sorted(conflict.name.key for conflict in door.conflicts()) == many


@pytest.mark.parametrize(
    ("scope", "error"),
    [
        (("_system",), BadRequest),
        (("Shop",), BadRequest),
        (("shop", "nonsense"), UnknownType),
        (("shop", "register", ".."), BadRequest),
    ],
)
def test_names_that_no_object_has_are_refused(
    opened: Opened, scope: tuple[str, ...], error: type[Exception]
) -> None:
    with opened(MemoryStore()) as door, pytest.raises(error):
        list(door.conflicts(*scope))
