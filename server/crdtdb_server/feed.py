"""The change feed: `/v1/changes`, as a page, by long poll, or as a stream of server-sent events.

One event per changed record, with its latest state. A cursor can be carried to any replica. A
stream reads page after page, each bounded in bytes, and holds no more than one for a slow reader:
who does not take it in time is dropped, and comes back with the cursor it had.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final, NamedTuple

from crdtdb.answers import LEFT_OUT, Event
from crdtdb.changes import ChangeCursor, Scope
from crdtdb.errors import BadToken
from crdtdb.following import EventPage, read_events, read_since
from crdtdb_server.documents import dump
from crdtdb_server.exchange import Answer, Request
from crdtdb_server.parameters import (
    BUCKET,
    KEY,
    LIMIT,
    TYPE,
    Choice,
    Header,
    Text,
    WholeNumber,
    parameters,
)
from crdtdb_server.schemas import Content
from crdtdb_server.service import Service

__all__ = ["CHANGE_PARAMETERS", "EVENTS", "LAST_EVENT_ID", "get_changes"]

EVENTS: Final = Content(
    {"type": "string", "description": "Server-sent events; `data` is a ChangeDocument"},
    "text/event-stream",
)
#: How long a long poll waits when nothing is said, and at most; how often a stream shows a sign.
_WAIT_S: Final = 30
_WAIT_MOST_S: Final = 60
_HEARTBEAT_S: Final = 15

_CURSOR: Final = {"format": "change-cursor"}
_SINCE: Final = Text(
    "since", "The cursor to go on from; absent: from the start; now: from here on", form=_CURSOR
)
_FEED: Final = Choice("feed", "Wait for changes; absent: one page", ("longpoll", "sse"))
_INCLUDE: Final = Choice("include", "Show values too, of types that read as one", ("value",))
_TIMEOUT: Final = WholeNumber(
    "timeout", "Seconds that a long poll waits", 0, _WAIT_MOST_S, default=_WAIT_S
)
CHANGE_PARAMETERS: Final = parameters(_SINCE, BUCKET, TYPE, KEY, _FEED, _INCLUDE, _TIMEOUT, LIMIT)
LAST_EVENT_ID: Final = Header(
    "Last-Event-ID", "For server-sent events: as `since`, and before it", _CURSOR
)

#: Events in one part of a stream.
_PART: Final = 250


class _Wanted(NamedTuple):
    """What a reader of changes asked for."""

    scope: Scope
    with_value: bool
    limit: int


async def get_changes(service: Service, request: Request) -> Answer:
    """Changes since a cursor; without one from the start, with `since=now` from here on."""
    query = request.query
    wanted = _Wanted(
        Scope(BUCKET.of(query), TYPE.of(query), KEY.of(query)),
        _INCLUDE.of(query) is not None,
        LIMIT.of(query),
    )
    feed, since = _FEED.of(query), _SINCE.of(query)
    if feed == "sse":
        last = request.headers.get("last-event-id")
        wanted = wanted._replace(limit=_PART)
        # The first part is read before anything is answered: a cursor may be too old.
        field = LAST_EVENT_ID.name if last else _SINCE.name
        page = _read(service, _cursor(service, last or since, field), wanted)
        stream = _stream(service, page, wanted)
        return Answer(b"", page.seen, media_type=EVENTS.media_type, stream=stream)
    page = _read(service, _cursor(service, since, _SINCE.name), wanted)
    if feed == "longpoll":
        page = await _poll(service, page, wanted, _TIMEOUT.of(query))
    document = {
        "changes": [_document(event) for event in page.events],
        "cursor": page.cursor.write(service.database.cluster),
        "more": not page.at_head,
    }
    return Answer(dump(document), page.seen)


def _cursor(service: Service, since: str | None, field: str) -> ChangeCursor:
    """Where a reader begins. Raises BadToken naming the `field` that says so."""
    database = service.database
    try:
        with database.engine.store.snapshot() as snapshot:
            return read_since(snapshot, database.cluster, since, database.engine.floors)
    except BadToken as error:
        raise error.below(field) from error


def _read(service: Service, cursor: ChangeCursor, wanted: _Wanted) -> EventPage:
    """The next changes, of one snapshot."""
    scope, with_value, limit = wanted
    database = service.database
    with database.engine.store.snapshot() as snapshot:
        return read_events(
            snapshot,
            database.cluster,
            cursor,
            scope,
            limit,
            include_value=with_value,
            clock=database.clock,
        )


def _document(event: Event) -> dict[str, Any]:
    name = event.name
    document: dict[str, Any] = {
        "cursor": event.cursor,
        "bucket": name.bucket,
        "type": name.type,
        "key": name.key,
    }
    if event.field is not None:
        document["field"] = event.field
    if event.member is not LEFT_OUT:
        document["member"] = event.member
    document["deleted"] = event.deleted
    if event.value is not LEFT_OUT:
        document["value"] = event.value
    return document


async def _poll(service: Service, page: EventPage, wanted: _Wanted, timeout_s: int) -> EventPage:
    """Wait for changes, for at most so long."""
    try:
        async with asyncio.timeout(timeout_s):
            while not (page.events or service.sessions.closed):
                if page.at_head:
                    await service.sessions.next_advance()
                page = _read(service, page.cursor, wanted)
    except TimeoutError:
        pass
    return page


async def _stream(
    service: Service, page: EventPage, wanted: _Wanted
) -> AsyncGenerator[bytes, None]:
    """Server-sent events, with a heartbeat that moves the cursor when nothing happens."""
    yield b": changes\n\n"
    while not service.sessions.closed:
        if page.events:
            yield b"".join(map(_event, page.events))
        elif not page.at_head:
            await asyncio.sleep(0)
        # What came while the events were taken has woken nobody.
        if page.at_head and page.seen.includes(service.seen):
            try:
                async with asyncio.timeout(_HEARTBEAT_S):
                    await service.sessions.next_advance()
            except TimeoutError:
                cursor = page.cursor.write(service.database.cluster)
                yield b": heartbeat\nid: %s\n\n" % cursor.encode()
        page = _read(service, page.cursor, wanted)


def _event(event: Event) -> bytes:
    return b"id: %s\ndata: %s\n\n" % (event.cursor.encode(), dump(_document(event)))
