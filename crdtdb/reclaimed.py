"""What a store has let go: the one row that tells later readers what they cannot find any more.

A tombstone that is gone cannot be shown by the change feed, nor pulled. Both are safe for who has
seen it; this row is how the feed, and a donor, know who has not.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from crdtdb import codec
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.errors import StorageFailed
from crdtdb.store.base import Snapshot, Table

__all__ = ["RECLAIMED_KEY", "Reclaimed", "read_reclaimed"]

RECLAIMED_KEY: Final = b"reclaimed"
_VERSION: Final = 1
_decoder = msgspec.msgpack.Decoder(tuple[list[int], int, int, int, int])


class Reclaimed(NamedTuple):
    """What a store has let go so far; written in the store transaction that lets it go."""

    #: The join of the contexts of everything that went as deleted. Who has seen less may still
    #: hold what was deleted.
    vector: VersionVector = NOTHING
    #: The last place of the sequence that such a record had.
    place: int = 0
    #: Up to this place everything was stable and nothing was left to go.
    clean: int = 0
    #: How many records went, and the bytes of their addresses and rows.
    records: int = 0
    size_bytes: int = 0

    def encode(self) -> bytes:
        vector, *numbers = self
        return codec.pack_whole(_VERSION, (vector.flat(), *numbers))

    @classmethod
    def decode(cls, row: bytes) -> Reclaimed:
        """Raises codec.FormatError or codec.NewerVersion."""
        flat, place, clean, records, size_bytes = codec.unpack_whole(_VERSION, row, _decoder)
        try:
            return cls(VersionVector.from_flat(flat), place, clean, records, size_bytes)
        except ValueError as error:
            raise codec.FormatError(str(error)) from error


def read_reclaimed(snapshot: Snapshot) -> Reclaimed:
    """What had been let go as of a snapshot. Raises StorageFailed."""
    row = snapshot.get(Table.META, RECLAIMED_KEY)
    if row is None:
        return Reclaimed()
    try:
        return Reclaimed.decode(row)
    except codec.FormatError as error:
        raise StorageFailed(f"what was reclaimed is damaged on disk ({error})") from error
