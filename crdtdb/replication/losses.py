"""Losses: what is damaged and waits for a peer, who could mend it, and what if nobody can.

A peer that has seen all that a damaged record can have held mends it as soon as it can be reached.
Operations that no other member has reported may be nowhere else. As long as that is so, the record
waits, and with it whoever lacks what was written here since; an operator may accept the loss then.
Members report as they talk, so after a start less is known than was said before.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import reduce
from typing import NamedTuple

from crdtdb.abandoning import by_owner
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.errors import InvalidOperation, StorageFailed
from crdtdb.replication.cluster import Cluster, Send
from crdtdb.replication.mending import Mending

__all__ = ["Losses", "Wait"]


class Wait(NamedTuple):
    """Damaged records of one object, or a damaged cut of several, that wait to be mended."""

    #: The object's prefix, or the prefix that is cut; or what is no address at all.
    owner: bytes
    damaged: list[bytes]
    #: Would all of the object go if the loss were accepted? None: it cannot be.
    whole: bool | None
    #: Why not.
    refusal: str | None
    #: Incarnations of the other members that have seen all that the records can have held.
    known_to: list[int]
    #: Operations that they may have held and that no other member has reported: incarnation →
    #: first and last counter.
    unreported: dict[int, tuple[int, int]]


class Losses:
    """What waits at one replica, and the way out."""

    def __init__(self, cluster: Cluster, mending: Mending) -> None:
        self._cluster = cluster
        self._mending = mending
        #: Damaged records whose loss was accepted since the start.
        self.accepted = 0

    def waiting(self, owners: Collection[bytes] | None = None) -> list[Wait]:
        """All that waits, or what of these objects does. O(records of those objects)."""
        found = by_owner(self._cluster.engine.damaged)
        return [
            self._wait(owner, damaged)
            for owner, damaged in found.items()
            if owners is None or owner in owners
        ]

    def look(self, owner: bytes) -> None:
        """Look at all of an object now: what else is damaged there goes with it. O(its records)."""
        self._mending.look_below(owner)

    def accept(self, owners: Collection[bytes]) -> list[Send]:
        """Accept the loss of what is damaged of these objects, one after another; each is durable.

        Raises InvalidOperation, NoSpace or StorageFailed; objects before that are through.
        """
        cluster = self._cluster
        sends = [] if cluster.settled else cluster.take_new_incarnation()
        for owner, damaged in by_owner(cluster.engine.damaged).items():
            if owner in owners:
                push = cluster.engine.abandon(damaged)
                self.accepted += len(damaged)
                sends += [] if push is None else cluster.push(push)
        return sends

    def _wait(self, owner: bytes, damaged: list[bytes]) -> Wait:
        whole, refusal = None, None
        try:
            whole = self._cluster.engine.would_go_whole(owner, damaged)
        except (InvalidOperation, StorageFailed) as error:
            refusal = str(error)
        markers = self._cluster.engine.damaged
        held = reduce(VersionVector.join, (markers[at].seen for at in damaged), NOTHING)
        told = self._told()
        known_to = [member for member, seen in told.items() if seen.includes(held)]
        everywhere = reduce(VersionVector.join, told.values(), NOTHING)
        unreported = {
            incarnation: (everywhere.get(incarnation) + 1, last)
            for incarnation, last in held.items()
            if last > everywhere.get(incarnation)
        }
        return Wait(owner, damaged, whole, refusal, known_to, unreported)

    def _told(self) -> dict[int, VersionVector]:
        """What each other member has said to have seen."""
        cluster = self._cluster
        told = {}
        for member in cluster.members:
            if member != cluster.incarnation:
                peer, reported = cluster.peers.get(member), cluster.counting.reports.told(member)
                told[member] = reported if peer is None else reported.join(peer.seen)
        return told
