"""A live replica, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crdtdb_client import Client
from liveserver import live_server


@pytest.fixture
def url() -> Iterator[str]:
    with live_server() as url:
        yield url


@pytest.fixture
def db(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client
