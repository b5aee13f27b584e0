"""The change feed: what changed since a cursor, read from the by-change sequence.

One event per changed record, with its latest state only: a counter incremented a million times is
one event. A cursor is valid at any replica: it names a place in one store's sequence, and the VV
that everything before that place adds up to. At the same store reading goes on from the place; at
another it starts over and skips what that VV covers. So every change is shown at least once, and
never is one left out: a reader for whom a delete was reclaimed before it was shown is told so.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec
import xxhash

from crdtdb import address, codec
from crdtdb.address import Leaf, ObjectName
from crdtdb.answers import LEFT_OUT, Given
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.cuts import is_object_prefix
from crdtdb.datatype import StateType
from crdtdb.errors import BadToken, CursorExpired, Field
from crdtdb.expiry import is_hidden
from crdtdb.floors import Floors, read_floored, write_floored
from crdtdb.head import FRESH, Head
from crdtdb.kinds import Log, in_force, log_at, log_in
from crdtdb.limits import LIMITS
from crdtdb.materialised import read_shown
from crdtdb.opaque import from_opaque, to_opaque
from crdtdb.reclaimed import Reclaimed, read_reclaimed
from crdtdb.record import Record
from crdtdb.rows import read_head, read_row, scan_heads
from crdtdb.state import STATE_KEY, State, read_state
from crdtdb.store.base import Snapshot, Table
from crdtdb.types import CATALOGUE

__all__ = [
    "BEGINNING",
    "Change",
    "ChangeCursor",
    "ChangePage",
    "Scope",
    "changes_head",
    "read_changes",
]

_VERSION: Final = 1
_NO_FLOORS: Final[Floors] = MappingProxyType({})
#: Places of the sequence looked at for one page, wanted or not.
_PAGE_ENTRIES: Final = 5_000


class ChangeCursor(NamedTuple):
    """Where a reader of changes stands."""

    store_id: int
    sequence: int
    #: Everything that was shown, or covered, when this reader last stood at a head.
    base: VersionVector

    def write(self, cluster: str) -> str:
        """The cursor as callers carry it: opaque base64url."""
        inner = bytes((_VERSION,)) + codec.pack(
            (codec.fingerprint(cluster), self.store_id, self.sequence, write_floored(self.base))
        )
        return to_opaque(inner + xxhash.xxh32_digest(inner))

    @classmethod
    def read(cls, cluster: str, text: str, floors: Floors = _NO_FLOORS) -> ChangeCursor:
        """The inverse of `write`. Raises BadToken."""
        if len(text) > LIMITS.token_bytes:
            raise BadToken(
                f"a cursor has at most {LIMITS.token_bytes} bytes",
                Field("", "too long", LIMITS.token_bytes),
            )
        try:
            whole = from_opaque(text)
            inner = whole[:-4]
            if not inner or xxhash.xxh32_digest(inner) != whole[-4:] or inner[0] != _VERSION:
                raise BadToken("the cursor is damaged; start over without one")
            mark, store_id, sequence, flat = _decode(inner[1:])
            base = read_floored(flat, floors)
            if not 0 <= sequence < 1 << 63:
                raise BadToken("the cursor names a place that no sequence has")
        except (ValueError, msgspec.MsgspecError) as error:
            raise BadToken("the cursor cannot be read; send it as it was given") from error
        if mark != codec.fingerprint(cluster):
            raise BadToken(f"the cursor is of another cluster than {cluster!r}")
        return cls(store_id, sequence, base)


_decode = msgspec.msgpack.Decoder(tuple[int, int, int, list[int]]).decode

#: Nothing has been shown yet.
BEGINNING: Final = ChangeCursor(0, 0, NOTHING)


class Scope(NamedTuple):
    """Which changes a reader wants; None: any."""

    bucket: str | None = None
    type: str | None = None
    key: str | None = None

    def admits(self, name: ObjectName) -> bool:
        return (
            self.bucket in (None, name.bucket)
            and self.type in (None, name.type)
            and self.key in (None, name.key)
        )


class Change(NamedTuple):
    """One changed record, as it is now."""

    name: ObjectName
    #: The member's or leaf's record, of a collection or map; None: the object as a whole.
    tail: bytes | None
    #: Is nothing left to see of it?
    deleted: bool
    #: The place of the change in this store's sequence.
    sequence: int

    @property
    def leaf(self) -> Leaf | None:
        """The leaf that changed, of a map."""
        if self.tail is None or not self.tail.startswith(address.LEAF):
            return None
        return address.leaf_of(self.tail)

    @property
    def member(self) -> Given:
        """The member that changed; left out: the object, or the leaf, as a whole."""
        leaf = self.leaf
        tail = self.tail if leaf is None else leaf.tail
        return LEFT_OUT if tail in (None, address.OWN) else address.member_value(tail)


class ChangePage(NamedTuple):
    """Some changes, where to go on, and whether that is (for now) the end."""

    changes: list[Change]
    cursor: ChangeCursor
    at_head: bool


def changes_head(snapshot: Snapshot) -> ChangeCursor:
    """The cursor that stands behind everything in a snapshot."""
    state = _state(snapshot)
    return ChangeCursor(state.store_id, state.sequence, state.seen)


def read_changes(
    snapshot: Snapshot, cursor: ChangeCursor, scope: Scope, limit: int, now_ms: int = 0
) -> ChangePage:
    """The next changes after a cursor. O(places looked at), which is bounded.

    At `now_ms`, what has come to its deadline is deleted. Nothing changes at that moment, so the
    event that says so to whoever was there before comes when the object is removed for good.

    Raises CursorExpired when a delete that comes after the cursor is not there any more.
    """
    state = _state(snapshot)
    sequence = cursor.sequence if cursor.store_id == state.store_id else 0
    if _has_missed(cursor, sequence, read_reclaimed(snapshot)):
        raise CursorExpired(
            "deletes that come after this cursor have been reclaimed here; read all data, then "
            "follow changes from the cursor `now` of before",
            Field("since", "too old"),
        )
    scan = snapshot.scan(Table.SEQUENCE, (sequence + 1).to_bytes(8, "big"))
    shown: dict[tuple[ObjectName, bytes | None], Change] = {}
    places = list(islice(scan, _PAGE_ENTRIES))
    for number, at in places:
        place = int.from_bytes(number, "big")
        record, _ = read_row(snapshot, at, place)
        if not cursor.base.includes(record.context):
            for name, tail, deleted in _changes_at(snapshot, at, record, now_ms):
                if scope.admits(name):
                    shown.pop((name, tail), None)
                    shown[name, tail] = Change(name, tail, deleted, place)
        sequence = place
        if len(shown) >= limit:
            break
    else:
        if len(places) < _PAGE_ENTRIES:
            head = ChangeCursor(state.store_id, state.sequence, state.seen)
            return ChangePage(list(shown.values()), head, True)
    here = ChangeCursor(state.store_id, sequence, cursor.base)
    return ChangePage(list(shown.values()), here, False)


def _has_missed(cursor: ChangeCursor, sequence: int, reclaimed: Reclaimed) -> bool:
    """May something that this reader was shown have been deleted without a trace since?

    Not if nothing was shown yet, if it has passed the last place of a delete that is gone, or if
    what it was shown covers every such delete.
    """
    begins = cursor.sequence == 0 and not len(cursor.base)
    passed = sequence >= reclaimed.place
    return not (begins or passed or cursor.base.includes(reclaimed.vector))


def _state(snapshot: Snapshot) -> State:
    row = snapshot.get(Table.META, STATE_KEY)
    return State(0, 0, NOTHING, 0, 0, False, b"") if row is None else read_state(row)


def _changes_at(
    snapshot: Snapshot, at: bytes, record: Record, now_ms: int
) -> Iterator[tuple[ObjectName, bytes | None, bool]]:
    """What the record at an address means to users: at most one change, but for wide cuts."""
    if address.is_cut(at):
        yield from _cut_changes(snapshot, address.cut_prefix(at), now_ms)
        return
    prefix, tail = address.split_object(at)
    name = address.name_of(prefix)
    kind = CATALOGUE.get(name.type)
    if name.bucket.startswith("_") or kind is None:
        return
    head = read_head(snapshot, prefix) or FRESH
    is_there = _is_there(head, now_ms)
    log = log_in(prefix, tail)
    if log is not None and log.is_leaf:
        yield from _leaf_changes(snapshot, log, is_there=is_there)
    elif tail.startswith((address.MEMBER, address.LEAF)):
        live = in_force(kind, tail, record.live, head.cut)
        own = kind.at(tail) if isinstance(kind, StateType) else None
        if own is not None:
            yield name, tail, not (is_there and live and own.alive(live))
    else:
        yield name, None, not is_there


def _leaf_changes(
    snapshot: Snapshot, log: Log, *, is_there: bool
) -> Iterator[tuple[ObjectName, bytes | None, bool]]:
    """Whatever changed of the log of a leaf, it is that leaf that has changed."""
    if log.kind is not None:
        deleted = not is_there or read_shown(snapshot, log.prefix, log.kind) is None
        yield address.name_of(log.owner), log.at[len(log.owner) :], deleted


def _is_there(head: Head, now_ms: int) -> bool:
    return head.exists and not is_hidden(head.expires_at_ms, now_ms)


def _cut_changes(
    snapshot: Snapshot, prefix: bytes, now_ms: int
) -> Iterator[tuple[ObjectName, bytes | None, bool]]:
    """A cut changes a leaf, or every object below it: one, or all below a wider prefix."""
    if prefix[1:2] == b"_":
        return
    if is_object_prefix(prefix):
        head = read_head(snapshot, prefix) or FRESH
        yield address.name_of(prefix), None, not _is_there(head, now_ms)
        return
    if (log := log_at(prefix)) is not None:
        head = read_head(snapshot, log.owner) or FRESH
        yield from _leaf_changes(snapshot, log, is_there=_is_there(head, now_ms))
        return
    for object_prefix, head in scan_heads(snapshot, prefix, address.after(prefix)):
        yield address.name_of(object_prefix), None, not _is_there(head, now_ms)
