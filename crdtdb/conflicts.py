"""The journal of conflicts: values that lost to a concurrent one, kept for people to look at.

Where one of several concurrent values is read (`StateType.has_losers`), the others were
acknowledged and yet nobody sees them. Sooner or later a write that has seen them takes their
place; the journal still has them then, so that they can be written again by hand.

It is local: each replica notes what it sees lose, once, when it begins to lose. Duplicates, relays
and later writes note nothing; a write that never saw the loser notes nothing new either, however
often the winner is replaced. What a commit notes is in the same store transaction as its records.

It is bounded (`LIMITS.conflict_rows`, `conflict_bytes`): the oldest rows give way in the commit
that needs their room. A key is the row's number, then how many bytes were ever written up to its
end, 8 bytes each: first and last key tell what the journal holds, and a commit without conflicts
neither reads nor writes here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from crdtdb import address, codec, hlc
from crdtdb.address import ObjectName
from crdtdb.causal import Dot
from crdtdb.datatype import StateType
from crdtdb.errors import StorageFailed
from crdtdb.limits import LIMITS
from crdtdb.record import Live, Payload
from crdtdb.store.base import Snapshot, Table

__all__ = [
    "Entry",
    "Loss",
    "Noted",
    "NotedPage",
    "journal_rows",
    "loss_between",
    "noted_at",
    "read_journal",
]

_VERSION: Final = 1
#: Losers in one row, so that no row comes near `LIMITS.conflict_bytes`.
_ROW_LOSERS: Final = 7
_key: Final = struct.Struct(">QQ")

#: A dot with its payload.
Entry: TypeAlias = tuple[Dot, Payload]


class Loss(NamedTuple):
    """Values at one address that began to lose, and the one they lose to."""

    at: bytes
    kept: Entry
    lost: Sequence[Entry]


class Noted(NamedTuple):
    """A loss in the journal."""

    loss: Loss
    #: When this replica saw it, by its own clock.
    at_ms: int


class NotedPage(NamedTuple):
    """Losses, the latest first, and where the next page begins; None: there are no more."""

    items: list[Noted]
    position: bytes | None


class _Row(msgspec.Struct, array_like=True):
    at: bytes
    at_ms: int
    kept: tuple[int, int, Any]
    lost: list[tuple[int, int, Any]]


_decoder = msgspec.msgpack.Decoder(_Row)


def loss_between(kind: StateType, at: bytes, before: Live, now: Live) -> Loss | None:
    """What loses now and did not before, of the visible live dots at an address."""
    lost = sorted(_losers(kind, now) - _losers(kind, before))
    if not lost:
        return None
    (kept,) = kind.decisive(now)
    return Loss(at, (kept, now[kept]), [(dot, now[dot]) for dot in lost])


def _losers(kind: StateType, live: Live) -> set[Dot]:
    return set(live).difference(kind.decisive(live))


def journal_rows(
    snapshot: Snapshot, losses: Collection[Loss], now_ms: int
) -> dict[bytes, bytes | None]:
    """The rows to write for some losses, and the oldest ones that give way to them.

    `snapshot` is what the commit is made on. O(losses + rows that give way).
    """
    last = next(snapshot.scan(Table.CONFLICTS, reverse=True), None)
    number, end = (0, 0) if last is None else _key.unpack(last[0])
    written: dict[bytes, bytes] = {}
    for row in _packed(losses, hlc.milliseconds(hlc.tick(0, now_ms))):
        number, end = number + 1, end + len(row)
        written[_key.pack(number, end)] = row

    def gives_way(key: bytes, row: bytes) -> bool:
        row_number, row_end = _key.unpack(key)
        return bool(
            row_number <= number - LIMITS.conflict_rows
            or row_end - len(row) < end - LIMITS.conflict_bytes
        )

    rows: dict[bytes, bytes | None] = {
        key: row for key, row in written.items() if not gives_way(key, row)
    }
    for key, row in snapshot.scan(Table.CONFLICTS):
        if not gives_way(key, row):
            break
        rows[key] = None
    return rows


def _packed(losses: Collection[Loss], at_ms: int) -> Iterator[bytes]:
    for at, kept, lost in losses:
        for start in range(0, len(lost), _ROW_LOSERS):
            part = [_flat(entry) for entry in lost[start : start + _ROW_LOSERS]]
            yield codec.pack_whole(_VERSION, (at, at_ms, _flat(kept), part))


def read_journal(
    snapshot: Snapshot, admits: Callable[[ObjectName], bool], position: bytes | None, limit: int
) -> NotedPage:
    """Losses in objects that are asked for, the latest first; `limit` at least 1.

    A page also ends with the row that makes it longer than a request may be. O(journal), which is
    bounded. Raises StorageFailed for a damaged row.
    """
    items: list[Noted] = []
    size, last = 0, b""
    for key, row in snapshot.scan(Table.CONFLICTS, end=position, reverse=True):
        noted = _unpacked(key, row)
        if not admits(address.name_of(address.split_object(noted.loss.at)[0])):
            continue
        if len(items) == limit or size > LIMITS.body_bytes:
            return NotedPage(items, last)
        items.append(noted)
        size += len(row)
        last = key
    return NotedPage(items, None)


def noted_at(key: bytes, row: bytes) -> bytes:
    """The address of the loss in a row. Raises StorageFailed for a damaged one."""
    return _unpacked(key, row).loss.at


def _unpacked(key: bytes, data: bytes) -> Noted:
    try:
        row: _Row = codec.unpack_whole(_VERSION, data, _decoder)
    except codec.FormatError as error:
        raise StorageFailed(
            f"row {_key.unpack(key)[0]} of the journal of conflicts is damaged on disk ({error})"
        ) from error
    return Noted(Loss(row.at, _entry(row.kept), [_entry(one) for one in row.lost]), row.at_ms)


def _flat(entry: Entry) -> tuple[int, int, Payload]:
    (incarnation, counter), payload = entry
    return incarnation, counter, payload


def _entry(flat: tuple[int, int, Payload]) -> Entry:
    incarnation, counter, payload = flat
    return (incarnation, counter), payload
