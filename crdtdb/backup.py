"""Backups: one exact state of a replica in a directory, and replicas made from it.

A backup is a directory of two files:

    rows           frames: what a head, each portion of rows in order, and an end say
    manifest.json  what it is, how long `rows` is and its SHA-256; written last, so that a directory
                   without it is no backup

    frame: kind, 1 byte | length of the body, u32 | xxh3-64 of kind and body, u64 | body
    H  JSON: format, version, cluster, replica, and about how many rows there are
    P  msgpack: [[table, {key: row or nil}], …]; each goes on top of those before
    E  JSON: how many rows the portions have
    F  JSON: why the copy could not be ended

The frames are also what a server sends, so a copy that breaks off is known for one.

**Restoring** is never going on as the replica that was backed up: what that one did since then is
known to others, under numbers that would be given out twice. So the restored store says that it has
been moved, and whoever opens it gives it a new identity, as a copied directory. Its peers have what
it lacks, and what they have deleted since does not come back with it (`replication.greeting`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from struct import Struct
from typing import BinaryIO, Final

import msgspec
import xxhash

from crdtdb import codec
from crdtdb.engine import Engine
from crdtdb.errors import NewerFormat, Overloaded, StorageFailed, UnusableBackup
from crdtdb.state import STATE_KEY, State
from crdtdb.store.base import Batch, Table
from crdtdb.store.copying import Copy
from crdtdb.store.disk import sync_names
from crdtdb.store.lmdb import LmdbStore
from crdtdb.store.lmdb.directory import move_store

__all__ = ["Frames", "Manifest", "Taking", "check", "restore", "save"]

FORMAT: Final = 1
_ROWS, _MANIFEST, _RESTORING = "rows", "manifest.json", "restoring"
_FRAME: Final = Struct(">cIQ")
#: No frame that was written is longer.
_BODY_BYTES: Final = 2**28
_KINDS: Final = (b"H", b"P", b"E", b"F")
_READ_BYTES: Final = 2**20

_Body = list[tuple[str, dict[bytes, bytes | None]]]
_decode = msgspec.msgpack.Decoder(_Body).decode
_TABLES: Final = {table.value: table for table in Table}
#: Told how many rows have gone through, and about how many there are.
Progress = Callable[[int, int], None]


class Manifest(msgspec.Struct, frozen=True):
    """What a backup is."""

    format: int
    version: str
    cluster: str
    replica: str
    taken_at_ms: int
    rows: int
    size_bytes: int
    sha256: str


class _Head(msgspec.Struct, frozen=True):
    format: int
    version: str
    cluster: str
    replica: str
    rows: int


class Taking:
    """Takes a backup of a replica that is at work.

    Between `begin` and `end`, every commit is noted; `frames` gives the backup, in between.
    """

    def __init__(self, engine: Engine, *, version: str, cluster: str, replica: str) -> None:
        """Raises Overloaded while another backup is being taken, StorageFailed for damage."""
        if engine.watchers:
            raise Overloaded("a backup is being taken already; try again when it is done")
        if engine.damaged:
            raise StorageFailed(
                "some records are damaged and wait for a peer to mend them; "
                "back up another replica, or this one when crdtdb verify finds nothing"
            )
        self._engine = engine
        self._copy = Copy(engine.store)
        self._head = _Head(
            FORMAT, version, cluster, replica, sum(engine.store.stats().entries.values())
        )

    def begin(self) -> None:
        """From now on commits are noted."""
        self._engine.watchers += (self._copy.note,)

    def end(self) -> None:
        """Commits need not be noted any more. Idempotent."""
        note = self._copy.note
        self._engine.watchers = tuple(one for one in self._engine.watchers if one != note)

    def frames(self) -> Iterator[bytes]:
        """The backup. A problem on the way is told by its last frame, and not raised."""
        yield _frame(b"H", msgspec.json.encode(self._head))
        rows = 0
        while not self._copy.done:
            try:
                portion = self._copy.step()
            except (Overloaded, StorageFailed) as problem:
                yield _frame(b"F", json.dumps({"detail": problem.detail}).encode())
                return
            rows += sum(map(len, portion.values()))
            yield _frame(b"P", _packed(portion))
        yield _frame(b"E", json.dumps({"rows": rows}).encode())


def _packed(portion: Batch) -> bytes:
    return codec.pack([(table.value, rows) for table, rows in portion.items() if rows])


def _frame(kind: bytes, body: bytes) -> bytes:
    return _FRAME.pack(kind, len(body), xxhash.xxh3_64_intdigest(kind + body)) + body


# -- saving ---------------------------------------------------------------------------------------


def save(
    directory: Path, parts: Iterable[bytes], *, taken_at_ms: int, progress: Progress | None = None
) -> Manifest:
    """Write the frames that `parts` hold, cut anywhere, as a backup in a new directory.

    Raises UnusableBackup, with nothing left of it. Constant memory.
    """
    made = not directory.exists()
    try:
        _make_room(directory)
        try:
            return _save(directory, parts, taken_at_ms, progress)
        except BaseException:
            (directory / _ROWS).unlink(missing_ok=True)
            (directory / _MANIFEST).unlink(missing_ok=True)
            if made:
                directory.rmdir()
            raise
    except OSError as error:
        raise UnusableBackup(f"cannot write a backup to {directory}: {error}") from error


def _make_room(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise UnusableBackup(
            f"{directory} is not empty; give each backup a directory of its own, such as "
            "backup-2026-11-23"
        )


def _save(
    directory: Path, parts: Iterable[bytes], taken_at_ms: int, progress: Progress | None
) -> Manifest:
    frames, digest, size_bytes = Frames(), sha256(), 0
    with open(directory / _ROWS, "xb", opener=_private) as file:
        for part in parts:
            file.write(part)
            digest.update(part)
            size_bytes += len(part)
            for _ in frames.feed(part):
                if progress is not None:
                    progress(frames.rows, frames.expected_rows)
        head = frames.end()
        file.flush()
        os.fsync(file.fileno())
    manifest = Manifest(
        head.format,
        head.version,
        head.cluster,
        head.replica,
        taken_at_ms,
        frames.rows,
        size_bytes,
        digest.hexdigest(),
    )
    with open(directory / _MANIFEST, "xb", opener=_private) as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    sync_names(directory)
    sync_names(directory.parent)
    return manifest


class Frames:
    """Reads frames out of parts that are cut anywhere."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._head: _Head | None = None
        self._ended = False
        self.rows = 0

    @property
    def expected_rows(self) -> int:
        """About how many rows there will be."""
        return 0 if self._head is None else self._head.rows

    def feed(self, part: bytes) -> Iterator[Batch]:
        """The portions that are whole now. Raises UnusableBackup."""
        self._rest += part
        while (frame := self._next()) is not None:
            kind, body = frame
            if self._ended or (kind == b"H") != (self._head is None):
                raise UnusableBackup("the backup is damaged: its parts are out of order")
            if kind == b"P":
                portion = _portion(body)
                self.rows += sum(map(len, portion.values()))
                yield portion
            elif kind == b"H":
                self._head = _head(body)
            elif kind == b"E":
                self._ended = True
                if json.loads(body)["rows"] != self.rows:
                    raise UnusableBackup("the backup is damaged: rows are missing")
            else:
                raise UnusableBackup(json.loads(body)["detail"])

    def end(self) -> _Head:
        """Nothing more comes. Raises UnusableBackup unless all is there."""
        if not self._ended or self._rest or self._head is None:
            raise UnusableBackup(
                "the copy broke off before its end; see the server's log, and take it again"
            )
        return self._head

    def _next(self) -> tuple[bytes, bytes] | None:
        if len(self._rest) < _FRAME.size:
            return None
        kind, body_bytes, checksum = _FRAME.unpack_from(self._rest)
        if kind not in _KINDS or body_bytes > _BODY_BYTES:
            raise UnusableBackup("this is no backup, or it is damaged")
        end = _FRAME.size + body_bytes
        if len(self._rest) < end:
            return None
        body = bytes(self._rest[_FRAME.size : end])
        del self._rest[:end]
        if xxhash.xxh3_64_intdigest(kind + body) != checksum:
            raise UnusableBackup("the backup is damaged: a part fails its checksum")
        return kind, body


def _head(body: bytes) -> _Head:
    try:
        head = msgspec.json.decode(body, type=_Head)
    except msgspec.MsgspecError as error:
        raise UnusableBackup(f"this is no backup: {error}") from error
    _check_format(head.format, head.version)
    return head


def _check_format(number: int, version: str) -> None:
    if number > FORMAT:
        raise UnusableBackup(
            f"the backup has format {number}, this crdtdb knows up to {FORMAT}; "
            f"use crdtdb {version} or newer"
        )


def _portion(body: bytes) -> Batch:
    try:
        return {_TABLES[name]: rows for name, rows in _decode(body)}
    except (msgspec.MsgspecError, KeyError) as error:
        raise UnusableBackup(f"the backup cannot be read: {error}") from error


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


# -- restoring ------------------------------------------------------------------------------------


def check(directory: Path) -> Manifest:
    """Is this a whole backup, as it was written? Raises UnusableBackup, which says what is wrong.

    It reads everything.
    """
    manifest = _read_manifest(directory)
    digest, size_bytes = sha256(), 0
    with _opened(directory / _ROWS) as file:
        for part in _parts(file):
            digest.update(part)
            size_bytes += len(part)
    if size_bytes != manifest.size_bytes:
        raise UnusableBackup(
            f"{directory} is damaged: {_ROWS} has {size_bytes} bytes, "
            f"the manifest says {manifest.size_bytes}; use another backup"
        )
    if digest.hexdigest() != manifest.sha256:
        raise UnusableBackup(
            f"{directory} is damaged: {_ROWS} is not what was written (its SHA-256 is another); "
            "use another backup"
        )
    return manifest


def restore(directory: Path, data_dir: Path, progress: Progress | None = None) -> Manifest:
    """Make a data directory from a backup, with a new identity. Constant memory.

    Everything is checked first. Raises UnusableBackup, or a StartError for the data directory, with
    nothing left of it; a crash leaves a directory that no replica starts in.
    """
    manifest = check(directory)
    made = not data_dir.exists()
    building = data_dir / _RESTORING
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_empty(data_dir)
        try:
            store = LmdbStore.open(building)
            try:
                with _opened(directory / _ROWS) as file:
                    _fill(store, file, manifest, progress)
                _move(store)
            finally:
                store.close()
            move_store(building, data_dir)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            if made:
                data_dir.rmdir()
            raise
    except OSError as error:
        raise UnusableBackup(f"cannot restore to {data_dir}: {error}") from error
    return manifest


def _read_manifest(directory: Path) -> Manifest:
    file = directory / _MANIFEST
    try:
        manifest = msgspec.json.decode(file.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise UnusableBackup(
            f"{directory} is no backup, or one that was never finished: {_MANIFEST} is missing"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise UnusableBackup(f"{file} cannot be read: {error}") from error
    _check_format(manifest.format, manifest.version)
    return manifest


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise UnusableBackup(f"the backup is not whole: {file}: {error.strerror}") from error


def _parts(file: BinaryIO) -> Iterator[bytes]:
    while part := file.read(_READ_BYTES):
        yield part


def _check_empty(data_dir: Path) -> None:
    names = sorted(os.listdir(data_dir))
    if names == [_RESTORING]:
        raise UnusableBackup(
            f"a restore into {data_dir} was begun and not ended; "
            f"if none is running, remove {data_dir / _RESTORING} and repeat it"
        )
    if names:
        raise UnusableBackup(
            f"{data_dir} is not empty ({names[0]}); a restore needs a new or empty directory, "
            "so move what is there away"
        )


def _fill(store: LmdbStore, file: BinaryIO, manifest: Manifest, progress: Progress | None) -> None:
    frames = Frames()
    for part in _parts(file):
        for portion in frames.feed(part):
            store.commit(portion)
            if progress is not None:
                progress(frames.rows, manifest.rows)
    frames.end()


def _move(store: LmdbStore) -> None:
    """Have the store say that it was elsewhere: whoever opens it takes a new identity."""
    with store.snapshot() as snapshot:
        row = snapshot.get(Table.META, STATE_KEY)
    if row is None:
        raise UnusableBackup("the backup is of a replica that never began; start an empty one")
    try:
        state = State.decode(row)
    except codec.NewerVersion as error:
        raise NewerFormat(f"the backup needs a newer crdtdb: {error}") from error
    except codec.FormatError as error:
        raise UnusableBackup(f"the backup was taken of a damaged replica: {error}") from error
    moved = msgspec.structs.replace(state, location=b"restored")
    store.commit({Table.META: {STATE_KEY: moved.encode()}})
