"""Reclaiming: what every member has seen and nobody can need any more leaves the store.

A *walk* goes once over the by-change sequence below one stable VV, in portions. It drops

- tombstones: records with nothing in force;
- operations of op-based objects and leaves, which become part of the base of their log;
- cuts, each after a *sweep*: what the cut covers is taken out of the records below its prefix, then
  the cut is taken out of the heads there, then it goes itself;
- heads of objects of which nothing is left.

What is dead to users but in force (marks of removes, totals that were reset, values that lost) is
never dropped so: somebody may put something in its place at the same time. It is *idle*, and the
walk tells where; one replica then takes it out of force by an operation of its own, a *clean-up*,
which leaves an ordinary tombstone. Likewise what a deadline has hidden: it goes when the time of
every member is past that, so that nobody can move it any more.

Of who was evicted nobody knows what it did meanwhile, nor what it had heard of others that are gone
since, with their disks. So a running total of any replica that is no member is kept, when it was
reset, with what it says of the reset: who was evicted may bring a greater one.

All of the rest is local, and none of it changes what users see or what a join gives. A replica that
has seen a dot and does not hold it live judges it dead wherever it meets it, so a dropped record
says no less than the record did. And who pulls from here has seen it, because it is stable. Only a
member whose disk was put back may lack it again: it is found out by `Reclaimed.vector`, and pulls
whole.

Why a sweep may go in portions: a cut covers only what its own replica, hence everybody who holds
the cut, has seen. So once it is in force, dots that it covers only become fewer. Running totals are
beyond cuts, and records of a type that only a newer version knows may be: both stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

from crdtdb import address
from crdtdb.causal import NOTHING, Dot, VersionVector
from crdtdb.cuts import covered, is_object_prefix
from crdtdb.datatype import StateType
from crdtdb.draft import Draft
from crdtdb.expiry import guards, standing
from crdtdb.guarded import has_beside_cut
from crdtdb.kinds import is_uncut, log_at, log_in, type_of
from crdtdb.oplog import fold_stable
from crdtdb.reclaimed import Reclaimed
from crdtdb.record import Record, visible
from crdtdb.rows import read_row
from crdtdb.store.base import Snapshot, Table
from crdtdb.transaction import CleanUp

__all__ = ["Walk", "walk_on"]


class _Sweep:
    """How far the sweep below one cut has come."""

    __slots__ = (
        "at",
        "is_complete",
        "place",
        "position",
        "prefix",
        "record",
        "vector",
        "was_swept",
    )

    def __init__(self, at: bytes, record: Record, place: int) -> None:
        self.at = at
        self.place = place
        self.prefix = self.position = address.cut_prefix(at)
        self.vector = covered(record.live)
        #: Are all records done, so that the heads come next?
        self.was_swept = False
        #: Was everything that the cut covers taken out?
        self.is_complete = True


class Walk:
    """One walk over the sequence, to be gone on with by `Engine.reclaim` until it is `done`.

    A walk of which a portion failed is over: begin another.
    """

    def __init__(
        self,
        stable: VersionVector,
        start: int = 0,
        end: int | None = None,
        *,
        evicted: Collection[int] = (),
        members: Collection[int] = (),
        passed_ms: int = 0,
    ) -> None:
        """Look at the places after `start`, up to `end` (or the head, wherever it is by then).

        Incarnations that were `evicted` may come back with operations that nobody waited for: what
        those may refer to stays in materialised values, and so do totals of all but the `members`.
        Deadlines up to `passed_ms` have come at every member, and all that they did before is here.
        """
        self.passed_ms = passed_ms
        #: The first deadline that was found and is later.
        self.next_deadline_ms: int | None = None
        self.evicted = evicted
        self.members = members
        self.stable = stable
        self.place = start
        self.end = end
        self.done = False
        #: Objects of which operations were left, for they may come back: later ones must not be
        #: folded before these, even if that is decided while this walk is under way.
        self.left: set[bytes] = set()
        #: The first place that must be looked at again when more is stable.
        self.first_waiting: int | None = None
        #: What was found that would go if it were stable (what a cut still hides not counted).
        self.waiting_records = 0
        self.waiting_bytes = 0
        self.sweep: _Sweep | None = None
        #: What is idle and stable, as found since this was last emptied.
        self.idle: list[CleanUp] = []

    def wait(self, place: int) -> None:
        """Something at this place cannot go yet."""
        if self.first_waiting is None or place < self.first_waiting:
            self.first_waiting = place

    def await_deadline(self, deadline_ms: int) -> None:
        """Something ends for good when this has passed."""
        if self.next_deadline_ms is None or deadline_ms < self.next_deadline_ms:
            self.next_deadline_ms = deadline_ms

    def extend(self, end: int) -> None:
        """Look further, at places that were given out since."""
        self.end = end
        self.done = False

    def narrow(self, stable: VersionVector) -> None:
        """Go on below both VVs: what a walk reclaims must be stable from its beginning to then.

        An operation that became stable after its place was passed must not be skipped by a base
        that takes in a later one.
        """
        self.stable = self.stable.meet(stable)


def walk_on(
    walk: Walk, snapshot: Snapshot, draft: Draft, entries: int, before: Reclaimed
) -> Reclaimed:
    """Carry a walk on over `entries` rows; returns what is reclaimed once the draft is written."""
    portion = _Portion(walk, snapshot, draft)
    portion.carry_out(entries)
    clean = before.clean
    if walk.first_waiting is not None and walk.first_waiting <= clean:
        clean = walk.first_waiting - 1
    elif walk.done:
        # Below a cut it meets what waits at places that it has not come to otherwise.
        waiting = walk.place + 1 if walk.first_waiting is None else walk.first_waiting
        end = min(walk.place, waiting - 1)
        clean = max(clean, end)
    return Reclaimed(
        before.vector.join(portion.vector),
        max(before.place, portion.place),
        clean,
        before.records + portion.records,
        before.size_bytes + portion.size_bytes,
    )


class _Portion:
    """One portion of a walk, as changes of one draft."""

    def __init__(self, walk: Walk, snapshot: Snapshot, draft: Draft) -> None:
        self.vector = NOTHING
        self.place = self.records = self.size_bytes = 0
        self._walk = walk
        self._snapshot = snapshot
        self._draft = draft
        #: Stable operations in the order of the sequence, by the prefixes of their logs.
        self._operations: dict[bytes, list[bytes]] = {}
        #: Objects of which perhaps nothing is left.
        self._touched: dict[bytes, None] = {}

    def carry_out(self, entries: int) -> None:
        walk = self._walk
        while entries > 0 and not walk.done:
            if walk.sweep is None:
                entries = self._look(entries)
            else:
                self._fold()
                entries = self._sweep(walk.sweep, entries)
        self._fold()
        for prefix in self._touched:
            self._draft.vacate_if_bare(prefix)

    # -- the sequence ---------------------------------------------------------------------------

    def _look(self, entries: int) -> int:
        """Look at the next places, up to the first cut that can go; returns the entries left."""
        walk = self._walk
        end = None if walk.end is None else (walk.end + 1).to_bytes(8, "big")
        scan = self._snapshot.scan(Table.SEQUENCE, (walk.place + 1).to_bytes(8, "big"), end)
        for number, at in islice(scan, entries):
            entries -= 1
            walk.place = int.from_bytes(number, "big")
            if not self._draft.changes(at):
                self._visit(at)
            if walk.sweep is not None:
                return entries
        walk.done = entries > 0
        return entries

    def _visit(self, at: bytes) -> None:
        walk = self._walk
        record, row = read_row(self._snapshot, at, walk.place)
        is_cut = address.is_cut(at)
        prefix, tail = (b"", b"") if is_cut else address.split_object(at)
        log = log_in(prefix, tail)
        is_operation = log is not None and not address.is_base(at)
        if not walk.stable.includes(record.context):
            walk.wait(walk.place)
            if is_cut or is_operation or len(self._idle(at, record)) == len(record.live):
                walk.waiting_records += 1
                walk.waiting_bytes += len(at) + len(row)
        elif is_cut and (guarded := [*guards(record.live)]):
            dots = [dot for dot, payload in record.live.items() if any(guards({dot: payload}))]
            self._await(address.cut_prefix(at), max(guarded), dots)
        elif is_cut:
            walk.sweep = _Sweep(at, record, walk.place)
        elif not record.live:
            self._drop(at, record, walk.place, len(row))
            self._touched[prefix] = None
        elif tail == address.EXPIRY:
            self._visit_deadline(prefix, record)
        elif is_operation and (prefix in walk.left or self._draft.is_guarded(prefix)):
            walk.left.add(prefix)  # what is cut may come back, and so must not be folded away
            walk.wait(walk.place)
        elif log is not None and is_operation and log.kind is not None:
            self._operations.setdefault(log.prefix, []).append(at)
            self.records += 1
            self.size_bytes += len(at) + len(row)
        elif idle := self._idle(at, record):
            self._leave_idle(at, idle, walk.place)

    def _visit_deadline(self, prefix: bytes, record: Record) -> None:
        """An object ends for good when its deadline has passed everywhere; none at all is idle."""
        head = self._draft.head(prefix)
        if head.expires_at_ms is not None:
            self._await(prefix, head.expires_at_ms, record.live)
        elif not self._draft.is_guarded(prefix):
            self._leave_idle(prefix + address.EXPIRY, [*record.live], self._walk.place)

    def _await(self, prefix: bytes, deadline_ms: int, dots: Collection[Dot]) -> None:
        """What depends on a deadline goes by an operation when that has passed everywhere."""
        walk = self._walk
        if deadline_ms <= walk.passed_ms:
            self._leave_idle(prefix + address.EXPIRY, [*dots], walk.place)
        else:
            walk.wait(walk.place)
            walk.await_deadline(deadline_ms)

    def _leave_idle(self, at: bytes, idle: Collection[Dot], place: int) -> None:
        """What is idle goes by an operation; so long, this place is looked at again."""
        self._walk.idle.append(CleanUp(at, tuple(idle)))
        self._walk.wait(place)

    def _idle(self, at: bytes, record: Record) -> Collection[Dot]:
        """What of a record could be taken out of force."""
        prefix, tail = address.split_object(at)
        kind = type_of(prefix)
        own = None
        if isinstance(kind, StateType) and tail != address.EXPIRY:
            own = kind.at(tail)
        # What no cut covers is asked for only if it matters: that costs a look at the head.
        if own is None or self._may_grow(own, record):
            return ()
        if own.totals and has_beside_cut(record.live):
            return ()  # what is cut may come back; when the cut is final, this record changes
        if not own.idle(record.live):
            return ()
        return own.idle(self._draft.live(at, prefix))

    def _may_grow(self, kind: StateType, record: Record) -> bool:
        """May somebody who was evicted bring a greater total of one that is no member?"""
        walk = self._walk
        if not walk.evicted or not kind.totals:
            return False
        return any(incarnation not in walk.members for incarnation, _ in record.live)

    def _drop(self, at: bytes, record: Record, place: int, row_bytes: int) -> None:
        """Something that was deleted goes."""
        self._draft.drop(at)
        self.vector = self.vector.join(record.context)
        self.place = max(self.place, place)
        self.records += 1
        self.size_bytes += len(at) + row_bytes

    def _fold(self) -> None:
        for prefix, operations in self._operations.items():
            fold_stable(self._draft, prefix, operations, settle=not self._walk.evicted)
        self._operations.clear()

    # -- below a cut ----------------------------------------------------------------------------

    def _sweep(self, sweep: _Sweep, entries: int) -> int:
        """Go on below a cut, and drop it when nothing is left to cover; the entries left."""
        walk, draft = self._walk, self._draft
        found = draft.record(sweep.at)
        if not walk.stable.includes(found.context):
            # Less is stable by now, or there is a later cut, which this walk does not cover.
            walk.sweep = None
            walk.wait(sweep.place)
            return entries
        end = address.after(sweep.prefix)
        if not sweep.was_swept:
            for at, row in self._snapshot.scan(Table.RECORDS, sweep.position, end):
                if entries == 0:
                    sweep.position = at
                    return 0
                entries -= 1
                self._sweep_record(sweep, at, len(row))
            sweep.was_swept, sweep.position = True, sweep.prefix
        if sweep.is_complete:
            for prefix, _ in self._snapshot.scan(Table.HEADS, sweep.position, end):
                if entries == 0:
                    sweep.position = prefix
                    return 0
                entries -= 1
                self._uncover(sweep, prefix)
            row_bytes = len(self._snapshot.get(Table.RECORDS, sweep.at) or b"")
            self._drop(sweep.at, found, sweep.place, row_bytes)
            if is_object_prefix(sweep.prefix):
                self._touched[sweep.prefix] = None
            elif (log := log_at(sweep.prefix)) is not None:
                self._touched[log.owner] = None
            else:
                draft.wide = draft.wide.without(sweep.prefix)
        walk.sweep = None
        return entries

    def _sweep_record(self, sweep: _Sweep, at: bytes, row_bytes: int) -> None:
        prefix = address.split_object(at)[0]
        log = log_at(sweep.prefix)
        kind = type_of(prefix) if log is None else log.kind
        if log is None and is_uncut(kind):
            return
        record, place = self._draft.found(at)
        live = visible(record.live, sweep.vector)
        if len(live) == len(record.live):
            return
        if kind is None:
            sweep.is_complete = False
        elif not live and self._walk.stable.includes(record.context):
            self._drop(at, record, place, row_bytes)
            self._touched[prefix] = None
        else:
            left = Record(live, record.context)
            self._draft.rewrite(at, left)
            self.vector = self.vector.join(record.context)
            # This portion does not look at it again.
            idle = self._idle(at, left)
            if idle and self._walk.stable.includes(record.context):
                self._leave_idle(at, idle, place)
            elif idle or not live:
                self._walk.wait(place)

    def _uncover(self, sweep: _Sweep, prefix: bytes) -> None:
        """Take a swept cut out of the head of an object."""
        kind = type_of(prefix)
        if kind is None or is_uncut(kind):
            return
        draft = self._draft
        left = draft.wide.without(sweep.prefix).applying(prefix)
        own = address.cut(prefix)
        if own != sweep.at:
            deadlines = draft.record(prefix + address.EXPIRY).live
            left = standing(draft.record(own).live, deadlines, left).cut
        draft.uncover(prefix, sweep.vector, left)
        self._touched[prefix] = None
