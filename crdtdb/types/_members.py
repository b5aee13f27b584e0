"""Which members an operation names: `value` or `values`, checked and in their stored form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, TypeAlias

from msgspec import UNSET, Meta, UnsetType

from crdtdb import address, jsonbytes, jsonvalue
from crdtdb.errors import BadRequest, Field, TooLarge
from crdtdb.limits import LIMITS

__all__ = ["ONE_OR_SEVERAL", "Several", "member_tail", "member_tails", "named"]

#: The field `values`.
Several: TypeAlias = (
    Annotated[list[Any], Meta(min_length=1, max_length=LIMITS.operation_values)] | UnsetType
)
#: What JSON Schema can say of both fields together.
ONE_OR_SEVERAL: Final = {"oneOf": [{"required": ["value"]}, {"required": ["values"]}]}


def member_tail(value: object, field: str = "value") -> bytes:
    """The tail of one member's record. Raises BadRequest, or TooLarge beyond the limit."""
    tail = address.MEMBER + jsonbytes.encode(jsonvalue.normalise(value))
    if len(tail) > LIMITS.member_bytes:
        raise TooLarge(
            f"a member takes {len(tail)} bytes; keep it within {LIMITS.member_bytes}",
            Field(field, "too large", LIMITS.member_bytes),
        )
    return tail


def named(value: Any, values: Several) -> Iterator[tuple[str, Any]]:
    """The values that an operation names, each after the field where it stands.

    Raises BadRequest unless there is exactly one of both fields.
    """
    if (value is UNSET) == (values is UNSET):
        raise BadRequest(
            "give one `value`, or a list of `values`",
            Field("value", "exactly one of `value` and `values` is needed"),
        )
    if values is UNSET:
        return iter([("value", value)])
    assert not isinstance(values, UnsetType)
    return ((f"values[{i}]", one) for i, one in enumerate(values))


def member_tails(value: Any, values: Several) -> list[bytes]:
    """The tails of the named members, each once, in order."""
    tails = (member_tail(one, field) for field, one in named(value, values))
    return list(dict.fromkeys(tails))
