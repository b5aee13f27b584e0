"""When to reclaim: a walk at a time, a portion with every tick, never what somebody may still want.

A walk begins when more is stable than the last one knew, behind the places that are clean for
good. While nothing more is stable, it is only extended over the places given out since, so a
member that stays away costs nothing but the room.

Deletes stay for a while even when they are stable: a reader of the change feed that comes back
within that time goes on where it stood. So a walk ends at the head of the sequence of so long ago.

What is in force but idle is taken out by a clean-up, which is an operation, and one replica makes
it: the one that the greatest of those dots belongs to, or if that is no member any more, the member
with the least incarnation. Should two think that it is theirs, there is one tombstone more. A
clean-up leaves nothing idle, and is looked at again only when it is stable itself.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from crdtdb.errors import NoSpace, StorageFailed
from crdtdb.limits import LIMITS
from crdtdb.reclaim import Walk
from crdtdb.replication.cluster import Cluster, Send
from crdtdb.transaction import CleanUp, Transaction

__all__ = ["FEED_MS", "Reclaiming"]

#: Rows looked at with one tick, so that a replica is never busy with that for long. No more
#: clean-ups than that come of it, in one commit.
RECLAIM_ENTRIES: Final = 500
#: After a failure of the disk, so long until it is tried again.
FAILED_PAUSE_MS: Final = 60_000
#: How long what was deleted stays for readers of the change feed.
FEED_MS: Final = LIMITS.feed_ms
#: How many marks of the past are kept for that.
_MARKS: Final = 32


class Reclaiming:
    """Drives `Engine.reclaim`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._walk: Walk | None = None
        self._not_before_ms = 0
        #: (time, head of the sequence then), oldest first; the first is the latest of its age.
        self._marks: deque[tuple[int, int]] = deque()
        #: What the last whole walk found that would go if it were stable: records, bytes.
        self.waiting = (0, 0)

    def tick(self) -> list[Send]:
        """Go on for one portion. Cheap when there is nothing to do.

        Not before this replica is certain of its identity, for it may have operations to make. A
        disk that is full or damaged must not keep it from talking to others.
        """
        now_ms = self._cluster.now_ms
        end = self._readable_since(now_ms)
        if now_ms < self._not_before_ms or not self._cluster.settled:
            return []
        try:
            return self._go_on(end)
        except (NoSpace, StorageFailed):
            self._walk = None
            self._not_before_ms = now_ms + FAILED_PAUSE_MS
            self._cluster.refusals["reclaim-failed"] += 1
            return []

    def _go_on(self, end: int) -> list[Send]:
        stable = self._cluster.stable()
        walk = self._walk
        due_ms = None if walk is None else walk.next_deadline_ms
        has_ended = due_ms is not None and due_ms <= self._cluster.passed_ms()
        if walk is None or (walk.done and (walk.stable != stable or has_ended)):
            clean = self._cluster.engine.reclaimed.clean
            passed_ms = self._cluster.passed_ms()
            walk = self._walk = Walk(stable, clean, end, passed_ms=passed_ms)
        elif walk.done:
            if walk.place >= end:
                return []
            walk.extend(end)
        walk.narrow(stable)
        walk.evicted = self._cluster.evictions.keys()
        walk.members = self._cluster.members.keys()
        self._cluster.engine.reclaim(walk, RECLAIM_ENTRIES)
        if walk.done:
            self.waiting = (walk.waiting_records, walk.waiting_bytes)
        due = tuple(clean_up for clean_up in walk.idle if self._is_mine(clean_up))
        walk.idle.clear()
        return self._cluster.commit(Transaction(due)) if due else []

    def _is_mine(self, clean_up: CleanUp) -> bool:
        members, own = self._cluster.members, self._cluster.incarnation
        minter, _ = max(clean_up.dots)
        return own == (minter if minter in members else min(members, default=own))

    def _readable_since(self, now_ms: int) -> int:
        """The head of the sequence as of `FEED_MS` ago; 0 while this replica runs no longer."""
        marks, head = self._marks, self._cluster.engine.state.sequence
        if not marks or now_ms - marks[-1][0] >= FEED_MS // _MARKS:
            marks.append((now_ms, head))
        while len(marks) > 1 and now_ms - marks[1][0] >= FEED_MS:
            marks.popleft()
        return marks[0][1] if now_ms - marks[0][0] >= FEED_MS else 0
