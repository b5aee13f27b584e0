"""Pushes that came too early: held for a moment, since the one they wait for is often in flight.

Bounded in number, bytes and time; dropping a push is always safe, a pull brings what it held. What
a push waits for may never come: its writer may have lost its disk, and nobody else have heard of
that. So it is asked for a few times, ever more seldom, and then the push is forgotten; but not that
there was one, for its writer may ask (`greeting`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from crdtdb.causal import VersionVector
from crdtdb.floors import Floors
from crdtdb.limits import LIMITS
from crdtdb.replication.messages import Push, read_vector

__all__ = ["EARLY_PATIENCE_MS", "EarlyPushes", "fits"]

_MOST: Final = 256
#: After so long what is missing is not in flight but lost: ask for it.
EARLY_PATIENCE_MS: Final = 50
#: Each time that it is asked for in vain the patience doubles; after this it has ended.
_LAST_PATIENCE_MS: Final = 32 * EARLY_PATIENCE_MS


def fits(push: Push, seen: VersionVector, floors: Floors) -> bool:
    """Does a push continue exactly where this replica stands, with all its writer had seen?"""
    return seen.get(push.origin) == push.first - 1 and seen.includes(read_vector(push.deps, floors))


class _Held(NamedTuple):
    """A push, where it came from, and when to ask there for what it waits for."""

    push: Push
    sender: str
    due_ms: int
    patience_ms: int


class EarlyPushes:
    """The held pushes, oldest first."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[int, int], _Held] = OrderedDict()
        self._bytes = 0
        #: The latest operation of each origin whose push was forgotten; the latest origins.
        self._forgotten: OrderedDict[int, int] = OrderedDict()

    def hold(self, push: Push, sender: str, now_ms: int) -> None:
        """Keep a push and where it came from; beyond the bounds the oldest go."""
        key = push.origin, push.first
        if key in self._held:
            self._take(key)
        self._held[key] = _Held(push, sender, now_ms + EARLY_PATIENCE_MS, EARLY_PATIENCE_MS)
        self._bytes += _size(push)
        while len(self._held) > _MOST or self._bytes > LIMITS.early_bytes:
            self._forget(next(iter(self._held)))

    def _take(self, key: tuple[int, int]) -> None:
        self._bytes -= _size(self._held.pop(key).push)

    def _forget(self, key: tuple[int, int]) -> None:
        push = self._held[key].push
        self._take(key)
        self._forgotten[push.origin] = max(push.last, self._forgotten.pop(push.origin, 0))
        if len(self._forgotten) > _MOST:
            self._forgotten.popitem(last=False)

    def last(self, origin: int) -> int:
        """The latest operation of an origin that is held, or was; 0 if none."""
        held = (one.push for one in self._held.values())
        known = (push.last for push in held if push.origin == origin)
        return max(self._forgotten.get(origin, 0), *known, 0)

    def next_fitting(self, seen: VersionVector, floors: Floors) -> Push | None:
        """Take out a push that has become deliverable; forget those that came otherwise."""
        for key, (push, *_) in list(self._held.items()):
            if push.last <= seen.get(push.origin):
                self._take(key)
            elif fits(push, seen, floors):
                self._take(key)
                return push
        return None

    def overdue(self, now_ms: int) -> list[str]:
        """Whom to ask, because what a push waits for did not come; a few times for each push."""
        ask: dict[str, None] = {}
        for key, (push, sender, due_ms, patience_ms) in list(self._held.items()):
            if now_ms <= due_ms:
                continue
            if patience_ms >= _LAST_PATIENCE_MS:
                self._forget(key)
                continue
            patience_ms *= 2
            self._held[key] = _Held(push, sender, now_ms + patience_ms, patience_ms)
            ask[sender] = None
        return list(ask)

    def __len__(self) -> int:
        return len(self._held)


def _size(push: Push) -> int:
    """The bytes of a push's records."""
    return sum(len(at) + len(data) for at, data in push.records)
