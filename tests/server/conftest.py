"""A real server on a free loopback port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from crdtdb import Database
from crdtdb_server.app import serving
from crdtdb_server.service import Options, Service
from wireclient import Wire, WireAgain


@pytest.fixture
def database() -> Iterator[Database]:
    with Database.in_memory(replica="eu-1") as database:
        yield database


#: The suites of the data routes, which two fronts answer.
_BOTH_FRONTS = {"test_objects.py", "test_refusals.py", "test_transactions.py", "test_conditions.py"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of a data route runs over the fast lane, with answers kept, and over aiohttp."""
    if "wire" in metafunc.fixturenames and metafunc.definition.path.name in _BOTH_FRONTS:
        metafunc.parametrize("wire", ["lane", "again", "aiohttp"], indirect=True)


@pytest.fixture
async def wire(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Wire]:
    service = Service(database, Options(port=0, advertise="http://eu.example:7460"))
    front = getattr(request, "param", "lane")
    # A request with this field is not plain, and changes nothing else.
    always = {"TE": "trailers"} if front == "aiohttp" else {}
    make_wire = WireAgain if front == "again" else Wire
    async with serving(service) as url:
        yield make_wire(service, int(url.rpartition(":")[2]), always=always)
