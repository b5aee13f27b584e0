"""Floors: what the version vectors of a whole cluster have in common, written down once.

An incarnation that is no member any more makes no operations, as far as anybody knows, and every
member has seen all that it made. Its entry says the same in every vector. So the cluster agrees on
a *floor*, a vector of such entries; replicas write the entries above it, and the mark of the floor
(a fingerprint of its content) in front of them.

A floor is no statement about who is alive, only a shorter way to write vectors: they say exactly
what they said. Should an incarnation that a floor names make operations after all (a copied
directory goes on, an evicted replica had some that nobody saw), its entry is above the floor again.
A vector whose mark is not known cannot be read, which whoever gets it has to allow for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, TypeAlias

import msgspec
import xxhash

from crdtdb import codec
from crdtdb.causal import Floor, VersionVector

__all__ = ["Floors", "UnknownFloor", "floor_of", "read_floored", "unpack_floor", "write_floored"]

#: The floors that a replica has heard of, by mark.
Floors: TypeAlias = Mapping[int, Floor]

_decode_flat = msgspec.msgpack.Decoder(list[int]).decode
#: Floors that stay one object each; all vectors on one are compared above it only.
_KEPT: Final = 256


class UnknownFloor(ValueError):
    """A vector rests on a floor that has not been heard of here."""


def floor_of(vector: VersionVector) -> Floor:
    """The floor with the entries of a vector. O(entries)."""
    return unpack_floor(codec.pack(vector.flat()))


@lru_cache(maxsize=_KEPT)
def unpack_floor(packed: bytes) -> Floor:
    """The floor that was packed so (`Floor.packed`). Raises ValueError."""
    try:
        vector = VersionVector.from_flat(_decode_flat(packed))
    except msgspec.MsgspecError as error:
        raise ValueError(f"a floor cannot be read: {error}") from error
    return Floor(dict(vector.items()), xxhash.xxh3_64_intdigest(packed), packed)


def write_floored(vector: VersionVector) -> list[int]:
    """A vector as its entries above its floor, the floor's mark first; on none, as `flat`."""
    above = vector.flat_above()
    return [vector.floor.mark, *above] if vector.floor else above


def read_floored(flat: list[int], floors: Floors) -> VersionVector:
    """The inverse of `write_floored`. Raises UnknownFloor; ValueError for what is no vector."""
    if not len(flat) % 2:
        return VersionVector.from_flat(flat)
    above = VersionVector.from_flat(flat[1:])
    floor = floors.get(flat[0])
    if floor is None:
        raise UnknownFloor("a version vector rests on a floor that is not known here")
    return above.above(floor)
