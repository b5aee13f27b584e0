"""`opcounter`: a counter kept as the log of its operations (the op-based family's first member).

The value is the same as a `counter`'s. What differs is what travels: every step is a record of
its own until it is causally stable and folded into the object's base (pure op-based CRDTs,
Baquero et al. 2017). A reset is exact at no extra cost: it cuts the steps it saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from msgspec import Meta

from crdtdb.causal import Dot
from crdtdb.datatype import Cut, Operation, OperationType, Restored
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.record import Payload
from crdtdb.types import _steps

__all__ = ["TYPE"]


class Increment(Operation, tag="increment", frozen=True):
    """Add `by`."""

    by: Annotated[int, Meta(ge=1, le=LIMITS.step)] = 1


class Decrement(Operation, tag="decrement", frozen=True):
    """Take away `by`."""

    by: Annotated[int, Meta(ge=1, le=LIMITS.step)] = 1


class Reset(Operation, tag="reset", frozen=True):
    """Back to zero: removes exactly the steps this replica has seen."""


class OperationCounter(OperationType):
    name = "opcounter"
    summary = "A counter kept as a log of operations; every step counts exactly once."
    operations = (Increment, Decrement, Reset)
    removable = False
    payload = Annotated[int, Meta(ge=-LIMITS.step, le=LIMITS.step)]
    folded = Annotated[str, Meta(pattern=r"^(0|-?[1-9][0-9]{0,39})\Z")]  # more than all dots fill

    def prepare(self, operation: Operation, folded: Any) -> Payload | Cut:
        match operation:
            case Increment(by):
                return by
            case Decrement(by):
                return -by
            case _:
                return Cut()

    def portions(self, value: JsonValue) -> Iterator[JsonValue]:
        assert isinstance(value, int)
        return _steps.portions(value)

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        return _steps.steps(value)

    def describe(self, payload: Payload) -> dict[str, Any]:
        return {"by": payload}

    def empty(self) -> Any:
        return "0"

    def apply(self, folded: Any, dot: Dot, payload: Payload) -> Any:
        return str(int(folded) + payload)

    def value(self, folded: Any) -> JsonValue:
        return int(folded)


TYPE = OperationCounter()
