"""Many snapshots inside, or one exchange of the memory map: never both.

LMDB unmaps its file to grow it; a snapshot alive at that moment would be invalidated. So an
exchange shuts the gate for newcomers and waits for those inside. Two cases must not deadlock:

- a thread that is inside already may enter again: the exchange waits for it, not it for the
  exchange;
- an exchange in a thread that is inside itself is never alone, and learns so at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock, get_ident

__all__ = ["Gate"]


class Gate:
    """Counts the snapshots of each thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._changed = Condition(self._lock)
        self._inside: dict[int, int] = {}
        self._shut = False

    def enter(self) -> int:
        """Come in; the answer is what `leave` needs."""
        thread = get_ident()
        with self._lock:
            while self._shut and thread not in self._inside:
                self._changed.wait()
            self._inside[thread] = self._inside.get(thread, 0) + 1
        return thread

    def leave(self, thread: int) -> None:
        """Undo one `enter`, from any thread."""
        with self._lock:
            if self._inside[thread] == 1:
                del self._inside[thread]
            else:
                self._inside[thread] -= 1
            if self._shut and not self._inside:
                self._changed.notify_all()

    @contextmanager
    def shut(self, patience_s: float) -> Iterator[bool]:
        """Let nobody in, and wait for those inside. Says whether they have all left."""
        with self._changed:
            self._shut = True
            alone = get_ident() not in self._inside and self._changed.wait_for(
                lambda: not self._inside, patience_s
            )
        try:
            yield alone
        finally:
            with self._changed:
                self._shut = False
                self._changed.notify_all()
