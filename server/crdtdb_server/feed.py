"""The change feed: `/v1/changes`, as a page, by long poll, or as a stream of server-sent events.

One event per changed record, with its latest state. A cursor can be carried to any replica. A
stream reads page after page and holds nothing for a slow reader: who does not take a part in time
is dropped, and comes back with the cursor it had.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final, NamedTuple

from crdtdb import address
from crdtdb.changes import BEGINNING, Change, ChangeCursor, Scope, changes_head, read_changes
from crdtdb.errors import BadToken
from crdtdb.operations import type_named
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


class _Batch(NamedTuple):
    """Some changes as documents, each with the cursor behind it."""

    events: list[tuple[str, dict[str, Any]]]
    cursor: ChangeCursor
    at_head: bool


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
        since = request.headers.get("last-event-id") or since
        stream = _stream(service, _cursor(service, since), wanted)
        return Answer(b"", service.seen, media_type=EVENTS.media_type, stream=stream)
    batch = _read(service, _cursor(service, since), wanted)
    if feed == "longpoll":
        batch = await _poll(service, batch, wanted, _TIMEOUT.of(query))
    document = {
        "changes": [{"cursor": cursor, **event} for cursor, event in batch.events],
        "cursor": batch.cursor.write(service.database.cluster),
        "more": not batch.at_head,
    }
    return Answer(dump(document), service.seen)


def _cursor(service: Service, since: str | None) -> ChangeCursor:
    """Where a reader begins. Raises BadToken naming the parameter."""
    if since is None:
        return BEGINNING
    if since == "now":
        with service.database.engine.store.snapshot() as snapshot:
            return changes_head(snapshot)
    try:
        return ChangeCursor.read(service.database.cluster, since)
    except BadToken as error:
        raise error.below(_SINCE.name) from error


def _read(service: Service, cursor: ChangeCursor, wanted: _Wanted) -> _Batch:
    """The next changes, of one snapshot."""
    database = service.database
    with database.engine.store.snapshot() as snapshot:
        page = read_changes(snapshot, cursor, wanted.scope, wanted.limit)
    events = [
        (
            page.cursor._replace(sequence=change.sequence, base=cursor.base).write(
                database.cluster
            ),
            _document(service, change, wanted),
        )
        for change in page.changes
    ]
    return _Batch(events, page.cursor, page.at_head)


def _document(service: Service, change: Change, wanted: _Wanted) -> dict[str, Any]:
    name = change.name
    document: dict[str, Any] = {"bucket": name.bucket, "type": name.type, "key": name.key}
    if change.tail is not None:
        document["member"] = address.member_value(change.tail)
    document["deleted"] = change.deleted
    if wanted.with_value and not change.deleted and not type_named(name.type).collection:
        document["value"] = service.database.read(name).value
    return document


async def _poll(service: Service, batch: _Batch, wanted: _Wanted, timeout_s: int) -> _Batch:
    """Wait for changes, for at most so long."""
    try:
        async with asyncio.timeout(timeout_s):
            while not (batch.events or service.sessions.closed):
                if batch.at_head:
                    await service.sessions.next_advance()
                batch = _read(service, batch.cursor, wanted)
    except TimeoutError:
        pass
    return batch


async def _stream(
    service: Service, cursor: ChangeCursor, wanted: _Wanted
) -> AsyncGenerator[bytes, None]:
    """Server-sent events, with a heartbeat that moves the cursor when nothing happens."""
    wanted = wanted._replace(limit=_PART)
    yield b": changes\n\n"
    while not service.sessions.closed:
        batch = _read(service, cursor, wanted)
        cursor = batch.cursor
        if batch.events:
            yield b"".join(_event(identity, event) for identity, event in batch.events)
        elif not batch.at_head:
            await asyncio.sleep(0)
        if batch.at_head:
            try:
                async with asyncio.timeout(_HEARTBEAT_S):
                    await service.sessions.next_advance()
            except TimeoutError:
                yield b": heartbeat\nid: %s\n\n" % cursor.write(service.database.cluster).encode()


def _event(identity: str, event: dict[str, Any]) -> bytes:
    return b"id: %s\ndata: %s\n\n" % (identity.encode(), dump({"cursor": identity, **event}))
