"""A user's program, for the type checker: everything it says about types has to hold."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, assert_type

from crdtdb import Database
from crdtdb.answers import Conflict, Event, Read, Written
from crdtdb.errors import Behind, Problem
from crdtdb.handles import Counter, Set, SortedSet
from crdtdb.jsonvalue import JsonValue
from crdtdb_client import AsyncClient, Client, OutcomeUnknown


def checkout(db: Database | Client, user: str) -> int:
    """Works at both synchronous doors."""
    cart = assert_type(db.set("shop", f"cart:{user}"), Set)
    read = assert_type(cart.get(), Read[list[JsonValue]])
    with db.transaction() as tx:
        tx.counter("shop", "sold").increment(len(cart))
        tx.set("shop", f"cart:{user}").clear(seen=read.seen)
    assert_type(tx.results, list[Written])
    sold = assert_type(db.counter("shop", "sold"), Counter)
    return assert_type(sold.get().value, int)


def restore(db: Database | Client) -> None:
    for conflict in db.conflicts("shop", "register"):
        assert_type(conflict, Conflict)
        assert_type(conflict.lost[0].at_ms, int)
        db.register("shop", conflict.name.key).set(conflict.lost[0].value)


def watch(events: Iterable[Event]) -> list[str]:
    return [event.name.key for event in events if not event.deleted]


def regions() -> None:
    with Client(["http://eu:7460", "http://us:7460"], on_behind="continue", ack=2) as db:
        try:
            checkout(db, "ann")
        except Behind as problem:
            assert_type(problem.retry_after_s, int | None)
        except (Problem, OutcomeUnknown) as error:
            print(error)
        durable = assert_type(db.with_options(ack="regions=2", wait_s=10), Client)
        assert_type(durable.flag("shop", "open").enable(), Written)
        assert_type(db.flag("shop", "open").get().value, bool)
        assert_type(db.flag("shop", "open").explain(), dict[str, Any])
        assert_type(db.hll("shop", "visitors").get().value, int)
        assert_type(db.max("shop", "price").get().value, JsonValue)
        assert_type(db.bcounter("shop", "stock").rights().held[0].decrement, int)
        scores = assert_type(db.zset("game", "scores"), SortedSet)
        assert_type(scores.add("ann", 1.5), Written)
        assert_type(scores.page(order="rank", reverse=True).value, list[dict[str, Any]])
        assert_type(scores.rank("ann"), int | None)
        assert_type(db.list("home", "todo").insert(0, "wash"), Written)
        assert_type(db.list("home", "todo").get().value, list[dict[str, Any]])
        watch(db.changes("shop", since="now"))


async def later() -> None:
    async with AsyncClient("http://eu:7460", bearer="secret") as db:
        views = db.counter("shop", "views")
        assert_type(await views.increment(), Written)
        assert_type((await views.get()).value, int)
        cart = db.set("shop", "cart:ann")
        task = asyncio.create_task(cart.add("apple", 1, None))
        assert_type(await cart.contains("apple"), bool)
        assert_type(await cart.size(), int)
        assert_type(await task, Written)
        async with db.transaction() as tx:
            tx.register("shop", "title").set({"text": "Sale"})
        async for member in cart:
            assert_type(member, JsonValue)
        async for event in db.changes("shop"):
            assert_type(event, Event)
        async for conflict in db.conflicts():
            assert_type(conflict.kept, JsonValue)


def embedded() -> None:
    with Database.open("data", replica="laptop") as db:
        checkout(db, "ann")
        watch(db.changes(follow=False))
