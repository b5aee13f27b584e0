"""The routes, as data: what the server answers, and what the OpenAPI document is made from."""

from __future__ import annotations

from typing import Final

from crdtdb.errors import (
    CursorExpired,
    InvalidOperation,
    NoSpace,
    Overloaded,
    ReadOnly,
    TooLarge,
    UnknownRoute,
    UnknownType,
)
from crdtdb.limits import LIMITS
from crdtdb_server import (
    about,
    data,
    exporting,
    feed,
    importing,
    listing,
    problems,
    transactions,
)
from crdtdb_server.access import Access
from crdtdb_server.acks import ACK
from crdtdb_server.conditions import IF_MATCH, IF_NONE_MATCH
from crdtdb_server.exchange import TEXT
from crdtdb_server.idempotency import KEY_HEADER
from crdtdb_server.parameters import (
    BUCKET,
    DRY_RUN,
    KEY,
    PREFIX,
    SEEN,
    TYPE,
    parameters,
)
from crdtdb_server.routing import Route
from crdtdb_server.schemas import (
    LINES,
    OPERATIONS,
    TRANSACTION,
    VALUE,
    AboutDocument,
    BucketDocument,
    BucketsDocument,
    ChangesDocument,
    Content,
    DigestDocument,
    ErasedDocument,
    HealthDocument,
    ImportDocument,
    KeysDocument,
    MemberDocument,
    ObjectDocument,
    ObjectsDocument,
    ReadinessDocument,
    TransactionDocument,
    WrittenDocument,
    content_of,
)

__all__ = ["ROUTES"]

_OBJECT: Final = "/v1/buckets/{bucket}/{type}/{key}"
_OBJECT_NAMES: Final = parameters(BUCKET, TYPE, KEY)
_TYPE_NAMES: Final = parameters(BUCKET, TYPE)
_BUCKET_NAMES: Final = parameters(BUCKET)
_OF_ONE_WRITE: Final = (IF_MATCH, KEY_HEADER, ACK)
_OF_WRITES: Final = (KEY_HEADER, ACK)
_WRITTEN: Final = (content_of(WrittenDocument),)
_ERASED: Final = (content_of(ErasedDocument),)
_BODY: Final = LIMITS.body_bytes

ROUTES: Final = (
    Route(
        "GET",
        _OBJECT,
        data.get_object,
        Access.READ,
        "Read an object",
        (content_of(ObjectDocument, MemberDocument),),
        _OBJECT_NAMES,
        data.READ_PARAMETERS,
        headers=(IF_NONE_MATCH,),
        problems=(TooLarge, InvalidOperation),
    ),
    Route(
        "POST",
        _OBJECT,
        data.post_object,
        Access.WRITE,
        "Change an object",
        _WRITTEN,
        _OBJECT_NAMES,
        headers=_OF_ONE_WRITE,
        takes=OPERATIONS,
        body_bytes=_BODY,
    ),
    Route(
        "PUT",
        _OBJECT,
        data.put_object,
        Access.WRITE,
        "Set a register",
        _WRITTEN,
        _OBJECT_NAMES,
        parameters(SEEN),
        headers=_OF_ONE_WRITE,
        takes=VALUE,
        body_bytes=_BODY,
    ),
    Route(
        "DELETE",
        _OBJECT,
        data.delete_object,
        Access.WRITE,
        "Delete an object",
        _WRITTEN,
        _OBJECT_NAMES,
        parameters(SEEN),
        headers=_OF_ONE_WRITE,
    ),
    Route(
        "GET",
        "/v1/buckets",
        listing.get_buckets,
        Access.READ,
        "List buckets",
        (content_of(BucketsDocument),),
        query=listing.PAGE_PARAMETERS,
        by_bucket=True,
    ),
    Route(
        "GET",
        "/v1/buckets/{bucket}",
        listing.get_bucket,
        Access.READ,
        "List a bucket’s types",
        (content_of(BucketDocument),),
        _BUCKET_NAMES,
    ),
    Route(
        "GET",
        "/v1/buckets/{bucket}/{type}",
        listing.get_keys,
        Access.READ,
        "List keys or objects",
        (content_of(KeysDocument, ObjectsDocument),),
        _TYPE_NAMES,
        listing.KEYS_PARAMETERS,
    ),
    Route(
        "DELETE",
        "/v1/buckets/{bucket}",
        listing.delete_bucket,
        Access.ADMIN,
        "Delete all objects of a bucket",
        _ERASED,
        _BUCKET_NAMES,
        parameters(DRY_RUN),
        headers=_OF_WRITES,
    ),
    Route(
        "DELETE",
        "/v1/buckets/{bucket}/{type}",
        listing.delete_type,
        Access.ADMIN,
        "Delete objects of a type by key prefix",
        _ERASED,
        _TYPE_NAMES,
        parameters(DRY_RUN, PREFIX),
        headers=_OF_WRITES,
    ),
    Route(
        "POST",
        "/v1/transactions",
        transactions.post_transaction,
        Access.READ,  # updates need more, which the handler sees to
        "Read one snapshot and change several objects atomically",
        (content_of(TransactionDocument),),
        headers=_OF_WRITES,
        takes=TRANSACTION,
        body_bytes=_BODY,
        by_bucket=True,
        problems=(UnknownType, InvalidOperation, TooLarge, Overloaded, ReadOnly, NoSpace),
    ),
    Route(
        "GET",
        "/v1/changes",
        feed.get_changes,
        Access.READ,
        "Follow what changes",
        (content_of(ChangesDocument), feed.EVENTS),
        query=feed.CHANGE_PARAMETERS,
        headers=(feed.LAST_EVENT_ID,),
        problems=(CursorExpired,),
    ),
    Route(
        "POST",
        "/v1/import",
        importing.post_import,
        Access.WRITE,
        "Write the values of lines of JSON",
        (content_of(ImportDocument),),
        headers=(KEY_HEADER,),
        takes=LINES,
        body_bytes=2 * _BODY,
        streamed=True,
        by_bucket=True,
    ),
    Route(
        "GET",
        "/v1/export",
        exporting.get_export,
        Access.READ,
        "All objects as lines of JSON",
        (LINES,),
        query=exporting.EXPORT_PARAMETERS,
    ),
    Route(
        "GET",
        "/v1",
        about.get_about,
        Access.OPEN,
        "Describe the server",
        (content_of(AboutDocument),),
    ),
    Route(
        "GET",
        "/v1/digest",
        about.get_digest,
        Access.READ,
        "Hash all visible data",
        (content_of(DigestDocument),),
    ),
    Route(
        "GET",
        "/healthz",
        about.get_health,
        Access.OPEN,
        "Is the process alive?",
        (content_of(HealthDocument),),
    ),
    Route(
        "GET",
        "/readyz",
        about.get_readiness,
        Access.OPEN,
        "Should it get requests?",
        (content_of(ReadinessDocument),),
        query=about.READINESS_PARAMETERS,
        statuses=(200, 503),
    ),
    Route(
        "GET",
        "/metrics",
        about.get_metrics,
        Access.STATUS,
        "Metrics for Prometheus",
        (Content({"type": "string"}, TEXT),),
    ),
    Route(
        "GET",
        "/problems/{slug}",
        problems.problem_page,
        Access.OPEN,
        "Explain a problem",
        (Content({"type": "string"}, TEXT),),
        problems.PAGE_NAMES,
        problems=(UnknownRoute,),
    ),
)
