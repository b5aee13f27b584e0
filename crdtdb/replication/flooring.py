"""Flooring: incarnations that have ended leave what replicas write and send.

Every copy, restore or lost disk leaves an incarnation behind, which every version vector names for
ever. What all members have seen of those is laid down as a floor (`crdtdb.floors`), a record in the
system bucket. A replica's vectors rest on it as soon as every member has reported that record: then
everybody can read them but newcomers and replicas that went back, who pull first.

Nobody is asked whether an incarnation has ended for good: if it has not, its entries are above the
floor again. So nothing can be laid too early.
"""

from __future__ import annotations

from typing import Final

from crdtdb.causal import VersionVector
from crdtdb.replication.cluster import Cluster, Send
from crdtdb.replication.laid import Laid, laying, rank

__all__ = ["Flooring"]

#: How often it is looked whether there is a floor to lay or to rest on.
LOOK_INTERVAL_MS: Final = 1_000
#: Entries that one floor adds to another; the next adds the rest.
_MOST_ENDED: Final = 1_000


class Flooring:
    """Lays floors, and rests this replica's vectors on them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._look_ms = 0

    def tick(self) -> list[Send]:
        """Look now and then. O(entries + floors)."""
        cluster = self._cluster
        if cluster.now_ms < self._look_ms or not cluster.settled:
            return []
        self._look_ms = cluster.now_ms + LOOK_INTERVAL_MS
        stable = cluster.stable()
        self._rest(stable)
        return self._lay(stable)

    def _higher(self) -> list[Laid]:
        """The floors, of what has been seen here, that are greater than this replica's."""
        seen = self._cluster.seen
        return [
            laid
            for laid in self._cluster.laid.values()
            if laid.rank > rank(seen.floor) and seen.resting_on(laid.floor).floor is laid.floor
        ]

    def _rest(self, stable: VersionVector) -> None:
        """Rest on the greatest floor of which every member has heard."""
        heard = [laid for laid in self._higher() if stable.includes(laid.context)]
        if heard:
            self._cluster.engine.rest_on(max(heard, key=lambda laid: laid.rank).floor)

    def _lay(self, stable: VersionVector) -> list[Send]:
        """Lay a floor if there is something to add, and nobody still waits for another one.

        The member with the least incarnation does it. Should two think so, that is two floors.
        """
        cluster, floor = self._cluster, self._cluster.seen.floor
        members = cluster.members
        if cluster.incarnation != min(members, default=None) or self._higher():
            return []
        ended = {
            incarnation: counter
            for incarnation, counter in stable.items()
            if incarnation not in members
            and counter > floor.get(incarnation, 0)
            and counter == cluster.seen.get(incarnation)
        }
        if not ended:
            return []
        return cluster.commit(laying(floor, dict(sorted(ended.items())[:_MOST_ENDED])))
