"""A data type for tests: its value is the list of its operations, in the order they were applied.

Unlike every real op-based type it tells orders apart, so it can bear witness that an operation
was applied once, and after all it follows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from crdtdb.causal import Dot
from crdtdb.datatype import Cut, Operation, OperationType, Restored, StateType
from crdtdb.jsonvalue import JsonValue
from crdtdb.record import Payload
from crdtdb.types import CATALOGUE

__all__ = ["WITNESS", "in_catalogue"]

WITNESS: Final = "witness"


class Note(Operation, tag="note", frozen=True):
    """Be applied."""


class Witness(OperationType):
    name = WITNESS
    summary = "The operations in the order in which they were applied."
    operations = (Note,)
    removable = False
    payload = None
    folded = list[Dot]

    def prepare(self, operation: Operation, folded: Any) -> Payload | Cut:
        return None

    def empty(self) -> Any:
        return []

    def apply(self, folded: Any, dot: Dot, payload: Payload) -> Any:
        return [*folded, list(dot)]

    def restore(self, value: JsonValue) -> Iterator[Restored]:
        assert isinstance(value, list)
        return (Restored({"op": "note"}) for _ in value)

    def value(self, folded: Any) -> JsonValue:
        value: JsonValue = folded
        return value


TYPE: Final = Witness()


@contextmanager
def in_catalogue(kind: StateType | OperationType = TYPE) -> Iterator[None]:
    """This type, or another, is known to every module while the block lasts."""
    extended = {**CATALOGUE, kind.name: kind}
    # Names are looked up in the dictionary: to ask a lazy module for one may import more modules.
    modules = list(sys.modules.values())
    holders = [m for m in modules if getattr(m, "__dict__", {}).get("CATALOGUE") is CATALOGUE]
    patches = [patch.object(module, "CATALOGUE", extended) for module in holders]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()
