"""`GET /v1/export`: objects as lines of JSON that `/v1/import` takes, or page by page.

All lines in one go are for files; pages are for clients, who can go on from each of them, at any
replica, when something breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from crdtdb.causal import VersionVector
from crdtdb.database import Database
from crdtdb.exporting import Export
from crdtdb_server.documents import dump
from crdtdb_server.exchange import NDJSON, Answer, Request
from crdtdb_server.parameters import AFTER, BUCKET, PREFIX, Boolean, parameters
from crdtdb_server.service import Service

__all__ = ["EXPORT_PARAMETERS", "get_export"]

_PAGED: Final = Boolean("paged", "One page, as JSON that says where the next begins")
EXPORT_PARAMETERS: Final = parameters(BUCKET, PREFIX, _PAGED, AFTER)


async def get_export(service: Service, request: Request) -> Answer:
    """All objects, or those of a bucket, or those whose keys begin with `prefix`."""
    query = request.query
    export = Export(BUCKET.of(query), PREFIX.of(query) or "", AFTER.of(query))
    database = service.database
    if not _PAGED.of(query):
        return Answer(b"", service.seen, media_type=NDJSON, stream=_stream(database, export))
    lines, seen = await _part(database, export)
    end = b"" if export.next is None else b',"next":' + dump(export.next)
    return Answer(b'{"lines":[%b]%b}' % (b",".join(lines), end), seen)


async def _stream(database: Database, export: Export) -> AsyncGenerator[bytes, None]:
    while export.next is not None:
        lines, _ = await _part(database, export)
        if lines:
            yield b"\n".join(lines) + b"\n"


async def _part(database: Database, export: Export) -> tuple[list[bytes], VersionVector]:
    """The next lines, and what the state covers that they show."""

    def read() -> tuple[list[bytes], VersionVector]:
        with database.reading() as reading:
            return export.part(reading), reading.seen

    # In a thread, for a part is more than the event loop should read in one go.
    return await asyncio.to_thread(read)
