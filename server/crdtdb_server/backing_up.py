"""`GET /v1/backup`: one exact state of this replica, while it goes on serving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from crdtdb import __version__
from crdtdb.backup import Taking
from crdtdb_server.exchange import Answer, Request
from crdtdb_server.schemas import Content
from crdtdb_server.service import Service

__all__ = ["BACKUP", "get_backup"]

#: What comes (`crdtdb.backup` has its layout).
BACKUP: Final = Content({"type": "string", "format": "binary"}, "application/vnd.crdtdb.backup")


def get_backup(service: Service, request: Request) -> Answer:
    """Everything that this replica stores, in the form that `crdtdb restore` takes.

    It is sent as fast as it is taken, and is of one state, the one at its end. Its last frame says
    that it is whole. One at a time.
    """
    if request.method == "HEAD":
        return Answer(b"", service.seen, media_type=BACKUP.media_type)
    database = service.database
    taking = Taking(
        database.engine, version=__version__, cluster=database.cluster, replica=database.replica
    )
    return Answer(b"", service.seen, media_type=BACKUP.media_type, stream=_stream(taking))


async def _stream(taking: Taking) -> AsyncGenerator[bytes, None]:
    taking.begin()
    try:
        frames = taking.frames()
        # Each is more than the event loop should read in one go.
        while (frame := await asyncio.to_thread(next, frames, None)) is not None:
            yield frame
    finally:
        taking.end()
