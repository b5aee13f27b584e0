"""A real server on a free loopback port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from crdtdb import Database
from crdtdb_server.app import serving
from crdtdb_server.service import Options, Service
from wireclient import Wire


@pytest.fixture
def database() -> Iterator[Database]:
    with Database.in_memory(replica="eu-1") as database:
        yield database


@pytest.fixture
async def wire(database: Database) -> AsyncIterator[Wire]:
    service = Service(database, Options(port=0, advertise="http://eu.example:7460"))
    async with serving(service) as url:
        yield Wire(service, int(url.rpartition(":")[2]))
