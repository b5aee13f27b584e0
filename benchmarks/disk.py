"""The disk, which some days and some minutes is forty times slower.

Cloud disks throttle after heavy use: a sync then takes milliseconds instead of a tenth of one. A
ratio of something that syncs to something that does not is worth nothing then, so measurements
wait for a quick disk, if it becomes one in time, and the probe stands beside their results.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, sleep
from typing import Final

__all__ = ["Disk"]

_PROBES: Final = 30
_PROBE_BYTES: Final = 4_096
#: A disk this many times slower than it has been is waited for.
_SLOW: Final = 3.0
_PAUSE_S: Final = 1.0


class Disk:
    """The disk under a directory."""

    def __init__(self, directory: Path, patience_s: float) -> None:
        self._path = directory / "probe"
        self._patience_s = patience_s
        self._quickest_ms = self.probe_ms()

    def probe_ms(self) -> float:
        """How long a durable append of one page takes now."""
        took_s: list[float] = []
        with self._path.open("wb", buffering=0) as file:
            for _ in range(_PROBES):
                file.write(os.urandom(_PROBE_BYTES))
                began = perf_counter()
                os.fdatasync(file.fileno())
                took_s.append(perf_counter() - began)
        return median(took_s) * 1_000

    def wait_until_quick(self) -> None:
        """Wait while the disk is slower than it was, but not for ever."""
        deadline = monotonic() + self._patience_s
        while (now_ms := self.probe_ms()) > _SLOW * self._quickest_ms and monotonic() < deadline:
            sleep(_PAUSE_S)
        self._quickest_ms = min(self._quickest_ms, now_ms)
