"""`flag`: a boolean where enabling wins over a concurrent disabling."""

from __future__ import annotations

from collections.abc import Iterator

from crdtdb.address import OWN
from crdtdb.datatype import Change, Cut, Operation, ReadContext, Restored, ScalarType, Stamp, View
from crdtdb.jsonvalue import JsonValue
from crdtdb.record import Live
from crdtdb.types._switch import switched

__all__ = ["TYPE"]


class Enable(Operation, tag="enable", frozen=True):
    """Set the flag."""

    @property
    def repeatable(self) -> bool:
        return True


class Disable(Operation, tag="disable", frozen=True):
    """Clear the flag, as far as it was observed."""

    seen: ReadContext = None

    @property
    def repeatable(self) -> bool:
        return self.seen is not None


class EnableWinsFlag(ScalarType):
    name = "flag"
    summary = "A boolean; a concurrent enable wins over a disable."
    operations = (Enable, Disable)
    payload = None

    def mutate(self, operation: Operation, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        live = view.live(OWN)
        if isinstance(operation, Enable):
            yield Change(OWN, live.keys(), None)
        elif observed := view.observed(live):
            yield Change(OWN, observed)

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        return switched(value)

    def value(self, live: Live) -> bool:
        return bool(live)


TYPE = EnableWinsFlag()
