"""The engine: the only writer of a replica.

`commit` takes transactions from callers, `merge` takes records from peers. Both make a draft,
join records into it, and end in `_write`: one store transaction, durable when it returns. Nothing
is answered or pushed before that.

The engine is synchronous and owns neither clock nor randomness: both are given. One call at a
time; reads take snapshots of their own and need no care.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec

from crdtdb import address, codec, hlc
from crdtdb.causal import NOTHING, Dot, VersionVector
from crdtdb.cuts import WideCuts, check_cut, cut_payload
from crdtdb.datatype import (
    NO_PAYLOAD,
    Change,
    Cut,
    Delete,
    Operation,
    OperationType,
    ScalarType,
    Stamp,
    StateType,
    check_payload,
)
from crdtdb.draft import Draft, type_of
from crdtdb.errors import DamagedStore, NewerFormat, PeerError, Problem, TooLarge, UnknownType
from crdtdb.limits import LIMITS
from crdtdb.record import Live, Record, after
from crdtdb.rows import WIDE_CUT_ROWS, read_record
from crdtdb.state import STATE_KEY, State
from crdtdb.store.base import Batch, Store, Table
from crdtdb.transaction import Committed, Erase, Outcome, Push, Result, Transaction, Update
from crdtdb.types import CATALOGUE

__all__ = ["Engine", "Entropy", "WallClock"]

#: Milliseconds since 1970; allowed to be wrong and to jump.
WallClock = Callable[[], int]
#: A random number of so many bits, never the same in any other process.
Entropy = Callable[[int], int]

_NOBODY: Final = 0


class Engine:
    """A replica's state and the two ways it changes."""

    def __init__(self, store: Store, clock: WallClock, entropy: Entropy) -> None:
        """Open a replica on a store, or begin a new one.

        A store that is not where it was when it was last written is a copy: it gets a new store
        id and, before its first write, a new incarnation.

        Raises DamagedStore or NewerFormat, with nothing changed.
        """
        self._store = store
        self._clock = clock
        self._entropy = entropy
        #: The clock within a commit; becomes the state's when that is written.
        self._time = 0
        with store.snapshot() as snapshot:
            row = snapshot.get(Table.META, STATE_KEY)
            wide = [
                (key[len(WIDE_CUT_ROWS) :], _decode_vector(value))
                for key, value in snapshot.scan(
                    Table.META, WIDE_CUT_ROWS, address.after(WIDE_CUT_ROWS)
                )
            ]
        self._wide = WideCuts(wide)
        if row is None:
            self._state = State(entropy(64), _NOBODY, NOTHING, 0, 0, False, store.location)
            return
        try:
            self._state = State.decode(row)
        except codec.NewerVersion as error:
            raise NewerFormat(f"this data directory needs a newer crdtdb: {error}") from error
        except codec.FormatError as error:
            raise DamagedStore(f"the replica's own state is damaged: {error}") from error
        if self._state.location != store.location:
            self._state = msgspec.structs.replace(
                self._state,
                store_id=entropy(64),
                incarnation=_NOBODY,
                location=store.location,
            )

    # -- who and how far ------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        return self._store

    @property
    def state(self) -> State:
        """What this replica is and has seen, as of its last commit or merge."""
        return self._state

    def now_ms(self) -> int:
        """What this replica's wall clock shows."""
        return self._clock()

    def time_now(self) -> int:
        """The hybrid logical time now; no operation gets it."""
        return max(self._state.time, hlc.tick(0, self._clock()))

    def take_incarnation(self) -> int:
        """Begin a new identity for this replica's dots. Durable before it returns."""
        incarnation = self._entropy(64) or 1
        self._write(None, incarnation=incarnation)
        return incarnation

    def mark_served(self) -> None:
        """This replica's state, be it empty, is one that may be served."""
        self._write(None, served=True)

    # -- commit ---------------------------------------------------------------------------------

    def commit(self, transactions: Sequence[Transaction]) -> Committed:
        """Carry out transactions, in order, in one durable store transaction.

        Each takes effect whole or, when its outcome has an error, not at all. Raises NoSpace or
        StorageFailed when the store refuses; then none of them has taken effect.
        """
        if self._state.incarnation == _NOBODY:
            self.take_incarnation()
        before = self._state
        with self._store.snapshot() as snapshot:
            draft = Draft(snapshot, before.seen, self._wide)
            self._time = before.time
            outcomes = tuple(self._attempt(draft, transaction) for transaction in transactions)
            if draft.is_empty:
                return Committed(outcomes, None, before.seen)
            written = draft.batch(before.sequence)
        batch, records, sequence = written
        self._write(batch, seen=draft.seen, wide=draft.wide, time=self._time, sequence=sequence)
        own = before.incarnation
        push = Push(
            origin=own,
            first=before.seen.get(own) + 1,
            last=draft.seen.get(own),
            deps=before.seen.without(own),
            time=self._time,
            records=tuple(records),
        )
        return Committed(outcomes, push, draft.seen)

    def _attempt(self, draft: Draft, transaction: Transaction) -> Outcome:
        fork = draft.fork()
        own = self._state.incarnation
        first = draft.seen.get(own) + 1
        try:
            results = tuple(self._stamped(fork, update) for update in transaction.updates)
        except Problem as error:
            return Outcome((), error, first, first)
        draft.absorb(fork)
        return Outcome(results, None, first, draft.seen.get(own) + 1)

    def _stamped(self, draft: Draft, update: Update | Erase) -> Result:
        """What one update did, with what was minted for it."""
        own = self._state.incarnation
        before = draft.seen.get(own)
        result = (
            self._erase(draft, update.prefix)
            if isinstance(update, Erase)
            else self._update(draft, update)
        )
        last = draft.seen.get(own)
        return result if last == before else result._replace(stamp=Stamp((own, last), self._time))

    def _stamp(self, draft: Draft) -> Stamp:
        own = self._state.incarnation
        return Stamp((own, draft.seen.get(own) + 1), hlc.tick(self._time, self._clock()))

    def _update(self, draft: Draft, update: Update) -> Result:
        name, operation, seen = update
        kind = CATALOGUE.get(name.type)
        if kind is None:
            raise UnknownType(f"there is no type {name.type!r}; GET /v1 lists them")
        if seen is not None:
            seen = seen.meet(draft.seen)
        stamp = self._stamp(draft)
        prefix = name.prefix
        if isinstance(kind, OperationType):
            return self._update_log(draft, prefix, kind, operation, seen, stamp)
        view = _View(draft, prefix, seen)
        changes = (
            kind.delete(view, stamp)
            if isinstance(operation, Delete)
            else kind.mutate(operation, view, stamp)
        )
        changed = self._apply(draft, prefix, kind, changes, seen, stamp)
        if isinstance(kind, ScalarType):
            return Result(changed, value=kind.value(draft.live(prefix + address.OWN, prefix)))
        return Result(changed, size=draft.head(prefix).size)

    def _apply(
        self,
        draft: Draft,
        prefix: bytes,
        kind: StateType,
        changes: Iterator[Change | Cut],
        seen: VersionVector | None,
        stamp: Stamp,
    ) -> bool:
        """Join what one operation changes; mint its dot if it changes anything."""
        past = draft.seen
        now_seen = past.with_dot(stamp.dot)
        wrote = changed = False
        for change in changes:
            wrote = True
            if isinstance(change, Cut):
                changed |= draft.head(prefix).exists
                self._cut(draft, prefix, past if seen is None else seen, stamp.dot)
                continue
            at = prefix + change.tail
            before = draft.live(at, prefix)
            standing = Record(before, NOTHING)
            delta = (
                after(standing, stamp.dot, change.replaces)
                if change.payload is NO_PAYLOAD
                else after(standing, stamp.dot, change.replaces, change.payload)
            )
            draft.join(at, delta, now_seen, past)
            changed |= _shows_otherwise(kind, before, draft.live(at, prefix))
        if wrote:
            draft.seen = now_seen
            self._time = stamp.time
        return changed

    def _update_log(
        self,
        draft: Draft,
        prefix: bytes,
        kind: OperationType,
        operation: Operation,
        seen: VersionVector | None,
        stamp: Stamp,
    ) -> Result:
        past = draft.seen
        head = draft.head(prefix)
        payload = (
            Cut()
            if isinstance(operation, Delete)
            else kind.prepare(operation, draft.folded(prefix, kind))
        )
        changed = True
        if isinstance(payload, Cut):
            changed = head.exists
            if changed:
                self._cut(draft, prefix, past if seen is None else seen, stamp.dot)
        else:
            record = Record({stamp.dot: payload}, VersionVector.of([stamp.dot]))
            at = address.operation(address.name_of(prefix), stamp.dot)
            draft.join(at, record, past.with_dot(stamp.dot), past)
        if changed:
            draft.seen = past.with_dot(stamp.dot)
            self._time = stamp.time
        return Result(changed, value=kind.value(draft.folded(prefix, kind)))

    def _cut(self, draft: Draft, prefix: bytes, covers: VersionVector, dot: Dot) -> None:
        at = address.cut(prefix)
        standing = draft.record(at)
        delta = after(standing, dot, standing.live.keys(), cut_payload(covers))
        draft.join(at, delta, draft.seen.with_dot(dot), draft.seen)

    def _erase(self, draft: Draft, prefix: bytes) -> Result:
        """Cut a whole prefix, and reset each running total below it (DESIGN 3, rule 5)."""
        living = [p for p in draft.heads_under(prefix) if draft.head(p).exists]
        if len(living) > LIMITS.delete_objects:
            raise TooLarge(
                f"{len(living)} objects are below; delete at most {LIMITS.delete_objects} at "
                "once, by key prefix"
            )
        if not living:
            return Result(False)
        covers = draft.seen
        for object_prefix in living:
            kind = type_of(object_prefix)
            if isinstance(kind, StateType) and kind.totals:
                stamp = self._stamp(draft)
                view = _View(draft, object_prefix, None)
                self._apply(draft, object_prefix, kind, kind.delete(view, stamp), None, stamp)
        stamp = self._stamp(draft)
        self._cut(draft, prefix, covers, stamp.dot)
        draft.seen = draft.seen.with_dot(stamp.dot)
        self._time = stamp.time
        return Result(True, size=len(living))

    # -- merge ----------------------------------------------------------------------------------

    def merge(
        self,
        records: Iterable[tuple[bytes, bytes]],
        seen: VersionVector,
        time: int,
        *,
        past: VersionVector = NOTHING,
        served: bool = False,
    ) -> bool:
        """Take in records from a replica that had seen `seen`, in one durable store transaction.

        Afterwards this replica has seen `seen` too, so the records must be everything it lacked:
        one contiguous push, or all pages up to a claim. `past` is what every new operation in a
        push comes after. Returns whether the sender's time was refused.

        Raises PeerError with nothing changed when any record is not what an honest peer sends.
        """
        incoming = [(at, self._checked(at, data, seen)) for at, data in records]
        incoming.sort(key=lambda entry: not entry[0].endswith(address.BASE))
        before = self._state
        observed = hlc.observe(before.time, time, self._clock(), LIMITS.max_drift_ms)
        with self._store.snapshot() as snapshot:
            draft = Draft(snapshot, before.seen, self._wide)
            for at, record in incoming:
                draft.join(at, record, seen, past)
            batch, _, sequence = draft.batch(before.sequence)
        self._write(
            batch,
            seen=before.seen.join(seen),
            wide=draft.wide,
            time=observed.last,
            sequence=sequence,
            served=before.served or served,
        )
        return observed.refused

    def _checked(self, at: bytes, data: bytes, seen: VersionVector) -> Record:
        """Decode a peer's record; every dot must be within what the peer claims to have seen."""
        try:
            parsed = address.parse(at)
            record = codec.decode_record(at, data)
            if not seen.includes(record.context):
                raise PeerError("beyond-claim", "a record holds dots that its sender has not seen")
            for payload in record.live.values():
                if isinstance(parsed, address.CutAddress):
                    if not seen.includes(check_cut(payload)):
                        raise PeerError("beyond-claim", "a cut covers more than its sender saw")
                elif (kind := CATALOGUE.get(parsed.name.type)) and parsed.tail != address.BASE:
                    check_payload(kind, payload)
        except codec.NewerVersion as error:
            raise PeerError("newer-version", str(error)) from error
        except (ValueError, msgspec.ValidationError) as error:
            raise PeerError("bad-record", str(error)) from error
        return record

    # -- folding --------------------------------------------------------------------------------

    def fold(self, stable: VersionVector, start: int, entries: int) -> int:
        """Fold operations that `stable` covers into their objects' bases.

        Looks at `entries` places of the sequence after `start`; returns where to go on, 0 at the
        end. What users see does not change.
        """
        number = start
        by_object: dict[bytes, list[bytes]] = {}
        with self._store.snapshot() as snapshot:
            scan = snapshot.scan(Table.SEQUENCE, (start + 1).to_bytes(8, "big"))
            looked_at = list(islice(scan, entries))
            for key, at in looked_at:
                number = int.from_bytes(key, "big")
                if address.is_cut(at):
                    continue
                prefix, tail = address.split_object(at)
                if tail.startswith(address.OPERATION):
                    record, _ = read_record(snapshot, at)
                    if stable.includes(record.context):
                        by_object.setdefault(prefix, []).append(at)
            draft = Draft(snapshot, self._state.seen, self._wide)
            for prefix, operations in by_object.items():
                draft.fold_stable(prefix, operations)
            batch, _, sequence = draft.batch(self._state.sequence)
        if by_object:
            self._write(batch, sequence=sequence)
        return number if len(looked_at) == entries else 0

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
    ) -> None:
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
            for prefix, vector in wide.items():
                meta[WIDE_CUT_ROWS + prefix] = codec.pack(vector.flat())
        self._store.commit(batch)
        self._state = state
        if wide is not None:
            self._wide = wide


class _View:
    """What a type sees of an object while one operation is carried out."""

    __slots__ = ("_draft", "_prefix", "seen")

    def __init__(self, draft: Draft, prefix: bytes, seen: VersionVector | None) -> None:
        self._draft = draft
        self._prefix = prefix
        self.seen = seen

    def live(self, tail: bytes) -> Live:
        return self._draft.live(self._prefix + tail, self._prefix)

    def observed(self, live: Live) -> list[Dot]:
        seen = self.seen
        return list(live) if seen is None else [dot for dot in live if seen.covers(dot)]


def _shows_otherwise(kind: StateType, before: Live, now: Live) -> bool:
    if isinstance(kind, ScalarType):
        return kind.alive(before) != kind.alive(now) or kind.value(before) != kind.value(now)
    return kind.alive(before) != kind.alive(now)


def _decode_vector(data: bytes) -> VersionVector:
    return VersionVector.from_flat(msgspec.msgpack.decode(data, type=list[int]))
