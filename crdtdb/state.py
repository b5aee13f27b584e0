"""The state of a replica beside its data: who it is, what it has seen, where its clock stands.

One row, written in the same store transaction as the data it describes, so a reader that takes
it from a snapshot knows exactly what that snapshot covers.
"""

from __future__ import annotations

from typing import Final

import msgspec

from crdtdb import codec
from crdtdb.causal import VersionVector
from crdtdb.errors import StorageFailed

__all__ = ["STATE_KEY", "State", "read_state"]

STATE_KEY: Final = b"state"
_VERSION: Final = 1


class _Row(msgspec.Struct, array_like=True):
    store_id: int
    incarnation: int
    seen: list[int]
    time: int
    sequence: int
    served: bool
    location: bytes


_decoder = msgspec.msgpack.Decoder(_Row)


class State(msgspec.Struct, frozen=True):
    """Immutable: a commit replaces it."""

    #: Names this store's sequence numbers; a copy or restore gets another.
    store_id: int
    #: Names this replica's dots. 0: none taken yet.
    incarnation: int
    #: Everything this replica has taken in, its own operations included.
    seen: VersionVector
    #: High-water mark of the hybrid logical clock: time never goes back over a restart.
    time: int
    #: The last local sequence number given out.
    sequence: int
    #: Has this replica ever held a full state (its own empty one, or a claim)?
    served: bool
    #: Where the store was when this was written; elsewhere, it is a copy.
    location: bytes

    def encode(self) -> bytes:
        return codec.pack_whole(
            _VERSION,
            (
                self.store_id,
                self.incarnation,
                self.seen.flat(),
                self.time,
                self.sequence,
                self.served,
                self.location,
            ),
        )

    @classmethod
    def decode(cls, data: bytes) -> State:
        """Raises codec.FormatError or codec.NewerVersion."""
        row: _Row = codec.unpack_whole(_VERSION, data, _decoder)
        return cls(
            row.store_id,
            row.incarnation,
            VersionVector.from_flat(row.seen),
            row.time,
            row.sequence,
            row.served,
            row.location,
        )


def read_state(row: bytes) -> State:
    """The state in a row of an open store. Raises StorageFailed."""
    try:
        return State.decode(row)
    except codec.FormatError as error:
        raise StorageFailed(f"the replica's own state is damaged on disk ({error})") from error
