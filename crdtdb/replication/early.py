"""Pushes that came too early: held for a moment, since the one they wait for is often in flight.

Bounded in number and bytes; dropping a push is always safe, a pull brings what it held.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from crdtdb.causal import VersionVector
from crdtdb.floors import Floors
from crdtdb.limits import LIMITS
from crdtdb.replication.messages import Push, read_vector

__all__ = ["EARLY_PATIENCE_MS", "EarlyPushes", "fits"]

_MOST: Final = 256
#: After so long what is missing is not in flight but lost: ask for it.
EARLY_PATIENCE_MS: Final = 50


def fits(push: Push, seen: VersionVector, floors: Floors) -> bool:
    """Does a push continue exactly where this replica stands, with all its writer had seen?"""
    return seen.get(push.origin) == push.first - 1 and seen.includes(read_vector(push.deps, floors))


class EarlyPushes:
    """The held pushes, oldest first."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[int, int], tuple[Push, str, int]] = OrderedDict()
        self._bytes = 0

    def hold(self, push: Push, sender: str, now_ms: int) -> None:
        """Keep a push and where it came from; beyond the bounds the oldest go."""
        key = push.origin, push.first
        if key in self._held:
            self._take(key)
        self._held[key] = (push, sender, now_ms)
        self._bytes += _size(push)
        while len(self._held) > _MOST or self._bytes > LIMITS.early_bytes:
            self._take(next(iter(self._held)))

    def _take(self, key: tuple[int, int]) -> None:
        push, _, _ = self._held.pop(key)
        self._bytes -= _size(push)

    def last(self, origin: int) -> int:
        """The latest operation of an origin that is held; 0 if none."""
        return max((p.last for p, _, _ in self._held.values() if p.origin == origin), default=0)

    def next_fitting(self, seen: VersionVector, floors: Floors) -> Push | None:
        """Take out a push that has become deliverable; forget those that came otherwise."""
        for key, (push, _, _) in list(self._held.items()):
            if push.last <= seen.get(push.origin):
                self._take(key)
            elif fits(push, seen, floors):
                self._take(key)
                return push
        return None

    def overdue(self, now_ms: int) -> list[str]:
        """Whom to ask, because what a push waits for did not come; each is named once a while."""
        ask: list[str] = []
        for key, (push, sender, since) in self._held.items():
            if now_ms - since > EARLY_PATIENCE_MS:
                self._held[key] = (push, sender, now_ms)
                if sender not in ask:
                    ask.append(sender)
        return ask

    def __len__(self) -> int:
        return len(self._held)


def _size(push: Push) -> int:
    """The bytes of a push's records."""
    return sum(len(at) + len(data) for at, data in push.records)
