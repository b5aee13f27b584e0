"""The arena of each attack."""

from __future__ import annotations

import pytest

from hostile.arena import Arena


@pytest.fixture
def arena() -> Arena:
    return Arena()
