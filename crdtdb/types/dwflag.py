"""`dwflag`: a boolean where disabling wins over a concurrent enabling.

Both leave a mark in force; the flag is on when there are marks and none of them is "off".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from crdtdb.address import OWN
from crdtdb.causal import Dot
from crdtdb.datatype import Change, Cut, Operation, ReadContext, Restored, ScalarType, Stamp, View
from crdtdb.jsonvalue import JsonValue
from crdtdb.record import Live, Payload
from crdtdb.types._switch import switched

__all__ = ["TYPE"]


class Enable(Operation, tag="enable", frozen=True):
    """Set the flag, unless somebody clears it at the same time."""


class Disable(Operation, tag="disable", frozen=True):
    """Clear the flag, also against a concurrent enable."""

    seen: ReadContext = None

    @property
    def repeatable(self) -> bool:
        return True


class DisableWinsFlag(ScalarType):
    name = "dwflag"
    summary = "A boolean; a concurrent disable wins over an enable."
    operations = (Enable, Disable)
    payload = bool  # the mark: on or off

    def mutate(self, operation: Operation, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        live = view.live(OWN)
        if isinstance(operation, Enable):
            yield Change(OWN, live.keys(), True)
        else:
            # The mark is needed even when nothing is on: an enable may be under way elsewhere. It
            # says all that earlier "off" marks said, so it takes their place.
            off = [dot for dot, on in live.items() if not on]
            yield Change(OWN, {*view.observed(live), *off}, False)

    def describe(self, payload: Payload) -> dict[str, Any]:
        return {"value": payload}

    def decisive(self, live: Live) -> Collection[Dot]:
        value = self.value(live)
        return [dot for dot, on in live.items() if on is value]

    def alive(self, live: Live) -> bool:
        return self.value(live)

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        return switched(value)

    def value(self, live: Live) -> bool:
        return bool(live) and all(live.values())


TYPE = DisableWinsFlag()
