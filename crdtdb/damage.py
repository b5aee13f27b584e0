"""Damage: rows that are not what was written, and the markers that keep them from being forgotten.

A damaged record is not an absent one: whoever took it for that would tell others that what it held
was removed. So it stays where it is, where nobody can read it, and a *marker* says so, durably, in
META, until a peer's record has taken its place. While there is a marker, this replica claims
nothing to whom may lack what the record held. A marker has the address of the record, its place in
the sequence, and what the records of its object came to (if even that is not known, what the
replica had seen): nothing changes the record meanwhile, so who has seen that much, or has read the
sequence beyond that place, knows all that it held.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum
from typing import Final, NamedTuple

import msgspec

from crdtdb import address, codec
from crdtdb.causal import VersionVector
from crdtdb.store.base import Snapshot, Table

__all__ = [
    "MARKER_ROWS",
    "Damage",
    "Kind",
    "Marker",
    "Replacement",
    "marker",
    "pack_marker",
    "read_markers",
]

#: META rows: this and the address of a record.
MARKER_ROWS: Final = b"damaged/"
_VERSION: Final = 1
_decoder = msgspec.msgpack.Decoder(tuple[int, list[int]])


class Kind(Enum):
    """Which row is damaged, and so who can mend it."""

    #: A record: only a peer has it.
    RECORD = "record"
    #: A place in the sequence: the records say what belongs there.
    SEQUENCE = "sequence"
    #: What an object's records come to, or its materialised value: they are made from the records.
    OBJECT = "object"


class Damage(NamedTuple):
    """One row that is not what was written."""

    kind: Kind
    #: Address of the record, place in the sequence (8 bytes, big-endian), or prefix of the object.
    key: bytes
    #: What is wrong with it.
    reason: str
    #: The record that belongs in the place of the sequence; empty: none does.
    at: bytes = b""

    @property
    def where(self) -> str:
        """For people: what it belongs to."""
        if self.kind is Kind.SEQUENCE:
            return f"place {int.from_bytes(self.key, 'big')} of the sequence"
        return repr(self.key)[2:-1]


class Marker(NamedTuple):
    """What is known of a record that is damaged."""

    #: The record held nothing that is not in this.
    seen: VersionVector
    #: The record's place in the sequence; 0: it has none, or that is not known.
    place: int

    def is_known_to(self, seen: VersionVector, since: int) -> bool:
        """Does a replica know all that the record held, that has seen this and read so far here?"""
        return seen.includes(self.seen) or 0 < self.place <= since


class Replacement(NamedTuple):
    """What somebody holds in the places of damaged records, who knows all that those held."""

    damaged: Collection[bytes]
    #: The records there, as they travel; of an op-based object all, in their order.
    held: Sequence[tuple[bytes, bytes]]


def marker(at: bytes) -> bytes:
    """The META key of a record's marker."""
    return MARKER_ROWS + at


def read_markers(snapshot: Snapshot, seen: VersionVector) -> dict[bytes, Marker]:
    """The damaged records, by address, of a replica that has seen so much.

    A marker that is damaged itself says no more than that its record waits for a peer that has
    seen all of that.
    """
    rows = snapshot.scan(Table.META, MARKER_ROWS, address.after(MARKER_ROWS))
    return {key[len(MARKER_ROWS) :]: _read_marker(row, Marker(seen, 0)) for key, row in rows}


def _read_marker(row: bytes, unknown: Marker) -> Marker:
    try:
        place, flat = codec.unpack_whole(_VERSION, row, _decoder)
    except codec.FormatError:
        return unknown
    return Marker(VersionVector.from_flat(flat), place)


def pack_marker(one: Marker) -> bytes:
    """The row of a marker."""
    return codec.pack_whole(_VERSION, (one.place, one.seen.flat()))
