"""Readable names for replicas that were not given one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["readable_name"]

_FIRST: Final = (
    "amber", "brisk", "calm", "clear", "coral", "early", "fair", "green",
    "keen", "light", "mild", "north", "quiet", "rapid", "silver", "sunny",
)  # fmt: skip
_SECOND: Final = (
    "beech", "brook", "cedar", "cliff", "crane", "finch", "grove", "heron",
    "lake", "maple", "otter", "pine", "reef", "river", "stone", "wren",
)  # fmt: skip


def readable_name(entropy: Callable[[int], int]) -> str:
    """A name such as `calm-otter-3f2a`, from 24 random bits."""
    bits = entropy(24)
    return f"{_FIRST[bits & 15]}-{_SECOND[bits >> 4 & 15]}-{bits >> 8:04x}"
