"""Virtual time: one heap of events. Nothing in a run happens outside of it."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

__all__ = ["Scheduler"]


class Scheduler:
    """Events in order of their time; those of the same millisecond in the order they were set."""

    def __init__(self) -> None:
        self.now_ms = 0
        self._heap: list[tuple[int, int, Callable[[], object]]] = []
        self._set = 0

    def after(self, delay_ms: int, event: Callable[[], object]) -> None:
        """Let something happen `delay_ms` from now."""
        self._set += 1
        heappush(self._heap, (self.now_ms + delay_ms, self._set, event))

    def run_until(self, time_ms: int) -> None:
        """Let happen everything up to a time; then it is that time."""
        while self._heap and self._heap[0][0] <= time_ms:
            self.now_ms, _, event = heappop(self._heap)
            event()
        self.now_ms = time_ms
