"""The engine: the only writer of a replica.

`commit` takes transactions from callers, `merge` takes records from peers. Both make a draft,
join records into it, and end in `_write`: one store transaction, durable when it returns. Nothing
is answered or pushed before that.

The engine is synchronous and owns neither clock nor randomness: both are given. One call at a
time; reads take snapshots of their own and need no care.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from crdtdb import address, codec, hlc
from crdtdb.address import ObjectName
from crdtdb.admission import admit, admit_together
from crdtdb.author import Author, Replicas
from crdtdb.causal import NOTHING, Floor, VersionVector
from crdtdb.conflicts import journal_rows
from crdtdb.copied import Taken, take_over
from crdtdb.cuts import NO_WIDE_CUTS, WideCuts
from crdtdb.damage import (
    Damage,
    Kind,
    Marker,
    Replacement,
    marker,
    pack_marker,
    read_markers,
)
from crdtdb.digests import DigestTree
from crdtdb.draft import EVERYWHERE, Draft, Span
from crdtdb.epochs import EPOCHS_KEY, Epochs
from crdtdb.errors import (
    Field,
    PeerError,
    PreconditionFailed,
    Problem,
    StorageFailed,
)
from crdtdb.idempotency import KeptAnswers
from crdtdb.kinds import mended_with, object_of
from crdtdb.limits import LIMITS
from crdtdb.mending import held, rebuild, replace_damaged
from crdtdb.opening import open_rows
from crdtdb.reclaim import Walk, walk_on
from crdtdb.reclaimed import RECLAIMED_KEY, Reclaimed
from crdtdb.record import Record
from crdtdb.rows import (
    WIDE_CUT_ROWS,
    pack_cut_row,
    place_of,
    read_head,
)
from crdtdb.scrub import Scrub
from crdtdb.state import STATE_KEY, State
from crdtdb.store.base import Batch, Snapshot, Store, Table
from crdtdb.transaction import Committed, Expectation, Outcome, Push, Transaction, Update

__all__ = ["Drafted", "Engine", "Entropy", "Part", "WallClock"]

#: Milliseconds since 1970; allowed to be wrong and to jump.
WallClock = Callable[[], int]
#: A random number of so many bits, never the same in any other process.
Entropy = Callable[[int], int]

_NOBODY: Final = 0
#: What is made of records, and they themselves.
_OF_RECORDS: Final = (
    Table.STAGED,
    Table.HEADS,
    Table.FOLDED,
    Table.SEQUENCE,
    Table.RECORDS,
    Table.CONFLICTS,
)
_NO_ROWS: Final[Mapping[bytes, bytes | None]] = MappingProxyType({})


def _nothing() -> None:
    """The callback of one who is not interested."""


class Write(NamedTuple):
    """A store transaction, and what the replica is after it."""

    batch: Batch
    state: State
    epochs: Epochs
    wide: WideCuts


class Drafted(NamedTuple):
    """A commit that has been worked out and not been written."""

    committed: Committed
    #: None: there is nothing to write.
    write: Write | None


class _Joined(NamedTuple):
    """What a merge writes, and what the replica is after it."""

    batch: Batch
    wide: WideCuts
    sequence: int
    reclaimed: Reclaimed


class Part(NamedTuple):
    """All that a pull brought of a range of addresses, in the donor's sequence."""

    records: Sequence[tuple[bytes, bytes]]
    span: Span
    #: The keys under which they were staged, which are let go when they are joined.
    staged: Sequence[bytes] = ()


class Engine:
    """A replica's state and the two ways it changes."""

    def __init__(self, store: Store, clock: WallClock, entropy: Entropy) -> None:
        """Open a replica on a store, or begin a new one.

        A store that is not where it was when it was last written is a copy: it gets a new store
        id and, before its first write, a new incarnation. Rows of the replica's own that are
        damaged, and can be told anew, are written anew.

        Raises DamagedStore or NewerFormat, with nothing changed; NoSpace or StorageFailed.
        """
        self._store = store
        self._clock = clock
        self._entropy = entropy
        #: Asked for the names of replicas when an operation needs them.
        self.replicas: Replicas = dict
        #: On what the vectors of other replicas, and of callers, may rest.
        self.floors: dict[int, Floor] = {}
        #: Digests of ranges of objects, as of any state from now on.
        self.digests = DigestTree(store)
        #: Told what a commit changes, before anybody can see it and once more when it is durable.
        self.watchers: tuple[Callable[[Batch], None], ...] = ()
        #: Called after every write, when it is durable.
        self.on_write: Callable[[], None] = _nothing
        with store.snapshot() as snapshot:
            opened = open_rows(snapshot)
            self._state = opened.state or self._first_state()
            self._damaged = read_markers(snapshot, self._state.seen)
        self._epochs, self._reclaimed, self._wide = opened.epochs, opened.reclaimed, opened.wide
        if floor := self._state.seen.floor:
            self.floors[floor.mark] = floor
        #: The latest time that others were told (`time_now`), ms since 1970.
        self._told_ms = 0
        #: Have places been given out since this opening?
        self._has_begun_epoch = False
        if self._state.location != store.location:
            self._state = msgspec.structs.replace(
                self._state,
                store_id=entropy(64),
                incarnation=_NOBODY,
                location=store.location,
            )
        if opened.mended:
            self._write({Table.META: opened.mended})

    def _first_state(self) -> State:
        return State(self._entropy(64), _NOBODY, NOTHING, 0, 0, False, self._store.location)

    # -- who and how far ------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        return self._store

    @property
    def state(self) -> State:
        """What this replica is and has seen, as of its last commit or merge."""
        return self._state

    @property
    def epochs(self) -> Epochs:
        """In which epochs the places of the sequence were given out."""
        return self._epochs

    @property
    def reclaimed(self) -> Reclaimed:
        """What this store has let go."""
        return self._reclaimed

    def now_ms(self) -> int:
        """What this replica's wall clock shows."""
        return self._clock()

    def time_now(self) -> int:
        """The hybrid logical time now, for others; no operation gets it.

        Deadlines before it have come here, whatever the wall clock says from now on.
        """
        time = max(self._state.time, hlc.tick(0, self._clock()))
        self._told_ms = max(self._told_ms, hlc.milliseconds(time))
        return time

    def take_incarnation(self) -> int:
        """Begin a new identity for this replica's dots. Durable before it returns."""
        incarnation = self._entropy(64) or 1
        self._write(None, incarnation=incarnation)
        return incarnation

    def rest_on(self, floor: Floor) -> None:
        """Write what was seen above a floor from now on, if all of that was seen. Durable."""
        seen = self._state.seen.resting_on(floor)
        if seen is not self._state.seen:
            self._write(None, seen=seen)

    def mark_served(self) -> None:
        """This replica's state, be it empty, is one that may be served."""
        self._write(None, served=True)

    # -- commit ---------------------------------------------------------------------------------

    def commit(self, transactions: Sequence[Transaction]) -> Committed:
        """Carry out transactions, in order, in one durable store transaction.

        Each takes effect whole or, when its outcome has an error, not at all. Raises NoSpace or
        StorageFailed when the store refuses; then none of them has taken effect.
        """
        drafted = self.draft(transactions)
        self.persist(drafted)
        return self.install(drafted)

    def draft(self, transactions: Sequence[Transaction]) -> Drafted:
        """The first step of a commit: work out what the transactions do. Nothing changes yet.

        `persist` and `install` have to follow before anything else is written; unless `persist`
        fails, then it was all in vain.
        """
        if self._state.incarnation == _NOBODY:
            self.take_incarnation()
        before = self._state
        with self._store.snapshot() as snapshot:
            draft = Draft(snapshot, before.seen, self._wide)
            author = Author(
                before.incarnation, before.time, self._clock, self.replicas, self._told_ms
            )
            kept = KeptAnswers(snapshot, self._clock())
            outcomes = [
                self._attempt(author, kept, draft, transaction) for transaction in transactions
            ]
            rows = kept.rows()
            if draft.is_empty and not rows:
                _number(outcomes, transactions, draft)
                return Drafted(Committed(tuple(outcomes), None, before.seen), None)
            batch, records, sequence = draft.batch(before.sequence)
            _number(outcomes, transactions, draft)
        self.digests.note(before.sequence, sequence, draft.head_changes())
        batch[Table.META] = rows
        write = self._prepare(
            batch, seen=draft.seen, wide=draft.wide, time=author.time, sequence=sequence
        )
        if draft.is_empty:
            return Drafted(Committed(tuple(outcomes), None, draft.seen), write)
        own = before.incarnation
        push = Push(
            origin=own,
            first=before.seen.get(own) + 1,
            last=draft.seen.get(own),
            deps=before.seen.without(own),
            time=author.time,
            records=tuple(records),
        )
        return Drafted(Committed(tuple(outcomes), push, draft.seen), write)

    def persist(self, drafted: Drafted) -> None:
        """The second step: make it durable. Waits for the disk, in any thread.

        Raises NoSpace or StorageFailed with nothing changed.
        """
        if drafted.write is not None:
            self._commit(drafted.write.batch)

    def install(self, drafted: Drafted) -> Committed:
        """The last step: from now on this replica is in the new state."""
        if drafted.write is not None:
            self._install(drafted.write)
        return drafted.committed

    def _attempt(
        self, author: Author, kept: KeptAnswers, draft: Draft, transaction: Transaction
    ) -> Outcome:
        own = self._state.incarnation
        first = draft.seen.get(own) + 1
        try:
            replay = None if transaction.key is None else kept.replay(transaction.key)
            if replay is not None:
                return Outcome(replay.results, None, first, first, replay.seen)
            for expectation in transaction.expects:
                _check_unchanged(draft, expectation)
            draft.keep_trail()
            results = author.carry_out(draft, transaction)
        except Problem as error:
            draft.go_back()
            # Its traceback would hold the draft, and all that was asked for together with it.
            return Outcome((), error.with_traceback(None), first, first)
        draft.end_trail()
        if transaction.key is not None:
            kept.keep(transaction.key, results, draft.seen)
        return Outcome(results, None, first, draft.seen.get(own) + 1)

    # -- merge ----------------------------------------------------------------------------------

    def merge(
        self,
        records: Iterable[tuple[bytes, bytes]],
        seen: VersionVector,
        time: int,
        *,
        served: bool = False,
        rows: Mapping[bytes, bytes | None] = _NO_ROWS,
        whole: VersionVector = NOTHING,
    ) -> bool:
        """Take in records from a replica that had seen `seen`, in one durable store transaction.

        Afterwards this replica has seen `seen` too, so the records must be everything it lacked:
        one contiguous push, or all pages up to a claim. `rows` are META rows of the caller's own
        that take effect with it. Returns whether the sender's time was refused.

        `whole` is given if the records are all that the sender holds: what it has reclaimed.
        Whatever it has seen and does not hold was removed, then, and is removed here. O(records).

        Raises PeerError with nothing changed when any record is not what an honest peer sends.
        """
        before = self._state
        if seen.get(before.incarnation) > before.seen.get(before.incarnation):
            raise PeerError("own-dots", "a peer knows operations of this replica that it does not")
        incoming = [(at, admit(at, data, seen)) for at, data in records]
        observed = hlc.observe(before.time, time, self._clock(), LIMITS.max_drift_ms)
        joined = self._join(
            lambda draft: _join_into(draft, incoming, seen, whole, EVERYWHERE), whole
        )
        joined.batch[Table.META] |= rows
        self._write(
            joined.batch,
            seen=before.seen.join(seen),
            wide=joined.wide,
            time=observed.last,
            sequence=joined.sequence,
            served=before.served or served,
        )
        self._reclaimed = joined.reclaimed
        return observed.refused

    def merge_part(
        self,
        part: Part,
        seen: VersionVector,
        time: int,
        *,
        rows: Mapping[bytes, bytes | None],
        whole: VersionVector = NOTHING,
    ) -> None:
        """Take in some of the records that `merge` would take in at once: those of a range.

        This replica has not seen `seen` before a last `merge`, without records, ends it. Until
        then it must merge nothing else, and neither claim nor push: its records say more than its
        VV. Local commits may come in between. The records were admitted when they were staged.

        Raises PeerError or StorageFailed with nothing changed.
        """
        observed = hlc.observe(self._state.time, time, self._clock(), LIMITS.max_drift_ms)
        records = _decoded(part.records)
        joined = self._join(lambda draft: _join_into(draft, records, seen, whole, part.span), whole)
        joined.batch[Table.META] |= rows
        joined.batch[Table.STAGED] = dict.fromkeys(part.staged)
        self._write(
            joined.batch,
            wide=joined.wide,
            time=observed.last,
            sequence=joined.sequence,
            in_order=not self._state.served,
        )
        self._reclaimed = joined.reclaimed

    def take_over(
        self,
        rows: Sequence[tuple[bytes, bytes]],
        kept: Callable[[Taken], Batch],
        *,
        whole: VersionVector,
    ) -> None:
        """Take over rows of a replica's store, in the order of their addresses, one after another.

        This replica holds nothing but what came so before, and has seen nothing until a `merge`
        ends it with what changed at the other one meanwhile, and with what could not be taken over
        (`Taken.logs`). `kept` gives rows of the caller's that take effect with it. O(rows).

        Raises PeerError, NoSpace or StorageFailed with nothing changed.
        """
        before = self._state
        assert not before.served, "only who holds nothing"
        assert not len(before.seen), "only who holds nothing"
        with self._store.snapshot() as snapshot:
            draft = Draft(snapshot, NOTHING, self._wide)
            taken = take_over(draft, rows, before.sequence)
        batch = taken.batch | kept(taken)
        reclaimed = self._reclaimed
        if len(whole):
            vector = reclaimed.vector.join(whole)
            reclaimed = reclaimed._replace(vector=vector, place=taken.sequence)
            batch[Table.META] = {**batch.get(Table.META, {}), RECLAIMED_KEY: reclaimed.encode()}
        self.digests.forget(before.sequence, taken.sequence)
        self._write(batch, wide=draft.wide, sequence=taken.sequence, in_order=True)
        self._reclaimed = reclaimed

    def let_all_go(self, rows: int, kept: Mapping[bytes, bytes | None]) -> bool:
        """Let so many rows go of what was taken over, with META rows; is there still some?

        Only who has seen nothing may. Raises NoSpace or StorageFailed.
        """
        assert not len(self._state.seen), "only who holds nothing"
        batch: Batch = {Table.META: dict(kept)}
        left = rows
        with self._store.snapshot() as snapshot:
            for table in _OF_RECORDS:
                keys = [key for key, _ in snapshot.page(table, b"", None, left)] if left else []
                batch[table] = dict.fromkeys(keys)
                left -= len(keys)
        self.digests.forget(self._state.sequence, self._state.sequence)
        self._write(batch, wide=NO_WIDE_CUTS, in_order=True)
        return not left

    def try_part(self, part: Part, seen: VersionVector, *, whole: VersionVector = NOTHING) -> None:
        """Find out whether `merge_part` would refuse these records, and change nothing.

        Raises PeerError or StorageFailed.
        """
        with self._store.snapshot() as snapshot:
            draft = Draft(snapshot, self._state.seen, self._wide)
            _join_into(draft, _decoded(part.records), seen, whole, part.span)

    def stage(
        self, records: Mapping[bytes, bytes | None], rows: Mapping[bytes, bytes | None]
    ) -> None:
        """Keep records for a later merge, or let them go (None), with META rows of the caller's.

        Their keys should be neighbours. Durable on return. Raises NoSpace or StorageFailed with
        nothing changed.
        """
        batch: Batch = {Table.STAGED: dict(records), Table.META: dict(rows)}
        self._write(batch, in_order=not self._state.served)

    def _join(self, join: Callable[[Draft], None], whole: VersionVector) -> _Joined:
        """Work out what a merge writes that joins its records so; nothing changes yet."""
        before = self._state
        with self._store.snapshot() as snapshot:
            draft = Draft(snapshot, before.seen, self._wide)
            join(draft)
            batch, _, sequence = draft.batch(before.sequence)
            if losses := draft.losses():
                batch[Table.CONFLICTS] = journal_rows(snapshot, losses, self._clock())
        self.digests.note(before.sequence, sequence, draft.head_changes())
        batch[Table.META] = {}
        reclaimed = self._reclaimed
        if len(whole):
            vector = reclaimed.vector.join(whole)
            reclaimed = reclaimed._replace(vector=vector, place=sequence)
            batch[Table.META][RECLAIMED_KEY] = reclaimed.encode()
        return _Joined(batch, draft.wide, sequence, reclaimed)

    # -- reclaiming -----------------------------------------------------------------------------

    def reclaim(self, walk: Walk, entries: int) -> None:
        """Carry on a walk that lets go what is stable and not needed any more.

        Looks at `entries` rows, in one store transaction. What users see does not change. Raises
        NoSpace or StorageFailed with nothing changed; then the walk is over.
        """
        with self._store.snapshot() as snapshot:
            draft = Draft(snapshot, self._state.seen, self._wide)
            reclaimed = walk_on(walk, snapshot, draft, entries, self._reclaimed)
            batch, _, sequence = draft.batch(self._state.sequence)
        if any(batch.values()):
            self.digests.note(self._state.sequence, sequence, draft.head_changes())
            batch[Table.META] = {RECLAIMED_KEY: reclaimed.encode()}
            self._write(batch, wide=draft.wide, sequence=sequence)
        self._reclaimed = reclaimed

    # -- damage ---------------------------------------------------------------------------------

    @property
    def damaged(self) -> Mapping[bytes, Marker]:
        """Records that are damaged, by address."""
        return self._damaged

    def scrub(self, scrub: Scrub, rows: int) -> list[Damage]:
        """Carry a walk on; returns the damage it found that was not known.

        Damaged records are marked. What follows from the records is made from them anew.
        """
        with self._store.snapshot() as snapshot:
            found = scrub.step(snapshot, rows)
        new = [damage for damage in found if damage.key not in self._damaged]
        if new:
            self._mark(new)
        return new

    def _mark(self, found: list[Damage]) -> None:
        seen = self._state.seen
        with self._store.snapshot() as snapshot:
            damaged = {
                at: Marker(self._bound(snapshot, at), place_of(snapshot, at))
                for at in (damage.key for damage in found if damage.kind is Kind.RECORD)
            }
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

    def keep(self, key: bytes, row: bytes | None) -> None:
        """Keep a META row of the caller's, or let it go. Raises NoSpace or StorageFailed."""
        self._write({Table.META: {key: row}})

    def replace_damaged(
        self,
        replacement: Replacement,
        records: Iterable[tuple[bytes, bytes]],
        seen: VersionVector,
        time: int,
        *,
        rows: Mapping[bytes, bytes | None] = _NO_ROWS,
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
            _join_into(draft, others, seen, NOTHING, EVERYWHERE)
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

    # -- the one write --------------------------------------------------------------------------

    def _write(
        self,
        batch: Batch | None,
        *,
        seen: VersionVector | None = None,
        wide: WideCuts | None = None,
        time: int | None = None,
        sequence: int | None = None,
        incarnation: int | None = None,
        served: bool | None = None,
        in_order: bool = False,
    ) -> None:
        write = self._prepare(
            batch,
            seen=seen,
            wide=wide,
            time=time,
            sequence=sequence,
            incarnation=incarnation,
            served=served,
        )
        self._commit(write.batch, in_order=in_order)
        self._install(write)

    def _commit(self, batch: Batch, *, in_order: bool = False) -> None:
        for watch in self.watchers:
            watch(batch)
        if in_order:
            self._store.commit_in_order(batch)
        else:
            self._store.commit(batch)
        for watch in self.watchers:
            watch(batch)

    def _prepare(
        self,
        batch: Batch | None,
        *,
        seen: VersionVector | None = None,
        wide: WideCuts | None = None,
        time: int | None = None,
        sequence: int | None = None,
        incarnation: int | None = None,
        served: bool | None = None,
    ) -> Write:
        """A store transaction with the state it leads to. What is left out stays as it is."""
        old = self._state
        state = State(
            old.store_id,
            old.incarnation if incarnation is None else incarnation,
            old.seen if seen is None else seen,
            old.time if time is None else time,
            old.sequence if sequence is None else sequence,
            old.served if served is None else served,
            old.location,
        )
        batch = {} if batch is None else batch
        meta = batch.setdefault(Table.META, {})
        meta[STATE_KEY] = state.encode()
        if wide is not None and wide is not self._wide:
            for prefix, vector in wide.raised_over(self._wide):
                meta[WIDE_CUT_ROWS + prefix] = pack_cut_row(vector)
            for prefix in wide.gone_since(self._wide):
                meta[WIDE_CUT_ROWS + prefix] = None
        epochs = self._epochs
        gives_places = state.sequence > old.sequence
        if gives_places and not self._has_begun_epoch:
            epochs = epochs.begin(self._entropy(64) or 1, old.sequence)
            meta[EPOCHS_KEY] = epochs.encode()
        return Write(batch, state, epochs, self._wide if wide is None else wide)

    def _install(self, write: Write) -> None:
        if write.state.sequence > self._state.sequence:
            self._has_begun_epoch = True
        self._state, self._epochs, self._wide = write.state, write.epochs, write.wide
        self.on_write()


def _decoded(records: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, Record]]:
    """Records that were admitted when they were staged. Raises StorageFailed."""
    try:
        return [(at, codec.decode_record(at, data)) for at, data in records]
    except codec.FormatError as error:
        raise StorageFailed(f"what was pulled is damaged on disk ({error})") from error


def _join_into(
    draft: Draft,
    incoming: list[tuple[bytes, Record]],
    seen: VersionVector,
    whole: VersionVector,
    span: Span,
) -> None:
    """Join what a replica holds that has seen `seen`. Raises PeerError."""
    # Bases first: they stand for operations that come before all others.
    incoming.sort(key=lambda entry: not address.is_base(entry[0]))
    if len(whole):
        draft.join_whole(incoming, seen, span)
    else:
        for at, record in incoming:
            draft.join(at, record, seen)
    admit_together(draft, (at for at, _ in incoming))


def _check_unchanged(draft: Draft, expectation: Expectation) -> None:
    prefix = expectation.name.prefix
    head = draft.head(prefix)
    if expectation.sequences is None:
        if not head.exists:
            raise PreconditionFailed(
                "the object does not exist at this replica", Field("If-Match", "does not exist")
            )
    elif head.sequence not in expectation.sequences or draft.has_changed(prefix):
        raise PreconditionFailed(
            "the object changed at this replica since that ETag; read it again and decide anew",
            Field("If-Match", "no longer so"),
        )


def _number(outcomes: list[Outcome], transactions: Sequence[Transaction], draft: Draft) -> None:
    """Give outcomes the sequence numbers of the objects that their transactions watch.

    An object has one number for the whole commit, that of its last change. Whoever wrote before
    did not see that change, so it must not get the number.
    """
    if not any(transaction.watch for transaction in transactions):
        return
    written: set[ObjectName] = set()
    erased: tuple[bytes, ...] = ()
    for i in range(len(outcomes) - 1, -1, -1):
        outcome, transaction = outcomes[i], transactions[i]
        watched = transaction.watch
        if (
            watched is not None
            and outcome.error is None
            and outcome.replayed is None
            and watched not in written
            and not (erased and watched.prefix.startswith(erased))
        ):
            sequence = draft.head(watched.prefix).sequence
            outcomes[i] = Outcome(
                outcome.results, None, outcome.first, outcome.after, None, sequence
            )
        if i and outcome.after > outcome.first:
            for update in transaction.updates:
                if isinstance(update, Update):
                    written.add(update.name)
                else:
                    erased += (update.prefix,)
