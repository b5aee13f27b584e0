"""The wall clock of one machine: it is off, it drifts, it jumps."""

from __future__ import annotations

from simulation.scheduler import Scheduler

__all__ = ["Clock"]

#: When every run begins, in milliseconds since 1970.
_BEGIN_MS = 1_700_000_000_000


class Clock:
    """Calling it gives milliseconds since 1970, as this machine believes."""

    def __init__(self, scheduler: Scheduler, offset_ms: int, rate: float) -> None:
        self._scheduler = scheduler
        self._offset_ms = offset_ms
        self._rate = rate

    def __call__(self) -> int:
        return _BEGIN_MS + self._offset_ms + int(self._scheduler.now_ms * self._rate)

    def jump(self, by_ms: int) -> None:
        """From now on the clock shows so much more (or less)."""
        self._offset_ms += by_ms
