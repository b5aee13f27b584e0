"""The clocks of everything that has to do with peers."""

from __future__ import annotations

import time
from statistics import median_low

from crdtdb.limits import LIMITS
from crdtdb.replication import Replication

__all__ = ["monotonic_ms", "now_s", "off_by_ms"]


def monotonic_ms() -> int:
    """A clock that does not go back, for the machine's timers."""
    return time.monotonic_ns() // 1_000_000


def now_s() -> int:
    """Seconds since 1970, for proofs that must be fresh."""
    return int(time.time())


def off_by_ms(replication: Replication) -> int | None:
    """How far the clocks of most other members are off this one's: the middle one of theirs.

    None while most of those that were heard are within what a clock may be off.
    """
    heard = [
        peer.clock_offset_ms
        for incarnation in replication.members
        if (peer := replication.peers.get(incarnation)) is not None
    ]
    off = [offset for offset in heard if abs(offset) > LIMITS.max_drift_ms]
    return median_low(off) if len(off) * 2 > len(heard) else None
