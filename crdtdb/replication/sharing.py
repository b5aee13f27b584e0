"""What replicas give to each other so that all can go on: the rights to bounded counters.

With every tick a replica looks at what changed since the last one, here or elsewhere, and asks the
type of each object what to give to which member. Giving is an operation like any other. Members
that were not heard lately get nothing and are not counted: what they hold stays with them.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from crdtdb import address
from crdtdb.datatype import ScalarType
from crdtdb.errors import NoSpace, StorageFailed
from crdtdb.head import FRESH
from crdtdb.kinds import object_of, type_of
from crdtdb.record import visible
from crdtdb.replication.cluster import Cluster, Send
from crdtdb.rows import read_head, read_record
from crdtdb.store.base import Snapshot, Table
from crdtdb.transaction import Transaction, Update

__all__ = ["Sharing"]

#: Places of the sequence looked at with one tick.
_PLACES: Final = 1_000
#: Objects of which something is given with one tick.
_OBJECTS: Final = 50
#: Who was heard so lately is there.
_HEARD_MS: Final = 10_000
#: After a failure of the disk, so long until it is tried again.
_FAILED_PAUSE_MS: Final = 60_000


class Sharing:
    """Looks for what to give, and gives it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._place = 0
        self._members: frozenset[int] = frozenset()
        self._not_before_ms = 0

    def tick(self) -> list[Send]:
        """Go on for some places. Cheap when nothing has changed."""
        cluster = self._cluster
        if not (cluster.served and cluster.settled) or cluster.now_ms < self._not_before_ms:
            return []
        members = self._present()
        if members - self._members:
            self._place = 0  # somebody may need some of what did not change for long
        self._members = members
        if len(members) < 2 or self._place == cluster.engine.state.sequence:
            return []
        try:
            with cluster.engine.store.snapshot() as snapshot:
                updates = self._due(snapshot)
            return cluster.commit(Transaction(tuple(updates))) if updates else []
        except (NoSpace, StorageFailed):
            self._place, self._not_before_ms = 0, cluster.now_ms + _FAILED_PAUSE_MS
            cluster.refusals["sharing-failed"] += 1
            return []

    def _present(self) -> frozenset[int]:
        """This replica, and the members that were heard lately."""
        cluster = self._cluster
        heard = (
            incarnation
            for incarnation in cluster.members
            if (peer := cluster.peers.get(incarnation)) is not None
            and cluster.now_ms - peer.last_contact_ms <= _HEARD_MS
        )
        return frozenset((cluster.incarnation, *heard))

    def _due(self, snapshot: Snapshot) -> list[Update]:
        """What to give, of the objects at the next places."""
        updates: list[Update] = []
        objects = 0
        own, end = self._cluster.incarnation, self._cluster.engine.state.sequence
        scan = snapshot.scan(Table.SEQUENCE, (self._place + 1).to_bytes(8, "big"))
        places = list(islice(scan, _PLACES))
        for number, at in places:
            self._place = int.from_bytes(number, "big")
            prefix = object_of(at)  # none, if this place is damaged
            kind = type_of(prefix) if prefix else None
            if isinstance(kind, ScalarType) and kind.shareable:
                head = read_head(snapshot, prefix) or FRESH
                live = visible(read_record(snapshot, at)[0].live, head.cut)
                given = list(kind.share(live, own, self._members))
                updates += (Update(address.name_of(prefix), operation) for operation in given)
                objects += bool(given)
                if objects == _OBJECTS:
                    return updates
        if len(places) < _PLACES:
            self._place = end
        return updates
