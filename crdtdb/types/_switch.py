"""Flags out of an export: on or off."""

from __future__ import annotations

from collections.abc import Iterator

from crdtdb.datatype import Restored
from crdtdb.errors import BadRequest, Field
from crdtdb.jsonvalue import JsonValue

__all__ = ["switched"]


def switched(value: JsonValue) -> Iterator[Restored]:
    """What turns a flag on or off. Raises BadRequest for what is neither."""
    if not isinstance(value, bool):
        raise BadRequest("`value` is true or false", Field("value", "neither true nor false"))
    yield Restored({"op": "enable" if value else "disable"})
