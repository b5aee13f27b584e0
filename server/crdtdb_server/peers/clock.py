"""The clocks of everything that has to do with peers."""

from __future__ import annotations

import time

__all__ = ["monotonic_ms", "now_s"]


def monotonic_ms() -> int:
    """A clock that does not go back, for the machine's timers."""
    return time.monotonic_ns() // 1_000_000


def now_s() -> int:
    """Seconds since 1970, for proofs that must be fresh."""
    return int(time.time())
