"""Counters out of an export and into an import: a value as steps that one operation takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crdtdb.datatype import Restored
from crdtdb.errors import BadRequest, Field
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS

__all__ = ["portions", "steps"]

#: As much as one transaction can count; every JSON reader that knows 64 bits holds it exactly.
_MOST: Final = LIMITS.step * LIMITS.transaction_operations


def portions(value: int, most: int = _MOST) -> Iterator[int]:
    """Numbers up to `most`, as `steps` takes them, that add up to the value."""
    sign = -1 if value < 0 else 1
    left = abs(value)
    while left > most:
        yield sign * most
        left -= most
    yield sign * left


def steps(value: JsonValue, least: int = -_MOST, most: int = _MOST) -> Iterator[Restored]:
    """Increments or decrements by so much in all. Raises BadRequest for what is no such number."""
    if type(value) is not int or not least <= value <= most:
        raise BadRequest(
            f"`value` is a whole number from {least} to {most}", Field("value", "no such number")
        )
    op = "decrement" if value < 0 else "increment"
    left = abs(value)
    while left:
        by = min(left, LIMITS.step)
        yield Restored({"op": op, "by": by})
        left -= by
