"""The keeper: what a replica is and has seen, on its store, and the one write that changes it.

Everything else that an engine does makes a store transaction and ends in `_write` here, with the
state that it leads to: durable when it returns, and only then in force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from crdtdb import hlc
from crdtdb.ahead import Ahead
from crdtdb.author import Replicas
from crdtdb.causal import NOTHING, Floor, VersionVector
from crdtdb.cuts import WideCuts
from crdtdb.damage import read_markers
from crdtdb.digests import DigestTree
from crdtdb.epochs import EPOCHS_KEY, Epochs
from crdtdb.opening import open_rows
from crdtdb.reclaimed import Reclaimed
from crdtdb.rows import WIDE_CUT_ROWS, pack_cut_row
from crdtdb.state import STATE_KEY, State
from crdtdb.store.base import Batch, Store, Table

__all__ = ["NOBODY", "Entropy", "Keeper", "WallClock", "Write"]

#: Milliseconds since 1970; allowed to be wrong and to jump.
WallClock = Callable[[], int]
#: A random number of so many bits, never the same in any other process.
Entropy = Callable[[int], int]

#: The incarnation of who has none yet.
NOBODY: Final = 0


def _nothing() -> None:
    """The callback of one who is not interested."""


class Write(NamedTuple):
    """A store transaction, and what the replica is after it."""

    batch: Batch
    state: State
    epochs: Epochs
    wide: WideCuts


class Keeper:
    """A replica's state, and the only way in which it becomes another."""

    def __init__(self, store: Store, clock: WallClock, entropy: Entropy) -> None:
        """Open a replica on a store, or begin a new one.

        A store that is not where it was when it was last written is a copy: it gets a new store
        id and, before its first write, a new incarnation. Rows of the replica's own that are
        damaged, and can be told anew, are written anew.

        Raises DamagedStore or NewerFormat, with nothing changed; NoSpace or StorageFailed.
        """
        self._store = store
        self._clock = clock
        self._entropy = entropy
        #: Asked for the names of replicas when an operation needs them.
        self.replicas: Replicas = dict
        #: On what the vectors of other replicas, and of callers, may rest.
        self.floors: dict[int, Floor] = {}
        #: Digests of ranges of objects, as of any state from now on.
        self.digests = DigestTree(store)
        #: Told what a commit changes, before anybody can see it and once more when it is durable.
        self.watchers: tuple[Callable[[Batch], None], ...] = ()
        #: The merge that is worked out while local commits go on; None: there is none.
        self.ahead: Ahead | None = None
        #: How many removals came to nothing since the start (`Draft.voided`).
        self.voided = 0
        #: Called after every write, when it is durable.
        self.on_write: Callable[[], None] = _nothing
        with store.snapshot() as snapshot:
            opened = open_rows(snapshot)
            self._state = opened.state or self._first_state()
            self._damaged = read_markers(snapshot, self._state.seen)
        self._epochs, self._reclaimed, self._wide = opened.epochs, opened.reclaimed, opened.wide
        if floor := self._state.seen.floor:
            self.floors[floor.mark] = floor
        #: The latest time that others were told (`time_now`), ms since 1970.
        self._told_ms = 0
        #: Have places been given out since this opening?
        self._has_begun_epoch = False
        if self._state.location != store.location:
            self._state = msgspec.structs.replace(
                self._state,
                store_id=entropy(64),
                incarnation=NOBODY,
                location=store.location,
            )
        if opened.mended:
            self._write({Table.META: opened.mended})

    def _first_state(self) -> State:
        return State(self._entropy(64), NOBODY, NOTHING, 0, 0, False, self._store.location)

    # -- who and how far ------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        return self._store

    @property
    def state(self) -> State:
        """What this replica is and has seen, as of its last commit or merge."""
        return self._state

    @property
    def epochs(self) -> Epochs:
        """In which epochs the places of the sequence were given out."""
        return self._epochs

    @property
    def reclaimed(self) -> Reclaimed:
        """What this store has let go."""
        return self._reclaimed

    def now_ms(self) -> int:
        """What this replica's wall clock shows."""
        return self._clock()

    def time_now(self) -> int:
        """The hybrid logical time now, for others; no operation gets it.

        Deadlines before it have come here, whatever the wall clock says from now on.
        """
        time = max(self._state.time, hlc.tick(0, self._clock()))
        self._told_ms = max(self._told_ms, hlc.milliseconds(time))
        return time

    def take_incarnation(self) -> int:
        """Begin a new identity for this replica's dots. Durable before it returns."""
        incarnation = self._entropy(64) or 1
        self._write(None, incarnation=incarnation)
        return incarnation

    def rest_on(self, floor: Floor) -> None:
        """Write what was seen above a floor from now on, if all of that was seen. Durable."""
        seen = self._state.seen.resting_on(floor)
        if seen is not self._state.seen:
            self._write(None, seen=seen)

    def mark_served(self) -> None:
        """This replica's state, be it empty, is one that may be served."""
        self._write(None, served=True)

    # -- rows of the caller's -------------------------------------------------------------------

    def keep(self, key: bytes, row: bytes | None) -> None:
        """Keep a META row of the caller's, or let it go. Raises NoSpace or StorageFailed."""
        self._write({Table.META: {key: row}})

    def stage(
        self, records: Mapping[bytes, bytes | None], rows: Mapping[bytes, bytes | None]
    ) -> None:
        """Keep records for a later merge, or let them go (None), with META rows of the caller's.

        Their keys should be neighbours. Durable on return. Raises NoSpace or StorageFailed with
        nothing changed.
        """
        batch: Batch = {Table.STAGED: dict(records), Table.META: dict(rows)}
        self._write(batch, in_order=not self._state.served)

    # -- the one write --------------------------------------------------------------------------

    def _write(
        self,
        batch: Batch | None,
        *,
        seen: VersionVector | None = None,
        wide: WideCuts | None = None,
        time: int | None = None,
        sequence: int | None = None,
        incarnation: int | None = None,
        served: bool | None = None,
        in_order: bool = False,
    ) -> None:
        if self.ahead is not None and (seen is not None or Table.RECORDS in (batch or ())):
            self.ahead.is_stale = True  # its joins were into another state
        write = self._prepare(
            batch,
            seen=seen,
            wide=wide,
            time=time,
            sequence=sequence,
            incarnation=incarnation,
            served=served,
        )
        self._commit(write.batch, in_order=in_order)
        self._install(write)

    def _commit(self, batch: Batch, *, in_order: bool = False) -> None:
        for watch in self.watchers:
            watch(batch)
        if in_order:
            self._store.commit_in_order(batch)
        else:
            self._store.commit(batch)
        for watch in self.watchers:
            watch(batch)

    def _prepare(
        self,
        batch: Batch | None,
        *,
        seen: VersionVector | None = None,
        wide: WideCuts | None = None,
        time: int | None = None,
        sequence: int | None = None,
        incarnation: int | None = None,
        served: bool | None = None,
    ) -> Write:
        """A store transaction with the state it leads to. What is left out stays as it is."""
        old = self._state
        state = State(
            old.store_id,
            old.incarnation if incarnation is None else incarnation,
            old.seen if seen is None else seen,
            old.time if time is None else time,
            old.sequence if sequence is None else sequence,
            old.served if served is None else served,
            old.location,
        )
        batch = {} if batch is None else batch
        meta = batch.setdefault(Table.META, {})
        meta[STATE_KEY] = state.encode()
        if wide is not None and wide is not self._wide:
            for prefix, vector in wide.raised_over(self._wide):
                meta[WIDE_CUT_ROWS + prefix] = pack_cut_row(vector)
            for prefix in wide.gone_since(self._wide):
                meta[WIDE_CUT_ROWS + prefix] = None
        epochs = self._epochs
        gives_places = state.sequence > old.sequence
        if gives_places and not self._has_begun_epoch:
            epochs = epochs.begin(self._entropy(64) or 1, old.sequence)
            meta[EPOCHS_KEY] = epochs.encode()
        return Write(batch, state, epochs, self._wide if wide is None else wide)

    def _install(self, write: Write) -> None:
        if write.state.sequence > self._state.sequence:
            self._has_begun_epoch = True
        self._state, self._epochs, self._wide = write.state, write.epochs, write.wide
        self.on_write()
