"""The scrub: a walk over all rows of a store that finds what is not what was written.

Disks flip bits, and what nobody reads nobody misses until it is needed. A walk looks at every row
in portions, each of one snapshot, so that commits go on meanwhile: at the sequence (what it names
is there, in that place), at records (checksum; their place in the sequence; what the records of an
object come to, against its head and materialised value), and at heads of which no record is left.
An object that changes while its records are walked over is not compared: its turn comes again. A
position says all that a walk has to know to go on, so it may be kept, or given away.

A place of the sequence that names nothing may itself be what is damaged: then the record that
belongs there says so, wherever it is. So the place is no more than a suspect until every record has
been looked at; who took the address there for that of a lost record would wait for ever for peers
to mend what never was.

A row of a newer version is not damaged, and is passed over.

A step looks at so many rows, and ends before that when they are long. A value that is made of many
operations, a long list or a text, cannot be looked at in parts: to make it again from its rows may
take seconds. So a walk that others must not wait for looks only at the checksums of its rows, which
find all that a disk does; a *thorough* one makes it, and compares it with the head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

import msgspec

from crdtdb import address, codec
from crdtdb.causal import VersionVector
from crdtdb.damage import Damage, Kind
from crdtdb.datatype import OperationType
from crdtdb.errors import StorageFailed
from crdtdb.kinds import Log, alive, in_force, log_in, type_of
from crdtdb.materialised import check_rows, reread_materialised, shown_digest, stored_bytes
from crdtdb.rows import read_head
from crdtdb.store.base import Snapshot, Table

__all__ = ["Scrub"]

_SEQUENCE, _RECORDS, _HEADS, _DONE = range(4)
_TABLES: Final = (Table.SEQUENCE, Table.RECORDS, Table.HEADS)
#: Places of the sequence that one walk suspects; the others wait for the next one.
_MOST_SUSPECTS: Final = 256
#: A step ends when it has looked at so many bytes of records; some milliseconds.
_STEP_BYTES: Final = 1_048_576
#: A value whose rows are no longer than that is made from them, by any walk.
_SHORT_BYTES: Final = 16_384


class _Position(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Where a walk stands, and what it has counted of the object it is in."""

    stage: int = _SEQUENCE
    #: The last row that was looked at.
    key: bytes = b""
    #: The object, a fingerprint of its head when the walk reached it, and the sums until here.
    prefix: bytes = b""
    head: bytes = b""
    size: int = 0
    digest: bytes = bytes(16)
    #: Places of the sequence that name what is not there.
    suspects: list[bytes] = []
    #: Rows that the walk has looked at.
    rows: int = 0


_decoder = msgspec.msgpack.Decoder(_Position)


class Scrub:
    """One walk."""

    def __init__(
        self, position: bytes = b"", within: bytes = b"", *, thorough: bool = False
    ) -> None:
        """Begin, or go on at a position. Raises ValueError for what is none.

        With `within`, a walk over what is below that address prefix; not over the sequence, then.
        `thorough`: steps may take seconds.
        """
        self._within = within
        self._thorough = thorough
        try:
            first = _Position(_RECORDS if within else _SEQUENCE)
            self._at = _decoder.decode(position) if position else first
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError("not a position of a walk") from error
        if not 0 <= self._at.stage <= _DONE or len(self._at.digest) != 16:
            raise ValueError("not a position of a walk")
        self._cut: tuple[bytes, VersionVector | None] | None = None
        #: Rows looked at by this walk since it was begun or gone on with.
        self.rows = 0

    @property
    def done(self) -> bool:
        """Has every row been looked at?"""
        return self._at.stage == _DONE

    @property
    def position(self) -> bytes:
        """Where to go on."""
        return codec.pack(self._at)

    def progress(self, entries: Mapping[Table, int]) -> float:
        """Which part of the rows of a store, by table, has been looked at: 0 to 1."""
        total = sum(entries[table] for table in _TABLES)
        return 1.0 if self.done else min(1.0, self._at.rows / max(1, total))

    def step(self, snapshot: Snapshot, rows: int) -> list[Damage]:
        """Look at the next rows of one table, so many at most, in the latest state. O(rows)."""
        found: list[Damage] = []
        if self.done:
            return found
        stage = self._at.stage
        start = self._at.key + b"\0" if self._at.key else self._within
        looked = size_bytes = 0
        for key, row in islice(snapshot.scan(_TABLES[stage], start, self._end), rows):
            looked += 1
            size_bytes += len(row)
            if stage == _RECORDS:
                found += self._look_at_record(snapshot, key, row)
            elif stage == _SEQUENCE:
                self._look_at_place(snapshot, key)
            else:
                found += _look_at_head(snapshot, key)
            self._at.key = key
            if size_bytes >= _STEP_BYTES:
                break
        self.rows += looked
        self._at.rows += looked
        if looked < rows and size_bytes < _STEP_BYTES:
            suspects = self._at.suspects
            if stage == _RECORDS:
                found += self._end_object(snapshot)
                found += [damage for one in suspects for damage in _wrong_place(snapshot, one)]
                suspects = []
            self._at = _Position(stage + 1, suspects=suspects, rows=self._at.rows)
        return found

    @property
    def _end(self) -> bytes | None:
        return address.after(self._within) if self._within else None

    def _look_at_place(self, snapshot: Snapshot, number: bytes) -> None:
        if len(self._at.suspects) < _MOST_SUSPECTS and _wrong_place(snapshot, number):
            self._at.suspects.append(number)

    # -- records --------------------------------------------------------------------------------

    def _look_at_record(self, snapshot: Snapshot, at: bytes, row: bytes) -> Iterator[Damage]:
        is_cut = address.is_cut(at)
        try:
            prefix, tail = (b"", b"") if is_cut else address.split_object(at)
        except ValueError:
            yield Damage(Kind.RECORD, at, "no record has such an address")
            return
        if prefix != self._at.prefix:
            yield from self._end_object(snapshot)
            self._begin_object(snapshot, prefix)
        try:
            record, place = codec.decode_row(at, row)
        except codec.NewerVersion:
            self._at.head = b""
            return
        except codec.FormatError as error:
            self._at.head = b""
            yield Damage(Kind.RECORD, at, str(error))
            return
        number = place.to_bytes(8, "big")
        if snapshot.get(Table.SEQUENCE, number) != at:
            if number in self._at.suspects:
                self._at.suspects.remove(number)
            yield Damage(Kind.SEQUENCE, number, "it does not name the record there", at)
        kind = type_of(prefix) if prefix else None
        if not self._at.head or isinstance(kind, OperationType):
            return
        live = in_force(kind, tail, record.live, self._cut_of(snapshot, prefix))
        if alive(kind, tail, live):
            self._count(1, codec.live_digest(at, live))
            return
        log = log_in(prefix, tail)
        if log is None or log.kind is None or self._at.key.startswith(log.prefix):
            return  # of an op-based leaf, the first record stands for all
        try:
            shown = self._shown(snapshot, log)
        except (StorageFailed, ValueError, TypeError) as error:
            self._at.head = b""
            yield Damage(Kind.OBJECT, prefix, f"a leaf of it cannot be read: {error}")
            return
        if shown is None:
            self._at.head = b""
        else:
            self._count(min(shown[0], 1), shown[1])

    def _count(self, size: int, digest: int) -> None:
        """Something of the object is shown."""
        self._at.size += size
        digest ^= int.from_bytes(self._at.digest, "big")
        self._at.digest = digest.to_bytes(16, "big")

    def _cut_of(self, snapshot: Snapshot, prefix: bytes) -> VersionVector | None:
        """What is cut in the object, as of when it was reached or gone on with."""
        if self._cut is None or self._cut[0] != prefix:
            try:
                head = read_head(snapshot, prefix)
            except StorageFailed:
                head, self._at.head = None, b""  # damaged since the walk came here
            self._cut = prefix, None if head is None else head.cut
        return self._cut[1]

    def _begin_object(self, snapshot: Snapshot, prefix: bytes) -> None:
        self._cut = None
        at = self._at
        self._at = _Position(
            _RECORDS, at.key, prefix, _mark(snapshot, prefix), suspects=at.suspects, rows=at.rows
        )

    def _end_object(self, snapshot: Snapshot) -> Iterator[Damage]:
        """Compare what the records of the object came to, unless it changed meanwhile."""
        at, prefix = self._at, self._at.prefix
        if not at.head or at.head != _mark(snapshot, prefix):
            return
        reason = self._head_damage(snapshot, prefix, at)
        if reason is not None:
            yield Damage(Kind.OBJECT, prefix, reason)

    def _head_damage(self, snapshot: Snapshot, prefix: bytes, at: _Position) -> str | None:
        head = read_head(snapshot, prefix)
        assert head is not None
        kind = type_of(prefix)
        counted: tuple[int, int] | None = at.size, int.from_bytes(at.digest, "big")
        if isinstance(kind, OperationType):
            try:
                counted = self._shown(snapshot, Log(prefix, prefix, kind))
            except (StorageFailed, ValueError, TypeError) as error:
                return f"its value cannot be read: {error}"
        if counted is None or counted == (head.size, head.digest):
            return None
        size = counted[0]
        return f"its head counts {head.size} where its records come to {size}, or another digest"

    def _shown(self, snapshot: Snapshot, log: Log) -> tuple[int, int] | None:
        """How much users see of a log, and the digest of that, from all its rows.

        None: they are sound, and too long to be made a value by this walk. Raises StorageFailed,
        or ValueError or TypeError for a value that is none.
        """
        prefix, _, kind = log
        assert kind is not None
        if not self._thorough and stored_bytes(snapshot, prefix) > _SHORT_BYTES:
            check_rows(snapshot, prefix)
            return None
        found = reread_materialised(snapshot, prefix, kind)
        size = kind.size(found.value) if found.is_there else 0
        return size, shown_digest(prefix, kind, found.value) if size else 0


def _mark(snapshot: Snapshot, prefix: bytes) -> bytes:
    """Stands for the head of an object; empty if it has none that can be read."""
    row = snapshot.get(Table.HEADS, prefix) if prefix else None
    if row is None:
        return b""
    try:
        read_head(snapshot, prefix)
    except StorageFailed:
        return b""
    return codec.fingerprint(row).to_bytes(8, "big")


# -- the sequence and the heads -------------------------------------------------------------------


def _wrong_place(snapshot: Snapshot, number: bytes) -> list[Damage]:
    """What is wrong with a place of the sequence, if no record says that it belongs there."""
    at = snapshot.get(Table.SEQUENCE, number)
    if at is None:
        return []  # what was there has changed meanwhile
    row = snapshot.get(Table.RECORDS, at) if at else None
    if row is None:
        return [Damage(Kind.RECORD, at, "the sequence names it, and it is not there")]
    if row[:8] != number and snapshot.get(Table.SEQUENCE, row[:8]) == at:
        return [Damage(Kind.SEQUENCE, number, "it names a record that belongs elsewhere")]
    return []


def _look_at_head(snapshot: Snapshot, prefix: bytes) -> list[Damage]:
    try:
        head = read_head(snapshot, prefix)
    except StorageFailed as error:
        if isinstance(error.__cause__, codec.NewerVersion):
            return []
        return [Damage(Kind.OBJECT, prefix, "its head is damaged")]
    assert head is not None
    below = snapshot.scan(Table.RECORDS, prefix, address.after(prefix))
    if head.exists and next(below, None) is None:
        return [Damage(Kind.OBJECT, prefix, f"its head counts {head.size}, and no record is there")]
    return []
