"""`gset`: a set that only grows (until the whole object is deleted)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from crdtdb.datatype import Change, CollectionType, Cut, Operation, Stamp, View
from crdtdb.types._members import ONE_OR_SEVERAL, Several, member_tails

__all__ = ["TYPE"]


class Add(Operation, tag="add", frozen=True):
    """Put members in: one `value`, or a list of `values`."""

    rule = ONE_OR_SEVERAL

    value: Any = msgspec.UNSET
    values: Several = msgspec.UNSET

    @property
    def repeatable(self) -> bool:
        return True


class GrowingSet(CollectionType):
    name = "gset"
    summary = "A set of JSON values that only grows."
    operations = (Add,)
    payload = None
    plain = True

    def mutate(self, operation: Operation, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        assert isinstance(operation, Add)
        for tail in member_tails(operation.value, operation.values):
            yield Change(tail, view.live(tail).keys(), None)


TYPE = GrowingSet()
