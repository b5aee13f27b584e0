"""The disk of one machine: what was committed survives, what only the process knew does not.

A crash during a commit goes through with the call all the same: the process is dead and does not
know it yet. Whatever it writes from then on is written to a ghost of the disk, and the machine
throws away what it says. So the run learns which operations the dying process carried out without
anybody having heard an answer.
"""

from __future__ import annotations

from enum import Enum
from random import Random

from crdtdb import address, codec
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.errors import NoSpace
from crdtdb.store.base import Batch, StoreStats, Table
from crdtdb.store.memory import MemorySnapshot, MemoryStore

__all__ = ["Disk", "Moment"]


class Moment(Enum):
    """When in a commit the power fails."""

    #: Nothing of it is on the disk.
    BEFORE = "before"
    #: All of it is on the disk, nobody was told.
    AFTER = "after"


class Disk:
    """A store whose commits are atomic, and durable on return."""

    def __init__(self, location: bytes, surface: MemoryStore | None = None) -> None:
        """`surface`: what is on it already."""
        self._surface = MemoryStore(location) if surface is None else surface
        #: What the process sees: the surface, or since the crash a ghost of it.
        self.mounted = self._surface
        self._backup = self._surface.copy()
        self._fails: Moment | None = None
        #: Was it put back to an earlier state since it was last looked at?
        self.rolled_back = False
        #: Is there no room for anything?
        self.is_full = False
        #: Rows of which a bit has flipped: what became of the row, and what a record had held.
        self._flips: dict[tuple[Table, bytes], tuple[bytes, VersionVector]] = {}
        #: The last batch that was committed.
        self.latest: Batch = {}

    @property
    def location(self) -> bytes:
        return self._surface.location

    @property
    def crashed(self) -> bool:
        """Has the power failed under the process that still seems to run?"""
        return self.mounted is not self._surface

    @property
    def is_failing(self) -> bool:
        """Will the power fail in the next commit?"""
        return self._fails is not None

    def fail_at_next_commit(self, moment: Moment) -> None:
        """Let the power fail in the next commit."""
        self._fails = moment

    def remount(self) -> None:
        """The machine starts again: from what is on the disk."""
        self.mounted = self._surface
        self._fails = None

    def back_up(self) -> None:
        """Keep a copy of what is on the disk now."""
        self._backup = self._surface.copy()

    def roll_back(self) -> None:
        """Put the copy in the place of what is on the disk. Only while nothing runs."""
        self._surface = self.mounted = self._backup.copy()
        self.rolled_back = True
        self._flips.clear()

    def wipe(self) -> None:
        """Put an empty disk in the place of this one. Only while nothing runs."""
        self._backup = MemoryStore(self.location)
        self.roll_back()

    def copy(self, location: bytes, *, backup: bool) -> MemoryStore:
        """What is on it now, or in its back-up, in another place."""
        return (self._backup if backup else self._surface).copy(location)

    @property
    def flipped(self) -> dict[bytes, VersionVector]:
        """The keys of rows that still have a flipped bit, and what those of records had held."""
        if self._flips:
            with self._surface.snapshot() as snapshot:
                self._flips = {
                    (table, key): (row, held)
                    for (table, key), (row, held) in self._flips.items()
                    if snapshot.get(table, key) == row
                }
        return {key: held for (_, key), (_, held) in self._flips.items()}

    def flip(
        self,
        random: Random,
        within: bytes = b"",
        table: Table = Table.RECORDS,
        *,
        twice: bool = False,
    ) -> bool:
        """Flip a bit, or two, of some row of a table whose key begins so; False if there is none.

        Of one a record can tell itself how it was, of two (`twice`) it cannot.
        """
        with self._surface.snapshot() as snapshot:
            rows = list(snapshot.scan(table, within, address.after(within) if within else None))
        if not rows:
            return False
        key, row = random.choice(rows)
        bits = bytearray(row)
        bits[random.randrange(len(row))] ^= 1 << random.randrange(8)
        if twice or Random(row).random() < 0.5:  # of its own: all else happens as it would have
            bits[-1] ^= 0x81
        self.damage(table, key, bytes(bits))
        return True

    def damage(self, table: Table, key: bytes, row: bytes) -> None:
        """Put a row that nobody wrote in the place of one that is there."""
        with self._surface.snapshot() as snapshot:
            sound = snapshot.get(table, key)
        assert sound is not None, "there is nothing"
        self._surface.commit({table: {key: row}})
        held = codec.decode_row(key, sound)[0].context if table is Table.RECORDS else NOTHING
        self._flips[table, key] = row, held

    def snapshot(self) -> MemorySnapshot:
        return self.mounted.snapshot()

    def survivors(self) -> MemorySnapshot:
        """What is on it, whatever a process that is dying believes."""
        return self._surface.snapshot()

    def commit_in_order(self, batch: Batch) -> None:
        self.commit(batch)

    def commit(self, batch: Batch) -> None:
        if self.is_full:
            raise NoSpace("no space left on the disk of this machine")
        self.latest = batch
        if self._fails is Moment.BEFORE:
            self._surface, self._fails = self._surface.copy(), None
        self.mounted.commit(batch)
        if self._fails is Moment.AFTER:
            self._surface, self._fails = self._surface.copy(), None

    @property
    def is_congested(self) -> bool:
        return False

    def stats(self) -> StoreStats:
        return self.mounted.stats()

    def close(self) -> None:
        """A machine that loses power closes nothing."""
