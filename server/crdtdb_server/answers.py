"""What answers hold: their documents, as types.

Handlers fill them in, so that the type checker holds them to what the OpenAPI document says.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired, TypedDict

from msgspec import Meta

from crdtdb.errors import PROBLEMS
from crdtdb.replication.pull import Progress
from crdtdb_server.service import State

__all__ = [
    "COMPONENTS",
    "AboutDocument",
    "BucketDocument",
    "BucketsDocument",
    "ChangeDocument",
    "ChangesDocument",
    "ConflictDocument",
    "ConflictsDocument",
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
    "progress_document",
]

#: Where schemas that have a name stand in the OpenAPI document.
COMPONENTS: Final = "#/components/schemas/"


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
                        {"$ref": f"{COMPONENTS}ObjectDocument"},
                        {"$ref": f"{COMPONENTS}MemberDocument"},
                        {"$ref": f"{COMPONENTS}FieldDocument"},
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
