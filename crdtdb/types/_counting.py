"""What the counters share: they are one record of accumulators, and deleting is resetting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crdtdb.address import OWN
from crdtdb.causal import Dot
from crdtdb.datatype import NO_PAYLOAD, Change, Cut, Restored, ScalarType, Stamp, View
from crdtdb.jsonvalue import JsonValue
from crdtdb.record import Live, Payload
from crdtdb.types import _accumulator, _steps
from crdtdb.types._accumulator import Sums

__all__ = ["CountingType"]


class CountingType(ScalarType):
    """A counter whose increments survive every reset that did not see them."""

    payload = _accumulator.PayloadType
    totals = True
    removable = False

    def check(self, dot: Dot, payload: Payload) -> None:
        super().check(dot, payload)
        _accumulator.check(dot, payload)

    def add(self, view: View, stamp: Stamp, by: Sums) -> Iterator[Change | Cut]:
        """Add to this replica's accumulator."""
        step = _accumulator.accumulate(_as_stored(view), stamp.dot, by)
        yield Change(OWN, step.replaces, step.payload)

    def delete(self, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        """Reset: a running total is not a dot, so a cut could not remove exactly what it saw."""
        live = _as_stored(view.whole())
        step = _accumulator.reset(live, stamp.dot, view.observed(live))
        if step is not None:
            yield Change(OWN, step.replaces, step.payload)

    def portions(self, value: JsonValue) -> Iterator[JsonValue]:
        assert isinstance(value, int)
        return _steps.portions(value)

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        return _steps.steps(value)

    def describe(self, payload: Payload) -> dict[str, Any]:
        return _accumulator.describe(payload)

    def since(self, live: Live, former: Live) -> Live:
        return _accumulator.since(live, former)

    def counting(self, live: Live) -> Live:
        return _accumulator.counting(live)

    def taken_out(self, live: Live, former: Live, dot: Dot) -> Payload:
        payload = _accumulator.taken_out(live, former, dot)
        return NO_PAYLOAD if payload is None else payload

    def alive(self, live: Live) -> bool:
        return not _accumulator.is_spent(live)

    def value(self, live: Live) -> int:
        return _accumulator.total(live)


def _as_stored(view: View) -> Live:
    """What is visible, with totals that count from their beginning, also before a cut."""
    live, stored = view.live(OWN), view.stored(OWN)
    return live if stored is live else {dot: stored[dot] for dot in live}
