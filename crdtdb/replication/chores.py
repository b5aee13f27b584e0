"""What a replica does with every tick, each chore for itself.

A disk that is full or damaged must not keep a replica from talking to others, and neither must a
bug in one chore keep it from the rest: that one is left alone for a while, ever longer, and tried
again. What a chore writes, it writes in one commit, so nothing is left half done on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from crdtdb.errors import NoSpace, StorageFailed
from crdtdb.replication.cluster import Cluster, Send

__all__ = ["REST_FIRST_MS", "REST_MOST_MS", "Chores"]

#: After an unexpected failure a chore rests so long; each further one doubles that.
REST_FIRST_MS: Final = 1_000
REST_MOST_MS: Final = 60_000


class _Rest(NamedTuple):
    """A chore that failed is not tried before then, and rests longer if it fails again."""

    until_ms: int
    next_ms: int


class Chores:
    """Carries out chores by name."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._rests: dict[str, _Rest] = {}
        #: Told of a chore that failed for no reason that is known, and why. None: nobody listens,
        #: and the error is the caller's.
        self.on_failure: Callable[[str, Exception], None] | None = None

    @property
    def failing(self) -> list[str]:
        """The chores that failed when they were tried last, by a bug."""
        return sorted(self._rests)

    def do(self, name: str, chore: Callable[[], list[Send]]) -> list[Send]:
        """Carry out a chore, unless it rests; what it wants sent."""
        rest = self._rests.get(name)
        if rest is not None and self._cluster.now_ms < rest.until_ms:
            return []
        try:
            sends = chore()
        except (NoSpace, StorageFailed):
            self._cluster.refusals["tick-failed"] += 1
            return []
        except Exception as error:
            if self.on_failure is None:
                raise
            pause_ms = REST_FIRST_MS if rest is None else rest.next_ms
            until_ms = self._cluster.now_ms + pause_ms
            self._rests[name] = _Rest(until_ms, min(2 * pause_ms, REST_MOST_MS))
            self.on_failure(name, error)
            return []
        if rest is not None:
            del self._rests[name]
        return sends
