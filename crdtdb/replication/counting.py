"""Counting: whose reports count in a cluster, and what is stable by them.

Members count, and for a while those who departed (`departures`). What they report comes with the
digests and summaries of any replica; what is made of it is worked out again only when something
has changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from crdtdb import codec
from crdtdb.causal import VersionVector
from crdtdb.engine import Engine
from crdtdb.floors import write_floored
from crdtdb.replication.departures import Departures
from crdtdb.replication.members import Member
from crdtdb.replication.stability import Latest, Reports

__all__ = ["Counting"]


class Counting:
    """The reports of all who count, as one replica has heard them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._members: Mapping[int, Member] = {}
        #: Who was a member, by incarnation.
        self.departures = Departures()
        self.reports = Reports()
        #: When each member last reported to have seen more than before.
        self.reported_ms: dict[int, int] = {}
        self._stable: Latest[VersionVector] = Latest()
        self._mark: Latest[int] = Latest()

    def refresh(
        self, members: Mapping[int, Member], departures: Mapping[int, VersionVector]
    ) -> None:
        """These are the members, another mapping if anything changed, and these departed."""
        self._members = members
        self.departures.refresh(departures)

    def note(self, member: int, reported: VersionVector, now_ms: int) -> None:
        """A member says, itself or through others, what it has seen."""
        if not self.reports.counted(member).includes(reported):
            self.reported_ms[member] = now_ms
        self.reports.take(member, reported, self._engine.state.seen)

    def advance(self) -> None:
        """This replica has seen more: count what waited for that."""
        self.reports.advance(self._engine.state.seen)

    def who(self) -> Collection[int]:
        """Whose reports count: the members', and of those who departed, while it is news to one."""
        own = self._engine.state.incarnation
        return self._members.keys() | self.departures.unheard(self._members, own, self.reports)

    def table(self) -> dict[int, list[int]]:
        """What each member last reported to have seen, for peers."""
        return {member: write_floored(reported) for member, reported in self._table().items()}

    def mark(self) -> int:
        """Bytes that stand for that table, whatever floors it rests on. O(1) while it stays."""
        return self._mark.get(
            self._made_of(),
            lambda: codec.fingerprint({i: seen.flat() for i, seen in self._table().items()}),
        )

    def stable(self, left: Collection[int] | None = None) -> VersionVector:
        """What every member has seen, as far as this replica can tell; or of some that are left.

        O(1) of all while nothing changes, else O(members × entries).
        """
        if left is None:
            return self._stable.get(self._made_of(), lambda: self.stable(self.who()))
        state = self._engine.state
        return self.reports.stable(left, state.incarnation, state.seen)

    def blocking(self, left: Collection[int] | None = None) -> dict[int, int]:
        """Members that keep operations from being stable: incarnation → operations it lacks.

        All of them, or some that are left.
        """
        state = self._engine.state
        members = self._members.keys() if left is None else left
        return self.reports.blocking(members, state.incarnation, state.seen)

    def _table(self) -> dict[int, VersionVector]:
        state = self._engine.state
        return self.reports.table(self.who(), state.incarnation, state.seen)

    def _made_of(self) -> tuple[object, ...]:
        """What all this is made of. (Who departed is read with the members.)"""
        state = self._engine.state
        return state.seen, self._members, self.reports.changed, state.incarnation
