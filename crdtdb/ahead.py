"""Ahead: a merge of many records is worked out before it is written.

That is done part by part, and local commits go on in between: each part joins its records into the
state as it is then, on top of what the parts before it made, and keeps the rows that would be
written in a layer of its own. Nobody sees them. In the end they are written together, in one
commit. Whatever objects local commits have changed meanwhile are joined once more, by the same
function, into the state that they are in by then.

That is right because a join looks at nothing beside its object, the cuts over several objects, and
what this replica has seen. Local commits add to the last only operations of its own, which no
record of a peer can name. A cut over several objects, be it of the peer or made here, is another
matter, and so is any other merge: then all that was done ahead is *stale*, and is done anew.

The places of the rows, which they also contain, are taken a good deal further on in the sequence,
for the commits that come in between take some, and must not come after those.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

from crdtdb import address
from crdtdb.causal import NOTHING, Dot, VersionVector
from crdtdb.conflicts import noted_at
from crdtdb.cuts import WideCuts
from crdtdb.digests import MOST_NOTED, HeadChanges
from crdtdb.draft import EVERYWHERE
from crdtdb.head import Head
from crdtdb.joining import Joined, Part, Records, decoded, join_in, join_into
from crdtdb.store.base import Batch, Snapshot, Table
from crdtdb.store.layer import Layer
from crdtdb.store.overlaid import Overlaid

__all__ = ["Ahead"]

#: So many places are left for the commits that come before a merge that is worked out ahead.
_PLACES_LEFT: Final = 1 << 24
_WRITTEN: Final = (Table.RECORDS, Table.SEQUENCE, Table.HEADS, Table.FOLDED, Table.CONFLICTS)


class Ahead:
    """A merge that is worked out before it is written. O(what it will write) of memory."""

    def __init__(self, sequence: int, wide: WideCuts) -> None:
        """Begin, while `sequence` is the last place and these are the cuts over many objects."""
        #: Is it of no use any more?
        self.is_stale = False
        #: Up to which address, without it, records are in it; None: all are.
        self.worked_to: bytes | None = b""
        self._wide = wide
        self._voided: dict[bytes, Collection[Dot]] = {}
        self._first = self._sequence = sequence + _PLACES_LEFT
        self._layer = Layer(marks_deletions=True)
        #: Objects that local commits have changed after they were joined.
        self._changed: set[bytes] = set()
        #: Heads as they were found and as they become, and those that go; None: too many.
        self._heads: tuple[dict[bytes, Head | None], dict[bytes, Head], set[bytes]] | None
        self._heads = {}, {}, set()

    @property
    def addresses(self) -> Collection[bytes]:
        """Of the records that it changes."""
        return self._layer.entries(Table.RECORDS).keys()

    def note(self, batch: Batch, wide: WideCuts, sequence: int) -> None:
        """A local commit has been made. O(objects it changed)."""
        if wide is not self._wide or sequence >= self._first:
            self.is_stale = True
        self._changed |= batch.get(Table.HEADS, {}).keys() & self._layer.entries(Table.HEADS).keys()

    def take(
        self, snapshot: Snapshot, here: VersionVector, part: Part, seen: VersionVector, now_ms: int
    ) -> None:
        """Join a part that a peer sent who has seen `seen`, into the state of a snapshot.

        Parts follow one another in the order of their addresses. Raises PeerError or StorageFailed.
        """
        self._join(snapshot, here, part.records, seen, now_ms)
        self.worked_to = part.span.end

    def finish(
        self,
        snapshot: Snapshot,
        here: VersionVector,
        again: Callable[[Collection[bytes]], Records],
        seen: VersionVector,
        now_ms: int,
    ) -> Joined:
        """What is to be written to the state of a snapshot; nothing must be noted any more.

        `again` gives all the records that came of some objects, by their prefixes. Raises PeerError
        or StorageFailed; then it is stale.
        """
        assert not self.is_stale, "it is done anew"
        assert self.worked_to is None, "not all is in it"
        if self._changed:
            self.is_stale = True
            self._take_back(self._changed)
            self._join(snapshot, here, again(self._changed), seen, now_ms)
        batch: Batch = {table: self._layer.entries(table) for table in _WRITTEN}
        return Joined(batch, self._wide, self._sequence, self._heads, self._voided)

    def _join(
        self,
        snapshot: Snapshot,
        here: VersionVector,
        records: Records,
        seen: VersionVector,
        now_ms: int,
    ) -> None:
        incoming = decoded(records)
        with self._over(snapshot) as state:
            joined = join_in(
                state,
                here,
                self._wide,
                self._sequence,
                lambda draft: join_into(draft, incoming, seen, NOTHING, EVERYWHERE),
                now_ms,
            )
        self._sequence = joined.sequence
        self._voided |= joined.voided
        if joined.wide is not self._wide:
            self.is_stale = True
        self._layer.apply(joined.batch)
        self._note_heads(joined.heads)

    @contextmanager
    def _over(self, snapshot: Snapshot) -> Iterator[Overlaid]:
        view = self._layer.view()
        try:
            yield Overlaid(view, snapshot)
        finally:
            view.end()

    def _note_heads(self, heads: HeadChanges | None) -> None:
        assert heads is not None
        if self._heads is None:
            return
        found, left, vacated = self._heads
        more_found, more_left, more_vacated = heads
        for prefix in more_left:
            found.setdefault(prefix, more_found[prefix])
        left.update(more_left)
        vacated |= more_vacated
        if len(left) > MOST_NOTED:
            self._heads = None

    def _take_back(self, objects: Collection[bytes]) -> None:
        """Forget all that was made of some objects. O(rows of theirs × log rows)."""
        rows: dict[Table, list[tuple[bytes, bytes | None]]] = {}
        view = self._layer.view()
        for prefix in objects:
            for table, start in (
                (Table.RECORDS, prefix),
                (Table.RECORDS, address.cut(prefix)),
                (Table.FOLDED, prefix),
            ):
                rows.setdefault(table, []).extend(
                    view.scan(table, start, address.after(start), reverse=False)
                )
        journal = view.scan(Table.CONFLICTS, b"", None, reverse=False)
        noted = [
            key
            for key, row in journal
            if row is not None and address.split_object(noted_at(key, row))[0] in objects
        ]
        view.end()
        for table, entries in rows.items():
            self._layer.retract(table, [key for key, _ in entries])
        places = [row[:8] for _, row in rows[Table.RECORDS] if row is not None]
        self._layer.retract(Table.SEQUENCE, places)
        self._layer.retract(Table.HEADS, objects)
        self._layer.retract(Table.CONFLICTS, noted)
        if self._heads is not None:
            found, left, vacated = self._heads
            for prefix in objects:
                found.pop(prefix, None)
                left.pop(prefix, None)
                vacated.discard(prefix)
