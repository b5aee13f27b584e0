"""`hll`: about how many different values were added (HyperLogLog), in at most 4 KiB.

An add takes the place of every sketch it saw with their union and its own values, so `live` holds
one sketch per concurrent writer; a read shows the estimate of the union of all. An add that
changes no register of what is there leaves nothing, and costs no commit.

Deleting removes the sketches it saw. A concurrent add that left a sketch re-asserts all that its
replica held: a sketch cannot be split into values again.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

import msgspec

from crdtdb import jsonvalue
from crdtdb.address import OWN
from crdtdb.causal import Dot
from crdtdb.datatype import Change, Cut, Operation, Restored, ScalarType, Stamp, View
from crdtdb.errors import BadRequest, Field
from crdtdb.jsonvalue import JsonValue
from crdtdb.record import Live, Payload
from crdtdb.types import _sketch
from crdtdb.types._members import ONE_OR_SEVERAL, Several, named
from crdtdb.types._sketch import Registers

__all__ = ["TYPE"]


class Add(Operation, tag="add", frozen=True):
    """Take in values: one `value`, or a list of `values`."""

    rule = ONE_OR_SEVERAL

    value: Any = msgspec.UNSET
    values: Several = msgspec.UNSET

    @property
    def repeatable(self) -> bool:
        return True


class Merge(Operation, tag="merge", frozen=True):
    """Take in all that a `sketch` has, as an export gave it (base64)."""

    sketch: str

    @property
    def repeatable(self) -> bool:
        return True


class DistinctCount(ScalarType):
    name = "hll"
    summary = "About how many different JSON values were added (HyperLogLog, error 1.6 %)."
    operations = (Add, Merge)
    payload = bytes  # a sketch

    def mutate(self, operation: Operation, view: View, stamp: Stamp) -> Iterator[Change | Cut]:
        live = view.live(OWN)
        standing = _united(live)
        if isinstance(operation, Merge):
            grown = _sketch.union([standing, _decoded(operation.sketch)])
        else:
            assert isinstance(operation, Add)
            grown = bytearray(standing)
            for _, value in named(operation.value, operation.values):
                _sketch.add(grown, jsonvalue.normalise(value))
        if grown != standing:
            yield Change(OWN, live.keys(), _sketch.write(grown))

    def check(self, dot: Dot, payload: Payload) -> None:
        super().check(dot, payload)
        _sketch.check(payload)

    def exported(self, live: Live) -> JsonValue:
        """The sketch: an estimate could not be written again."""
        return {"sketch": b64encode(_sketch.write(_united(live))).decode()}

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        match value:
            case {"sketch": str(sketch), **rest} if not rest:
                _decoded(sketch, "value")
                yield Restored({"op": "merge", "sketch": sketch})
            case _:
                raise BadRequest(
                    '`value` is {"sketch": …} as an export gives it; values cannot be made from '
                    "an estimate",
                    Field("value", "no sketch"),
                )

    def describe(self, payload: Payload) -> dict[str, Any]:
        return {"value": _sketch.estimate(_sketch.read(payload))}

    def value(self, live: Live) -> int:
        return _sketch.estimate(_united(live))


def _united(live: Live) -> Registers:
    return _sketch.union(map(_sketch.read, live.values()))


def _decoded(text: str, field: str = "sketch") -> Registers:
    try:
        data = b64decode(text, validate=True)
        _sketch.check(data)
    except ValueError as error:
        raise BadRequest(
            "give the `sketch` of an export unchanged: it is base64 of a form that is known",
            Field(field, "no sketch"),
        ) from error
    return _sketch.read(data)


TYPE = DistinctCount()
