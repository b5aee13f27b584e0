"""Copying: what a newcomer has taken over of a donor's rows, until it is a state.

Each page is in place and durable before the next is asked for, with a row in META that says up to
which address they have come; so a replica that is killed goes on with the next one. All of it shows
nothing, and counts for nothing, before what has changed since has been pulled, too. Records of
op-based objects are staged for that pull (`staging`), in the order of the donor's sequence.

A copy of one donor cannot be gone on with at another: it is let go, some rows at a time.
"""

from __future__ import annotations

from typing import Final

import msgspec

from crdtdb import codec
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.copied import Taken
from crdtdb.engine import Engine
from crdtdb.errors import PeerError
from crdtdb.replication.cursors import Cursor
from crdtdb.replication.messages import Copied, Copy, Sender
from crdtdb.replication.pull import Progress
from crdtdb.replication.staging import COPY_ROW, STAGED_BYTES, staged_logs
from crdtdb.store.base import Batch, Table

__all__ = ["Copying"]

_VERSION: Final = 1
#: Rows let go with one call.
_SWEEP_ROWS: Final = 8_000


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """How far a copy has come, as of its last page."""

    donor: Sender
    number: int
    whole: list[int]
    #: What changed after this place of the donor's sequence is to be pulled.
    epoch: int
    place: int
    #: The last address that was taken over.
    after: bytes = b""
    #: What a donor must have seen who holds these records.
    needs: list[int] = []
    records: int = 0
    size_bytes: int = 0
    #: Of them, those that are staged.
    logs: int = 0
    #: How many there are, as the donor said last.
    total: int = 0
    is_complete: bool = False


_decoder = msgspec.msgpack.Decoder(_Row)


class Copying:
    """The copy of one donor."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._row: _Row | None = None
        #: What the donor has reclaimed, by Gone.
        self._whole = NOTHING
        with engine.store.snapshot() as snapshot:
            row = snapshot.get(Table.META, COPY_ROW)
        #: Are there rows that nobody goes on with?
        self.is_spoilt = False
        if row is not None:
            try:
                self._row = codec.unpack_whole(_VERSION, row, _decoder)
            except codec.FormatError:
                self.is_spoilt = True

    # -- looking --------------------------------------------------------------------------------

    @property
    def is_begun(self) -> bool:
        """Has a page been taken over, and not been let go?"""
        return self._row is not None

    @property
    def donor(self) -> Sender | None:
        """Whose rows there are; None: nobody's."""
        return None if self._row is None else self._row.donor

    @property
    def is_complete(self) -> bool:
        """Are all there, but for what has changed since?"""
        return self._row is not None and self._row.is_complete

    @property
    def cursor(self) -> Cursor:
        """From where on what has changed since is to be pulled."""
        assert self._row is not None
        return Cursor(self._row.epoch, self._row.place)

    @property
    def needs(self) -> VersionVector:
        """What a donor must have seen who holds what has been taken over."""
        return NOTHING if self._row is None else VersionVector.from_flat(self._row.needs)

    @property
    def logs(self) -> int:
        """How many records are staged."""
        return 0 if self._row is None else self._row.logs

    @property
    def whole(self) -> VersionVector:
        """What the donor has said to have reclaimed."""
        return self._whole if self._row is None else VersionVector.from_flat(self._row.whole)

    @property
    def progress(self) -> Progress | None:
        """How far the copy has come; None: there is none."""
        row = self._row
        if row is None:
            return None
        total = max(row.total, row.records)
        return Progress(row.donor.name, row.records, row.size_bytes, 0, row.records, total, False)

    # -- bringing in ----------------------------------------------------------------------------

    def request(self, number: int) -> Copy:
        """The request for the next page; `number` names a copy that begins."""
        row = self._row
        if row is None:
            return Copy(number, b"", self._whole.flat())
        return Copy(row.number, row.after, row.whole)

    def add(self, donor: Sender, message: Copied) -> None:
        """Take over a page; durable on return. O(rows of the page).

        Raises PeerError, NoSpace or StorageFailed with nothing changed.
        """
        row = self._row
        if row is None:
            whole = self._whole.flat()
            row = _Row(donor, message.session, whole, message.epoch, message.place)
        rows = message.rows
        if not rows and not message.is_last:
            raise PeerError("endless-pull", "a page that is not the last brings nothing")
        last = row.after
        for at, _ in rows:
            if at <= last:
                raise PeerError("endless-pull", "rows are not in the order of their addresses")
            last = at
        size_bytes = row.size_bytes + sum(len(at) + len(data) for at, data in rows)
        if size_bytes > STAGED_BYTES:
            raise PeerError("endless-pull", f"a copy brings more than {STAGED_BYTES} bytes")
        before = row

        def kept(taken: Taken) -> Batch:
            nonlocal row
            row = msgspec.structs.replace(
                before,
                donor=donor,
                after=last,
                needs=self.needs.join(taken.needs).flat(),
                records=before.records + len(rows),
                size_bytes=size_bytes,
                logs=before.logs + len(taken.logs),
                total=message.total,
                is_complete=message.is_last,
            )
            return {
                Table.META: {COPY_ROW: codec.pack_whole(_VERSION, row)},
                Table.STAGED: staged_logs(taken.logs),
            }

        self._engine.take_over(rows, kept, whole=self.whole)
        self._row = row

    # -- letting go -----------------------------------------------------------------------------

    def leaving(self) -> dict[bytes, bytes | None]:
        """The META rows to write when what was copied has become a state; `left` next."""
        return {} if self._row is None else {COPY_ROW: None}

    def left(self) -> None:
        """Those rows are on the disk."""
        self._row, self._whole = None, NOTHING

    def spoil(self, whole: VersionVector = NOTHING) -> None:
        """Nobody goes on with this. The next copy begins with `whole`."""
        self.is_spoilt |= self._row is not None
        self._row, self._whole = None, whole

    def sweep(self) -> None:
        """Let some of it go. Raises NoSpace or StorageFailed; then it is tried again."""
        # The row stays for as long as anything is left, so that a kill forgets nothing of it.
        spoilt: dict[bytes, bytes | None] = {COPY_ROW: b""}
        if not self._engine.let_all_go(_SWEEP_ROWS, spoilt):
            self._engine.keep(COPY_ROW, None)
            self.is_spoilt = False
