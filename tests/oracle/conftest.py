"""What noticed a planted mistake stands in the report of its test (`tests/planted` tells it)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from oracle.planting import noticed


@pytest.fixture(autouse=True)
def _told(record_property: Callable[[str, object], None]) -> Iterator[None]:
    noticed.clear()
    yield
    for check in noticed:
        record_property("noticed_by", check)
