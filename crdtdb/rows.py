"""How the engine's rows are read back from a store, and what damage means there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from crdtdb import codec
from crdtdb.causal import VersionVector
from crdtdb.errors import StorageFailed
from crdtdb.head import Head
from crdtdb.record import EMPTY, Record
from crdtdb.store.base import Snapshot, Table

__all__ = [
    "WIDE_CUT_ROWS",
    "Steps",
    "are_settled",
    "check_folded",
    "head_of",
    "pack_cut_row",
    "pack_folded",
    "pack_steps",
    "place_of",
    "places_of",
    "read_cut_row",
    "read_folded",
    "read_head",
    "read_record",
    "read_row",
    "read_sound",
    "record_of",
    "scan_heads",
    "scan_records",
    "unpack_folded",
    "unpack_steps",
]

#: META rows that repeat the wide cuts, so that opening a replica need not look for them.
WIDE_CUT_ROWS: Final = b"cut/"

_FOLDED_VERSION: Final = 1
_STEPS_VERSION: Final = 1
_CUT_VERSION: Final = 1
_folded_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder()
_flat_decoder = msgspec.msgpack.Decoder(list[int])


def record_of(at: bytes, row: bytes) -> tuple[Record, int]:
    """The record in a row, and its sequence number. Raises StorageFailed."""
    try:
        return codec.decode_row(at, row)
    except codec.FormatError as error:
        raise StorageFailed(
            f"the record at {at!r} is damaged on disk ({error}); restore this replica"
        ) from error


def are_settled(addresses: Sequence[bytes], rows: Sequence[bytes]) -> bool:
    """Is in each of these records one dot in force and nothing else? False: that is not known.

    All are checked at once. Raises StorageFailed.
    """
    try:
        return codec.are_settled(addresses, rows)
    except codec.FormatError:
        for at, row in zip(addresses, rows, strict=True):
            record_of(at, row)  # which says what is wrong with which
        raise


def read_record(snapshot: Snapshot, at: bytes) -> tuple[Record, int]:
    """A record and its sequence number; (EMPTY, 0) if there is none. Raises StorageFailed."""
    row = snapshot.get(Table.RECORDS, at)
    if row is None:
        return EMPTY, 0
    return record_of(at, row)


def read_row(snapshot: Snapshot, at: bytes, sequence: int) -> tuple[Record, bytes]:
    """A record that the sequence names, and its row. Raises StorageFailed if it is not there."""
    row = snapshot.get(Table.RECORDS, at)
    if row is None:
        raise StorageFailed(f"the sequence names a record at {at!r} that is not there")
    record, place = record_of(at, row)
    if place != sequence:
        raise StorageFailed(
            f"the sequence is damaged on disk: it has the record at {at!r} in place {sequence}, "
            f"which belongs in place {place}; restore this replica"
        )
    return record, row


def read_sound(snapshot: Snapshot, at: bytes, sequence: int) -> bytes:
    """A record that the sequence names, as it travels, undecoded. Raises StorageFailed."""
    row = snapshot.get(Table.RECORDS, at)
    try:
        if row is not None:
            data, place = codec.sound_record(at, row)
            if place == sequence:
                return data
    except codec.FormatError:
        pass
    return codec.row_record(at, read_row(snapshot, at, sequence)[1])  # which says what is wrong


def place_of(snapshot: Snapshot, at: bytes) -> int:
    """Where the sequence has a record that cannot be read; 0: nowhere. O(sequence) at worst."""
    if place := _own_place(snapshot, at):
        return place
    for number, named in snapshot.scan(Table.SEQUENCE):
        if named == at:
            return int.from_bytes(number, "big")
    return 0


def places_of(snapshot: Snapshot, addresses: Collection[bytes], entries: int) -> dict[bytes, int]:
    """The same of several records, of which only the latest entries are looked at. O(entries)."""
    places = {at: _own_place(snapshot, at) for at in addresses}
    missing = {at for at, place in places.items() if not place}
    if missing:
        for number, at in islice(snapshot.scan(Table.SEQUENCE, reverse=True), entries):
            if at in missing:
                places[at] = int.from_bytes(number, "big")
    return places


def _own_place(snapshot: Snapshot, at: bytes) -> int:
    """Where a record says itself that it is, if the sequence says so, too; else 0."""
    number = (snapshot.get(Table.RECORDS, at) or b"")[:8].ljust(8, b"\0")
    return int.from_bytes(number, "big") if snapshot.get(Table.SEQUENCE, number) == at else 0


def scan_records(
    snapshot: Snapshot, start: bytes, end: bytes | None, *, reverse: bool = False
) -> Iterator[tuple[bytes, Record]]:
    """Records with start ≤ address < end, in order, lazily. Raises StorageFailed."""
    for at, row in snapshot.scan(Table.RECORDS, start, end, reverse=reverse):
        yield at, record_of(at, row)[0]


def read_head(snapshot: Snapshot, prefix: bytes) -> Head | None:
    """The head of an object, by its prefix; None if it has none. Raises StorageFailed."""
    row = snapshot.get(Table.HEADS, prefix)
    return None if row is None else head_of(prefix, row)


def scan_heads(
    snapshot: Snapshot, start: bytes, end: bytes | None = None
) -> Iterator[tuple[bytes, Head]]:
    """Object prefixes and heads with start ≤ prefix < end, in order, lazily."""
    for prefix, row in snapshot.scan(Table.HEADS, start, end):
        yield prefix, head_of(prefix, row)


def head_of(prefix: bytes, row: bytes) -> Head:
    """The head in a row. Raises StorageFailed."""
    try:
        return Head.decode(row)
    except codec.FormatError as error:
        raise StorageFailed(f"the head of {prefix!r} is damaged on disk ({error})") from error


def read_folded(snapshot: Snapshot, prefix: bytes) -> Any:
    """What the row of a materialised value holds; None if there is none. Raises StorageFailed."""
    row = snapshot.get(Table.FOLDED, prefix)
    return None if row is None else unpack_folded(prefix, row)


def unpack_folded(prefix: bytes, row: bytes) -> Any:
    """The inverse of `pack_folded`. Raises StorageFailed."""
    try:
        return codec.unpack_whole(_FOLDED_VERSION, row, _folded_decoder)
    except codec.FormatError as error:
        raise StorageFailed(f"the value of {prefix!r} is damaged on disk ({error})") from error


def check_folded(prefix: bytes, row: bytes) -> None:
    """Is the row of a materialised value as it was written? Raises StorageFailed."""
    try:
        codec.check_whole(_FOLDED_VERSION, row)
    except codec.FormatError as error:
        raise StorageFailed(f"the value of {prefix!r} is damaged on disk ({error})") from error


def pack_folded(value: Any) -> bytes:
    """The row of a materialised value."""
    return codec.pack_whole(_FOLDED_VERSION, value)


class Steps(msgspec.Struct, array_like=True):
    """A row of operations that were done to a materialised value, see `materialised`."""

    #: Of the row before.
    fingerprint: int
    #: Of the value's row, and of the rows of steps before this one.
    checkpoint_bytes: int
    steps_bytes: int
    #: Incarnation, counter and payload of each.
    steps: list[tuple[int, int, Any]]


_steps_decoder = msgspec.msgpack.Decoder(Steps)


def pack_steps(steps: Steps) -> bytes:
    """The row of steps."""
    return codec.pack_whole(_STEPS_VERSION, steps)


def unpack_steps(prefix: bytes, row: bytes) -> Steps:
    """The inverse of `pack_steps`. Raises StorageFailed."""
    try:
        steps: Steps = codec.unpack_whole(_STEPS_VERSION, row, _steps_decoder)
    except codec.FormatError as error:
        raise StorageFailed(f"the value of {prefix!r} is damaged on disk ({error})") from error
    return steps


def pack_cut_row(vector: VersionVector) -> bytes:
    """The row that repeats a wide cut."""
    return codec.pack_whole(_CUT_VERSION, vector.flat())


def read_cut_row(row: bytes) -> VersionVector:
    """The inverse of `pack_cut_row`. Raises codec.FormatError."""
    return VersionVector.from_flat(codec.unpack_whole(_CUT_VERSION, row, _flat_decoder))
