"""Exact sums of JSON numbers: the same at every replica, in whatever order they were added up.

A double is an integer divided by a power of two, and so is every sum or difference of doubles and
integers. Such a sum is kept as a fraction that is never rounded, so adding is associative, and
taking a part out again leaves exactly the rest. It is rounded once, when it is shown: to itself if
it is an integer of JSON's range, else to the nearest double (ties to even); beyond the greatest
double, which only concurrent increments can reach, it shows as that.

A sum travels as

    [numerator, shift]      numerator / 2^shift, in lowest terms

Numerators beyond 64 bits travel as big-endian bytes in two's complement, as few as will do: 0.1 is
[3602879701896397, 55]; the sum of all the doubles that one replica can ever add takes 280 bytes.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from crdtdb import jsonvalue
from crdtdb.errors import BadRequest, Field

__all__ = [
    "Number",
    "Packed",
    "check_number",
    "is_finite",
    "number",
    "pack",
    "rounded",
    "unpack",
]

#: What users write and read.
Number: TypeAlias = int | float
#: How a sum travels.
Packed: TypeAlias = tuple[int | Annotated[bytes, Meta(max_length=280)], int]

_MOST: Final = Fraction(sys.float_info.max)
#: 2^-1074 is the least double.
_MOST_SHIFT: Final = 1_074
_INT64: Final = range(-(1 << 63), 1 << 64)


def number(value: object, field: str) -> Number:
    """A number as it is stored. Raises BadRequest, naming the field, for what is none."""
    try:
        found = jsonvalue.normalise(value)
    except BadRequest as error:
        wrong = error.fields[0]
        raise BadRequest(
            f"`{field}` is refused: {wrong.message}", Field(field, wrong.message, wrong.limit)
        ) from error
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise BadRequest(f"`{field}` is a number", Field(field, "not a number"))
    return found


def check_number(value: Number) -> None:
    """Raises ValueError for a number that is not as `number` gives it."""
    try:
        normal = number(value, "")
    except BadRequest as error:
        raise ValueError(f"a number is not JSON: {error}") from error
    if type(normal) is not type(value):
        raise ValueError("a number is not in its stored form")


def is_finite(exact: Fraction) -> bool:
    """Is it within the range of a double?"""
    return -_MOST <= exact <= _MOST


def rounded(exact: Fraction) -> Number:
    """What users see of a sum. It never fails, whatever a peer has sent."""
    if exact.denominator == 1 and exact.numerator in _INT64:
        return exact.numerator
    try:
        nearest = float(exact)
    except OverflowError:
        return sys.float_info.max if exact > 0 else -sys.float_info.max
    return int(nearest) if nearest.is_integer() and int(nearest) in _INT64 else nearest


def pack(exact: Fraction) -> Packed:
    """How a sum travels."""
    numerator = exact.numerator
    shift = exact.denominator.bit_length() - 1
    if numerator in _INT64:
        return numerator, shift
    return numerator.to_bytes(_size(numerator), "big", signed=True), shift


def unpack(numerator: int | bytes, shift: int) -> Fraction:
    """The inverse of `pack`. Raises ValueError for what `pack` never gives."""
    if not 0 <= shift <= _MOST_SHIFT:
        raise ValueError("a sum is no sum of doubles")
    if isinstance(numerator, bytes):
        whole = int.from_bytes(numerator, "big", signed=True)
        if whole in _INT64 or len(numerator) != _size(whole):
            raise ValueError("a numerator is longer than it must be")
        numerator = whole
    if shift and not numerator & 1:
        raise ValueError("a sum is not in lowest terms")
    return Fraction(numerator, 1 << shift)


def _size(numerator: int) -> int:
    """The bytes of a number in two's complement."""
    magnitude = numerator if numerator >= 0 else ~numerator
    return magnitude.bit_length() // 8 + 1
