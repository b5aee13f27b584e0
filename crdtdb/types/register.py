"""`register`: one JSON value, last writer wins by hybrid logical clock.

A write replaces every value it saw. Concurrent writes are all kept; the one with the greatest
(time, dot) is read, the others are losers: an acknowledged write can lose to a concurrent one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crdtdb import jsonvalue
from crdtdb.address import OWN
from crdtdb.datatype import Change, Cut, Operation, ScalarType, Stamp, View
from crdtdb.jsonvalue import JsonValue
from crdtdb.record import Live
from crdtdb.types._stored import stored

__all__ = ["TYPE"]


class Set(Operation, tag="set", frozen=True):
    """Replace the value."""

    value: Any


class Register(ScalarType):
    name = "register"
    summary = "One JSON value; of concurrent writes the latest (time, then dot) is read."
    operations = (Set,)
    payload = tuple[int, bytes]  # (time, JSON text)

    def mutate(self, operation: Operation, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        assert isinstance(operation, Set)
        text = stored(operation.value)
        yield Change(OWN, view.live(OWN).keys(), (stamp.time, text))

    def value(self, live: Live) -> JsonValue:
        if not live:
            return None
        winner = max(live, key=lambda dot: (live[dot][0], dot))
        return jsonvalue.load(live[winner][1])


TYPE = Register()
