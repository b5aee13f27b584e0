"""`register`: one JSON value, last writer wins by hybrid logical clock.

A write replaces every value it saw. Concurrent writes are all kept; the one with the greatest
(time, dot) is read, the others are losers: an acknowledged write can lose to a concurrent one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec

from crdtdb import hlc, jsonvalue
from crdtdb.address import OWN
from crdtdb.causal import Dot
from crdtdb.datatype import Change, Cut, Operation, Restored, ScalarType, Stamp, View
from crdtdb.jsonvalue import JsonValue
from crdtdb.record import Live, Payload
from crdtdb.types._stored import check_stored, check_stored_each, stored

__all__ = ["TYPE"]


class Set(Operation, tag="set", frozen=True):
    """Replace the value."""

    value: Any


_Payload = tuple[int, bytes]  # (time, JSON text)
_Payloads = list[_Payload]


class Register(ScalarType):
    name = "register"
    summary = "One JSON value; of concurrent writes the latest (time, then dot) is read."
    operations = (Set,)
    has_losers = True
    payload = _Payload

    def mutate(self, operation: Operation, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        assert isinstance(operation, Set)
        text = stored(operation.value)
        yield Change(OWN, view.live(OWN).keys(), (stamp.time, text))

    def check(self, dot: Dot, payload: Payload) -> None:
        super().check(dot, payload)
        time, text = payload
        if not 0 <= time <= hlc.MOST:
            raise ValueError("a time is out of range")
        check_stored(text)

    def check_each(self, operations: Sequence[tuple[int, int, Payload]]) -> None:
        payloads = [payload for _, _, payload in operations]
        stamped = msgspec.convert(payloads, _Payloads, strict=True, builtin_types=(bytes,))
        if any(not 0 <= time <= hlc.MOST for time, _ in stamped):
            raise ValueError("a time is out of range")
        check_stored_each([text for _, text in stamped])

    def shows(self, live: Live) -> bytes | None:
        return live[self._winner(live)][1] if live else None

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        yield Restored({"op": "set", "value": value})

    def describe(self, payload: Payload) -> dict[str, Any]:
        time, text = payload
        return {"value": jsonvalue.load(text), "time": time, "at_ms": hlc.milliseconds(time)}

    def decisive(self, live: Live) -> Collection[Dot]:
        return [self._winner(live)] if live else []

    def _winner(self, live: Live) -> Dot:
        return max(live, key=lambda dot: (live[dot][0], dot))

    def value(self, live: Live) -> JsonValue:
        if not live:
            return None
        return jsonvalue.load(live[self._winner(live)][1])


TYPE = Register()
