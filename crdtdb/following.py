"""Following changes in the process that holds the database: the feed as an iterator.

Each page of changes is of one snapshot, which has ended before its first event is handed out. At
the end a follower waits until something is written, by whatever way it comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Condition
from typing import Final

from crdtdb.answers import LEFT_OUT, Event, Given
from crdtdb.changes import BEGINNING, Change, ChangeCursor, Scope, changes_head, read_changes
from crdtdb.engine import Engine
from crdtdb.operations import type_named
from crdtdb.reading import Reading

__all__ = ["Following"]

#: Events of one page.
_PAGE: Final = 250


class Following:
    """The changes of one engine, for any number of threads that follow them."""

    def __init__(self, engine: Engine, cluster: str) -> None:
        self._engine = engine
        self._cluster = cluster
        self._written = Condition()
        self._closed = False
        engine.on_write = self._wake

    def close(self) -> None:
        """End the iterators of those who follow. Idempotent."""
        self._closed = True
        self._wake()

    def events(
        self, scope: Scope, since: str | None, *, include_value: bool, follow: bool
    ) -> Iterator[Event]:
        """What changed after `since`, as `Database.changes` says it."""
        if scope.type is not None:
            type_named(scope.type)
        cursor = self._cursor(since)
        while not self._closed:
            events, cursor, at_head = self._page(cursor, scope, include_value)
            yield from events
            if at_head:
                if not follow:
                    return
                self._wait(cursor)

    def _cursor(self, since: str | None) -> ChangeCursor:
        if since is None:
            return BEGINNING
        if since == "now":
            with self._engine.store.snapshot() as snapshot:
                return changes_head(snapshot)
        return ChangeCursor.read(self._cluster, since)

    def _page(
        self, cursor: ChangeCursor, scope: Scope, include_value: bool
    ) -> tuple[list[Event], ChangeCursor, bool]:
        with self._engine.store.snapshot() as snapshot:
            page = read_changes(snapshot, cursor, scope, _PAGE)
            reading = Reading(snapshot) if include_value else None
            behind = page.cursor._replace(base=cursor.base)
            events = [self._event(change, behind, reading) for change in page.changes]
        return events, page.cursor, page.at_head

    def _event(self, change: Change, behind: ChangeCursor, reading: Reading | None) -> Event:
        name = change.name
        value: Given = LEFT_OUT
        if reading is not None and not change.deleted and not type_named(name.type).collection:
            value = reading.value(name, reading.head(name.prefix))
        member = LEFT_OUT if change.tail is None else change.member
        cursor = behind._replace(sequence=change.sequence).write(self._cluster)
        return Event(name, change.deleted, cursor, member, value)

    def _wait(self, cursor: ChangeCursor) -> None:
        """Wait until there may be something behind the cursor."""
        with self._written:
            self._written.wait_for(
                lambda: self._closed or self._engine.state.sequence != cursor.sequence
            )

    def _wake(self) -> None:
        with self._written:
            self._written.notify_all()
