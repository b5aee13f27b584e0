"""Hybrid logical clock (Kulkarni et al. 2014) as pure functions; it owns no clock.

A time is one integer: 48 bits of milliseconds since 1970, then 16 bits that count within one
millisecond (they overflow into the milliseconds, so `tick` never stands still).

Channels that carry causality: the records a replica merges, and the time that comes with every
push, digest and claim. Each is observed, so a causally later write has a greater time.

HAZARD: a clock that is far ahead. Its *updates* are merged, for refusing them would stop
replication and lose acknowledged writes; its *time* is refused: it does not move this replica's
clock (`observe` says so and the caller counts it). A causally later write still replaces the
value, by context rather than by time.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LOGICAL_BITS", "MOST", "Observed", "milliseconds", "observe", "tick"]

LOGICAL_BITS = 16
#: The last time there is (in the year 10889); a clock beyond it shows this.
MOST = (1 << 64) - 1


class Observed(NamedTuple):
    """The clock after seeing another's time, and whether that time was refused."""

    last: int
    refused: bool


def tick(last: int, now_ms: int) -> int:
    """The next time after `last` when the wall clock shows `now_ms`."""
    return min(max(last + 1, now_ms << LOGICAL_BITS, 0), MOST)


def observe(last: int, remote: int, now_ms: int, max_drift_ms: int) -> Observed:
    """Take note of another replica's time, unless it is more than `max_drift_ms` ahead."""
    if remote >> LOGICAL_BITS > now_ms + max_drift_ms:
        return Observed(last, True)
    return Observed(max(last, remote), False)


def milliseconds(time: int) -> int:
    """The wall-clock part, in milliseconds since 1970."""
    return time >> LOGICAL_BITS
