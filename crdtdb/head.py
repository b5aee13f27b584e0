"""The head of an object: one local row that answers in O(1) what would take a scan.

Does it exist, how many members has it, when did it last change, what was cut, what does it add to
the digest. Heads never travel; they can be rebuilt from the records.
"""

from __future__ import annotations

from typing import Final

import msgspec

from crdtdb import codec
from crdtdb.causal import NOTHING, VersionVector

__all__ = ["FRESH", "Head"]

_VERSION: Final = 1


class _Row(msgspec.Struct, array_like=True):
    size: int
    sequence: int
    context: list[int]
    cut: list[int] | None
    digest: bytes
    expires_at_ms: int | None
    timed: bool = False


_decoder = msgspec.msgpack.Decoder(_Row)


class Head(msgspec.Struct, frozen=True):
    """Immutable: a change replaces it."""

    #: Records that users can see: members of a collection; 1 or 0 for one value.
    size: int = 0
    #: Local sequence number of the latest change below the object.
    sequence: int = 0
    #: Join of the contexts of all its records: a cut that covers this covers all there is.
    context: VersionVector = NOTHING
    #: Join of all cuts that apply to the object; None when nothing was cut.
    cut: VersionVector | None = None
    #: XOR of the digests of the visible records.
    digest: int = 0
    #: The object's deadline, if it has one.
    expires_at_ms: int | None = None
    #: Has it deadlines, or cuts that depend on one (`expiry`)?
    timed: bool = False

    @property
    def exists(self) -> bool:
        return self.size > 0

    @property
    def shown(self) -> int:
        """The digest of all that users see of the object: its records, and its deadline."""
        if self.expires_at_ms is None or not self.size:
            return self.digest
        return codec.digest_until(self.digest, self.expires_at_ms)

    def hidden(self) -> Head:
        """What is left to see after the deadline. It matches no tag that was given out before."""
        return Head(context=self.context, cut=self.cut, timed=self.timed)

    def numbered(self, sequence: int) -> Head:
        """The same, changed last at another place."""
        return Head(
            self.size,
            sequence,
            self.context,
            self.cut,
            self.digest,
            self.expires_at_ms,
            self.timed,
        )

    def encode(self) -> bytes:
        row = (
            self.size,
            self.sequence,
            self.context.flat(),
            None if self.cut is None else self.cut.flat(),
            self.digest.to_bytes(16, "big"),
            self.expires_at_ms,
        )
        return codec.pack_whole(_VERSION, (*row, True) if self.timed else row)

    @staticmethod
    def encode_first(sequence: int, incarnation: int, counter: int, digest: int) -> bytes:
        """The row of an object of which one record is there, with one operation, that shows."""
        context = [incarnation, counter]
        row = (1, sequence, context, None, digest.to_bytes(16, "big"), None)
        return codec.pack_whole(_VERSION, row)

    @classmethod
    def decode(cls, data: bytes) -> Head:
        """Raises codec.FormatError or codec.NewerVersion."""
        row: _Row = codec.unpack_whole(_VERSION, data, _decoder)
        return cls(
            row.size,
            row.sequence,
            VersionVector.from_flat(row.context),
            None if row.cut is None else VersionVector.from_flat(row.cut),
            int.from_bytes(row.digest, "big"),
            row.expires_at_ms,
            row.timed,
        )


FRESH: Final = Head()
