"""One reading for a turn of the event loop: when it is shared, and when it is not any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from crdtdb import Database
from crdtdb.errors import StorageFailed
from crdtdb_server.readings import TurnReadings


@pytest.fixture
def database() -> Iterator[Database]:
    with Database.in_memory(replica="eu-1") as database:
        yield database


async def test_a_turn_shares_one(database: Database) -> None:
    readings = TurnReadings(database)
    assert readings.newest() is readings.newest()


async def test_a_write_ends_it(database: Database) -> None:
    readings = TurnReadings(database)
    before = readings.newest().seen
    database.counter("shop", "k").increment()
    after = readings.newest().seen
    assert after == database.engine.state.seen != before


async def test_it_ends_with_the_turn(database: Database) -> None:
    readings = TurnReadings(database)
    reading = readings.newest()
    await asyncio.sleep(0)
    assert readings.newest() is not reading
    with pytest.raises(StorageFailed):
        reading.head(b"x")


async def test_a_store_that_cannot_be_read_leaves_nothing_open(database: Database) -> None:
    readings = TurnReadings(database)
    database.close()
    with pytest.raises(StorageFailed):
        readings.newest()
    readings.end()
