"""The state of a replica beside its data: who it is, what it has seen, where its clock stands.

One row, written in the same store transaction as the data it describes, so a reader that takes
it from a snapshot knows exactly what that snapshot covers. If what was seen rests on a floor, the
row has version 2 and the floor at its end, as it was packed when that was laid.
"""

from __future__ import annotations

from typing import Final

import msgspec

from crdtdb import codec
from crdtdb.causal import VersionVector
from crdtdb.errors import StorageFailed
from crdtdb.floors import unpack_floor

__all__ = ["STATE_KEY", "State", "read_state"]

STATE_KEY: Final = b"state"
_VERSION: Final = 1
_FLOORED_VERSION: Final = 2


class _Row(msgspec.Struct, array_like=True):
    store_id: int
    incarnation: int
    seen: list[int]
    time: int
    sequence: int
    served: bool
    location: bytes
    floor: msgspec.Raw = msgspec.Raw()


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
        fields = (
            self.store_id,
            self.incarnation,
            self.seen.flat_above(),
            self.time,
            self.sequence,
            self.served,
            self.location,
        )
        floor = self.seen.floor
        if floor:
            return codec.pack_whole(_FLOORED_VERSION, (*fields, msgspec.Raw(floor.packed)))
        return codec.pack_whole(_VERSION, fields)

    @classmethod
    def decode(cls, data: bytes) -> State:
        """Raises codec.FormatError or codec.NewerVersion."""
        is_floored = data[:1] == bytes((_FLOORED_VERSION,))
        version = _FLOORED_VERSION if is_floored else _VERSION
        row: _Row = codec.unpack_whole(version, data, _decoder)
        seen = VersionVector.from_flat(row.seen)
        if is_floored:
            seen = seen.above(unpack_floor(bytes(row.floor)))
        return cls(
            row.store_id,
            row.incarnation,
            seen,
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
