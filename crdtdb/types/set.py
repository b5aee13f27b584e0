"""`set`: an add-wins set of JSON values (observed-remove; ORSWOT of Bieniusa et al. 2012).

Every member is a record of its own: an add or remove reads and writes that one record, whatever
the size of the set. A remove takes out the adds it observed; a concurrent add survives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from crdtdb.datatype import Change, CollectionType, Cut, Operation, ReadContext, Stamp, View
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


class Remove(Operation, tag="remove", frozen=True):
    """Take members out, as far as they were observed."""

    rule = ONE_OR_SEVERAL

    value: Any = msgspec.UNSET
    values: Several = msgspec.UNSET
    seen: ReadContext = None

    @property
    def repeatable(self) -> bool:
        return self.seen is not None


class Clear(Operation, tag="clear", frozen=True):
    """Take all observed members out. O(1)."""

    seen: ReadContext = None

    @property
    def repeatable(self) -> bool:
        return self.seen is not None

    @property
    def wide(self) -> bool:
        return self.seen is not None  # what came since survives, and has to be counted


class AddWinsSet(CollectionType):
    name = "set"
    summary = "A set of JSON values; a concurrent add wins over a remove."
    operations = (Add, Remove, Clear)
    payload = None
    plain = True

    def mutate(self, operation: Operation, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        match operation:
            case Add(value, values):
                for tail in member_tails(value, values):
                    yield Change(tail, view.live(tail).keys(), None)
            case Remove(value, values):
                for tail in member_tails(value, values):
                    if observed := view.observed(view.live(tail)):
                        yield Change(tail, observed)
            case _:
                yield Cut()


TYPE = AddWinsSet()
