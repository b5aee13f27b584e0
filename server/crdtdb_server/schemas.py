"""The schemas of all bodies, as the OpenAPI document has them.

What requests hold is said by what validates them: the operations' structs and the parameters. What
answers hold is said by the types of `answers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from crdtdb.limits import LIMITS
from crdtdb.operations import operation_schema, operation_structs
from crdtdb.types import CATALOGUE
from crdtdb_server.answers import COMPONENTS
from crdtdb_server.exchange import JSON, NDJSON
from crdtdb_server.parameters import BUCKET, KEY, TYPE, Parameter, Schema
from crdtdb_server.parts import PART_PARAMETERS

__all__ = [
    "LINES",
    "OPERATIONS",
    "TRANSACTION",
    "VALUE",
    "Content",
    "component_schemas",
    "content_of",
]


class Content(NamedTuple):
    """What a body holds."""

    schema: Schema
    media_type: str = JSON
    #: The types that the schema refers to.
    kinds: tuple[type, ...] = ()
    #: One that is taken.
    example: Any = None


def content_of(*kinds: type) -> Content:
    """The JSON of one of these types."""
    schemas = [{"$ref": COMPONENTS + kind.__name__} for kind in kinds]
    return Content(schemas[0] if len(schemas) == 1 else {"anyOf": schemas}, kinds=kinds)


_TYPE: Final = next(iter(CATALOGUE))
_OPERATION: Final = {"op": next(iter(operation_structs(_TYPE)))}

#: Operations on one object.
OPERATIONS: Final = Content(
    {
        "anyOf": [
            {"$ref": f"{COMPONENTS}Operation"},
            {
                "type": "array",
                "items": {"$ref": f"{COMPONENTS}Operation"},
                "minItems": 1,
                "maxItems": LIMITS.transaction_operations,
            },
        ]
    },
    example=_OPERATION,
)
VALUE: Final = Content({"$ref": f"{COMPONENTS}JsonValue"})
TRANSACTION: Final = Content(
    {"$ref": f"{COMPONENTS}Transaction"},
    example={"updates": [{"bucket": "shop", "type": _TYPE, "key": "k", **_OPERATION}]},
)
LINES: Final = Content(
    {"description": 'Lines of {"bucket","type","key","value"}; a bad one is only reported'}, NDJSON
)


def component_schemas(kinds: Iterable[type]) -> dict[str, Schema]:
    """The schemas that contents refer to, by name: of these types, and of what requests hold."""
    _, schemas = msgspec.json.schema_components(kinds, ref_template=COMPONENTS + "{name}")
    return {**schemas, **dict(_request_schemas())}


def _request_schemas() -> Iterator[tuple[str, Schema]]:
    yield "JsonValue", {"description": "Any JSON; integers from -2^63 to 2^64-1"}
    names = _properties(BUCKET, TYPE, KEY)
    for type_name in CATALOGUE:
        structs = operation_structs(type_name)
        title = type_name.capitalize()
        for op, struct in structs.items():
            schema = operation_schema(struct)
            yield f"{title}{op.capitalize()}", schema
        refs = [{"$ref": f"{COMPONENTS}{title}{op.capitalize()}"} for op in structs]
        yield f"{title}Operation", {"anyOf": refs}
        yield (
            f"{title}Update",
            {
                "anyOf": [
                    _addressed(operation_schema(struct), {**names, "type": {"const": type_name}})
                    for struct in structs.values()
                ]
            },
        )
    yield "Operation", _any_type("Operation")
    yield (
        "Transaction",
        {
            "type": "object",
            "description": "Together 1 to 1,000 reads and updates",
            "properties": {
                "reads": _list(
                    {
                        "type": "object",
                        "properties": {**names, **_properties(*PART_PARAMETERS.values())},
                        "required": list(names),
                        "additionalProperties": False,
                    }
                ),
                "updates": _list(_any_type("Update")),
            },
            "additionalProperties": False,
        },
    )


def _properties(*those: Parameter[Any]) -> dict[str, Schema]:
    return {one.name: {"description": one.summary, **one.schema} for one in those}


def _addressed(operation: Schema, names: dict[str, Schema]) -> Schema:
    """An operation together with the object it is about."""
    return {
        **operation,
        "properties": {**names, **operation["properties"]},
        "required": [*names, *operation["required"]],
    }


def _any_type(what: str) -> Schema:
    return {"anyOf": [{"$ref": f"{COMPONENTS}{name.capitalize()}{what}"} for name in CATALOGUE]}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items, "maxItems": LIMITS.transaction_operations}
