"""The three doors to one empty replica, `eu-1`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import cast

import pytest

from crdtdb import Database
from crdtdb_client import AsyncClient, Client
from doors.blocking import Blocking
from liveserver import live_server

Door = Database | Client


@pytest.fixture(params=["embedded", "http", "async"])
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    if request.param == "embedded":
        with Database.in_memory(replica="eu-1") as database:
            yield database
        return
    with live_server("eu-1") as url:
        if request.param == "http":
            with Client(url) as client:
                yield client
        else:
            with asyncio.Runner() as runner:
                blocking = Blocking(AsyncClient(url), runner)
                yield cast(Client, blocking)
                blocking.close()
