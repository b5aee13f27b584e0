"""What one store transaction will change: records, heads and materialised values.

It reads through to a snapshot, keeps what changed, and says in the end what to write. While it
keeps a trail it can go back, which is how a transaction that fails leaves no trace in a group
commit. What changes, and to what, is the business of `draft` and `oplog`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence, Set
from enum import Enum
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from crdtdb import address, codec
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.cuts import WideCuts, covered
from crdtdb.datatype import NestedType, OperationType
from crdtdb.digests import HeadChanges
from crdtdb.guarded import has_beside_cut
from crdtdb.head import FRESH, Head
from crdtdb.kinds import Log, in_force, is_uncut, type_of
from crdtdb.materialised import (
    Materialised,
    Step,
    materialised_rows,
    read_materialised,
    shown_digest,
)
from crdtdb.record import EMPTY, Live, Record, visible
from crdtdb.rows import place_of, read_head, read_record, scan_heads
from crdtdb.store.base import Batch, Snapshot, Table

__all__ = ["Pending"]


class _Unknown(Enum):
    """A draft says nothing about something: it is as the snapshot has it."""

    UNKNOWN = "unknown"


_UNKNOWN: Final = _Unknown.UNKNOWN


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


class _Chain(NamedTuple):
    """Operations whose effect was taken in, the last first."""

    former: _Chain | None
    operations: Live


class _Folded(NamedTuple):
    """What a materialised value has become; None: none is left."""

    log: Log
    value: Any
    #: How much users see of it.
    size: int
    #: All that was done to the one in the snapshot; None: it is another one.
    since: _Chain | None


class Pending:
    """Changes on top of a snapshot. Lookups cost one store get the first time, then none."""

    def __init__(self, snapshot: Snapshot, seen: VersionVector, wide: WideCuts) -> None:
        self._snapshot = snapshot
        #: What the replica has seen, with the operations that are added.
        self.seen = seen
        self.wide = wide
        #: Address → changed record, in the order of the changes; None: dropped.
        self._records: dict[bytes, Record | None] = {}
        #: Of these, the ones that stay in their place of the sequence: to others nothing is new.
        self._in_place: set[bytes] = set()
        #: Objects of which nothing may be left, not even a head: that shows when all is there.
        self._emptied: set[bytes] = set()
        self._vacated: set[bytes] = set()
        self._heads: dict[bytes, Head] = {}
        #: Prefix of a log → what its materialised value has become.
        self._folded: dict[bytes, _Folded] = {}
        #: Prefixes of those leaves' logs that the head of their map, begun anew, did not count.
        self._uncounted: dict[bytes, bool] = {}
        #: Object prefix → the record of it that changed last.
        self._latest: dict[bytes, bytes] = {}
        #: Prefix of a log → what the base of it that was adopted stands for.
        self.adopted: dict[bytes, VersionVector] = {}
        #: Address → the bytes of a changed record, where they are known.
        self._encoded: dict[bytes, bytes] = {}
        #: As found in the snapshot: address → (record, sequence number), prefix → head.
        self._found: dict[bytes, tuple[Record, int]] = {}
        self._found_heads: dict[bytes, Head | None] = {}
        self._found_folded: dict[bytes, Materialised] = {}
        #: How much users see of these, asked before they are built on.
        self._found_sizes: dict[bytes, int] = {}
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

    def _set(self, mapping: dict[bytes, Any], key: bytes, value: Any) -> None:
        if self._trail is not None:
            self._trail.steps.append((mapping, key, mapping.get(key, _UNKNOWN)))
        mapping[key] = value

    # -- looking ------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        return not self._records

    def record(self, at: bytes) -> Record:
        """The record at an address, as of this draft."""
        record = self._records.get(at, _UNKNOWN)
        if record is not _UNKNOWN:
            return record or EMPTY
        found = self._found.get(at)
        if found is None:
            found = self._found[at] = read_record(self._snapshot, at)
        return found[0]

    def found(self, at: bytes) -> tuple[Record, int]:
        """The record at an address, as of this draft, and its place before it; 0: it had none."""
        if at not in self._found:
            self._found[at] = read_record(self._snapshot, at)
        return self.record(at), self._found[at][1]

    def look_up_heads(self, prefixes: Set[bytes]) -> None:
        """Look up the heads of objects that are neighbours. O(heads from the first to the last)."""
        if prefixes:
            end = address.after(max(prefixes))
            stored = dict(scan_heads(self._snapshot, min(prefixes), end))
            found = self._found_heads
            found.update((prefix, stored.get(prefix)) for prefix in prefixes - found.keys())

    def heads_said(self, prefixes: Sequence[bytes]) -> dict[bytes, Head]:
        """The heads of objects that are neighbours, but for those that say nothing yet."""
        self.look_up_heads(set(prefixes))
        if self.wide:
            said = ((prefix, self.head(prefix)) for prefix in prefixes)
            return {prefix: head for prefix, head in said if head is not FRESH}
        changed, found = self._heads, self._found_heads
        said_of = ((prefix, changed.get(prefix) or found[prefix]) for prefix in prefixes)
        return {prefix: head for prefix, head in said_of if head is not None}

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
        cut = self.wide.applying(prefix)
        return FRESH if cut is None or is_uncut(type_of(prefix)) else Head(cut=cut)

    def folded(self, prefix: bytes, kind: OperationType) -> Any:
        """The materialised value of a log, as of this draft."""
        changed = self._folded.get(prefix)
        if changed is not None:
            return kind.empty() if changed.value is None else changed.value
        return self._find_folded(prefix, kind).value

    def _find_folded(self, prefix: bytes, kind: OperationType) -> Materialised:
        """The materialised value of a log in the snapshot."""
        found = self._found_folded.get(prefix)
        if found is None:
            found = read_materialised(self._snapshot, prefix, kind)
            self._found_folded[prefix] = found
            self._found_sizes[prefix] = kind.size(found.value) if found.is_there else 0
        return found

    def in_force(self, log: Log) -> bool:
        """Is there any operation in a log that no cut covers, seen by users or not?"""
        assert log.kind is not None
        changed = self._folded.get(log.prefix)
        if changed is not None:
            return changed.value is not None
        return self._find_folded(log.prefix, log.kind).is_there

    def is_shown(self, log: Log) -> bool:
        """Do users see anything of a log?"""
        assert log.kind is not None
        changed = self._folded.get(log.prefix)
        if changed is not None:
            return changed.size > 0
        self._find_folded(log.prefix, log.kind)
        return self._found_sizes[log.prefix] > 0

    def cut_of(self, log: Log) -> VersionVector | None:
        """What is cut of a log."""
        if not log.is_leaf:
            return self.head(log.prefix).cut
        vector = covered(self.record(address.cut(log.prefix)).live)
        guarded = self.head(log.owner).cut  # a map is cut only by what depends on a deadline
        vector = vector if guarded is None else vector.join(guarded)
        return vector if len(vector) else None

    def live(self, at: bytes, prefix: bytes) -> Live:
        """The visible live dots at an address."""
        cut = self.head(prefix).cut
        live = visible(self.record(at).live, cut)
        if has_beside_cut(live):
            return in_force(type_of(prefix), at[len(prefix) :], live, cut)
        return live

    def members(self, prefix: bytes, stem: bytes) -> Iterator[tuple[bytes, Live]]:
        """Tail and live dots, cut or not, of each record whose tail starts with `stem`.

        O(records there).
        """
        for at, record in self.records_under(prefix + stem):
            yield at[len(prefix) :], record.live

    def has_changed(self, prefix: bytes) -> bool:
        """Has this draft changed the object?"""
        return prefix in self._latest

    def changes(self, at: bytes) -> bool:
        """Does this draft change the record at an address?"""
        return at in self._records

    def has_standing(self, prefix: bytes) -> bool:
        """Is there anything in the object that no cut covers, seen by users or not?"""
        head = self.head(prefix)
        if head.timed:
            return True  # what a deadline has hidden may come back
        if is_uncut(type_of(prefix)):
            return head.exists or self._has_marks(prefix)
        return not (head.cut or NOTHING).includes(head.context)

    def _has_marks(self, prefix: bytes) -> bool:
        """Are there leaves of a map that users do not see, but that make a difference?"""
        return isinstance(type_of(prefix), NestedType) and any(
            record.live for _, record in self.records_under(prefix)
        )

    def heads_under(self, prefix: bytes) -> Iterator[bytes]:
        """The prefixes of all objects below an address prefix."""
        end = address.after(prefix)
        found = {p for p, _ in self._snapshot.scan(Table.HEADS, prefix, end)}
        found.update(p for p in self._heads if p.startswith(prefix))
        return iter(sorted(found))

    def records_under(self, prefix: bytes) -> Iterator[tuple[bytes, Record]]:
        addresses = {
            a for a, _ in self._snapshot.scan(Table.RECORDS, prefix, address.after(prefix))
        }
        addresses.update(at for at in self._records if at.startswith(prefix))
        return ((at, self.record(at)) for at in sorted(addresses))

    # -- changing -----------------------------------------------------------------------------

    def put(self, at: bytes, record: Record | None) -> None:
        records, trail = self._records, self._trail
        if trail is not None:
            if at in records and trail.order is None:
                trail.order = list(islice(records, trail.count))
            trail.steps.append((records, at, records.get(at, _UNKNOWN)))
        records.pop(at, None)
        records[at] = record
        if self._in_place:
            self._in_place.discard(at)

    def is_last(self, at: bytes) -> bool:
        """Is no record changed after the one at `at`? One that has not changed comes last."""
        return at not in self._records or next(reversed(self._records)) == at

    def set_head(self, prefix: bytes, head: Head) -> None:
        self._set(self._heads, prefix, head)

    def set_folded(self, log: Log, head: Head, folded: Any) -> None:
        """A log has another materialised value; None: none any more. `head` is its owner's."""
        self._install_folded(log, head, folded, None)

    def add_steps(self, log: Log, head: Head, folded: Any, operations: Live) -> None:
        """The materialised value, which was looked at, has become this by these operations."""
        former = self._folded.get(log.prefix)
        since = None
        if former is None or former.since is not None:
            since = _Chain(None if former is None else former.since, operations)
        self._install_folded(log, head, folded, since)

    def _install_folded(self, log: Log, head: Head, value: Any, since: _Chain | None) -> None:
        """The digest of what is shown is taken once, when it is written."""
        assert log.kind is not None
        counted = size = 0 if value is None else log.kind.size(value)
        if log.is_leaf:
            counted = head.size - self.is_shown(log) + (size > 0)
        self._set(self._folded, log.prefix, _Folded(log, value, size, since))
        self.set_head(log.owner, msgspec.structs.replace(head, size=counted))

    def count_anew(self, log: Log) -> None:
        """The head of the map does not count this leaf; it does when the leaf is set next."""
        self._set(self._folded, log.prefix, _Folded(log, None, 0, None))
        self._set(self._uncounted, log.prefix, True)

    def pass_over(self, at: bytes) -> None:
        """A stored record is damaged: it counts as none, in the place that it has."""
        self._found[at] = (EMPTY, place_of(self._snapshot, at))

    def pass_over_head(self, prefix: bytes) -> None:
        """A stored head may be damaged: it counts as none."""
        self._found_heads[prefix] = None

    def changed_last(self, prefix: bytes, at: bytes) -> None:
        """Of an object, note the record that changed last."""
        self._set(self._latest, prefix, at)

    def order(self) -> dict[bytes, int]:
        """Address → a number above every stored sequence number, in the order of the changes."""
        return {at: (1 << 63) + position for position, at in enumerate(self._records)}

    def rewrite(self, at: bytes, record: Record) -> None:
        """Put a record that is the same to everybody else in the place of the one that is there."""
        self.put(at, record)
        self._in_place.add(at)

    def vacate_if_bare(self, prefix: bytes) -> None:
        """Let an object's head go if in the end no record of it is left, nor a cut of its own."""
        self._emptied.add(prefix)

    def _is_bare(self, prefix: bytes, left: Sequence[bytes]) -> bool:
        """Is nothing left of an object? `left` are the changed records that are, sorted."""
        if self.head(prefix).exists or self.record(address.cut(prefix)).live:
            return False
        if isinstance(type_of(prefix), NestedType) and any(
            record.live for _, record in self.records_under(address.cut(prefix))
        ):
            return False
        first = bisect_left(left, prefix)
        if first < len(left) and left[first].startswith(prefix):
            return False
        stored = self._snapshot.scan(Table.RECORDS, prefix, address.after(prefix))
        return all(self._records.get(at, EMPTY) is None for at, _ in stored)

    # -- writing ------------------------------------------------------------------------------

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
        if self._emptied:
            left = sorted(at for at, record in self._records.items() if record is not None)
            self._vacated = {prefix for prefix in self._emptied if self._is_bare(prefix, left)}
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
        for prefix, (log, folded, size, since) in self._folded.items():
            kind, head = log.kind, self.head(log.owner)
            assert kind is not None
            changed = None if since is None else (self._found_folded[prefix], _steps(since))
            rows |= materialised_rows(self._snapshot, prefix, kind, folded, changed)
            digest = shown_digest(prefix, kind, folded) if size else 0
            if log.is_leaf:
                digest ^= head.digest ^ self._counted_digest(log)
            self._heads[log.owner] = msgspec.structs.replace(head, digest=digest)
        return rows

    def _counted_digest(self, log: Log) -> int:
        """What a leaf has added to the digest in the head of its map, as that was found."""
        assert log.kind is not None
        if log.prefix in self._uncounted:
            return 0
        found = self._find_folded(log.prefix, log.kind)
        if not self._found_sizes[log.prefix]:
            return 0
        return shown_digest(log.prefix, log.kind, found.value)


def _steps(chain: _Chain | None) -> list[Step]:
    """Operations in the order in which their effects were taken in."""
    parts: list[Live] = []
    while chain is not None:
        parts.append(chain.operations)
        chain = chain.former
    return [step for operations in reversed(parts) for step in operations.items()]
