"""Planted bugs: each mistake that the design was made to avoid is made again, and must be noticed.

A checker that cannot fail proves nothing. Every test of `test_planted_*.py` tells what goes wrong
and names the check that finds it: one of the random executions' (within a bounded number of seeds),
a law, or a story.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from oracle.checks import Violation
from oracle.executions import Execution

__all__ = ["BOUNDED", "VALUES", "Patch", "breaks", "noticed", "noticed_by"]

#: Executions in which a bug must show; most show in one of the first.
_SEEDS: Final = 60
#: What compares values with the specification, after a step or in the answer to it.
VALUES: Final = ("answers", "specification")
#: And of a bounded counter, what refuses and what must not be.
BOUNDED: Final = (*VALUES, "bounds")

Patch = pytest.MonkeyPatch

#: What noticed the mistake of the test that runs.
noticed: Final[list[str]] = []


def noticed_by(*types: str) -> str:
    """The check that fails first in executions about objects of these types, or of any."""
    for seed in range(_SEEDS):
        try:
            Execution(seed, types).run()
        except Violation as violation:
            print(f"seed {seed}: {violation}")
            noticed.append(f"the random executions’ check of {violation.check!r} (seed {seed})")
            return violation.check
    return "nobody"


def breaks(check: Callable[..., None], **arguments: Any) -> bool:
    """Does a law or a story fail?"""
    try:
        check(**arguments)
    except (AssertionError, ExceptionGroup):
        noticed.append(check.__name__)
        return True
    return False
