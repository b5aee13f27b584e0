"""The mender: what damage does to a replica, and how it is put right.

A record of which one bit has flipped says itself how it was. Any other is marked, and waits for a
peer that holds the very same one, or that knows all it can have held (`damage`); or until somebody
accepts its loss (`abandoning`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final

from crdtdb import codec, hlc
from crdtdb.abandoning import abandon, by_owner, goes_whole
from crdtdb.admission import admit, admit_together
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.damage import Damage, Kind, Marker, Replacement, marker, pack_marker
from crdtdb.draft import EVERYWHERE, Draft
from crdtdb.errors import PeerError, StorageFailed
from crdtdb.joining import join_into
from crdtdb.keeper import NOBODY, Keeper
from crdtdb.kinds import mended_with, object_of
from crdtdb.limits import LIMITS
from crdtdb.mending import held, rebuild, replace_damaged
from crdtdb.righting import is_left_of, righted
from crdtdb.rows import places_of, read_head
from crdtdb.scrub import Scrub
from crdtdb.store.base import Snapshot, Table
from crdtdb.transaction import Push

__all__ = ["NO_ROWS", "Mender"]

NO_ROWS: Final[Mapping[bytes, bytes | None]] = MappingProxyType({})
#: Where more records than that are found damaged at once, it is no bit that has flipped.
_MOST_RIGHTED: Final = 4
#: The place of a damaged record is looked for among so many of the latest, some ten milliseconds.
_MOST_ENTRIES: Final = 20_000


class Mender(Keeper):
    """A keeper that finds what is damaged, and puts it right."""

    @property
    def damaged(self) -> Mapping[bytes, Marker]:
        """Records that are damaged, by address."""
        return self._damaged

    def scrub(self, scrub: Scrub, rows: int) -> list[Damage]:
        """Carry a walk on; returns the damage it found that was not known.

        A record of which one bit has flipped is put right; those that cannot be are marked. What
        follows from the records is made from them anew.
        """
        with self._store.snapshot() as snapshot:
            found = scrub.step(snapshot, rows)
        new = [damage for damage in found if damage.key not in self._damaged]
        if new:
            self._mark(new)
        return new

    def _mark(self, found: list[Damage]) -> None:
        seen = self._state.seen
        records = [damage.key for damage in found if damage.kind is Kind.RECORD]
        with self._store.snapshot() as snapshot:
            right = _put_right(snapshot, records)
            marked = [at for at in records if at not in right]
            places = places_of(snapshot, marked, _MOST_ENTRIES)
            damaged = {at: Marker(self._bound(snapshot, at), places[at]) for at in marked}
            draft = Draft(snapshot, seen, self._wide)
            for damage in found:
                if damage.kind is Kind.OBJECT:
                    draft.keep_trail()
                    try:
                        rebuild(draft, damage.key)
                        draft.end_trail()
                    except StorageFailed:
                        draft.go_back()  # a record of it is damaged, and has to be mended first
            batch, _, sequence = draft.batch(self._state.sequence)
        self.digests.forget(self._state.sequence, sequence)
        batch[Table.SEQUENCE].update(
            (damage.key, damage.at or None) for damage in found if damage.kind is Kind.SEQUENCE
        )
        batch[Table.RECORDS].update(right)
        batch[Table.META] = {marker(at): pack_marker(one) for at, one in damaged.items()}
        self._write(batch, sequence=sequence)
        self._damaged |= damaged

    def _bound(self, snapshot: Snapshot, at: bytes) -> VersionVector:
        """What somebody must have seen who knows all that a damaged record held.

        Heads say what the records of an object come to. Of what they say no more, since it was
        swept, something may be reclaimed.
        """
        prefix = object_of(at)
        try:
            head = read_head(snapshot, prefix) if prefix else None
        except StorageFailed:
            head = None
        return self._state.seen if head is None else head.context.join(self._reclaimed.vector)

    def held(self, damaged: Collection[bytes]) -> list[tuple[bytes, bytes]]:
        """What a peer needs whose records there are damaged: of a log every record.

        They are in the order of the sequence, so operations come after those that they continue.
        Raises StorageFailed for one that is damaged here.
        """
        with self._store.snapshot() as snapshot:
            return held(snapshot, self._wide, damaged)

    def sound(self, addresses: Collection[bytes]) -> list[tuple[bytes, bytes]]:
        """Those of the records that are sound here, each by itself, as they travel.

        Where there is none, or a damaged one, nothing is said. O(addresses).
        """
        with self._store.snapshot() as snapshot:
            rows = [(at, snapshot.get(Table.RECORDS, at)) for at in addresses]
        found = []
        for at, row in rows:
            with suppress(codec.FormatError):
                if row is not None:
                    found.append((at, codec.sound_record(at, row)[0]))
        return found

    def put_back(self, records: Iterable[tuple[bytes, bytes]]) -> int:
        """Put records in the place of damaged ones that were the very same; how many were?

        They are somebody's, who need not have seen anything: what is left of the row itself, its
        checksum or all of its body, says that this is what it was. Durable on return.

        Raises PeerError, NoSpace or StorageFailed with nothing changed.
        """
        same: dict[bytes, bytes | None] = {}
        with self._store.snapshot() as snapshot:
            for at, data in records:
                known = self._damaged.get(at)
                row = None if known is None else _same(snapshot, at, data, known.place)
                if row is not None:
                    admit(at, data, self._state.seen)
                    same[at] = row
        if same:
            self._write({Table.RECORDS: same, Table.META: dict.fromkeys(map(marker, same))})
            self._damaged = {at: one for at, one in self._damaged.items() if at not in same}
        return len(same)

    def replace_damaged(
        self,
        replacement: Replacement,
        records: Iterable[tuple[bytes, bytes]],
        seen: VersionVector,
        time: int,
        *,
        rows: Mapping[bytes, bytes | None] = NO_ROWS,
    ) -> bool:
        """Take over what a peer that has seen `seen` holds in the place of damaged records.

        The peer must know all that they held (`Marker.seen`). `records` is all else that this
        replica lacks, and it is merged with that (see `merge`, also for `rows`). Returns whether
        the peer's time was refused.

        Raises PeerError or StorageFailed with nothing changed.
        """
        before = self._state
        if seen.get(before.incarnation) > before.seen.get(before.incarnation):
            raise PeerError("own-dots", "a peer knows operations of this replica that it does not")
        return self._replace(replacement, records, seen, time, before.seen.join(seen), rows)

    def replace_part(
        self,
        replacement: Replacement,
        seen: VersionVector,
        time: int,
        *,
        rows: Mapping[bytes, bytes | None],
    ) -> None:
        """The same as the first part of what a pull brought (see `merge_part`)."""
        self._replace(replacement, (), seen, time, self._state.seen, rows)

    def would_go_whole(self, owner: bytes, damaged: Collection[bytes]) -> bool:
        """Would all of an object go, if the loss of what is damaged there were accepted?

        Raises InvalidOperation if it cannot be, or StorageFailed. O(records of the object).
        """
        with self._store.snapshot() as snapshot:
            return goes_whole(Draft(snapshot, self._state.seen, self._wide), owner, damaged)

    def abandon(self, damaged: Collection[bytes]) -> Push | None:
        """Accept the loss of damaged records, of each object all, by an operation for each.

        What had been seen there goes, everywhere (`abandoning`). Durable on return. None: nobody
        has to hear of it. O(records of those objects).

        Raises InvalidOperation, NoSpace or StorageFailed with nothing changed.
        """
        if self._state.incarnation == NOBODY:
            self.take_incarnation()
        before = self._state
        own = before.incarnation
        first, time = before.seen.get(own) + 1, hlc.tick(before.time, self._clock())
        with self._store.snapshot() as snapshot:
            draft = Draft(snapshot, before.seen, self._wide)
            for owner, addresses in by_owner(damaged).items():
                dot = (own, draft.seen.get(own) + 1)
                if abandon(draft, owner, addresses, dot):
                    draft.seen = draft.seen.with_dot(dot)
            batch, records, sequence = draft.batch(before.sequence)
        self.digests.forget(before.sequence, sequence)
        batch[Table.META] = dict.fromkeys(map(marker, damaged))
        self._write(batch, seen=draft.seen, wide=draft.wide, time=time, sequence=sequence)
        self._damaged = {at: one for at, one in self._damaged.items() if at not in damaged}
        last = draft.seen.get(own)
        if last < first:
            return None
        return Push(own, first, last, before.seen.without(own), time, tuple(records))

    def _replace(
        self,
        replacement: Replacement,
        records: Iterable[tuple[bytes, bytes]],
        seen: VersionVector,
        time: int,
        leads_to: VersionVector,
        rows: Mapping[bytes, bytes | None],
    ) -> bool:
        before = self._state
        damaged = {at for at in replacement.damaged if at in self._damaged}
        if not all(seen.includes(self._damaged[at].seen) for at in damaged):
            raise PeerError("knows-too-little", "a peer mends records of which it knows too little")
        logs = tuple(log for at in damaged if (log := mended_with(at)))
        mended = {
            at: admit(at, data, seen)
            for at, data in replacement.held
            if at in damaged or (logs and at.startswith(logs))
        }
        others = [
            (at, admit(at, data, seen))
            for at, data in records
            if at not in damaged and not (logs and at.startswith(logs))
        ]
        observed = hlc.observe(before.time, time, self._clock(), LIMITS.max_drift_ms)
        with self._store.snapshot() as snapshot:
            draft = Draft(snapshot, before.seen, self._wide)
            replace_damaged(draft, damaged, mended, seen)
            join_into(draft, others, seen, NOTHING, EVERYWHERE)
            admit_together(draft, mended)
            batch, _, sequence = draft.batch(before.sequence)
        self.digests.forget(before.sequence, sequence)
        batch[Table.META] = {**dict.fromkeys(map(marker, damaged)), **rows}
        self._write(
            batch,
            seen=leads_to,
            wide=draft.wide,
            time=observed.last,
            sequence=sequence,
        )
        self._damaged = {at: one for at, one in self._damaged.items() if at not in damaged}
        return observed.refused


def _put_right(snapshot: Snapshot, records: Collection[bytes]) -> dict[bytes, bytes]:
    """The rows of those records of which no more than a bit has flipped, as they were."""
    if len(records) > _MOST_RIGHTED:
        return {}
    rows = {at: snapshot.get(Table.RECORDS, at) for at in records}
    tried = {at: righted(at, row) for at, row in rows.items() if row is not None}
    return {at: row for at, row in tried.items() if row is not None}


def _same(snapshot: Snapshot, at: bytes, data: bytes, place: int) -> bytes | None:
    """The row of a record, if it is what a damaged row was; None if that cannot be told."""
    left = snapshot.get(Table.RECORDS, at)
    if left is None or not place:
        return None
    row = codec.pack_row(place, at, data)
    return row if is_left_of(left, row) else None
