"""The three doors to one empty replica, `eu-1`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import cast

import pytest

from crdtdb import Database
from crdtdb.store.memory import MemoryStore
from crdtdb_client import AsyncClient, Client
from doors.blocking import Blocking
from liveserver import live_server

Door = Database | Client
Opened = Callable[[MemoryStore], AbstractContextManager[Door]]


@pytest.fixture(params=["embedded", "http", "async"])
def opened(request: pytest.FixtureRequest) -> Opened:
    """Opens one of the doors to a replica with such a store."""

    @contextmanager
    def opened(store: MemoryStore) -> Iterator[Door]:
        if request.param == "embedded":
            with Database(store, replica="eu-1") as database:
                yield database
            return
        with live_server("eu-1", store) as url:
            if request.param == "http":
                with Client(url) as client:
                    yield client
            else:
                with asyncio.Runner() as runner:
                    blocking = Blocking(AsyncClient(url), runner)
                    yield cast(Client, blocking)
                    blocking.close()

    return opened


@pytest.fixture
def door(opened: Opened) -> Iterator[Door]:
    with opened(MemoryStore()) as door:
        yield door
