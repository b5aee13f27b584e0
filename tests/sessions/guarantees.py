"""The four session guarantees (Terry et al. 1994) as a checker of what sessions are shown.

Each session has three objects that nobody else writes: counters `a` and `b`, incremented in turn,
and a register `r` that says what it has observed of another session's `a`. So every snapshot that
anybody is shown can be judged:

- read your writes: its own counters show exactly what it wrote,
- monotonic reads: no counter shows less than it did before to the same session,
- monotonic writes: b ≤ a ≤ b + 1 for every session,
- writes follow reads: where `r` says that its writer saw somebody's `a` at n, it is at least n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Seen", "Session", "Violation"]


class Violation(AssertionError):
    """A session was shown what its guarantees exclude."""


class Seen(NamedTuple):
    """What a snapshot shows of one session's objects."""

    a: int
    b: int
    #: (whose `a`, its value) as observed when `r` was written; None: not written yet.
    r: tuple[int, int] | None


class Session:
    """What one session has done and been shown."""

    def __init__(self, number: int, sessions: int) -> None:
        self.number = number
        self._wrote = Seen(0, 0, None)
        self._shown = [Seen(0, 0, None)] * sessions

    @property
    def next_counter(self) -> str:
        """Which counter is incremented next."""
        return "a" if self._wrote.a == self._wrote.b else "b"

    def incremented(self, value: int) -> None:
        """The next counter was incremented, and the answer shows its value. Raises Violation."""
        name = self.next_counter
        self._wrote = (
            self._wrote._replace(a=self._wrote.a + 1)
            if name == "a"
            else self._wrote._replace(b=self._wrote.b + 1)
        )
        expected = getattr(self._wrote, name)
        if value != expected:
            raise Violation(f"read your writes: {name} is {value} after {expected} increments")

    def noted(self, r: tuple[int, int]) -> None:
        """Its register was set."""
        self._wrote = self._wrote._replace(r=r)

    def check(self, snapshot: Sequence[Seen]) -> None:
        """Judge a snapshot of all sessions' objects. Raises Violation."""
        if snapshot[self.number] != self._wrote:
            raise Violation(f"read your writes: {snapshot[self.number]} but wrote {self._wrote}")
        for i, (now, before) in enumerate(zip(snapshot, self._shown, strict=True)):
            if now.a < before.a or now.b < before.b:
                raise Violation(f"monotonic reads: session {i} went from {before} to {now}")
            if not now.b <= now.a <= now.b + 1:
                raise Violation(f"monotonic writes: session {i} shows {now}")
            if now.r is not None:
                whose, value = now.r
                if snapshot[whose].a < value:
                    raise Violation(
                        f"writes follow reads: session {i} had seen a of {whose} at {value}, "
                        f"which shows {snapshot[whose].a}"
                    )
        self._shown = list(snapshot)
