"""The benchmarks are programs, not a package: their folder goes on the path."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(autouse=True)
def every_core() -> Iterator[None]:
    """Benchmarks pin the process that they run in, and what it starts inherits that.

    All later tests of this process once had half of a machine with two cores.
    """
    if not hasattr(os, "sched_getaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, cores)
