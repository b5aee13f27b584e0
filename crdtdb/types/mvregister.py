"""`mvregister`: a register that keeps every concurrent value until a writer has seen them.

Nothing acknowledged is lost: a write replaces only what its writer saw (all this replica holds,
or what the read context `seen` shows).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crdtdb import jsonbytes, jsonvalue
from crdtdb.address import OWN
from crdtdb.causal import NOTHING, Dot
from crdtdb.datatype import Change, Cut, Operation, ReadContext, Restored, ScalarType, Stamp, View
from crdtdb.errors import BadRequest, Field, TooLarge
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.record import Live, Payload
from crdtdb.types._stored import check_stored, stored

__all__ = ["TYPE"]


class Set(Operation, tag="set", frozen=True):
    """Replace the values that were seen."""

    value: Any
    seen: ReadContext = None


class MultiValueRegister(ScalarType):
    name = "mvregister"
    summary = "JSON values; concurrent writes are all read, as a list, until one replaces them."
    operations = (Set,)
    payload = bytes  # JSON text

    def mutate(self, operation: Operation, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        assert isinstance(operation, Set)
        text = stored(operation.value)
        live = view.live(OWN)
        observed = view.observed(live)
        if len(live) - len(observed) >= LIMITS.siblings:
            raise TooLarge(
                f"there are {len(live)} concurrent values; read them and replace them first",
                Field("seen", "leaves too many values standing", LIMITS.siblings),
            )
        yield Change(OWN, observed, text)

    def check(self, dot: Dot, payload: Payload) -> None:
        super().check(dot, payload)
        check_stored(payload)

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        """The first value replaces what is there; the others, written as if blind, join it."""
        if not isinstance(value, list) or len(value) > LIMITS.siblings:
            raise BadRequest(
                f"`value` is a list of at most {LIMITS.siblings} concurrent values",
                Field("value", "no such list", LIMITS.siblings),
            )
        for i, one in enumerate(value):
            yield Restored({"op": "set", "value": one}, NOTHING if i else None)

    def describe(self, payload: Payload) -> dict[str, Any]:
        return {"value": jsonvalue.load(payload)}

    def shows(self, live: Live) -> set[bytes]:
        return set(live.values())

    def value(self, live: Live) -> JsonValue:
        values = {jsonbytes.encode(value): value for value in map(jsonvalue.load, live.values())}
        return [values[order] for order in sorted(values)]


TYPE = MultiValueRegister()
