"""`LoggedStore`: append first, put in place later.

A random put changes a page of its own, and a durable commit of tables waits for the disk twice.
So a commit goes to the end of a log, in one write and one sync, and into a layer in memory. A
thread *folds* that layer into the tables on disk, sorted and thousands of entries at a time, when
it has grown large or nobody has written for a while.

- There are at most two layers over the tables: the one that takes commits, and the one that is
  being folded. Each has a file of the log to itself.
- Reads look into the layers first, newest first, then into the tables. A layer hides exactly what
  folding it changes below, so a snapshot does not care how far folding has come.
- With the last entries of a layer, the tables note the number of its last commit. After a crash
  before that, the log says the same once more.
- Where many entries have gone, what is left of the tables is packed, some of it at a time, while
  nobody writes.
- When both layers are full, commits wait for the folding. That bounds the memory.

What cannot be folded because there is no space stays in the log, and readable. Commits go on until
the layers are full; batches that mostly delete go on a while longer, as they make the space.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from threading import Condition, Lock, Thread
from typing import Final, NamedTuple, Self

import msgspec

from crdtdb.errors import ADVICE, DamagedStore, NewerFormat, NoSpace, StartError, StorageFailed
from crdtdb.store.base import Batch, StoreStats, Table, check_keys
from crdtdb.store.disk import mostly_deletes, write_problem
from crdtdb.store.layer import Layer, View
from crdtdb.store.lmdb import LmdbSnapshot, LmdbStore
from crdtdb.store.logged.holes import Holes
from crdtdb.store.logged.log import DamagedLog, Frame, Log
from crdtdb.store.logged.snapshot import LoggedSnapshot

__all__ = ["LoggedStore", "Pace"]


class Pace(NamedTuple):
    """How much is gathered before it is put in place. Tests make it small."""

    #: A layer of so many entries or bytes is folded …
    layer_entries: int = 2**17
    layer_bytes: int = 2**25
    #: … or of so many bytes in its file of the log, where what is written again takes room again.
    log_bytes: int = 2**26
    #: A batch of so many bytes would overfill a layer by itself: it goes to the tables at once.
    direct_bytes: int = 2**24
    #: Entries of one transaction of the tables while folding, when commits may have to wait …
    chunk_entries: int = 8_192
    #: … and when there is time: then it also rests in between, for others to have the processor.
    calm_entries: int = 1_024
    rest_s: float = 0.02
    #: Nobody has written for so long: a good time to fold.
    idle_s: float = 30.0
    #: After folding has failed, it is tried again this often.
    retry_s: float = 1.0
    #: A table is packed when at least so many of its entries have gone.
    least_gone: int = 1_024


_PACE: Final = Pace()
#: From this part of a full layer on, commits are slowed down while another is being folded.
_CROWDED: Final = 0.75
#: From this part on, the folding does not rest.
_HURRIED: Final = 0.25
_SLOWED_S: Final = 0.002

_NOTE_VERSION: Final = 1
_Body = list[tuple[str, dict[bytes, bytes | None]]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode
_TABLES: Final = {table.value: table for table in Table}
_decode_note = msgspec.msgpack.Decoder(tuple[int, int, int]).decode


class LoggedStore:
    """A replica's tables on disk, a log, and what is between them. Make one with `open`."""

    def __init__(
        self, tables: LmdbStore, log: Log, salt: int, layers: list[Layer], pace: Pace
    ) -> None:
        self.location = tables.location
        self._tables = tables
        self._log = log
        self._salt = salt
        self._pace = pace
        #: The layer that takes commits, the one that is being folded, the latter's last commit.
        self._current = layers.pop()
        self._folding = layers.pop() if layers else None
        self._folding_last = 0
        #: Counts how often reads had to look elsewhere than before.
        self._moves = 0
        #: Why the last attempt to fold failed.
        self._failure: NoSpace | StorageFailed | None = None
        #: Where folding has deleted; and up to which commit all is in place, and packed.
        self._holes = Holes(pace.least_gone)
        self._settled = -1
        self._closed = False
        #: Guards these fields, and tells of changes.
        self._changed = Condition(Lock())
        #: Held during a commit, and while layers are exchanged.
        self._commits = Lock()
        self._thread: Thread | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, pace: Pace = _PACE, **sizes: int) -> Self:
        """Open the store at `path`, or make one; `sizes` are those of `LmdbStore.open`.

        Raises a `StartError`. O(bytes of the log).
        """
        with ExitStack() as on_failure:
            tables = LmdbStore.open(path, **sizes)
            on_failure.callback(tables.close)
            try:
                note = tables.note()
                if note is None:
                    salt, folded = int.from_bytes(os.urandom(8), "big"), 0
                    log = Log.create(Path(path), salt)
                    on_failure.callback(log.close)
                    tables.commit({}, _pack_note(salt, folded))
                else:
                    salt, folded = _unpack_note(note)
                    log = Log(Path(path), salt)
                    on_failure.callback(log.close)
                older, newer = log.recover(folded)
                layers = [_replayed(frames) for frames in (older, newer)]
            except FileNotFoundError as error:
                missing = f"{error.filename} is missing"
                raise DamagedStore(f"{path} is damaged: {missing}; {ADVICE}") from error
            except (DamagedLog, msgspec.MsgspecError, KeyError) as reason:
                raise DamagedStore(f"{path} is damaged: {reason}; {ADVICE}") from reason
            except OSError as error:
                raise StartError(f"{path} cannot be opened: {error}") from error
            on_failure.pop_all()
        store = cls(tables, log, salt, layers if older else layers[1:], pace)
        if older:
            store._folding_last = older[-1].number
            store._start_folding()
        return store

    def snapshot(self) -> LoggedSnapshot:
        return LoggedSnapshot(self._begin)

    def commit(self, batch: Batch) -> None:
        check_keys(batch)
        body = _encode([(table.value, changes) for table, changes in batch.items() if changes])
        with self._commits:
            self._check_open()
            try:
                if len(body) > self._pace.direct_bytes:
                    self._commit_directly(batch)
                    return
                self._make_room(batch)
                self._log.append(body)
            except OSError as error:
                raise write_problem(error.errno, error, is_full=False) from error
            del body  # which may be large
            self._current.apply(batch)
            self._start_folding()

    def commit_in_order(self, batch: Batch) -> None:
        check_keys(batch)
        with self._commits:
            self._check_open()
            try:
                self._commit_directly(batch)
            except OSError as error:
                raise write_problem(error.errno, error, is_full=False) from error

    @property
    def is_congested(self) -> bool:
        return self._folding is not None and self._fill >= _CROWDED

    @property
    def is_settled(self) -> bool:
        """Is all that was committed in place, and is nothing left to be packed?"""
        return self._settled == self._log.last

    def stats(self) -> StoreStats:
        self._check_open()
        tables = self._tables.stats()
        with self._changed:
            layers = [layer for layer in (self._current, self._folding) if layer is not None]
        return StoreStats(
            used_bytes=tables.used_bytes + sum(layer.size_bytes for layer in layers),
            file_bytes=tables.file_bytes + self._log.file_bytes,
            map_bytes=tables.map_bytes,
            entries={
                table: count + sum(layer.count(table) for layer in layers)
                for table, count in tables.entries.items()
            },
        )

    def close(self) -> None:
        with self._commits:
            if self._closed:
                return
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            if self._thread is not None:
                self._thread.join()
            layers = [layer for layer in (self._current, self._folding) if layer is not None]
            # What cannot be put in place now is still in the log.
            with suppress(NoSpace, StorageFailed, OSError):
                self._log.settle()
                if self._folding is not None:
                    self._fold()
                if len(self._current):
                    with self._changed:
                        self._turn()
                    self._fold()
            for layer in (*layers, self._current):
                layer.close()
            self._log.close()
            self._tables.close()

    # -- reading ----------------------------------------------------------------------------------

    def _begin(self) -> tuple[View, View | None, LmdbSnapshot]:
        """Begin a snapshot: views of the layers and a snapshot of the tables, as of one moment."""
        while True:
            with self._changed:
                self._check_open()
                moves, folding = self._moves, self._folding
                newer = self._current.view()
            below = self._tables.snapshot()
            try:
                below.__enter__()
            except BaseException:
                newer.end()
                raise
            if moves == self._moves:
                return newer, None if folding is None else folding.view(), below
            newer.end()
            below.__exit__()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageFailed("the store is closed; open it again")

    # -- room for commits -------------------------------------------------------------------------

    @property
    def _fill(self) -> float:
        """What part of the current layer is used; 1 or more: it is full."""
        return max(
            len(self._current) / self._pace.layer_entries,
            self._current.size_bytes / self._pace.layer_bytes,
            self._log.written_bytes / self._pace.log_bytes,
        )

    def _make_room(self, batch: Batch) -> None:
        """Wait until the current layer can take a batch. Raises NoSpace, StorageFailed, OSError."""
        fill = self._fill
        if fill < _CROWDED:
            return
        with self._changed:
            if fill < 1:
                if self._folding is not None and self._failure is None:
                    self._changed.wait(_SLOWED_S)
                return
            if self._failure is not None and fill < 2 and mostly_deletes(batch):
                return
            self._await_folding()
            self._turn()

    def _await_folding(self) -> None:
        """Wait until no layer is being folded. Raises why that fails."""
        while self._folding is not None:
            if self._failure is not None:
                raise type(self._failure)(str(self._failure))
            self._changed.wait()

    def _turn(self) -> None:
        """Let the current layer be folded, and begin another. Raises OSError."""
        self._log.turn()
        self._folding, self._folding_last = self._current, self._log.last
        self._current = Layer(marks_deletions=True)
        self._moves += 1
        self._changed.notify_all()

    def _commit_directly(self, batch: Batch) -> None:
        """Commit to the tables, after everything that came before."""
        if self._folding is not None or len(self._current):
            self._start_folding()
            with self._changed:
                self._await_folding()
                self._turn()
                self._await_folding()
                self._moves += 1
        self._tables.commit(batch)

    # -- folding ----------------------------------------------------------------------------------

    def _start_folding(self) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._keep_folding, name="fold", daemon=True)
            self._thread.start()

    def _keep_folding(self) -> None:
        while self._wait_for_layer():
            failure: NoSpace | StorageFailed | None = None
            try:
                self._fold()
            except (NoSpace, StorageFailed) as problem:
                failure = problem
            except Exception as error:  # commits that wait for this thread must hear of it
                failure = StorageFailed(f"the log cannot be put in place: {error!r}")
            with self._changed:
                self._failure = failure
                self._changed.notify_all()
                if failure is not None and not self._closed:
                    self._changed.wait(self._pace.retry_s)

    def _wait_for_layer(self) -> bool:
        """Wait until there is a layer to fold; False: the store is being closed."""
        while not self._closed:
            with self._changed:
                if self._folding is not None:
                    return True
                latest = self._log.last
                self._changed.wait(self._pace.idle_s)
            if self._log.last == latest:
                self._turn_if_idle()
                self._pack_if_idle(latest)
        return False

    def _turn_if_idle(self) -> None:
        """Begin to fold what there is, unless somebody is writing."""
        if self._commits.acquire(blocking=False):
            try:
                with self._changed, suppress(OSError):  # the next commit will meet it, too
                    if self._folding is None and len(self._current) and not self._closed:
                        self._turn()
            finally:
                self._commits.release()

    def _pack_if_idle(self, latest: int) -> None:
        """Fill the holes that deletions have left, unless somebody is writing: a run at a time."""
        with suppress(Exception):  # whatever it is, the next commit will meet it, too
            while self._has_idled_since(latest) and self._holes.are_due(self._tables):
                if self._commits.acquire(blocking=False):
                    try:
                        if self._has_idled_since(latest):
                            self._holes.pack(self._tables)
                    finally:
                        self._commits.release()
                with self._changed:
                    self._changed.wait(self._pace.rest_s)
        with self._changed:
            if self._has_idled_since(latest) and not len(self._current):
                self._settled = latest
                self._changed.notify_all()

    def _has_idled_since(self, latest: int) -> bool:
        return self._folding is None and self._log.last == latest and not self._closed

    @property
    def _is_hurried(self) -> bool:
        """May commits have to wait for the folding before long?"""
        return self._closed or self._fill >= _HURRIED

    @property
    def _chunk_entries(self) -> int:
        return self._pace.chunk_entries if self._is_hurried else self._pace.calm_entries

    def _rest(self) -> None:
        if not self._is_hurried:
            with self._changed:
                self._changed.wait(self._pace.rest_s)

    def _fold(self) -> None:
        """Put what the older layer holds into the tables. Raises NoSpace or StorageFailed.

        What the newer layer changes once more is left to that one. A fold that failed begins anew.
        """
        assert self._folding is not None
        entries = _in_folding_order(self._folding, self._current)
        chunk = list(islice(entries, self._chunk_entries))
        while following := list(islice(entries, self._chunk_entries)):
            self._tables.commit(_as_batch(chunk))
            chunk = following
            self._rest()
        self._tables.commit(_as_batch(chunk), _pack_note(self._salt, self._folding_last))
        self._holes.note({table: self._folding.entries(table) for table in Table})
        with self._changed:
            self._folding = self._failure = None
            self._changed.notify_all()


def _in_folding_order(layer: Layer, newer: Layer) -> Iterator[tuple[Table, bytes, bytes | None]]:
    """Deletions first, as they make space; then neighbours together."""
    for deletes in (True, False):
        for table in Table:
            entries, again = layer.entries(table), newer.entries(table)
            for key in sorted(
                key
                for key, value in entries.items()
                if (value is None) == deletes and key not in again
            ):
                yield table, key, entries[key]


def _as_batch(entries: list[tuple[Table, bytes, bytes | None]]) -> Batch:
    batch: Batch = {}
    for table, key, value in entries:
        batch.setdefault(table, {})[key] = value
    return batch


def _replayed(frames: list[Frame]) -> Layer:
    layer = Layer(marks_deletions=True)
    for frame in frames:
        layer.apply({_TABLES[name]: changes for name, changes in _decode(frame.body)})
    return layer


def _pack_note(salt: int, folded: int) -> bytes:
    return _encode((_NOTE_VERSION, salt, folded))


def _unpack_note(note: bytes) -> tuple[int, int]:
    version, salt, folded = _decode_note(note)
    if version != _NOTE_VERSION:
        raise NewerFormat(f"the log has format {version}; use the newer crdtdb")
    return salt, folded
