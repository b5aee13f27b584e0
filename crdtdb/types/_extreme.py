"""What `max` and `min` share: of the values in force, the outermost in the order of JSON values.

The order is total over all JSON values (null < false < true < numbers < strings < arrays <
objects, `jsonbytes.encode`), so numbers compare as numbers, ISO 8601 times as times, and
`[score, "name"]` by score and then by name.

A write that is outermost where it is written takes the place of all it saw; one that repeats the
outermost value asserts it again. Any other is outdone from the start and leaves nothing, so `live`
holds at most one entry per concurrent writer, and a stream of values that change nothing costs no
commit. The price: what an outdone write said is gone when the value that outdid it is deleted.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator
from typing import Any

from crdtdb import jsonbytes, jsonvalue
from crdtdb.address import OWN
from crdtdb.causal import Dot
from crdtdb.datatype import Change, Cut, Operation, Restored, ScalarType, Stamp, View
from crdtdb.jsonvalue import JsonValue
from crdtdb.record import Live, Payload
from crdtdb.types._stored import check_stored, stored

__all__ = ["ExtremeType", "order"]


class Set(Operation, tag="set", frozen=True):
    """Bring a value in; it stays if it is further out than what is there."""

    value: Any

    @property
    def repeatable(self) -> bool:
        return True


class ExtremeType(ScalarType):
    """The outermost of all values that were set."""

    operations = (Set,)
    payload = bytes  # JSON text

    @abstractmethod
    def outermost(self, texts: Collection[bytes]) -> bytes:
        """The text that wins. `order` says how texts compare."""

    def mutate(self, operation: Operation, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        assert isinstance(operation, Set)
        text = stored(operation.value)
        live = view.live(OWN)
        if self.outermost([*live.values(), text]) == text:
            yield Change(OWN, live.keys(), text)

    def check(self, dot: Dot, payload: Payload) -> None:
        super().check(dot, payload)
        check_stored(payload)

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        yield Restored({"op": "set", "value": value})

    def describe(self, payload: Payload) -> dict[str, Any]:
        return {"value": jsonvalue.load(payload)}

    def decisive(self, live: Live) -> Collection[Dot]:
        shown = self.shows(live)
        return [dot for dot, text in live.items() if text == shown]

    def shows(self, live: Live) -> bytes | None:
        return self.outermost(live.values()) if live else None

    def value(self, live: Live) -> JsonValue:
        text = self.shows(live)
        return None if text is None else jsonvalue.load(text)


def order(text: bytes) -> bytes:
    """Where a value stands among all: bytes that compare as the values do."""
    return jsonbytes.encode(jsonvalue.load(text))
