"""From what a caller typed to an operation: one reader for every door.

A caller's operation is a plain mapping, `{"op": "increment", "by": 5}`. What it may hold is said
once, by the structs of the data types; this module turns their verdict into problems that name
the field and the limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.datatype import Delete, Operation, OperationType, StateType
from crdtdb.errors import (
    BadRequest,
    CallerError,
    Field,
    InvalidOperation,
    UnknownType,
    joined,
    shortened,
)
from crdtdb.expiry import Expire, Persist
from crdtdb.limits import LIMITS
from crdtdb.types import CATALOGUE

__all__ = [
    "check_name",
    "is_repeatable",
    "operation_names",
    "operation_schema",
    "operation_structs",
    "read_operation",
    "refusal",
    "too_many",
    "type_named",
]

_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_NAMED: Final = re.compile(r"field `(?P<name>[^`]*)`")
_BOUND: Final = re.compile(r"[<>]= (?P<bound>-?\d+)")


def type_named(name: str) -> StateType | OperationType:
    """The data type of that name. Raises UnknownType."""
    kind = CATALOGUE.get(name)
    if kind is None:
        known = ", ".join(CATALOGUE)
        raise UnknownType(
            f"there is no type {shortened(name)!r}; there are {known}",
            Field("type", "unknown type", known),
        )
    return kind


@cache
def operation_structs(type_name: str) -> Mapping[str, type[Operation]]:
    """The operations of a type by name, as the structs that say what each may hold."""
    kind = CATALOGUE[type_name]
    structs: tuple[type[Operation], ...] = kind.operations
    if kind.deletable:
        if not any(issubclass(struct, Delete) for struct in structs):
            structs = (*structs, Delete)
        structs = (*structs, Expire, Persist)
    return {str(struct.__struct_config__.tag): struct for struct in structs}


def operation_names(type_name: str) -> list[str]:
    """The operations a type knows; most know `delete`, `expire` and `persist`."""
    return list(operation_structs(type_name))


def operation_schema(struct: type[Operation]) -> dict[str, Any]:
    """The JSON Schema of an operation, taken from the struct that validates it."""
    _, schemas = msgspec.json.schema_components([struct])
    schema: dict[str, Any] = schemas[struct.__name__]
    return {**schema, **struct.rule}


def read_operation(type_name: str, value: Any, field: str = "") -> Operation:
    """The operation a caller means. Its numbers are as the caller wrote them: 1.0 is no integer.

    Raises BadRequest for what does not fit the schema, InvalidOperation for an operation that the
    type does not know, UnknownType. `field` says where in the request the operation stands.
    """
    try:
        type_named(type_name)
    except UnknownType as error:
        raise error.below(field) from error
    structs = operation_structs(type_name)
    if not isinstance(value, dict):
        raise BadRequest(
            'an operation is an object such as {"op": "…"}', Field(field, "not an object")
        )
    name = value.get("op")
    if not isinstance(name, str):
        raise BadRequest(
            f"say what to do: `op` is one of {', '.join(structs)}",
            Field(joined(field, "op"), "missing or not a string", ", ".join(structs)),
        )
    struct = structs.get(name)
    if struct is None:
        raise InvalidOperation(
            f"a {type_name} has no operation {shortened(name)!r}; it has {', '.join(structs)}",
            Field(joined(field, "op"), "unknown operation", ", ".join(structs)),
        )
    try:
        operation = msgspec.convert(value, type=struct, strict=True)
    except msgspec.ValidationError as error:
        raise refusal(error, field, _fields(struct)) from error
    try:
        return operation.completed(read_operation)
    except CallerError as error:
        raise error.below(field) from error


def is_repeatable(type_name: str, value: Any) -> bool:
    """May the operation, whose outcome is unknown, be carried out again at another replica?

    What this version does not know, it does not repeat.
    """
    try:
        operation = read_operation(type_name, value)
    except CallerError:
        return False
    return operation.repeatable


def _fields(struct: type[Operation]) -> str:
    return ", ".join(one.encode_name for one in msgspec.structs.fields(struct)) or "none"


def refusal(error: msgspec.ValidationError, field: str = "", known: str = "") -> BadRequest:
    """The problem that a struct's verdict stands for: it names the field, below `field`.

    `known` are the fields that there are, to be named if one is unknown.
    """
    found = _AT.match(str(error))
    assert found is not None
    what, path = found["what"], found["path"] or ""
    if named := _NAMED.search(what):
        name = shortened(named["name"])
        what = what.replace(named["name"], name)
        path = joined(path, name)
        if known and "unknown" in what:
            what = f"{what}; known: {known}"
    bound = _BOUND.search(what)
    at = joined(field, path)
    return BadRequest(
        f"{at or 'the document'}: {what}",
        Field(at, what, int(bound["bound"]) if bound else None),
    )


def check_name(name: ObjectName) -> None:
    """Refuse what a user may not address. Raises BadRequest or UnknownType."""
    address.check_bucket(name.bucket)
    type_named(name.type)
    address.check_key(name.key)


def too_many(count: int, limit: int = LIMITS.transaction_operations) -> BadRequest:
    """The problem of a transaction with too many operations."""
    return BadRequest(
        f"{count} operations in one transaction; give 1 to {limit}",
        Field("updates", "wrong number of operations", limit),
    )
