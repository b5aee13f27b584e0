"""`counter`: counts up and down; every acknowledged step counts exactly once.

A reset (or delete) removes exactly the steps it saw; a concurrent step survives as that step and
nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from crdtdb.datatype import Change, Cut, Operation, Stamp, View
from crdtdb.limits import LIMITS
from crdtdb.types._accumulator import Sums
from crdtdb.types._counting import CountingType

__all__ = ["TYPE"]


class Increment(Operation, tag="increment", frozen=True):
    """Add `by`."""

    by: Annotated[int, Meta(ge=1, le=LIMITS.step)] = 1


class Decrement(Operation, tag="decrement", frozen=True):
    """Take away `by`."""

    by: Annotated[int, Meta(ge=1, le=LIMITS.step)] = 1


class Reset(Operation, tag="reset", frozen=True):
    """Back to zero: removes exactly the steps this replica has seen."""


class Counter(CountingType):
    name = "counter"
    summary = "A number that counts up and down; every step counts exactly once."
    operations = (Increment, Decrement, Reset)

    def mutate(self, operation: Operation, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        match operation:
            case Increment(by):
                return self.add(view, stamp, Sums(by, 0))
            case Decrement(by):
                return self.add(view, stamp, Sums(0, by))
            case _:
                return self.delete(view, stamp)


TYPE = Counter()
