"""Cursors: how far the sequence of each donor has been read.

Everything up to a cursor is here, so the next pull need not look at it again. Cursors are kept in
META, in the commit of a claim or of any later merge, and so they go back together with the data
when a store is put back to an earlier state. The donor's side of that is `crdtdb.epochs`.

A damaged row is no more than a longer pull.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final, NamedTuple

import msgspec

from crdtdb import address, codec
from crdtdb.store.base import Snapshot, Table

__all__ = ["CURSOR_ROWS", "START", "Cursor", "Cursors"]

#: META rows: this and the donor's incarnation, 8 bytes.
CURSOR_ROWS: Final = b"cursor/"
_VERSION: Final = 1


class Cursor(NamedTuple):
    """A place in a donor's sequence, and the epoch in which the donor gave it out."""

    epoch: int
    place: int


START: Final = Cursor(0, 0)
_decoder = msgspec.msgpack.Decoder(tuple[int, int])


class Cursors:
    """The cursor of each donor, by incarnation."""

    def __init__(self, snapshot: Snapshot) -> None:
        #: As they are on disk.
        self._kept: dict[int, Cursor] = {}
        for key, row in snapshot.scan(Table.META, CURSOR_ROWS, address.after(CURSOR_ROWS)):
            try:
                cursor = Cursor(*codec.unpack_whole(_VERSION, row, _decoder))
            except codec.FormatError:
                cursor = START
            self._kept[int.from_bytes(key.removeprefix(CURSOR_ROWS), "big")] = cursor
        #: As far as has been read.
        self.now = dict(self._kept)

    def of(self, donor: int) -> Cursor:
        """How far a donor has been read."""
        return self.now.get(donor, START)

    def inherit(self, donor: int, predecessor: int, *, keep: bool = False) -> None:
        """A donor goes on under another incarnation, probably with the same store.

        The cursor of a predecessor that may yet come back is to be kept: who spoke from its
        endpoint meanwhile may have been somebody else, and that one's cursor would hide records.
        """
        if predecessor in self.now:
            self.now.setdefault(donor, self.now[predecessor])
            if not keep:
                del self.now[predecessor]

    def forget_others(self, donors: Container[int]) -> None:
        """Only these donors are still there."""
        self.now = {donor: cursor for donor, cursor in self.now.items() if donor in donors}

    def rows(self, now: Mapping[int, Cursor]) -> dict[bytes, bytes | None]:
        """The rows to write so that these cursors are kept; `keep` says that it is done."""
        rows: dict[bytes, bytes | None] = {_key(donor): None for donor in self._kept.keys() - now}
        for donor, cursor in now.items():
            if self._kept.get(donor) != cursor:
                rows[_key(donor)] = codec.pack_whole(_VERSION, cursor)
        return rows

    def keep(self, now: dict[int, Cursor]) -> None:
        """These are the cursors, and they are on disk."""
        self.now, self._kept = now, dict(now)


def _key(donor: int) -> bytes:
    return CURSOR_ROWS + donor.to_bytes(8, "big")
