"""How long the faults last, and what a machine must have for them."""

from __future__ import annotations

import pytest


@pytest.fixture
def at_length(request: pytest.FixtureRequest) -> bool:
    """Is this the long form (`make faults`)?"""
    return bool(request.config.getoption("--long"))
