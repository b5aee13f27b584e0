"""Epochs: whose past is it in which a place of the sequence was given out?

Others remember how far they have read this store's sequence. A store that was put back to an
earlier state gives its places out a second time, to other records, and whoever remembers a later
place would never read those. So each opening of a store that gives out places begins an *epoch*
with a random name, and a place is remembered together with its epoch. However a store was put back
since, as much of that epoch still counts as is part of the store's own past.

One row, written by the first commit of an epoch that gives out a place.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from crdtdb import codec

__all__ = ["EPOCHS_KEY", "Epochs"]

EPOCHS_KEY: Final = b"epochs"
_VERSION: Final = 1
#: Whoever comes back after more openings than this reads from the start.
_MOST: Final = 64
_decoder = msgspec.msgpack.Decoder(list[int])


class Epochs(NamedTuple):
    """The epochs of one store, oldest first: (name, place after which it began)."""

    begun: tuple[tuple[int, int], ...] = ()

    @property
    def latest(self) -> int:
        """The name of the epoch to which the head of the sequence belongs; 0: none yet."""
        return self.begun[-1][0] if self.begun else 0

    def begin(self, name: int, sequence: int) -> Epochs:
        """The same with a new epoch that begins after `sequence`."""
        return Epochs((*self.begun, (name, sequence))[-_MOST:])

    def resume(self, name: int, place: int, head: int) -> int:
        """After which place somebody must read on who has read so far; 0: from the start.

        `head` is the last place that has been given out. O(epochs).
        """
        for (epoch, _), (_, end) in pairwise((*self.begun, (0, head))):
            if epoch == name:
                return min(place, end)
        return 0

    def encode(self) -> bytes:
        return codec.pack_whole(_VERSION, [number for epoch in self.begun for number in epoch])

    @classmethod
    def decode(cls, row: bytes) -> Epochs:
        """Raises codec.FormatError or codec.NewerVersion."""
        flat: list[int] = codec.unpack_whole(_VERSION, row, _decoder)
        return cls(tuple(zip(flat[::2], flat[1::2], strict=False)))
