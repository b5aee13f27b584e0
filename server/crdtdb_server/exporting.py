"""`GET /v1/export`: objects as lines of JSON that `/v1/import` takes.

It can be as long as the data, so it is read in parts, each of a snapshot of its own: nothing is
held between two parts, and one object's line shows one state of it. What exists during the whole
export is in it, each member once. An object that is too much for one line takes several, which
add up: a collection page by page, a counter by portions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Final

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.operations import type_named
from crdtdb.reading import PageQuery, Reading
from crdtdb.types import CATALOGUE
from crdtdb_server.documents import dump
from crdtdb_server.exchange import NDJSON, Answer, Request
from crdtdb_server.parameters import BUCKET, PREFIX, parameters
from crdtdb_server.service import Service

__all__ = ["EXPORT_PARAMETERS", "get_export"]

EXPORT_PARAMETERS: Final = parameters(BUCKET, PREFIX)
#: A part ends with the line that makes it longer than this, or after so many lines.
_PART_BYTES: Final = 256 * 1024
_PART_LINES: Final = 1_000


async def get_export(service: Service, request: Request) -> Answer:
    """All objects, or those of a bucket, or those whose keys begin with `prefix`."""
    export = _Export(service, BUCKET.of(request.query), PREFIX.of(request.query) or "")
    return Answer(b"", service.seen, media_type=NDJSON, stream=_parts(export))


async def _parts(export: _Export) -> AsyncGenerator[bytes, None]:
    # In a thread, for a part is more than the event loop should read in one go.
    while part := await asyncio.to_thread(export.part):
        yield part


class _Export:
    """Where an export stands."""

    def __init__(self, service: Service, bucket: str | None, start: str) -> None:
        self._database = service.database
        self._key_start = start
        #: What is still to be looked through, in order.
        self._ranges = (
            [address.DATA]
            if bucket is None
            else [address.key_prefix(bucket, name, start) for name in sorted(CATALOGUE)]
        )
        #: The address to go on from, and within that object the member to go on behind.
        self._from = b""
        self._behind: bytes | None = None

    def part(self) -> bytes:
        """The next lines; nothing at the end."""
        lines: list[bytes] = []
        size = 0
        with self._database.reading() as reading:
            for line in self._lines(reading):
                lines.append(line)
                size += len(line)
                if size > _PART_BYTES or len(lines) == _PART_LINES:
                    break
        return b"".join(lines)

    def _lines(self, reading: Reading) -> Iterator[bytes]:
        """Lines from where the export stands. With each, it stands behind that line."""
        while self._ranges:
            for name in reading.existing(self._ranges[0], self._from):
                if self._is_wanted(name):
                    yield from self._object(reading, name)
            del self._ranges[0]

    def _is_wanted(self, name: ObjectName) -> bool:
        return (
            not name.bucket.startswith("_")
            and name.type in CATALOGUE
            and name.key.startswith(self._key_start)
        )

    def _object(self, reading: Reading, name: ObjectName) -> Iterator[bytes]:
        prefix = name.prefix
        head = reading.head(prefix)
        kind = type_named(name.type)
        if not kind.collection:
            value = reading.value(name, head)
            self._stand_behind(prefix)
            yield b"".join(_line(name, portion) for portion in kind.portions(value))
            return
        if prefix != self._from:
            self._from, self._behind = prefix, None
        while prefix == self._from:
            page = reading.page(name, head, PageQuery(LIMITS.page_items, self._behind))
            self._behind = page.position
            if page.position is None:
                self._stand_behind(prefix)
            if page.items:
                yield _line(name, page.items)

    def _stand_behind(self, prefix: bytes) -> None:
        # No name holds a zero byte, so no object's prefix is between the two.
        self._from = prefix + b"\0"


def _line(name: ObjectName, value: JsonValue) -> bytes:
    return dump({**name._asdict(), "value": value}) + b"\n"
