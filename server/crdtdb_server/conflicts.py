"""`/v1/conflicts`: values that lost to a concurrent one, as this replica saw it happen."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from crdtdb.answers import Conflict
from crdtdb.causal import VersionVector
from crdtdb.changes import Scope
from crdtdb_server.answers import ConflictDocument
from crdtdb_server.documents import dump
from crdtdb_server.exchange import Answer, Request
from crdtdb_server.parameters import AFTER, BUCKET, KEY, LIMIT, TYPE, parameters
from crdtdb_server.service import Service

__all__ = ["CONFLICT_PARAMETERS", "get_conflicts"]

CONFLICT_PARAMETERS: Final = parameters(BUCKET, TYPE, KEY, LIMIT, AFTER)


async def get_conflicts(service: Service, request: Request) -> Answer:
    """Values of registers that lost to a concurrent write, the latest first.

    Each is told once, with the value that it lost to; a write brings it back. The journal is of
    this replica alone and bounded (`conflict_rows`, `conflict_bytes` in `GET /v1`).
    """
    # A long scan, where few of many are wanted: it must not hold up the event loop.
    body, seen = await asyncio.to_thread(_page, service, request)
    return Answer(body, seen)


def _page(service: Service, request: Request) -> tuple[bytes, VersionVector]:
    query, database = request.query, service.database
    scope = Scope(BUCKET.of(query), TYPE.of(query), KEY.of(query))
    with database.reading() as reading:
        conflicts, following = database.conflict_page(
            reading, scope, AFTER.of(query), LIMIT.of(query)
        )
        seen = reading.seen
    document: dict[str, Any] = {"conflicts": [_document(conflict) for conflict in conflicts]}
    if following is not None:
        document["next"] = following
    return dump(document), seen


def _document(conflict: Conflict) -> ConflictDocument:
    document: ConflictDocument = {
        "object": {
            "bucket": conflict.name.bucket,
            "type": conflict.name.type,
            "key": conflict.name.key,
        },
        "at_ms": conflict.at_ms,
        "kept": conflict.kept,
        "lost": [
            {"value": lost.value, "replica": lost.replica, "at_ms": lost.at_ms}
            for lost in conflict.lost
        ],
    }
    if conflict.field is not None:
        document["field"] = list(conflict.field)
    return document
