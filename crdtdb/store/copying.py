"""A copy of a store, taken portion by portion while commits go on, that ends as one exact state.

One snapshot of everything would be simpler, but a long one keeps the store from growing and from
using its free pages again. So each portion has a short snapshot of its own, and what is copied
already is kept up: whoever commits says which keys it changes (`Copy.note`), and those that lie
behind the copy are copied again. The last portion finds nothing more to copy and takes what has
changed since, all in one snapshot: then all portions, in order, give the state of that snapshot.
(Database dumps that need no lock work so: a fuzzy copy, and the log of what came in between.)

Why nothing is missed. A commit is noted before it can be seen and again when it has been. What a
portion takes off the notes was seen by its snapshot, which began later, or will be noted again.
What is noted once its snapshot has begun is copied with it too, and stays noted.

It holds in memory the keys that wait to be copied again, at most `_NOTED_KEYS`, and a portion.
"""

from __future__ import annotations

from threading import Lock
from typing import Final

from crdtdb.errors import Overloaded
from crdtdb.store.base import Batch, Snapshot, Store, Table

__all__ = ["Copy"]

#: The sequence and the replica's own rows change with every commit: what is not copied yet need not
#: be noted, so they come last.
_ORDER: Final = (
    *(table for table in Table if table not in (Table.SEQUENCE, Table.META)),
    Table.SEQUENCE,
    Table.META,
)
_RANK: Final = {table: rank for rank, table in enumerate(_ORDER)}
_END: Final = len(_ORDER)
_NOTED_KEYS: Final = 2**20
#: Portions grow, up to this, until what changes meanwhile fits into one.
_MOST_BYTES: Final = 2**26


class Copy:
    """One copy under way. `note` in any thread, `step` in one at a time."""

    def __init__(self, store: Store, *, portion_bytes: int = 2**20) -> None:
        self._store = store
        self._portion_bytes = portion_bytes
        self._lock = Lock()
        #: The table that is being copied, and its last key that was.
        self._stage = 0
        self._key = b""
        #: How much of that table will have been copied is not known while a portion is read.
        self._reading = False
        #: Keys behind the copy that have changed since they were copied.
        self._noted: dict[Table, set[bytes]] = {table: set() for table in Table}
        self._overrun = False
        #: Is the copy whole?
        self.done = False

    def note(self, batch: Batch) -> None:
        """A commit is about to make these changes, or has made them (it must say both)."""
        with self._lock:
            for table, changes in batch.items():
                if _RANK[table] < self._stage or (_RANK[table] == self._stage and self._reading):
                    self._noted[table].update(changes)
                elif _RANK[table] == self._stage:
                    self._noted[table].update(key for key in changes if key <= self._key)
            self._overrun |= sum(map(len, self._noted.values())) > _NOTED_KEYS

    def step(self) -> Batch:
        """The next portion; it goes on top of those before. Raises Overloaded or StorageFailed."""
        with self._lock:
            if self._overrun:
                raise self._too_slow()
            self._reading = True
            taken, self._noted = self._noted, {table: set() for table in Table}
        stage, key = self._stage, self._key
        portion: Batch = {}
        with self._store.snapshot() as snapshot:
            with self._lock:
                later = {table: set(keys) for table, keys in self._noted.items()}
            if stage < _END:
                # What lies ahead is copied when its turn comes.
                later[_ORDER[stage]] = {one for one in later[_ORDER[stage]] if one <= key}
            room = self._copy_again(snapshot, taken, later, portion)
            if room is not None and stage < _END:
                stage, key = self._copy_on(snapshot, room, portion)
        with self._lock:
            self._reading = False
            self._stage, self._key = stage, key
            for table, keys in taken.items():
                self._noted[table] |= keys
            if stage < _END:
                current = _ORDER[stage]
                self._noted[current] = {one for one in self._noted[current] if one <= key}
        if room is None:
            self._enlarge()
        elif stage == _END:
            self.done = True
        return portion

    def _copy_again(
        self,
        snapshot: Snapshot,
        taken: dict[Table, set[bytes]],
        later: dict[Table, set[bytes]],
        portion: Batch,
    ) -> int | None:
        """Copy what has changed behind the copy, and take it out of `taken`.

        Gives the room that is left; None: there was none for everything.
        """
        room = self._portion_bytes
        for table, keys in taken.items():
            for key in sorted(keys | later[table]):
                if room <= 0:
                    return None
                value = snapshot.get(table, key)
                portion.setdefault(table, {})[key] = value
                keys.discard(key)
                room -= len(key) + len(value or b"")
        return max(room, 0)

    def _copy_on(self, snapshot: Snapshot, room: int, portion: Batch) -> tuple[int, bytes]:
        """Copy the next rows of the table, one at least; up to where that has come."""
        table, last = _ORDER[self._stage], self._key
        rows = portion.setdefault(table, {})
        for key, value in snapshot.scan(table, last + b"\0" if last else b""):
            rows[key] = value
            room -= len(key) + len(value)
            if room <= 0:
                return self._stage, key
        return self._stage + 1, b""

    def _enlarge(self) -> None:
        """Changes came faster than portions of this size: the next is larger, or there is none."""
        if self._portion_bytes >= _MOST_BYTES:
            raise self._too_slow()
        self._portion_bytes *= 2

    def _too_slow(self) -> Overloaded:
        return Overloaded(
            "more changes meanwhile than is copied; take the backup faster, or when less is written"
        )
