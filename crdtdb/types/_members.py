"""Which members an operation names: `value` or `values`, checked and in their stored form."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from crdtdb import address, jsonvalue
from crdtdb.errors import BadRequest, Field, TooLarge
from crdtdb.limits import LIMITS

__all__ = ["member_tail", "member_tails"]


def member_tail(value: object, field: str = "value") -> bytes:
    """The tail of one member's record. Raises BadRequest, or TooLarge beyond the limit."""
    tail = address.MEMBER + jsonvalue.encode(jsonvalue.normalise(value))
    if len(tail) > LIMITS.member_bytes:
        raise TooLarge(
            f"a member takes {len(tail)} bytes; keep it within {LIMITS.member_bytes}",
            Field(field, "too large", LIMITS.member_bytes),
        )
    return tail


def member_tails(value: Any, values: list[Any] | UnsetType) -> list[bytes]:
    """The tails of the named members, each once, in order."""
    if (value is UNSET) == (values is UNSET):
        raise BadRequest(
            "give one `value`, or a list of `values`",
            Field("value", "exactly one of `value` and `values` is needed"),
        )
    if values is UNSET:
        return [member_tail(value)]
    assert not isinstance(values, UnsetType)
    if not 1 <= len(values) <= LIMITS.operation_values:
        raise BadRequest(
            f"`values` has {len(values)} entries; give 1 to {LIMITS.operation_values}",
            Field("values", "wrong number of entries", LIMITS.operation_values),
        )
    tails = (member_tail(v, f"values[{i}]") for i, v in enumerate(values))
    return list(dict.fromkeys(tails))
