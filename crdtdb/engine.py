"""The engine: the only writer of a replica.

`commit` takes transactions from callers, `merge` takes records from peers. Both make a draft,
join records into it, and end in the keeper's one write: one store transaction, durable when it
returns. Nothing is answered or pushed before that. What damage does, the mender has.

The engine is synchronous and owns neither clock nor randomness: both are given. One call at a
time; reads take snapshots of their own and need no care.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from crdtdb import hlc
from crdtdb.address import ObjectName
from crdtdb.admission import admit
from crdtdb.ahead import Ahead
from crdtdb.author import Author
from crdtdb.causal import NOTHING, Dot, VersionVector
from crdtdb.copied import Taken, take_over
from crdtdb.cuts import NO_WIDE_CUTS
from crdtdb.draft import EVERYWHERE, Draft
from crdtdb.errors import Field, PeerError, PreconditionFailed, Problem
from crdtdb.idempotency import KeptAnswers
from crdtdb.joining import Joined, Part, Records, decoded, join_in, join_into
from crdtdb.keeper import NOBODY, Entropy, WallClock, Write
from crdtdb.limits import LIMITS
from crdtdb.mender import NO_ROWS, Mender
from crdtdb.reclaim import Walk, walk_on
from crdtdb.reclaimed import RECLAIMED_KEY
from crdtdb.store.base import Batch, Table
from crdtdb.transaction import Committed, Expectation, Outcome, Push, Transaction, Update

__all__ = ["Drafted", "Engine", "Entropy", "WallClock"]

#: What is made of records, and they themselves.
_OF_RECORDS: Final = (
    Table.STAGED,
    Table.HEADS,
    Table.FOLDED,
    Table.SEQUENCE,
    Table.RECORDS,
    Table.CONFLICTS,
)


class Drafted(NamedTuple):
    """A commit that has been worked out and not been written."""

    committed: Committed
    #: None: there is nothing to write.
    write: Write | None


class Engine(Mender):
    """A replica's state and the two ways it changes."""

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
        if self._state.incarnation == NOBODY:
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
            if self.ahead is not None:
                self.ahead.note(drafted.write.batch, self._wide, self._state.sequence)
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
        rows: Mapping[bytes, bytes | None] = NO_ROWS,
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
        self._check_own(seen)
        incoming = [(at, admit(at, data, seen)) for at, data in records]
        joined = self._join(lambda draft: join_into(draft, incoming, seen, whole, EVERYWHERE))
        return self._merge(joined, seen, time, served=served, rows=rows, whole=whole)

    def begin_ahead(self) -> Ahead:
        """Begin a merge that is worked out part by part while local commits go on.

        It is `ahead` until it is written, or given up.
        """
        self.ahead = Ahead(self._state.sequence, self._wide)
        return self.ahead

    def work_ahead(self, part: Part, seen: VersionVector) -> None:
        """Work out what the next part comes to. Nothing changes that anybody sees.

        The records were admitted when they were staged. Raises PeerError or StorageFailed.
        """
        assert self.ahead is not None, "nothing was begun"
        with self._store.snapshot() as snapshot:
            self.ahead.take(snapshot, self._state.seen, part, seen, self._clock())

    def merge_ahead(
        self,
        again: Callable[[Collection[bytes]], Records],
        seen: VersionVector,
        time: int,
        *,
        rows: Mapping[bytes, bytes | None] = NO_ROWS,
    ) -> bool:
        """Write what was worked out ahead: as `merge` of all its records, but most is done.

        `again` gives the records of some objects, by their prefixes: local commits have changed
        those since. Raises PeerError or StorageFailed with nothing changed.
        """
        self._check_own(seen)
        ahead, self.ahead = self.ahead, None
        assert ahead is not None, "nothing was begun"
        with self._store.snapshot() as snapshot:
            joined = ahead.finish(snapshot, self._state.seen, again, seen, self._clock())
        self._note_heads(joined)
        return self._merge(joined, seen, time, served=False, rows=rows, whole=NOTHING)

    def _check_own(self, seen: VersionVector) -> None:
        own = self._state.incarnation
        if seen.get(own) > self._state.seen.get(own):
            raise PeerError("own-dots", "a peer knows operations of this replica that it does not")

    def _merge(
        self,
        joined: Joined,
        seen: VersionVector,
        time: int,
        *,
        served: bool,
        rows: Mapping[bytes, bytes | None],
        whole: VersionVector,
    ) -> bool:
        """Write what was joined, after which this replica has seen `seen`, too."""
        before = self._state
        observed = hlc.observe(before.time, time, self._clock(), LIMITS.max_drift_ms)
        self._write_joined(
            joined,
            whole,
            rows,
            seen=before.seen.join(seen),
            time=observed.last,
            served=before.served or served,
        )
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
        records = decoded(part.records)
        joined = self._join(lambda draft: join_into(draft, records, seen, whole, part.span))
        joined.batch[Table.STAGED] = dict.fromkeys(part.staged)
        self._write_joined(joined, whole, rows, time=observed.last, in_order=not self._state.served)

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
            join_into(draft, decoded(part.records), seen, whole, part.span)

    def _join(self, join: Callable[[Draft], None]) -> Joined:
        """Work out what a merge writes that joins its records so; nothing changes yet."""
        before = self._state
        with self._store.snapshot() as snapshot:
            joined = join_in(
                snapshot, before.seen, self._wide, before.sequence, join, self._clock()
            )
        self._note_heads(joined)
        return joined

    def _note_heads(self, joined: Joined) -> None:
        durable = self._state.sequence
        if joined.heads is None:
            self.digests.forget(durable, joined.sequence)
        else:
            self.digests.note(durable, joined.sequence, joined.heads)

    def _write_joined(
        self,
        joined: Joined,
        whole: VersionVector,
        rows: Mapping[bytes, bytes | None],
        *,
        time: int,
        seen: VersionVector | None = None,
        served: bool | None = None,
        in_order: bool = False,
    ) -> None:
        """Write what a merge comes to; `whole`: what a peer has let go that sent all it holds."""
        meta = joined.batch[Table.META] = dict(rows)
        reclaimed = self._reclaimed
        if len(whole):
            vector = reclaimed.vector.join(whole)
            reclaimed = reclaimed._replace(vector=vector, place=joined.sequence)
            meta[RECLAIMED_KEY] = reclaimed.encode()
        self._write(
            joined.batch,
            seen=seen,
            wide=joined.wide,
            time=time,
            sequence=joined.sequence,
            served=served,
            in_order=in_order,
        )
        self._reclaimed = reclaimed
        if joined.voided:
            self.note_voided(joined.voided)

    def note_voided(self, voided: Mapping[bytes, Collection[Dot]]) -> None:
        """Cuts do not count any more, of objects with these prefixes."""
        self.voided += sum(map(len, voided.values()))

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
