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
from crdtdb.errors import BadRequest, BadToken, Field
from crdtdb.operations import type_named
from crdtdb.query import check_limit
from crdtdb_server.documents import dump
from crdtdb_server.exchange import Answer, Request
from crdtdb_server.parameters import whole_number
from crdtdb_server.service import Service

__all__ = ["CHANGE_PARAMETERS", "get_changes"]

CHANGE_PARAMETERS: Final = frozenset(
    {"since", "bucket", "type", "key", "feed", "include", "timeout", "limit"}
)
_EVENTS: Final = "text/event-stream"
_LIMIT: Final = 100
#: How long a long poll waits when nothing is said, and at most; how often a stream shows a sign.
_WAIT_S: Final = 30
_WAIT_MOST_S: Final = 60
_HEARTBEAT_S: Final = 15
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
        Scope(query.get("bucket"), query.get("type"), query.get("key")),
        _included(query.get("include")),
        whole_number(query.get("limit", str(_LIMIT)), "limit"),
    )
    check_limit(wanted.limit)
    if wanted.scope.type is not None:
        type_named(wanted.scope.type)
    timeout_s = whole_number(query.get("timeout", str(_WAIT_S)), "timeout")
    if not 0 <= timeout_s <= _WAIT_MOST_S:
        raise BadRequest(
            f"`timeout` is 0 to {_WAIT_MOST_S} seconds",
            Field("timeout", "out of range", _WAIT_MOST_S),
        )
    feed = query.get("feed")
    since = query.get("since")
    if feed == "sse":
        since = request.headers.get("last-event-id") or since
        stream = _stream(service, _cursor(service, since), wanted)
        return Answer(b"", service.seen, media_type=_EVENTS, stream=stream)
    if feed not in (None, "longpoll"):
        raise BadRequest("`feed` is longpoll or sse", Field("feed", "neither longpoll nor sse"))
    batch = _read(service, _cursor(service, since), wanted)
    if feed == "longpoll":
        batch = await _poll(service, batch, wanted, timeout_s)
    document = {
        "changes": [{"cursor": cursor, **event} for cursor, event in batch.events],
        "cursor": batch.cursor.write(service.database.cluster),
        "more": not batch.at_head,
    }
    return Answer(dump(document), service.seen)


def _included(include: str | None) -> bool:
    if include not in (None, "value"):
        raise BadRequest("`include` can only be value", Field("include", "not value"))
    return include is not None


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
        raise BadToken(error.detail, Field("since", error.detail)) from error


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
