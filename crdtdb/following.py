"""Following changes in the process that holds the database: the feed as an iterator.

Each page of changes is of one snapshot, which has ended before its first event is handed out. At
the end a follower waits until something is written, by whatever way it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Condition
from typing import Final, NamedTuple

from crdtdb import jsonvalue
from crdtdb.answers import LEFT_OUT, Event, Given
from crdtdb.causal import VersionVector
from crdtdb.changes import BEGINNING, Change, ChangeCursor, Scope, changes_head, read_changes
from crdtdb.engine import Engine
from crdtdb.floors import Floors
from crdtdb.operations import type_named
from crdtdb.reading import Reading
from crdtdb.store.base import Snapshot

__all__ = ["EventPage", "Following", "read_events", "read_since"]

#: Events of one page.
_PAGE: Final = 250
#: A page ends with the value that makes all of them longer than this, as JSON.
_PAGE_BYTES: Final = 256 * 1024


class EventPage(NamedTuple):
    """Some events, where to go on, and whether that is (for now) the end."""

    events: list[Event]
    cursor: ChangeCursor
    at_head: bool
    #: What the state covers that the events show.
    seen: VersionVector


def read_since(snapshot: Snapshot, cluster: str, since: str | None, floors: Floors) -> ChangeCursor:
    """Where a reader begins: at the start (None), at `"now"`, behind a cursor. Raises BadToken."""
    if since is None:
        return BEGINNING
    return changes_head(snapshot) if since == "now" else ChangeCursor.read(cluster, since, floors)


def read_events(
    snapshot: Snapshot,
    cluster: str,
    cursor: ChangeCursor,
    scope: Scope,
    limit: int,
    *,
    include_value: bool,
    clock: Callable[[], int],
) -> EventPage:
    """The next changes after a cursor, as readers see them, each with the cursor behind it.

    About `limit` of them: fewer where values are long, more where one erase changed more objects.
    O(places looked at).
    """
    reading = Reading(snapshot, clock)
    page = read_changes(snapshot, cursor, scope, limit, reading.now_ms)
    changes = page.changes
    events: list[Event] = []
    behind = page.cursor._replace(base=cursor.base)
    room = _PAGE_BYTES
    for i, change in enumerate(changes):
        # SUBTLE: an erase changes many objects at one place. Whoever has seen only some of them
        # must go on before that place, or the others are left out.
        is_last = i + 1 == len(changes) or changes[i + 1].sequence != change.sequence
        here = behind._replace(sequence=change.sequence if is_last else change.sequence - 1)
        event = _event(change, here.write(cluster), reading if include_value else None)
        events.append(event)
        # Only counters read as integers, and those may be longer than JSON writers take.
        if event.value is not LEFT_OUT and not isinstance(event.value, int):
            room -= len(jsonvalue.dump(event.value))
            if room < 0 and is_last and i + 1 < len(changes):
                return EventPage(events, here, False, reading.seen)
    return EventPage(events, page.cursor, page.at_head, reading.seen)


def _event(change: Change, cursor: str, reading: Reading | None) -> Event:
    name = change.name
    value: Given = LEFT_OUT
    if reading is not None and not change.deleted:
        kind = type_named(name.type)
        if not kind.collection:
            value = reading.value(name, reading.head(name.prefix))
        elif change.tail is not None:
            value = reading.value_at(name, change.tail)
    leaf = change.leaf
    field = None if leaf is None else leaf.path
    return Event(name, change.deleted, cursor, change.member, value, field)


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
        with self._engine.store.snapshot() as snapshot:
            cursor = read_since(snapshot, self._cluster, since, self._engine.floors)
        while not self._closed:
            with self._engine.store.snapshot() as snapshot:
                page = read_events(
                    snapshot,
                    self._cluster,
                    cursor,
                    scope,
                    _PAGE,
                    include_value=include_value,
                    clock=self._engine.now_ms,
                )
            cursor = page.cursor
            yield from page.events
            if page.at_head:
                if not follow:
                    return
                self._wait(cursor)

    def present(self) -> str:
        """The cursor behind everything there is now."""
        with self._engine.store.snapshot() as snapshot:
            return changes_head(snapshot).write(self._cluster)

    def _wait(self, cursor: ChangeCursor) -> None:
        """Wait until there may be something behind the cursor."""
        with self._written:
            self._written.wait_for(
                lambda: self._closed or self._engine.state.sequence != cursor.sequence
            )

    def _wake(self) -> None:
        with self._written:
            self._written.notify_all()
