"""Damage: rows that are not what was written, and the markers that keep them from being forgotten.

A damaged record is not an absent one: whoever took it for that would tell others that what it held
was removed. So it stays where it is, where nobody can read it, and a *marker* says so, durably, in
META, until a peer's record has taken its place. While there is a marker, this replica claims
nothing. A marker has the address of the record and what the replica had seen when it was found:
nothing has changed the record since, so who has seen that much knows all that it held.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from crdtdb import address, codec
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.rows import pack_cut_row, read_cut_row
from crdtdb.store.base import Snapshot, Table

__all__ = ["MARKER_ROWS", "Damage", "Kind", "marker", "pack_marker", "read_markers"]

#: META rows: this and the address of a record.
MARKER_ROWS: Final = b"damaged/"


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


def marker(at: bytes) -> bytes:
    """The META key of a record's marker."""
    return MARKER_ROWS + at


def read_markers(snapshot: Snapshot) -> dict[bytes, VersionVector]:
    """The damaged records, each with what had been seen when it was found.

    A marker that is damaged itself says as much as one that nobody's knowledge is enough for: its
    record waits for a peer that has seen all that this replica has seen by then.
    """
    rows = snapshot.scan(Table.META, MARKER_ROWS, address.after(MARKER_ROWS))
    return {key[len(MARKER_ROWS) :]: _vector(row) for key, row in rows}


def _vector(row: bytes) -> VersionVector:
    try:
        return read_cut_row(row)
    except codec.FormatError:
        return NOTHING


def pack_marker(seen: VersionVector) -> bytes:
    """The row of a marker."""
    return pack_cut_row(seen)
