"""Fixtures of the store tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from store import breakable


@pytest.fixture(scope="session")
def breakable_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that puts `breakable` below a child process."""
    return breakable.build(tmp_path_factory.mktemp("library"))
