"""`rwset`: a set of JSON values where removing wins over a concurrent adding.

Every member is a record of its own with marks in force, "added" or "removed"; it is a member when
there are marks and none of them is "removed". An add takes the place of every mark it saw, so
adding again after a remove works. A remove leaves a mark even where there is no such member: an
add may be under way elsewhere, and has to lose. Users never see these marks; they are counted
neither in the size nor in pages. A mark that every member has seen is taken out (`crdtdb.reclaim`):
an add by a replica that was none then, for it was evicted, its disk put back, or its name and URL
those of another, counts as after it.

`clear` removes the members it sees by name: it leaves a mark on each, so a concurrent add of one of
them loses. It must not be a cut, which would take out "removed" marks too and so bring members back
that an unseen add had lost. It is bounded like any `remove`; deleting the whole object is a cut, in
O(1), and leaves nothing that an unseen add would lose against.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from crdtdb.causal import Dot
from crdtdb.datatype import Change, CollectionType, Cut, Operation, ReadContext, Stamp, View
from crdtdb.errors import Field, TooLarge
from crdtdb.limits import LIMITS
from crdtdb.record import Live, Payload
from crdtdb.types._members import ONE_OR_SEVERAL, Several, member_tails

__all__ = ["TYPE"]

_ADDED = True
_REMOVED = False


class Add(Operation, tag="add", frozen=True):
    """Put members in (one `value`, or a list of `values`) unless removed at the same time."""

    rule = ONE_OR_SEVERAL

    value: Any = msgspec.UNSET
    values: Several = msgspec.UNSET


class Remove(Operation, tag="remove", frozen=True):
    """Take members out, also against an add that the remove, or its read context, did not see."""

    rule = ONE_OR_SEVERAL

    value: Any = msgspec.UNSET
    values: Several = msgspec.UNSET
    seen: ReadContext = None

    @property
    def repeatable(self) -> bool:
        return True


class Clear(Operation, tag="clear", frozen=True):
    """Remove each member there is, or that the read context shows; at most 1,000."""

    seen: ReadContext = None

    @property
    def repeatable(self) -> bool:
        return self.seen is not None

    @property
    def wide(self) -> bool:
        return True


class RemoveWinsSet(CollectionType):
    name = "rwset"
    summary = "A set of JSON values; a concurrent remove wins over an add."
    operations = (Add, Remove, Clear)
    payload = bool  # the mark: added or removed

    def mutate(self, operation: Operation, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        match operation:
            case Add(value, values):
                for tail in member_tails(value, values):
                    yield Change(tail, view.live(tail).keys(), _ADDED)
            case Remove(value, values):
                for tail in member_tails(value, values):
                    yield self._removed(tail, view)
            case _:
                yield from self._cleared(view)

    def _removed(self, tail: bytes, view: View) -> Change:
        live = view.live(tail)
        # The mark says all that earlier "removed" marks said: it takes their place.
        removed = [dot for dot, mark in live.items() if mark is _REMOVED]
        return Change(tail, {*view.observed(live), *removed}, _REMOVED)

    def _cleared(self, view: View) -> Iterator[Change]:
        if view.size() > LIMITS.operation_values:
            raise TooLarge(
                f"a clear leaves a mark on each of {view.size()} members; remove them "
                f"{LIMITS.operation_values} at a time, or delete the whole set, which concurrent "
                "adds survive",
                Field("op", "takes out too many members", LIMITS.operation_values),
            )
        for tail, live in list(view.members()):
            if self.alive(live) and view.observed(live):
                yield self._removed(tail, view)

    def describe(self, payload: Payload) -> dict[str, Any]:
        return {"mark": "added" if payload else "removed"}

    def decisive(self, live: Live) -> Collection[Dot]:
        present = self.alive(live)
        return [dot for dot, mark in live.items() if mark is present]

    def alive(self, live: Live) -> bool:
        return bool(live) and all(live.values())


TYPE = RemoveWinsSet()
