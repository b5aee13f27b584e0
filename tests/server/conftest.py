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


#: The suites of the data routes, which two fronts answer.
_BOTH_FRONTS = {"test_objects", "test_refusals", "test_transactions", "test_conditions"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of a data route runs over the fast lane and over aiohttp."""
    if "wire" in metafunc.fixturenames and metafunc.module.__name__ in _BOTH_FRONTS:
        metafunc.parametrize("wire", ["lane", "aiohttp"], indirect=True)


@pytest.fixture
async def wire(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Wire]:
    service = Service(database, Options(port=0, advertise="http://eu.example:7460"))
    # A request with this field is not plain, and changes nothing else.
    always = {"TE": "trailers"} if getattr(request, "param", "lane") == "aiohttp" else {}
    async with serving(service) as url:
        yield Wire(service, int(url.rpartition(":")[2]), always=always)
