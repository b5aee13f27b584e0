"""From what a caller typed to an operation: one reader for every door.

A caller's operation is a plain mapping, `{"op": "increment", "by": 5}`. What it may hold is said
once, by the structs of the data types; this module turns their verdict into problems that name
the field and the limit.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final, NoReturn

import msgspec

from crdtdb.datatype import Delete, Operation, OperationType, StateType
from crdtdb.errors import BadRequest, Field, InvalidOperation, UnknownType
from crdtdb.types import CATALOGUE

__all__ = ["operation_names", "read_operation", "type_named"]

_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_NAMED: Final = re.compile(r"field `(?P<name>[^`]*)`")
_BOUND: Final = re.compile(r"[<>]= (?P<bound>-?\d+)")


def type_named(name: str) -> StateType | OperationType:
    """The data type of that name. Raises UnknownType."""
    kind = CATALOGUE.get(name)
    if kind is None:
        raise UnknownType(f"there is no type {name!r}; there are {', '.join(CATALOGUE)}")
    return kind


@cache
def _structs(type_name: str) -> dict[str, type[Operation]]:
    kind = CATALOGUE[type_name]
    structs: tuple[type[Operation], ...] = (*kind.operations, Delete)
    return {str(struct.__struct_config__.tag): struct for struct in structs}


def operation_names(type_name: str) -> list[str]:
    """The operations a type knows, `delete` included."""
    return list(_structs(type_name))


def read_operation(type_name: str, value: Any, field: str = "") -> Operation:
    """The operation a caller means. `value` has been parsed strictly (`jsonvalue.parse`).

    Raises BadRequest for what does not fit the schema, InvalidOperation for an operation that the
    type does not know, UnknownType. `field` says where in the request the operation stands.
    """
    type_named(type_name)
    structs = _structs(type_name)
    if not isinstance(value, dict):
        raise BadRequest(
            'an operation is an object such as {"op": "…"}', Field(field, "not an object")
        )
    name = value.get("op")
    if not isinstance(name, str):
        raise BadRequest(
            f"say what to do: `op` is one of {', '.join(structs)}",
            Field(_join(field, "op"), "missing or not a string"),
        )
    struct = structs.get(name)
    if struct is None:
        raise InvalidOperation(
            f"a {type_name} has no operation {name!r}; it has {', '.join(structs)}",
            Field(_join(field, "op"), "unknown operation"),
        )
    try:
        return msgspec.convert(value, type=struct, strict=True)
    except msgspec.ValidationError as error:
        _refuse(str(error), field)


def _refuse(message: str, field: str) -> NoReturn:
    found = _AT.match(message)
    assert found is not None
    what, path = found["what"], found["path"] or ""
    if named := _NAMED.search(what):
        path = _join(path, named["name"])
    bound = _BOUND.search(what)
    at = _join(field, path)
    raise BadRequest(
        f"{at or 'the operation'}: {what}",
        Field(at, what, int(bound["bound"]) if bound else None),
    )


def _join(outer: str, inner: str) -> str:
    return f"{outer}.{inner}" if outer and inner else outer or inner
