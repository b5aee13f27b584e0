"""A draft: everything one store transaction will change, before it is written.

Here, and only here, records are joined. A draft reads through to a snapshot, keeps what changed,
and carries each change into the object's head (size, digest, what a cut would have to cover). While
it keeps a trail it can go back, which is how a transaction that fails leaves no trace in a group
commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from enum import Enum
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from crdtdb import address, codec
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.conflicts import Loss, loss_between
from crdtdb.cuts import WideCuts, covered, is_object_prefix
from crdtdb.datatype import DocumentType, NestedType, OperationType, StateType
from crdtdb.digests import HeadChanges
from crdtdb.errors import PeerError
from crdtdb.head import FRESH, Head
from crdtdb.record import EMPTY, Live, Record, join, visible
from crdtdb.rows import pack_folded, read_folded, read_head, read_record
from crdtdb.store.base import Batch, Snapshot, Table
from crdtdb.types import CATALOGUE

__all__ = ["EVERYWHERE", "Draft", "Span", "alive", "is_uncut", "log_of", "object_of", "type_of"]

_OPERATION: Final = address.OPERATION[0]


def type_of(prefix: bytes) -> StateType | OperationType | None:
    """The type of the object with this prefix; None for a type that a newer version knows."""
    return CATALOGUE.get(prefix.split(b"\0", 2)[1].decode())


class Span(NamedTuple):
    """Addresses from `start` up to, without it, `end`; None: to the last."""

    start: bytes
    end: bytes | None


EVERYWHERE: Final = Span(b"", None)


class _Unknown(Enum):
    """A draft says nothing about something: it is as the snapshot has it."""

    UNKNOWN = "unknown"


_UNKNOWN: Final = _Unknown.UNKNOWN
#: A record, and its place in the sequence, where there is none.
_NOT_FOUND: Final = (EMPTY, 0)


class _Trail:
    """How a draft was, as far as it has changed since."""

    __slots__ = ("count", "order", "seen", "steps", "wide")

    def __init__(self, seen: VersionVector, wide: WideCuts, count: int) -> None:
        self.seen = seen
        self.wide = wide
        #: The records it had changed, and in which order, once a change alters that.
        self.count = count
        self.order: list[bytes] | None = None
        #: Mapping, key, and what the mapping held there.
        self.steps: list[tuple[dict[bytes, Any], bytes, Any]] = []


class Draft:
    """Changes on top of a snapshot. Lookups cost one store get the first time, then none."""

    def __init__(self, snapshot: Snapshot, seen: VersionVector, wide: WideCuts) -> None:
        self._snapshot = snapshot
        #: What the replica has seen, with this draft's own operations.
        self.seen = seen
        self.wide = wide
        #: Address → changed record, in the order of the changes; None: dropped.
        self._records: dict[bytes, Record | None] = {}
        #: Of these, the ones that stay in their place of the sequence: to others nothing is new.
        self._in_place: set[bytes] = set()
        #: Objects of which nothing is left, not even a head.
        self._vacated: set[bytes] = set()
        self._heads: dict[bytes, Head] = {}
        #: Object prefix → materialised value; None: none left.
        self._folded: dict[bytes, Any] = {}
        #: Object prefix → the record of it that changed last.
        self._latest: dict[bytes, bytes] = {}
        #: Object prefix → what the base that this draft adopted stands for.
        self._adopted: dict[bytes, VersionVector] = {}
        #: Address → object prefix, of records that came to hold a value that loses.
        self._contended: dict[bytes, bytes] = {}
        #: Address → the bytes of a changed record, where they are known.
        self._encoded: dict[bytes, bytes] = {}
        #: As found in the snapshot: address → (record, sequence number), prefix → head.
        self._found: dict[bytes, tuple[Record, int]] = {}
        self._found_heads: dict[bytes, Head | None] = {}
        self._found_folded: dict[bytes, Any] = {}
        self._trail: _Trail | None = None

    # -- trails -------------------------------------------------------------------------------

    def keep_trail(self) -> None:
        """From now on remember how everything was."""
        self._trail = _Trail(self.seen, self.wide, len(self._records))

    def end_trail(self) -> None:
        """What was done since `keep_trail` stands."""
        self._trail = None

    def go_back(self) -> None:
        """Undo everything since `keep_trail`; without a trail, nothing was done."""
        trail, self._trail = self._trail, None
        if trail is None:
            return
        for mapping, key, former in reversed(trail.steps):
            if former is _UNKNOWN:
                del mapping[key]
            else:
                mapping[key] = former
        if trail.order is not None:
            self._records = {at: self._records[at] for at in trail.order}
        self.seen, self.wide = trail.seen, trail.wide

    def _set_head(self, prefix: bytes, head: Head) -> None:
        self._set(self._heads, prefix, head)

    def _set(self, mapping: dict[bytes, Any], key: bytes, value: Any) -> None:
        if self._trail is not None:
            self._trail.steps.append((mapping, key, mapping.get(key, _UNKNOWN)))
        mapping[key] = value

    @property
    def is_empty(self) -> bool:
        return not self._records

    # -- looking ------------------------------------------------------------------------------

    def record(self, at: bytes) -> Record:
        """The record at an address, as of this draft."""
        record = self._records.get(at, _UNKNOWN)
        if record is not _UNKNOWN:
            return record or EMPTY
        found = self._found.get(at)
        if found is None:
            found = self._found[at] = read_record(self._snapshot, at)
        return found[0]

    def head(self, prefix: bytes) -> Head:
        """The head of an object, as of this draft."""
        head = self._heads.get(prefix)
        if head is not None:
            return head
        if prefix not in self._found_heads:
            self._found_heads[prefix] = read_head(self._snapshot, prefix)
        head = self._found_heads[prefix]
        if head is not None:
            return head
        cut = None if is_uncut(type_of(prefix)) else self.wide.applying(prefix)
        return FRESH if cut is None else Head(cut=cut)

    def folded(self, prefix: bytes, kind: OperationType) -> Any:
        """The materialised value of an op-based object, as of this draft."""
        value = self._folded.get(prefix, _UNKNOWN)
        if value is _UNKNOWN:
            if prefix not in self._found_folded:
                stored = read_folded(self._snapshot, prefix)
                self._found_folded[prefix] = kind.empty() if stored is None else kind.load(stored)
            return self._found_folded[prefix]
        return kind.empty() if value is None else value

    def live(self, at: bytes, prefix: bytes) -> Live:
        """The visible live dots at an address."""
        return visible(self.record(at).live, self.head(prefix).cut)

    def members(self, prefix: bytes, stem: bytes) -> Iterator[tuple[bytes, Live]]:
        """Tail and live dots, cut or not, of each record whose tail starts with `stem`.

        O(records there).
        """
        for at, record in self._records_under(prefix + stem):
            yield at[len(prefix) :], record.live

    def has_changed(self, prefix: bytes) -> bool:
        """Has this draft changed the object?"""
        return prefix in self._latest

    def has_standing(self, prefix: bytes) -> bool:
        """Is there anything in the object that no cut covers, seen by users or not?"""
        head = self.head(prefix)
        if is_uncut(type_of(prefix)):
            return head.exists or self._has_marks(prefix)
        return not (head.cut or NOTHING).includes(head.context)

    def _has_marks(self, prefix: bytes) -> bool:
        """Are there leaves of a map that users do not see, but that make a difference?"""
        return isinstance(type_of(prefix), NestedType) and any(
            record.live for _, record in self._records_under(prefix)
        )

    def heads_under(self, prefix: bytes) -> Iterator[bytes]:
        """The prefixes of all objects below an address prefix."""
        end = address.after(prefix)
        found = {p for p, _ in self._snapshot.scan(Table.HEADS, prefix, end)}
        found.update(p for p in self._heads if p.startswith(prefix))
        return iter(sorted(found))

    def _records_under(self, prefix: bytes) -> Iterator[tuple[bytes, Record]]:
        addresses = {
            a for a, _ in self._snapshot.scan(Table.RECORDS, prefix, address.after(prefix))
        }
        addresses.update(at for at in self._records if at.startswith(prefix))
        return ((at, self.record(at)) for at in sorted(addresses))

    # -- changing -----------------------------------------------------------------------------

    def join(self, at: bytes, incoming: Record, seen: VersionVector) -> Record:
        """Join a record, whose sender has seen `seen`, into what is here: how state changes."""
        is_cut = address.is_cut(at)
        prefix, tail = (b"", b"") if is_cut else address.split_object(at)
        if tail == address.BASE:
            return self._adopt_base(at, prefix, incoming)
        old = self.record(at)
        adopted = self._adopted.get(prefix)
        if adopted is not None and adopted.includes(incoming.context):
            return old  # an operation of the base that came with it
        new = join(old, incoming, self.seen, seen)
        if new == old:
            return old
        self._put(at, new)
        if is_cut:
            self._install_cut(at, old, new)
        else:
            self._install(at, prefix, tail, old, new)
        return new

    def change(
        self, prefix: bytes, tail: bytes, own: StateType | None, delta: Record
    ) -> tuple[bool, bool]:
        """Take in the delta of an operation of one's own at prefix + tail, a record of type `own`.

        Whoever made it had seen all that is here, and the delta carries what of it stays in
        force: it is what `join` would give (the delta law), so nothing is compared. Returns
        whether users saw something there before, and whether they do now.
        """
        at = prefix + tail
        old = self.record(at)
        self._put(at, delta)
        return self._install_state(
            at, prefix, _shows_nothing if own is None else own.alive, old, delta
        )

    def _put(self, at: bytes, record: Record | None) -> None:
        records, trail = self._records, self._trail
        if trail is not None:
            if at in records and trail.order is None:
                trail.order = list(islice(records, trail.count))
            trail.steps.append((records, at, records.get(at, _UNKNOWN)))
        records.pop(at, None)
        records[at] = record
        if self._in_place:
            self._in_place.discard(at)

    def _install(
        self,
        at: bytes,
        prefix: bytes,
        tail: bytes,
        old: Record,
        new: Record,
    ) -> None:
        kind = type_of(prefix)
        if isinstance(kind, OperationType):
            self._install_operation(at, prefix, tail, kind, new)
        elif kind is None:
            self._install_state(at, prefix, bool, old, new)
        elif (own := kind.at(tail)) is None:
            self._install_state(at, prefix, _shows_nothing, old, new)
        else:
            self._install_state(at, prefix, own.alive, old, new)
            if own.has_losers and len(new.live) > 1 and len(self.live(at, prefix)) > 1:
                self._contended[at] = prefix

    def _install_operation(
        self, at: bytes, prefix: bytes, tail: bytes, kind: OperationType, new: Record
    ) -> None:
        self._set(self._latest, prefix, at)
        head = self.head(prefix)
        context = head.context.join(new.context)
        if tail[0] == _OPERATION and (live := visible(new.live, head.cut)):
            self._fold_in(prefix, kind, head, context, live)
        else:
            self._set_head(prefix, msgspec.structs.replace(head, context=context))

    def _install_state(
        self, at: bytes, prefix: bytes, shows: Callable[[Live], bool], old: Record, new: Record
    ) -> tuple[bool, bool]:
        """Carry a change of a record into its object's head.

        `shows` tells whether live dots, of which there are some, show anything to users. Returns
        whether those before did, and whether those now do.
        """
        self._set(self._latest, prefix, at)
        head = self.head(prefix)
        context = head.context.join(new.context)
        before, now = visible(old.live, head.cut), visible(new.live, head.cut)
        was_alive, is_alive = bool(before) and shows(before), bool(now) and shows(now)
        digest = head.digest
        if was_alive:
            digest ^= codec.live_digest(at, before)
        if is_alive:
            digest ^= codec.live_digest(at, now)
        self._set_head(
            prefix,
            Head(
                head.size - was_alive + is_alive,
                head.sequence,
                context,
                head.cut,
                digest,
                head.expires_at_ms,
            ),
        )
        return was_alive, is_alive

    def _fold_in(
        self, prefix: bytes, kind: OperationType, head: Head, context: VersionVector, live: Live
    ) -> None:
        folded = self.folded(prefix, kind)
        for dot, payload in live.items():
            folded = kind.apply(folded, dot, payload)
        self._set_folded(prefix, kind, msgspec.structs.replace(head, context=context), folded)

    def _set_folded(self, prefix: bytes, kind: OperationType, head: Head, folded: Any) -> None:
        """The digest of what is shown is taken once, when it is written."""
        self._set(self._folded, prefix, folded)
        size = 0 if folded is None else kind.size(folded)
        self._set_head(prefix, msgspec.structs.replace(head, size=size))

    def _install_cut(self, at: bytes, old: Record, new: Record) -> None:
        prefix = address.cut_prefix(at)
        vector, before = covered(new.live), covered(old.live)
        if is_object_prefix(prefix):
            self._cut_object(prefix, vector, at)
        else:
            self.wide = self.wide.with_cut(prefix, vector)
            for object_prefix in self.heads_under(prefix):
                self._cut_object(object_prefix, vector, at)
        if not vector.includes(before):
            self._sweep(prefix, before)

    def _sweep(self, prefix: bytes, vector: VersionVector) -> None:
        """Take out what a cut covered that is replaced by one that covers less. O(records).

        Whoever made the later one had reclaimed the earlier. The records get new places, for a
        pull under way may have passed them.
        """
        for at, record in list(self._records_under(prefix)):
            live = visible(record.live, vector)
            below, _ = address.split_object(at)
            kind = type_of(below)
            if len(live) < len(record.live) and kind is not None and not is_uncut(kind):
                self._put(at, Record(live, record.context))
                self._set(self._latest, below, at)
                self._set_head(below, self.head(below))

    def _cut_object(self, prefix: bytes, vector: VersionVector, at: bytes) -> None:
        head = self.head(prefix)
        kind = type_of(prefix)
        cut = vector if head.cut is None else head.cut.join(vector)
        if cut == head.cut or is_uncut(kind):
            return
        self._set(self._latest, prefix, at)
        head = msgspec.structs.replace(head, cut=cut)
        if cut.includes(head.context):
            # All there is was seen by the cut: nothing is left, and nothing need be read.
            if isinstance(kind, OperationType):
                self._set(self._folded, prefix, None)
            self._set_head(prefix, msgspec.structs.replace(head, size=0, digest=0))
        else:
            self._recount(prefix, head, kind)

    def _recount(self, prefix: bytes, head: Head, kind: StateType | OperationType | None) -> None:
        """Count again what survives a cut that something is concurrent to. O(records)."""
        if isinstance(kind, OperationType):
            self._refold(prefix, head, kind)
            return
        size = digest = 0
        for at, record in self._records_under(prefix):
            live = visible(record.live, head.cut)
            if alive(kind, at[len(prefix) :], live):
                size += 1
                digest ^= codec.live_digest(at, live)
        self._set_head(prefix, msgspec.structs.replace(head, size=size, digest=digest))

    # -- where nothing is ---------------------------------------------------------------------

    def take_over(
        self, incoming: Iterable[tuple[bytes, Record, bytes]], seen: VersionVector
    ) -> None:
        """Take in records, with their bytes, where there are none and nothing has been seen.

        Joined with nothing a record is what it is, so state-based ones are stored as they came,
        and of each object the head is made once. O(records), without a lookup of any.
        """
        sums: dict[bytes, _Sum | None] = {}
        logs: list[tuple[bytes, Record]] = []
        plain: list[tuple[bytes, Record, bytes]] = []
        for entry in incoming:
            if address.is_cut(entry[0]):
                self.join(entry[0], entry[1], seen)
            else:
                plain.append(entry)
        for at, record, data in plain:
            prefix, tail = address.split_object(at)
            try:
                total = sums[prefix]
            except KeyError:
                kind = type_of(prefix)
                total = None
                if not isinstance(kind, OperationType):
                    total = _Sum(kind, self.head(prefix))
                sums[prefix] = total
            if total is None:
                logs.append((at, record))
                continue
            total.add(at, tail, record)
            self._records[at] = record
            self._encoded[at] = data
            self._found[at] = _NOT_FOUND
            self._latest[prefix] = at
        for prefix, total in sums.items():
            if total is not None:
                self._heads[prefix] = total.head()
        logs.sort(key=lambda entry: not address.is_base(entry[0]))
        for at, record in logs:
            self.join(at, record, seen)

    # -- all that somebody holds --------------------------------------------------------------

    def join_whole(
        self, incoming: list[tuple[bytes, Record]], seen: VersionVector, span: Span
    ) -> None:
        """Join all records of a replica that has seen `seen`; what it lacks, it has removed.

        All of a span of addresses, that is, which divides no op-based object. Cuts that it lacks
        stay: they cover nothing that is left. Raises PeerError.
        """
        logs: dict[bytes, list[tuple[bytes, Record]]] = {}
        for at, record in incoming:
            if prefix := log_of(at):
                logs.setdefault(prefix, []).append((at, record))
            else:
                self.join(at, record, seen)
        sent = {at for at, _ in incoming}
        start = max(span.start, address.DATA)
        lacking = [
            at for at, _ in self._snapshot.scan(Table.RECORDS, start, span.end) if at not in sent
        ]
        for at in lacking:
            prefix = address.split_object(at)[0]
            if log_of(at):
                logs.setdefault(prefix, [])
            elif self.join(at, EMPTY, seen) == EMPTY:
                self.drop(at)
                self.vacate_if_bare(prefix)
        for prefix, records in logs.items():
            self._replace_log(prefix, records, seen)

    def _replace_log(
        self, prefix: bytes, incoming: list[tuple[bytes, Record]], seen: VersionVector
    ) -> None:
        """Take over an op-based object, with one's own operations that `seen` lacks on top."""
        kind = type_of(prefix)
        assert isinstance(kind, OperationType)
        if not seen.includes(self.record(prefix + address.BASE).context):
            raise _separate_histories()
        own = sorted((self.found(at)[1], at) for at, _ in self._records_under(prefix))
        later = [
            (at, record) for _, at in own if not seen.includes((record := self.record(at)).context)
        ]
        for _, at in own:
            self._put(at, None)
        # While the pages came, the donor folded what had come already into the base.
        base_at = prefix + address.BASE
        base = dict(incoming).get(base_at, EMPTY).context
        taken = [e for e in incoming if e[0] == base_at or not base.includes(e[1].context)]
        context = NOTHING
        for at, record in (*taken, *later):
            self._put(at, record)
            self._set(self._latest, prefix, at)
            context = context.join(record.context)
        head = msgspec.structs.replace(self.head(prefix), context=context)
        self._refold(prefix, head, kind)
        self.vacate_if_bare(prefix)

    # -- the op-based family ------------------------------------------------------------------

    def _refold(self, prefix: bytes, head: Head, kind: OperationType) -> None:
        """Fold the base and every operation left again, in causal order. O(operations)."""
        base_at = prefix + address.BASE
        base = visible(self.record(base_at).live, head.cut)
        folded = _base_value(kind, base)
        order = self._changed_order()
        rest = [
            (order.get(at) or self._found[at][1], dot, payload)
            for at, record in self._records_under(prefix + address.OPERATION)
            for dot, payload in visible(record.live, head.cut).items()
        ]
        for _, dot, payload in sorted(rest, key=lambda entry: entry[:2]):
            folded = kind.apply(folded, dot, payload)
        self._set_folded(prefix, kind, head, folded if base or rest else None)

    def _changed_order(self) -> dict[bytes, int]:
        """Address → a number above every stored sequence number, in the order of the changes."""
        return {at: (1 << 63) + position for position, at in enumerate(self._records)}

    def _adopt_base(self, at: bytes, prefix: bytes, incoming: Record) -> Record:
        """Take over a peer's base, unless all of it has been seen here.

        Only a replica that has never reported what it saw can meet a base it does not cover
        (folded operations are stable), so there is no base of its own to lose: the operations
        that the base includes are dropped, the others folded on top again. Raises PeerError
        when there is one: then two clusters with histories of their own have met.
        """
        standing = self.record(at)
        if self.seen.includes(incoming.context):
            return standing
        if not incoming.context.includes(standing.context) and self.live(at, prefix):
            raise _separate_histories()
        kind = type_of(prefix)
        self._put(at, incoming)
        self._set(self._latest, prefix, at)
        self._adopted[prefix] = incoming.context
        for operation_at, record in list(self._records_under(prefix + address.OPERATION)):
            if record.live and incoming.context.includes(record.context):
                self._put(operation_at, None)
        head = self.head(prefix)
        head = msgspec.structs.replace(head, context=head.context.join(incoming.context))
        if isinstance(kind, OperationType):
            self._refold(prefix, head, kind)
        return incoming

    def fold_stable(self, prefix: bytes, operations: Iterable[bytes], *, settle: bool) -> None:
        """Put operations that every member has seen into the base, and drop their records.

        `operations` are addresses in causal order. What users see does not change. Nothing
        concurrent to them can arrive any more and cuts of such objects take no read context, so
        a later cut covers all of the base. Unless it is from an evicted replica: so long, nothing
        that its operations may refer to goes (`settle`).
        """
        kind = type_of(prefix)
        assert isinstance(kind, OperationType)
        cut = self.head(prefix).cut
        base_at = prefix + address.BASE
        base = self.record(base_at)
        live, context = visible(base.live, cut), base.context
        folded, last = _base_value(kind, live), next(iter(live), None)
        for at in operations:
            record = self.record(at)
            context = context.join(record.context)
            for dot, payload in visible(record.live, cut).items():
                folded, last = kind.apply(folded, dot, payload), dot
            self._put(at, None)
        settles = kind.settles and settle
        if settles:
            later = self._records_under(prefix + address.OPERATION)
            folded = kind.settled(
                folded, (p for _, r in later for p in visible(r.live, cut).values())
            )
        left = last is not None and not kind.is_bare(folded)
        live = {last: kind.dump(folded)} if left and last is not None else {}
        self._put(base_at, Record(live, context))
        if settles or not left:
            self._refold(prefix, self.head(prefix), kind)

    # -- mending ------------------------------------------------------------------------------

    def replace_damaged(
        self, damaged: Collection[bytes], incoming: Mapping[bytes, Record], seen: VersionVector
    ) -> None:
        """Put what a replica that has seen `seen` holds in the place of damaged records.

        That replica had seen all that they said: what it does not hold was removed, whatever is
        known here. Of an op-based object `incoming` has every record. O(records of the objects).
        """
        for at in damaged:
            self._found[at] = (EMPTY, _place_of(self._snapshot, at))
        prefixes = {at: object_of(at) for at in damaged}
        for prefix in set(prefixes.values()) - {b""}:
            self.rebuild(prefix)
        for at, prefix in prefixes.items():
            if prefix and log_of(at):
                continue
            record = incoming.get(at)
            self._put(at, record)
            if record is not None and address.is_cut(at):
                self._install_cut(at, EMPTY, record)
        for prefix in set(prefixes.values()) - {b""}:
            if log_of(prefix):
                held = [entry for entry in incoming.items() if entry[0].startswith(prefix)]
                self._replace_log(prefix, held, seen)
            else:
                self.rebuild(prefix)
                self.vacate_if_bare(prefix)

    def rebuild(self, prefix: bytes) -> None:
        """Make an object's head, and its materialised value, from its records. O(those)."""
        kind = type_of(prefix)
        context = NOTHING
        for _, record in self._records_under(prefix):
            context = context.join(record.context)
        cut = None
        if not is_uncut(kind):
            cut = self.wide.applying(prefix)
            if own := self.record(address.cut(prefix)).live:
                cut = covered(own).join(cut or NOTHING)
        head = Head(context=context, cut=cut)
        self._found_heads[prefix] = None  # the one that is stored may be what is damaged
        self._set(self._latest, prefix, prefix)
        self._set_head(prefix, head)
        self._recount(prefix, head, kind)

    # -- reclaiming ---------------------------------------------------------------------------

    def changes(self, at: bytes) -> bool:
        """Does this draft change the record at an address?"""
        return at in self._records

    def found(self, at: bytes) -> tuple[Record, int]:
        """The record at an address, as of this draft, and its place before it; 0: it had none."""
        if at not in self._found:
            self._found[at] = read_record(self._snapshot, at)
        return self.record(at), self._found[at][1]

    def drop(self, at: bytes) -> None:
        """Let a record go that says nothing that this replica's VV does not say."""
        self._put(at, None)

    def rewrite(self, at: bytes, record: Record) -> None:
        """Put a record that is the same to everybody else in the place of the one that is there."""
        self._put(at, record)
        self._in_place.add(at)

    def uncover(self, prefix: bytes, swept: VersionVector, left: VersionVector | None) -> None:
        """Take a cut out of a head: nothing it covers is there any more. `left`: the other cuts."""
        head = self.head(prefix)
        standing = {i: n for i, n in head.context.items() if n > swept.get(i)}
        self._set_head(
            prefix, msgspec.structs.replace(head, context=VersionVector(standing), cut=left)
        )

    def vacate_if_bare(self, prefix: bytes) -> None:
        """Let the head of an object go if neither a record of it nor a cut of its own is left."""
        if self.head(prefix).exists or self.record(address.cut(prefix)).live:
            return
        stored = self._snapshot.scan(Table.RECORDS, prefix, address.after(prefix))
        changed = self._records
        if any(changed.get(at, EMPTY) is not None for at, _ in stored) or any(
            record is not None and at.startswith(prefix) for at, record in changed.items()
        ):
            return
        self._vacated.add(prefix)

    # -- writing ------------------------------------------------------------------------------

    def losses(self) -> list[Loss]:
        """Users' values that lose once this draft is written, and do not in the snapshot.

        Only merged records can make values lose: a write made here replaces what is in force here.
        """
        losses: list[Loss] = []
        for at, prefix in self._contended.items():
            if prefix[1:2] == b"_":
                continue
            kind, head = type_of(prefix), self._found_heads[prefix]
            assert isinstance(kind, StateType)
            own = kind.at(at[len(prefix) :])
            assert own is not None
            before = visible(self._found[at][0].live, head.cut if head else None)
            loss = loss_between(own, at, before, self.live(at, prefix))
            if loss is not None:
                losses.append(loss)
        return losses

    def batch(self, sequence: int) -> tuple[Batch, list[tuple[bytes, bytes]], int]:
        """What to write: the store batch, the changed records as they travel, the last sequence.

        Each changed record gets the next sequence number and its older entry dies. From now on
        the draft's heads have their numbers too.
        """
        records: dict[bytes, bytes | None] = {}
        entries: dict[bytes, bytes | None] = {}
        travelling: list[tuple[bytes, bytes]] = []
        numbers: dict[bytes, int] = {}
        for at, record in self._records.items():
            if at not in self._found:
                self._found[at] = read_record(self._snapshot, at)
            old = self._found[at][1]
            if record is not None and at in self._in_place:
                records[at] = codec.pack_row(old, at, codec.encode_record(at, record))
                continue
            if old:
                entries[old.to_bytes(8, "big")] = None
            if record is None:
                records[at] = None
                continue
            sequence += 1
            numbers[at] = sequence
            encoded = self._encoded.get(at) or codec.encode_record(at, record)
            records[at] = codec.pack_row(sequence, at, encoded)
            entries[sequence.to_bytes(8, "big")] = at
            travelling.append((at, encoded))
        if any(at not in numbers for at in self._latest.values()):
            sequence += 1  # the latest change of some object is that a record went
        nobodys = sequence
        folded = self._dump_folded()
        heads: dict[bytes, bytes | None] = {}
        for prefix, head in self._heads.items():
            latest = self._latest.get(prefix)
            number = head.sequence if latest is None else numbers.get(latest, nobodys)
            self._heads[prefix] = numbered = head.numbered(number)
            heads[prefix] = numbered.encode()
        heads.update(dict.fromkeys(self._vacated))
        batch: Batch = {Table.RECORDS: records, Table.SEQUENCE: entries, Table.HEADS: heads}
        if folded:
            batch[Table.FOLDED] = folded
        return batch, travelling, sequence

    def head_changes(self) -> HeadChanges:
        """The heads that `batch` writes. O(1)."""
        return self._found_heads, self._heads, self._vacated

    def _dump_folded(self) -> dict[bytes, bytes | None]:
        """The rows of materialised values; their heads get the digests. O(bytes of them)."""
        rows: dict[bytes, bytes | None] = {}
        for prefix, folded in self._folded.items():
            kind, head = type_of(prefix), self.head(prefix)
            assert isinstance(kind, OperationType)
            rows[prefix] = None if folded is None else pack_folded(kind.dump(folded))
            digest = 0
            if head.size:
                digest = codec.live_digest(prefix, {(0, 0): kind.shown(folded)})
            self._heads[prefix] = msgspec.structs.replace(head, digest=digest)
        return rows


class _Sum:
    """What the records of an object add up to in its head."""

    __slots__ = ("_context", "_digest", "_former", "_kind", "_size")

    def __init__(self, kind: StateType | None, former: Head) -> None:
        self._kind = kind
        self._former = former
        self._size, self._digest = former.size, former.digest
        self._context = dict(former.context.items())

    def add(self, at: bytes, tail: bytes, record: Record) -> None:
        context = self._context
        for incarnation, counter in record.context.items():
            if counter > context.get(incarnation, 0):
                context[incarnation] = counter
        live = visible(record.live, self._former.cut)
        kind = self._kind
        if live and (kind is None or ((own := kind.at(tail)) and own.alive(live))):
            self._size += 1
            self._digest ^= codec.live_digest(at, live)

    def head(self) -> Head:
        former, context = self._former, VersionVector(self._context)
        return Head(
            self._size, former.sequence, context, former.cut, self._digest, former.expires_at_ms
        )


def log_of(at: bytes) -> bytes:
    """The prefix of the op-based object that a record belongs to; empty if it does not."""
    if address.is_cut(at):
        return b""
    prefix = address.split_object(at)[0]
    return prefix if isinstance(type_of(prefix), OperationType) else b""


def object_of(at: bytes) -> bytes:
    """The prefix of the object that a record belongs to; empty for a cut, or for no address."""
    try:
        address.parse(at)
    except ValueError:
        return b""
    return b"" if address.is_cut(at) else address.split_object(at)[0]


def _place_of(snapshot: Snapshot, at: bytes) -> int:
    """Where the sequence has a record that cannot be read; 0: nowhere. O(sequence) at worst."""
    row = snapshot.get(Table.RECORDS, at)
    if row is not None and snapshot.get(Table.SEQUENCE, row[:8].ljust(8, b"\0")) == at:
        return int.from_bytes(row[:8].ljust(8, b"\0"), "big")
    for number, named in snapshot.scan(Table.SEQUENCE):
        if named == at:
            return int.from_bytes(number, "big")
    return 0


def _base_value(kind: OperationType, base: Live) -> Any:
    """The materialised value of a base, of which no more than one dot is visible."""
    return kind.load(next(iter(base.values()))) if base else kind.empty()


def _separate_histories() -> PeerError:
    return PeerError(
        "separate-histories",
        "both sides have reclaimed operations that the other never saw; start one of them again "
        "with an empty directory",
    )


def _shows_nothing(_: Live) -> bool:
    """Of a leaf whose type is not known here."""
    return False


def alive(kind: StateType | OperationType | None, tail: bytes, live: Live) -> bool:
    """Does a record show something to users? Of a map: not if its leaf's type is not known."""
    if not live or not isinstance(kind, StateType):
        return bool(live)
    own = kind.at(tail)
    return own is not None and own.alive(live)


def is_uncut(kind: StateType | OperationType | None) -> bool:
    """Is it without cuts: what removes such an object are operations of its own?"""
    return isinstance(kind, DocumentType) or (isinstance(kind, StateType) and kind.totals)
