"""Giving: the pages of a pull, read from the by-change sequence.

A newcomer, that has seen nothing, lacks every record: it gets all rows as they are, in the order of
their addresses, and then pulls what has changed since the first of them was read.

Every record is in the sequence once, at its latest change. A page reads on from where the puller
stands, skips what the puller has seen, and at the head of the sequence claims: "you now have
everything up to this VV". Pages and claim are of one snapshot each; a record that changes between
two pages moves to a later place and comes again.

A tombstone that is reclaimed is in no page. Every member has seen it, but for one whose disk was
put back since, and a newcomer: they pull whole.

A store that was put back has not given what it gave after that place, and may have given out its
dots again: whoever has read so far, and may keep pages of it, begins anew.

A record that is damaged here is in no page either. That is no loss to a puller who knows all that
it held, by what it had seen or because it has read beyond its place; others get nothing until it is
mended. So what only this replica has still gets away, and whoever has that can mend this one.
"""

from __future__ import annotations

from typing import Final

from crdtdb import codec
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.engine import Engine
from crdtdb.errors import StorageFailed
from crdtdb.floors import write_floored
from crdtdb.replication.messages import Claim, Copied, Copy, Gone, Page, Pull, read_vector
from crdtdb.rows import are_settled, read_row, read_sound
from crdtdb.state import STATE_KEY, read_state
from crdtdb.store.base import Table

__all__ = ["COPY_BYTES", "COPY_ROWS", "PAGE_BYTES", "PAGE_RECORDS", "read_copy", "read_page"]

#: A page is closed at whichever comes first; entries looked at are bounded too, so that a donor's
#: writes wait for no more than some tens of milliseconds.
PAGE_RECORDS: Final = 1_000
PAGE_BYTES: Final = 262_144
_PAGE_ENTRIES: Final = 2_000
#: The same of rows that are copied as they are.
COPY_ROWS: Final = 8_192
COPY_BYTES: Final = 1_048_576
#: Rows are read so many at a time: nobody knows how long they are.
_COPY_STRIDE: Final = 64


def read_page(engine: Engine, pull: Pull, seen: VersionVector) -> Page | Gone:
    """The next page for a puller who had seen `seen` when its session began.

    With each page it is asked anew what is reclaimed: that may have gone on since the last one.
    The claim rests on the floor that `seen` rests on, which the puller knows.

    Raises StorageFailed at a damaged record that the puller may not know: what is damaged is not
    absent, so nothing may be claimed over it.
    """
    floor = seen.floor
    whole = read_vector(pull.whole)
    reclaimed = engine.reclaimed.vector
    if not seen.join(whole).includes(reclaimed):
        return Gone(pull.session, reclaimed.flat())
    if len(whole):
        seen = NOTHING
    has_nothing = not len(seen)
    epoch = engine.epochs.latest
    since = engine.epochs.resume(pull.epoch, pull.since, engine.state.sequence)
    if since < pull.since:
        return Gone(pull.session, reclaimed.flat())
    damaged = engine.damaged
    if not all(marker.is_known_to(seen, since) for marker in damaged.values()):
        raise StorageFailed("a record is damaged here")
    records: list[tuple[bytes, bytes]] = []
    size = entries = 0
    with engine.store.snapshot() as snapshot:
        start = (since + 1).to_bytes(8, "big")
        for number, at in snapshot.scan(Table.SEQUENCE, start):
            if entries == _PAGE_ENTRIES or len(records) == PAGE_RECORDS or size >= PAGE_BYTES:
                break
            entries += 1
            since = int.from_bytes(number, "big")
            if at in damaged:
                continue
            if has_nothing:
                data = read_sound(snapshot, at, since)
            else:
                record, row = read_row(snapshot, at, since)
                if seen.includes(record.context):
                    continue
                data = codec.row_record(at, row)
            records.append((at, data))
            size += len(at) + len(data)
        else:
            state_row = snapshot.get(Table.META, STATE_KEY)
            assert state_row is not None, "a replica that serves has a state"
            state = read_state(state_row)
            claimed = state.seen.resting_on(floor)
            flat = write_floored(claimed) if claimed.floor is floor else claimed.flat()
            claim = Claim(flat, state.time)
            head = state.sequence
            return Page(pull.session, pull.since, epoch, head, records, claim, head)
    return Page(pull.session, pull.since, epoch, since, records, None, engine.state.sequence)


def read_copy(engine: Engine, copy: Copy) -> Copied | Gone:
    """The next rows for a newcomer, from a snapshot of their own. O(rows).

    What they say, and come to, it finds out itself. Raises StorageFailed at a damaged record.
    """
    reclaimed = engine.reclaimed.vector
    if not read_vector(copy.whole).includes(reclaimed):
        return Gone(copy.session, reclaimed.flat())
    if engine.damaged:
        raise StorageFailed("a record is damaged here")
    rows: list[tuple[bytes, bytes]] = []
    size, more = 0, True
    start = copy.after + b"\0" if copy.after else b""
    epoch, place = engine.epochs.latest, engine.state.sequence
    with engine.store.snapshot() as snapshot:
        while more and size < COPY_BYTES and len(rows) < COPY_ROWS:
            most = min(_COPY_STRIDE, COPY_ROWS - len(rows))
            found = snapshot.page(Table.RECORDS, start, None, most)
            more = len(found) == most
            if _bytes(found) > COPY_BYTES - size:
                found, more = _beginning(found, COPY_BYTES - size), True
            rows += found
            size += _bytes(found)
            if found:
                are_settled(*zip(*found, strict=True))  # which looks at their checksums
                start = found[-1][0] + b"\0"
    total = engine.store.stats().entries[Table.RECORDS]
    return Copied(copy.session, copy.after, epoch, place, rows, not more, total)


def _bytes(rows: list[tuple[bytes, bytes]]) -> int:
    return sum([len(at) + len(row) for at, row in rows])


def _beginning(rows: list[tuple[bytes, bytes]], size_bytes: int) -> list[tuple[bytes, bytes]]:
    """So many of the rows that they have at least so many bytes, of which they have more."""
    taken = 0
    for count, (at, row) in enumerate(rows, 1):
        taken += len(at) + len(row)
        if taken >= size_bytes:
            return rows[:count]
    return rows
