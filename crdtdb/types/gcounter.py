"""`gcounter`: counts up; every acknowledged step counts exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from crdtdb.datatype import Change, Cut, Operation, Restored, Stamp, View
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.types._accumulator import Sums
from crdtdb.types._counting import CountingType
from crdtdb.types._steps import steps

__all__ = ["TYPE"]


class Increment(Operation, tag="increment", frozen=True):
    """Add `by`."""

    by: Annotated[int, Meta(ge=1, le=LIMITS.step)] = 1


class GrowingCounter(CountingType):
    name = "gcounter"
    summary = "A number that only counts up."
    operations = (Increment,)

    def mutate(self, operation: Operation, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        assert isinstance(operation, Increment)
        return self.add(view, stamp, Sums(operation.by, 0))

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        return steps(value, least=0)


TYPE = GrowingCounter()
