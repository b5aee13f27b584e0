"""Materialised values of op-based objects: the rows they are stored in, and those in memory.

Of most types a commit writes the value whole: one row, at the object's prefix. Of a type that is
`stepwise` such a row is a checkpoint, and a commit only adds a row with its operations behind it,
until these rows have grown to half the checkpoint, or to `_STEPS_MOST`; then the next commit
writes a checkpoint again. So of a large value a commit writes, on average, a small multiple of its
operations and a 1,024th of the value, and makes one put for each put or delete of before.

A row of steps names the one before by its fingerprint, so the last row stands for all of the value.
By that, values are kept in memory: who reads an object again, or writes to it, looks at one row.
They are never altered, so who failed to store one leaves nothing behind, and threads share them.
`LIMITS.folded_bytes` bounds them. Who finds none there carries the steps out on the checkpoint.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any, Final, NamedTuple, TypeAlias

from crdtdb import address, codec
from crdtdb.causal import Dot
from crdtdb.datatype import OperationType
from crdtdb.errors import StorageFailed
from crdtdb.limits import LIMITS
from crdtdb.record import Payload
from crdtdb.rows import (
    Steps,
    check_folded,
    pack_folded,
    pack_steps,
    read_folded,
    unpack_folded,
    unpack_steps,
)
from crdtdb.store.base import Snapshot, Table

__all__ = [
    "Materialised",
    "Step",
    "check_rows",
    "materialised_rows",
    "read_materialised",
    "read_shown",
    "reread_materialised",
    "shown_digest",
    "stored_bytes",
]

#: An operation whose effect is taken in.
Step: TypeAlias = tuple[Dot, Payload]

_STEPS_MOST: Final = 1_024
#: Steps may have so many times the bytes of the checkpoint.
_SHARE: Final = 0.5
#: What is no larger is written whole, and not kept in memory.
_SMALL_BYTES: Final = 512
#: What a value takes in memory for each byte in its rows, measured on lists of short elements.
_GROWTH: Final = 10


class _Rows(NamedTuple):
    """How a value is stored."""

    #: Of its last row.
    fingerprint: int = 0
    #: Rows behind the checkpoint.
    steps: int = 0
    checkpoint_bytes: int = 0
    steps_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        return self.checkpoint_bytes + self.steps_bytes


class Materialised(NamedTuple):
    """A value as it was found."""

    value: Any
    rows: _Rows = _Rows()
    #: False: there is none, and this is the value of no operation.
    is_there: bool = True


class _Kept:
    """The values that were used last, by their objects and the fingerprints of their last rows."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: OrderedDict[tuple[bytes, int], Materialised] = OrderedDict()
        self.held_bytes = 0

    def get(self, prefix: bytes, rows: _Rows) -> Materialised | None:
        with self._lock:
            found = self._values.get((prefix, rows.fingerprint))
            if found is None or found.rows != rows:
                return None
            self._values.move_to_end((prefix, rows.fingerprint))
            return found

    def put(self, prefix: bytes, found: Materialised, former: _Rows | None = None) -> None:
        """Keep a value; the one before it will be asked for no more."""
        if found.rows.size_bytes <= _SMALL_BYTES:
            return
        with self._lock:
            if former is not None:
                self._drop((prefix, former.fingerprint))
            key = prefix, found.rows.fingerprint
            self._drop(key)
            self._values[key] = found
            self.held_bytes += _GROWTH * found.rows.size_bytes
            while self.held_bytes > LIMITS.folded_bytes:
                self._drop(next(iter(self._values)))

    def _drop(self, key: tuple[bytes, int]) -> None:
        gone = self._values.pop(key, None)
        if gone is not None:
            self.held_bytes -= _GROWTH * gone.rows.size_bytes


_kept = _Kept()


def read_materialised(snapshot: Snapshot, prefix: bytes, kind: OperationType) -> Materialised:
    """The value of an object. One row is looked at, or all if it is not kept.

    Raises StorageFailed.
    """
    if not kind.stepwise:
        return reread_materialised(snapshot, prefix, kind)
    end = address.after(prefix)
    last = next(snapshot.scan(Table.FOLDED, prefix, end, reverse=True), None)
    if last is None:
        return Materialised(kind.empty(), is_there=False)
    rows = _rows_until(prefix, *last)
    found = _kept.get(prefix, rows)
    if found is None:
        if rows.steps:
            found = reread_materialised(snapshot, prefix, kind)
        else:
            found = Materialised(kind.load(unpack_folded(prefix, last[1])), rows)
        _kept.put(prefix, found)
    return found


def read_shown(snapshot: Snapshot, prefix: bytes, kind: OperationType) -> Any | None:
    """The same value; None if users see nothing of it. Raises StorageFailed."""
    found = read_materialised(snapshot, prefix, kind)
    return found.value if found.is_there and kind.size(found.value) else None


def reread_materialised(snapshot: Snapshot, prefix: bytes, kind: OperationType) -> Materialised:
    """The same, from all its rows. O(value). Raises StorageFailed."""
    if not kind.stepwise:
        plain = read_folded(snapshot, prefix)
        if plain is None:
            return Materialised(kind.empty(), is_there=False)
        return Materialised(kind.load(plain))
    value, rows = kind.empty(), _Rows()
    since: list[Step] = []
    for key, row in snapshot.scan(Table.FOLDED, prefix, address.after(prefix)):
        if key == prefix:
            now = _checkpoint(row)
            value = kind.load(unpack_folded(prefix, row))
        else:
            steps = unpack_steps(prefix, row)
            now = _after(prefix, key, row, steps, rows)
            since += (((inc, counter), payload) for inc, counter, payload in steps.steps)
        rows = now
    replayed = kind.replayed(value, since) if since else value
    return Materialised(replayed, rows, is_there=rows != _Rows())


def stored_bytes(snapshot: Snapshot, prefix: bytes) -> int:
    """The bytes of the rows of a value. O(rows)."""
    return sum(len(row) for _, row in snapshot.scan(Table.FOLDED, prefix, address.after(prefix)))


def check_rows(snapshot: Snapshot, prefix: bytes) -> None:
    """Are the rows of a value as they were written, and all there? They are not made a value.

    O(bytes), some ten milliseconds for the largest there may be. Raises StorageFailed.
    """
    rows = _Rows()
    for key, row in snapshot.scan(Table.FOLDED, prefix, address.after(prefix)):
        if key == prefix:
            check_folded(prefix, row)
            rows = _checkpoint(row)
        else:
            rows = _after(prefix, key, row, unpack_steps(prefix, row), rows)


def materialised_rows(
    snapshot: Snapshot,
    prefix: bytes,
    kind: OperationType,
    value: Any,
    changed: tuple[Materialised, list[Step]] | None,
) -> dict[bytes, bytes | None]:
    """The rows to write for a value; None: there is none any more.

    `changed` is what was found before and the steps since, if that is all that changed.
    """
    if not kind.stepwise:
        return {prefix: None if value is None else pack_folded(kind.dump(value))}
    former = None if changed is None else changed[0].rows
    if changed is not None and former is not None and former.size_bytes > _SMALL_BYTES:
        row = _pack_steps(former, changed[1])
        rows = _with_steps(former, row)
        if rows.steps <= _STEPS_MOST and rows.steps_bytes <= _SHARE * rows.checkpoint_bytes:
            _kept.put(prefix, Materialised(value, rows), former)
            return {_step_key(prefix, rows.steps): row}
    written: dict[bytes, bytes | None] = {prefix: None}
    if former is None:
        end = address.after(prefix)
        written |= ((key, None) for key, _ in snapshot.scan(Table.FOLDED, prefix, end))
    else:
        written |= ((_step_key(prefix, i + 1), None) for i in range(former.steps))
    if value is not None:
        written[prefix] = row = pack_folded(kind.dump(value))
        _kept.put(prefix, Materialised(value, _checkpoint(row)), former)
    return written


def shown_digest(prefix: bytes, kind: OperationType, value: Any) -> int:
    """The digest of what users see of a value that is not empty. O(value)."""
    return codec.live_digest(prefix, {(0, 0): kind.shown(value)})


def _checkpoint(row: bytes) -> _Rows:
    return _Rows(codec.fingerprint(row), 0, len(row), 0)


def _with_steps(rows: _Rows, row: bytes) -> _Rows:
    """With one more row, of steps."""
    return _Rows(
        codec.fingerprint(row), rows.steps + 1, rows.checkpoint_bytes, rows.steps_bytes + len(row)
    )


def _after(prefix: bytes, key: bytes, row: bytes, steps: Steps, before: _Rows) -> _Rows:
    """The rows before with one of steps, if it follows them. Raises StorageFailed."""
    number = int.from_bytes(key[len(prefix) :], "big")
    if (steps.fingerprint, number) != (before.fingerprint, before.steps + 1):
        raise StorageFailed(f"the value of {prefix!r} is damaged on disk (a row is missing)")
    return _with_steps(before, row)


def _rows_until(prefix: bytes, key: bytes, row: bytes) -> _Rows:
    """How a value is stored whose last row is this one. Raises StorageFailed."""
    if key == prefix:
        return _checkpoint(row)
    steps = unpack_steps(prefix, row)
    number = int.from_bytes(key[len(prefix) :], "big")
    before = _Rows(steps.fingerprint, number - 1, steps.checkpoint_bytes, steps.steps_bytes)
    return _with_steps(before, row)


def _step_key(prefix: bytes, number: int) -> bytes:
    return prefix + number.to_bytes(2, "big")


def _pack_steps(before: _Rows, steps: list[Step]) -> bytes:
    plain = [(*dot, payload) for dot, payload in steps]
    return pack_steps(Steps(before.fingerprint, before.checkpoint_bytes, before.steps_bytes, plain))
