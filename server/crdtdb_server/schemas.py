"""What bodies hold: the documents of answers, as types, and the schemas of all bodies.

Handlers fill the types in, so that the type checker holds them to what the OpenAPI document says.
What requests hold is said by what validates them: the operations' structs and the parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from crdtdb.errors import PROBLEMS
from crdtdb.limits import LIMITS
from crdtdb.operations import operation_schema, operation_structs
from crdtdb.replication.pull import Progress
from crdtdb.types import CATALOGUE
from crdtdb_server.exchange import JSON, NDJSON
from crdtdb_server.parameters import BUCKET, KEY, TYPE, Parameter, Schema
from crdtdb_server.parts import PART_PARAMETERS
from crdtdb_server.service import State

__all__ = [
    "LINES",
    "OPERATIONS",
    "TRANSACTION",
    "VALUE",
    "AboutDocument",
    "BucketDocument",
    "BucketsDocument",
    "ChangeDocument",
    "ChangesDocument",
    "ConflictDocument",
    "ConflictsDocument",
    "Content",
    "DigestDocument",
    "DroppedDocument",
    "ErasedDocument",
    "ExportDocument",
    "FieldDocument",
    "HealthDocument",
    "ImportDocument",
    "KeysDocument",
    "LineDocument",
    "LostDocument",
    "MemberDocument",
    "NameDocument",
    "ObjectDocument",
    "ObjectsDocument",
    "OperationDocument",
    "ProblemDocument",
    "ProgressDocument",
    "ReadinessDocument",
    "TransactionDocument",
    "TypeDocument",
    "WrittenDocument",
    "WrongDocument",
    "component_schemas",
    "content_of",
    "progress_document",
]

_COMPONENTS: Final = "#/components/schemas/"


class ObjectDocument(TypedDict):
    """An object: its value, or a page of its members."""

    bucket: str
    type: str
    key: str
    value: Any
    exists: bool
    seen: NotRequired[Annotated[str, Meta(description="The read context of what is shown")]]
    size: NotRequired[Annotated[int, Meta(description="Members in all", ge=0)]]
    next: NotRequired[Annotated[str, Meta(description="`after` of the next page")]]
    also: NotRequired[Annotated[list[str], Meta(description="Other types that have the key")]]
    expires_at_ms: NotRequired[Annotated[int, Meta(description="Its deadline, ms since 1970")]]
    client: NotRequired[
        Annotated[int, Meta(description="A Yjs client id: new edits under it are taken in here")]
    ]
    explain: NotRequired[dict[str, Any]]


class MemberDocument(TypedDict):
    """Is it a member? Of a zset: which score and rank has it, null for none?"""

    value: bool | int | float | None
    rank: NotRequired[int | None]
    explain: NotRequired[dict[str, Any]]


class FieldDocument(TypedDict):
    """A field of a map: what it holds, `map` for what is below it, null for nothing."""

    field: list[str]
    type: str | None
    value: Any
    others: NotRequired[Annotated[dict[str, Any], Meta(description="By type, what else it holds")]]
    seen: Annotated[str, Meta(description="The read context of what is shown")]
    explain: NotRequired[dict[str, Any]]


class WrittenDocument(TypedDict):
    """What a write did: the value it left, of a collection or a text the size."""

    changed: Annotated[bool, Meta(description="Do users of this replica see a change?")]
    value: NotRequired[Any]
    size: NotRequired[int]


class BucketsDocument(TypedDict):
    """A page of the buckets in which something exists."""

    buckets: list[str]
    next: NotRequired[str]


class BucketDocument(TypedDict):
    """The types under which something exists in a bucket."""

    bucket: str
    types: list[str]


class KeysDocument(TypedDict):
    """A page of the keys of a type."""

    bucket: str
    type: str
    keys: list[str]
    next: NotRequired[str]


class ObjectsDocument(TypedDict):
    """A page of the objects of a type."""

    bucket: str
    type: str
    objects: list[ObjectDocument]
    next: NotRequired[str]


class ErasedDocument(TypedDict):
    """How many objects were removed, or would be."""

    objects: int
    changed: bool


class TransactionDocument(TypedDict):
    """What was read, in one snapshot before the updates, and what the updates did."""

    reads: Annotated[
        list[Any],
        Meta(
            extra_json_schema={
                "items": {
                    "anyOf": [
                        {"$ref": f"{_COMPONENTS}ObjectDocument"},
                        {"$ref": f"{_COMPONENTS}MemberDocument"},
                        {"$ref": f"{_COMPONENTS}FieldDocument"},
                    ]
                }
            }
        ),
    ]
    results: list[WrittenDocument]


class ChangeDocument(TypedDict):
    """A record that changed, in its latest state."""

    cursor: str
    bucket: str
    type: str
    key: str
    field: NotRequired[Annotated[list[str], Meta(description="Of a map: where it changed")]]
    member: NotRequired[Any]
    deleted: bool
    value: NotRequired[Any]


class ChangesDocument(TypedDict):
    """A page of changes, and the cursor behind it."""

    changes: list[ChangeDocument]
    cursor: str
    more: bool


class NameDocument(TypedDict):
    """The address of an object."""

    bucket: str
    type: str
    key: str


class LostDocument(TypedDict):
    """A value that was written, and lost to a concurrent one."""

    value: Any
    replica: Annotated[str, Meta(description="Its writer: a name; unknown: an incarnation")]
    at_ms: Annotated[int, Meta(description="When it was written, by its writer’s clock")]


class ConflictDocument(TypedDict):
    """Values of an object that lost, and the one that they lost to."""

    object: NameDocument
    at_ms: Annotated[int, Meta(description="When this replica saw it, by its own clock")]
    kept: Any
    lost: list[LostDocument]
    field: NotRequired[Annotated[list[str], Meta(description="Of a map: where they were")]]


class ConflictsDocument(TypedDict):
    """A page of the journal of conflicts, the latest first."""

    conflicts: list[ConflictDocument]
    next: NotRequired[Annotated[str, Meta(description="`after` of the next page")]]


class LineDocument(TypedDict):
    """A line that was not written, and why."""

    line: int
    code: str
    detail: str
    field: NotRequired[str]


class ExportDocument(TypedDict):
    """A page of an export: objects as an import takes them, and where the next page begins."""

    lines: list[dict[str, Any]]
    next: NotRequired[str]


class ImportDocument(TypedDict):
    """What has become of the lines of an import."""

    lines: int
    written: Annotated[dict[str, int], Meta(description="By type")]
    repeated: Annotated[int, Meta(description="Written before, under the same Idempotency-Key")]
    failed: int
    errors: Annotated[list[LineDocument], Meta(description="Of the first that failed")]


class OperationDocument(TypedDict):
    """One operation of a type; `fields` holds a JSON Schema for each."""

    summary: str
    fields: dict[str, Any]
    required: list[str]


class TypeDocument(TypedDict):
    """A data type."""

    summary: str
    collection: Annotated[bool, Meta(description="Does it read as members, in pages?")]
    removable: Annotated[bool, Meta(description="Do its reads give a read context, `seen`?")]
    leaf: Annotated[bool, Meta(description="Can a field of a map be of this type?")]
    operations: dict[str, OperationDocument]


class AboutDocument(TypedDict):
    """The server."""

    version: str
    replica: str
    region: str | None
    cluster: str
    types: dict[str, TypeDocument]
    limits: dict[str, int]
    features: list[str]


class DigestDocument(TypedDict):
    """A hash over everything users see."""

    digest: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    objects: int
    context: str


class HealthDocument(TypedDict):
    """The process is alive."""

    status: Literal["ok"]


class ProgressDocument(TypedDict):
    """How far the pull under way has come.

    `records` and `bytes` have come, from the places of the donor's sequence up to `place` of
    `head`; when all are there (`complete`), they are joined, and `joined` of them are.
    """

    donor: str
    records: int
    bytes: int
    place: int
    head: int
    complete: bool
    joined: int


class ReadinessDocument(TypedDict):
    """What the replica is doing. Of `newer_peers` it cannot take in all until it is upgraded.

    `clock_off_by_ms` is there when the clocks of most members are that far off this one's,
    `failing` when parts of replication end in a bug: they are tried again, and the log has the
    reason.
    """

    state: State
    clock_off_by_ms: NotRequired[int]
    progress: NotRequired[ProgressDocument]
    newer_peers: NotRequired[list[str]]
    failing: NotRequired[list[str]]


def progress_document(progress: Progress) -> ProgressDocument:
    """How far a pull has come, as it is shown."""
    return {
        "donor": progress.donor,
        "records": progress.records,
        "bytes": progress.size_bytes,
        "place": progress.place,
        "head": progress.head,
        "complete": progress.is_complete,
        "joined": progress.joined,
    }


class WrongDocument(TypedDict):
    """One part of a request that was wrong."""

    field: Annotated[str, Meta(description="Where; empty: the request as a whole")]
    message: str
    limit: NotRequired[int | str]


class ProblemDocument(TypedDict):
    """What was wrong, whose fault it is, and what to do (RFC 9457)."""

    type: Annotated[str, Meta(description="A page about this kind of problem")]
    code: Annotated[str, Meta(extra_json_schema={"enum": list(PROBLEMS)})]
    title: str
    status: int
    detail: str
    errors: NotRequired[list[WrongDocument]]


class DroppedDocument(TypedDict):
    """A link whose fault was taken away, if it had one."""

    mended: bool


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
    schemas = [{"$ref": _COMPONENTS + kind.__name__} for kind in kinds]
    return Content(schemas[0] if len(schemas) == 1 else {"anyOf": schemas}, kinds=kinds)


_TYPE: Final = next(iter(CATALOGUE))
_OPERATION: Final = {"op": next(iter(operation_structs(_TYPE)))}

#: Operations on one object.
OPERATIONS: Final = Content(
    {
        "anyOf": [
            {"$ref": f"{_COMPONENTS}Operation"},
            {
                "type": "array",
                "items": {"$ref": f"{_COMPONENTS}Operation"},
                "minItems": 1,
                "maxItems": LIMITS.transaction_operations,
            },
        ]
    },
    example=_OPERATION,
)
VALUE: Final = Content({"$ref": f"{_COMPONENTS}JsonValue"})
TRANSACTION: Final = Content(
    {"$ref": f"{_COMPONENTS}Transaction"},
    example={"updates": [{"bucket": "shop", "type": _TYPE, "key": "k", **_OPERATION}]},
)
LINES: Final = Content(
    {"description": 'Lines of {"bucket","type","key","value"}; a bad one is only reported'}, NDJSON
)


def component_schemas(kinds: Iterable[type]) -> dict[str, Schema]:
    """The schemas that contents refer to, by name: of these types, and of what requests hold."""
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_COMPONENTS + "{name}")
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
        refs = [{"$ref": f"{_COMPONENTS}{title}{op.capitalize()}"} for op in structs]
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
    return {"anyOf": [{"$ref": f"{_COMPONENTS}{name.capitalize()}{what}"} for name in CATALOGUE]}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items, "maxItems": LIMITS.transaction_operations}
