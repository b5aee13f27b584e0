"""Righting: a record of which one bit has flipped says itself how it was.

A checksum of 64 bits tells not only that a row is not what was written. Each row that differs from
it in one bit can be tried, and the one whose checksum is right is what was written: that another is
right by chance happens once in 2^64 / (8 × bytes) rows. So the damage that is most likely takes no
peer, and costs nothing that only this replica holds. More than that is not tried: it would take the
square of the time, and is no flipped bit any more, but a lost sector. Of that, often so much is
left that it can be told of another row whether it is what was there.
"""

from __future__ import annotations

from typing import Final

import xxhash

from crdtdb import codec

__all__ = ["MOST_BYTES", "is_left_of", "righted"]

#: Rows that are longer are left to peers: the time grows with the square of the length, and is some
#: milliseconds for these.
MOST_BYTES: Final = 2_048
#: Where a row has its place in the sequence, its version, its checksum and its body (`codec`).
_PLACE: Final = slice(0, 8)
_VERSION: Final = 8
_CHECKSUM: Final = slice(9, 17)
_BODY: Final = 17


def righted(at: bytes, row: bytes) -> bytes | None:
    """The row of a record as it was written, if no more than one bit of it has flipped since.

    None if more has, or it is too long. O(bytes²).
    """
    if not _BODY < len(row) <= MOST_BYTES:
        return None
    flipped = _flipped_bit(at, row)
    if flipped is None:
        return None
    byte, bit = divmod(flipped, 8)
    right = row[:byte] + bytes((row[byte] ^ 1 << bit,)) + row[byte + 1 :]
    try:
        codec.decode_row(at, right)
    except codec.FormatError:
        return None
    return right


def is_left_of(left: bytes, row: bytes) -> bool:
    """Is what is left of a damaged row, its checksum or all of its body, that of this row?"""
    return left[_CHECKSUM] == row[_CHECKSUM] or left[_BODY:] == row[_BODY:]


def _flipped_bit(at: bytes, row: bytes) -> int | None:
    """Which bit of a row, from the least of the first byte on, has to be otherwise; None: none."""
    place = int.from_bytes(row[_PLACE], "big")
    checksum = int.from_bytes(row[_CHECKSUM], "big")
    keyed = bytearray(at + row[_BODY:])
    digest = xxhash.xxh3_64_intdigest
    wrong = digest(keyed, place) ^ checksum
    if not wrong:  # all else is sound
        version = row[_VERSION] ^ codec.RECORD_VERSION
        return 8 * _VERSION + version.bit_length() - 1 if version.bit_count() == 1 else None
    if wrong.bit_count() == 1:
        return _bit_of(_CHECKSUM, wrong)
    for place_bit in range(64):
        if digest(keyed, place ^ 1 << place_bit) == checksum:
            return _bit_of(_PLACE, 1 << place_bit)
    for byte in range(len(at), len(keyed)):
        for bit in range(8):
            keyed[byte] ^= 1 << bit
            if digest(keyed, place) == checksum:
                return 8 * (byte - len(at) + _BODY) + bit
            keyed[byte] ^= 1 << bit
    return None


def _bit_of(field: slice, bit: int) -> int:
    """Where a bit of a number is that a row has in a field, the greatest byte first."""
    number, within = divmod(bit.bit_length() - 1, 8)
    last: int = field.stop - 1
    return 8 * (last - number) + within
