"""Departures: who was a member and is none any more counts on until every member has heard of it.

What such a replica did last may have reached one member only, which hands it on after it has said
what it had seen by then. Taken out of the count at once (it was evicted, or goes on under another
incarnation because its disk was lost), it would leave something for stable that this last of it is
concurrent to. So until each member has reported the departure the departed counts with its own last
report. From then on a member takes in nothing of it but by way of others; and what it has of it is
in its report, hence here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from crdtdb import address
from crdtdb.causal import VersionVector
from crdtdb.errors import StorageFailed
from crdtdb.reading import SYSTEM_BUCKET, Reading
from crdtdb.replication.members import incarnation_of
from crdtdb.replication.stability import Reports
from crdtdb.rows import read_record
from crdtdb.store.base import Snapshot

__all__ = ["Departures", "read_departures"]

_TYPE = "register"
#: What the keys of the objects begin with that say who is a member, and who is evicted.
_KEYS = ("member/", "evicted/")


def read_departures(snapshot: Snapshot, members: Collection[int]) -> dict[int, VersionVector]:
    """Who was a member, as of a snapshot: incarnation → what has seen the departure.

    What is left of an entry that was deleted goes when every member has seen that. O(members and
    evictions).
    """
    reading = Reading(snapshot)
    departures: dict[int, VersionVector] = {}
    for key in _KEYS:
        for name in reading.names(address.key_prefix(SYSTEM_BUCKET, _TYPE, key)):
            incarnation = incarnation_of(name, key)
            if incarnation is None or incarnation in members:
                continue
            try:
                cut, _ = read_record(snapshot, address.cut(name.prefix))
                context = reading.head(name.prefix).context.join(cut.context)
            except StorageFailed:
                continue  # it counts as a member, or is mended
            departures[incarnation] = departures.get(incarnation, context).join(context)
    return departures


class Departures:
    """Who has departed, and whether every member has heard of it."""

    def __init__(self) -> None:
        self._all: Mapping[int, VersionVector] = {}
        #: Those of which not every member has heard, as far as is known.
        self._unheard: dict[int, VersionVector] = {}

    def __contains__(self, incarnation: int) -> bool:
        return incarnation in self._all

    def refresh(self, departures: Mapping[int, VersionVector]) -> None:
        """These have departed, as of now."""
        self._unheard = {
            incarnation: context
            for incarnation, context in departures.items()
            if incarnation in self._unheard or self._all.get(incarnation) != context
        }
        self._all = departures

    def unheard(self, members: Iterable[int], own: int, reports: Reports) -> Collection[int]:
        """Those who count on: some member has not reported to have seen that they departed.

        O(1) when there are none, else O(them × members).
        """
        if self._unheard:
            counted = [reports.counted(member) for member in members if member != own]
            self._unheard = {
                incarnation: context
                for incarnation, context in self._unheard.items()
                if not all(report.includes(context) for report in counted)
            }
        return self._unheard.keys()
