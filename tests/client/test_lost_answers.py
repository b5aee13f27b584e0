"""Real replicas behind ways that break: nothing counts twice, nothing acknowledged is missing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Protocol, cast

import pytest

from crdtdb_client import AsyncClient, Client, OutcomeUnknown
from cutting import Fate, cutting
from doors.blocking import Blocking
from liveserver import live_server
from processes import DEADLINE_S

LOSSES = (Fate.REQUEST_LOST, Fate.ANSWER_LOST)


class Connect(Protocol):
    """Opens a client, with the methods of the synchronous one."""

    def __call__(self, *urls: str, patience_s: float = DEADLINE_S) -> Client: ...


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())

        def open_client(*urls: str, patience_s: float = DEADLINE_S) -> Client:
            if request.param == "sync":
                client = Client(urls, patience_s=patience_s)
            else:
                later = AsyncClient(urls, patience_s=patience_s)
                client = cast(Client, Blocking(later, runner))
            stack.callback(client.close)
            return client

        yield open_client


@pytest.mark.parametrize("loss", LOSSES)
def test_a_write_counts_once_though_its_exchange_breaks(connect: Connect, loss: Fate) -> None:
    with live_server() as eu, live_server("us-1") as us, cutting(eu, [loss]) as way:
        db = connect(way.url, us)
        assert db.counter("shop", "views").increment(5).value == 5
        assert way.exchanges == [loss, Fate.PASSES]
        with Client(eu) as at_eu, Client(us) as at_us:
            assert at_eu.counter("shop", "views").get().value == 5
            assert at_us.digest().objects == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_a_transaction_counts_once_though_its_exchange_breaks(connect: Connect, loss: Fate) -> None:
    with live_server() as eu, cutting(eu, [loss, loss]) as way:
        db = connect(way.url)
        with db.transaction() as tx:
            tx.counter("shop", "sold").increment(2)
            tx.opcounter("shop", "sold").increment(3)
            tx.mvregister("shop", "last").set("ann")
        assert [written.value for written in tx.results] == [2, 3, ["ann"]]
        with Client(eu) as at_eu:
            assert at_eu.counter("shop", "sold").get().value == 2
            assert at_eu.opcounter("shop", "sold").get().value == 3


def test_over_a_way_that_breaks_at_random_every_write_counts_exactly_once(
    connect: Connect,
) -> None:
    chance = random.Random(7)
    fates = chance.choices([Fate.PASSES, *LOSSES], weights=[4, 1, 1], k=300)
    with live_server() as eu, cutting(eu, fates) as way:
        views = connect(way.url).counter("shop", "views")
        for counted in range(1, 61):
            assert views.increment().value == counted
        assert sum(fate is not Fate.PASSES for fate in way.exchanges) > 10


def test_an_unknown_outcome_is_admitted_and_nothing_is_written_elsewhere(
    connect: Connect,
) -> None:
    lost = [Fate.ANSWER_LOST] * 2
    with live_server() as eu, live_server("us-1") as us, cutting(eu, lost) as way:
        db = connect(way.url, us, patience_s=0)
        with pytest.raises(OutcomeUnknown):
            db.counter("shop", "views").increment()
        with Client(eu) as at_eu, Client(us) as at_us:
            assert at_eu.counter("shop", "views").get().value == 1
            assert at_us.digest().objects == 0


def test_what_may_be_repeated_goes_on_at_the_next_replica(connect: Connect) -> None:
    lost = [Fate.ANSWER_LOST]
    with live_server() as eu, live_server("us-1") as us, cutting(eu, lost) as way:
        db = connect(way.url, us)
        assert db.set("shop", "cart").add("apple").size == 1
        assert db.set("shop", "cart").get().replica == "us-1"


def test_a_feed_goes_on_where_it_was_though_its_way_breaks(connect: Connect) -> None:
    fates = [Fate.PASSES, Fate.ANSWER_LOST, Fate.PASSES, Fate.REQUEST_LOST, Fate.ANSWER_LOST]
    with live_server() as eu, cutting(eu, fates) as way, Client(eu) as writer:
        views = writer.counter("shop", "views")
        views.increment()
        events = connect(way.url).changes(include_value=True)
        for counted in range(1, 5):
            assert next(events).value == counted
            views.increment()
        assert len(way.exchanges) > len(fates)


def test_a_feed_goes_on_at_another_replica(connect: Connect) -> None:
    """Be it behind: what it has that was not shown is shown."""
    with live_server("us-1") as us, Client(us) as at_us:
        with live_server() as eu, cutting(eu, [Fate.PASSES]) as way, Client(eu) as at_eu:
            at_eu.counter("shop", "first").increment()
            events = connect(way.url, us).changes("shop")
            assert next(events).name.key == "first"
        at_us.counter("shop", "second").increment()
        assert next(events).name.key == "second"
