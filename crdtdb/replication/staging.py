"""Staging: what a pull has brought, on the disk, until it is joined.

Each page is durable before the next is asked for, with a row in META that says how far the pull
has come. So a replica that is killed goes on with the page after the last one, and however much
there is to fetch, no more than a page of it is in memory.

What has come is kept in *runs*, each in the order of addresses: a page is put where few rows are,
all of them close together, while one order of everything would spread it over the whole table. Who
reads merges the runs; of a record that came twice the later one counts. The longer the pull, the
longer a run may get, so there are never more than some hundred.

When the donor has claimed, the records are joined: in one commit together with the claim, or in
parts if there are too many. A part is a range of addresses, joined in one commit that also says so
in the row, and lets go what was staged of it; the claim follows the last part. A kill in between
goes on with the part after it. Should what is left be damaged on the disk, it is given up and
pulled again; until then another row says what a donor must have seen for that, for the parts that
were joined stay.

What becomes one commit, of a replica that others write to, is worked out part by part as well, but
ahead of that commit (`crdtdb.ahead`) and in memory: a kill begins that anew.

What nobody is going to join, or has been joined, is let go some rows at a time. The next pull does
not wait for that: its runs come after those, and each of its pages lets go as many rows as it
brings, so there is never more of them than the largest pull has brought.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from heapq import merge
from itertools import islice
from typing import Final

import msgspec

from crdtdb import address, codec
from crdtdb.admission import inspect
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.damage import Replacement
from crdtdb.draft import Span
from crdtdb.engine import Engine
from crdtdb.errors import PeerError
from crdtdb.joining import Part, Records, Spoiled
from crdtdb.kinds import log_of
from crdtdb.replication.cursors import Cursor
from crdtdb.replication.messages import Claim, Page, Sender, read_vector
from crdtdb.replication.pull import Progress, PullSession
from crdtdb.store.base import KEY_BYTES, Snapshot, Table

__all__ = [
    "COPY_ROW",
    "ONE_COMMIT_BYTES",
    "ONE_COMMIT_RECORDS",
    "PART_BYTES",
    "PART_RECORDS",
    "SHORT_PART_RECORDS",
    "STAGED_BYTES",
    "Staging",
    "staged_logs",
]

#: What one pull may bring: a donor that sends for ever must not fill the disk for ever.
STAGED_BYTES: Final = 256 * 2**30
#: A served replica joins more than these in parts, and says so with each answer meanwhile: one
#: commit takes some times as much memory, and 600 bytes a record besides, and nobody else can write
#: while it is made.
ONE_COMMIT_RECORDS: Final = 50_000
ONE_COMMIT_BYTES: Final = 2**23
#: A part ends at whichever comes first, but within no op-based object: its operations are joined
#: in causal order, and after its base. Where others write meanwhile, they wait for one part.
PART_RECORDS: Final = 2_048
SHORT_PART_RECORDS: Final = 128
PART_BYTES: Final = 1_048_576
#: Rows let go with one call; fewer where others write meanwhile.
_SWEEP_ROWS: Final = 2_000
_SHORT_SWEEP_ROWS: Final = 500
#: What was worked out ahead is begun so often, until it is joined at once.
_ATTEMPTS: Final = 3

#: A run ends when it has so many records and this part of all that have come.
RUN_RECORDS: Final = 4_096
_RUN_PART: Final = 64

#: Less than any address.
_FIRST: Final = b"\x01"

_ROW: Final = b"pull"
#: META row of a pull that was joined in part and given up: what it claimed.
_REST: Final = b"pull/rest"
#: META row of a copy that was begun: then there are records that wait for a pull to bring the rest.
COPY_ROW: Final = b"copy"
#: What a pull brings comes after what was staged by a copy.
_LATER: Final = 1 << 62
_VERSION: Final = 2
_RUN_BYTES: Final = 4
_PLACE_BYTES: Final = 8


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """How far the pull has come, as of its last page or part."""

    donor: Sender
    number: int
    epoch: int
    place: int
    seen: list[int]
    whole: list[int]
    #: The last place of the donor's sequence.
    head: int
    #: The run that is being filled, and how many records had come when it was begun.
    run: int = 0
    run_from: int = 0
    #: Records that came, again or not, and the bytes of their addresses and of themselves.
    records: int = 0
    size_bytes: int = 0
    #: What a donor must have seen who sends these records.
    needs: list[int] = []
    claim: Claim | None = None
    #: Up to which address, without it, they have been joined, and how many; None: all.
    joined_to: bytes | None = b""
    joined: int = 0
    #: Its first run; those before it are what others have left.
    first_run: int = 0


_decoder = msgspec.msgpack.Decoder(_Row)
_rest_decoder = msgspec.msgpack.Decoder(list[int])


class Staging:
    """The pages of one pull."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._row: _Row | None = None
        #: How often the records have been begun to be worked out ahead.
        self._attempts = 0
        with engine.store.snapshot() as snapshot:
            row, rest = snapshot.get(Table.META, _ROW), snapshot.get(Table.META, _REST)
            is_copied = snapshot.get(Table.META, COPY_ROW) is not None
            first = snapshot.page(Table.STAGED, b"", None, 1)
            last = snapshot.page(Table.STAGED, b"", None, 1, reverse=True)
        #: What a donor must have seen for what was copied before, and how much of that is staged.
        self._copied = (NOTHING, 0)
        #: What was claimed by a pull of which parts were joined, and the rest is pulled again.
        self._rest = None if rest is None else _read_rest(rest)
        if row is not None:
            with suppress(codec.FormatError):  # no more than a longer pull
                self._row = codec.unpack_whole(_VERSION, row, _decoder)
        expected = 0 if is_copied and row is None else None
        if self._row is not None:
            expected = self._row.first_run
        #: Is nothing there that nobody is going to join?
        self.is_clear = not first or (expected is not None and _run_of(first[0][0]) >= expected)
        #: The run with which the next pull begins: after all that is there.
        self._next_run = 0 if self.is_clear else _run_of(last[0][0]) + 1

    # -- looking --------------------------------------------------------------------------------

    @property
    def donor(self) -> Sender | None:
        """Whose pages there are; None: nobody's."""
        return None if self._row is None else self._row.donor

    @property
    def needs(self) -> VersionVector:
        """What a donor must have seen who sent these; once it has claimed, all that it claimed.

        A claim says more than the records: of operations that are dead nothing may be left.
        """
        row, rest = self._row, self._rest or NOTHING
        if row is None:
            return rest
        said = row.needs if row.claim is None else row.claim.seen
        return VersionVector.from_flat(said).join(rest)

    @property
    def is_claimed(self) -> bool:
        """Is all there, so that it can be joined?"""
        return self._row is not None and self._row.claim is not None

    @property
    def is_begun(self) -> bool:
        """Is a part of it joined? Then the rest must follow."""
        return self._row is not None and self._row.joined_to != b""

    @property
    def is_partial(self) -> bool:
        """Does a claim have to follow? That of this pull, or of one in the place of it."""
        return self.is_begun or self._rest is not None

    def is_served_by(self, seen: VersionVector) -> bool:
        """Can somebody who has seen so much bring all that is missing?"""
        return self._rest is None or seen.includes(self._rest)

    @property
    def is_joined(self) -> bool:
        """Are all parts joined, so that only the claim is left?"""
        return self._row is not None and self._row.joined_to is None

    @property
    def claim(self) -> Claim:
        """What the donor claimed."""
        claim = None if self._row is None else self._row.claim
        assert claim is not None, "nothing is claimed"
        return claim

    @property
    def records(self) -> int:
        """How many records have come, again or not."""
        return 0 if self._row is None else self._row.records

    @property
    def size_bytes(self) -> int:
        """The bytes of those, and of their addresses."""
        return 0 if self._row is None else self._row.size_bytes

    @property
    def progress(self) -> Progress | None:
        """How far the pull has come; None: nothing is staged."""
        row = self._row
        if row is None:
            return None
        return Progress(
            row.donor.name,
            row.records,
            row.size_bytes,
            row.joined,
            row.place,
            row.head,
            row.claim is not None,
        )

    def session(self, now_ms: int) -> PullSession | None:
        """The pull whose pages these are, to go on with; None: there is none."""
        row = self._row
        if row is None:
            return None
        session = PullSession(
            row.number,
            row.donor,
            Cursor(row.epoch, row.place),
            VersionVector.from_flat(row.seen),
            now_ms,
            VersionVector.from_flat(row.whole),
        )
        session.is_claimed = row.claim is not None
        return session

    # -- bringing in ----------------------------------------------------------------------------

    def add_to(self, needs: VersionVector, records: int) -> None:
        """The next pull brings what has changed since a copy was begun, which staged records."""
        self._copied = needs, records

    def add(self, session: PullSession, page: Page) -> None:
        """Keep a page of a session; durable on return. O(records of the page).

        Raises PeerError, NoSpace or StorageFailed with nothing changed.
        """
        row = self._row
        if row is None:
            row = _Row(
                session.donor,
                session.number,
                *session.cursor,
                session.seen.flat(),
                session.whole.flat(),
                page.head,
                records=self._copied[1],
                needs=self._copied[0].join(self._rest or NOTHING).flat(),
                run=self._next_run,
                first_run=self._next_run,
            )
        needs, size_bytes = VersionVector.from_flat(row.needs), row.size_bytes
        run, run_from = row.run, row.run_from
        if row.records - run_from >= max(RUN_RECORDS, row.records // _RUN_PART):
            run, run_from = run + 1, row.records
        stem = _stem(run)
        left = self._left_before(row.first_run, len(page.records))
        staged: dict[bytes, bytes | None] = dict.fromkeys(left)
        for place, (at, data) in enumerate(page.records, _LATER + row.records):
            if len(at) > KEY_BYTES - _RUN_BYTES:
                raise PeerError("bad-record", "an address is too long")
            _, needed = inspect(at, data)
            if not needs.includes(needed):
                needs = needs.join(needed)
            staged[stem + at] = place.to_bytes(_PLACE_BYTES, "big") + data
            size_bytes += len(at) + len(data)
        claim = page.claim
        if claim is not None and not read_vector(claim.seen).includes(needs):
            raise PeerError("beyond-claim", "the donor claims less than it has sent")
        if size_bytes > STAGED_BYTES:
            raise PeerError("endless-pull", f"a pull brings more than {STAGED_BYTES} bytes")
        row = msgspec.structs.replace(
            row,
            donor=session.donor,
            epoch=page.epoch,
            place=page.next,
            head=page.head,
            run=run,
            run_from=run_from,
            records=row.records + len(page.records),
            size_bytes=size_bytes,
            needs=needs.flat(),
            claim=claim,
        )
        self._engine.stage(staged, {_ROW: codec.pack_whole(_VERSION, row)})
        self._row = row
        self.is_clear |= len(left) < len(page.records)
        self._forget_ahead()

    # -- joining --------------------------------------------------------------------------------

    def everything(self) -> Records:
        """All records, in the donor's sequence."""
        return self._part(b"", self.records, STAGED_BYTES).records

    def of_objects(self, prefixes: Collection[bytes]) -> Records:
        """The records of some objects, and the cuts of these alone, in the donor's sequence."""
        starts = [start for prefix in prefixes for start in (prefix, address.cut(prefix))]
        with self._engine.store.snapshot() as snapshot:
            found = [
                entry
                for start in starts
                for entry in _latest(self._merged(snapshot, start, address.after(start)))
            ]
        return _in_sequence(found)

    def next_part(self, start: bytes | None = None) -> Part:
        """The part from an address on; if none is given, the next to be joined."""
        assert self._row is not None
        if start is None:
            start = self._row.joined_to
        assert start is not None, "all parts are joined"
        is_served = self._engine.state.served
        return self._part(start, SHORT_PART_RECORDS if is_served else PART_RECORDS, PART_BYTES)

    @property
    def is_worked_out(self) -> bool:
        """Can what was worked out ahead be written?"""
        ahead = self._engine.ahead
        return ahead is not None and not ahead.is_stale and ahead.worked_to is None

    def work_ahead(self) -> bool:
        """Work out the next part ahead; False: that is in vain, or has been too often.

        Raises PeerError or StorageFailed.
        """
        ahead = self._engine.ahead
        if ahead is None or ahead.is_stale:
            self._engine.ahead = None
            if self._attempts == _ATTEMPTS:
                return False
            self._attempts += 1
            ahead = self._engine.begin_ahead()
        seen = VersionVector.from_flat(self.claim.seen)
        self._engine.work_ahead(self.next_part(ahead.worked_to), seen)
        return not ahead.is_stale  # else it brings a cut over several objects

    def _forget_ahead(self) -> None:
        self._attempts = 0
        self._engine.ahead = None

    def join(self, part: Part, *, whole: VersionVector) -> None:
        """Join a part; durable on return. Raises PeerError, NoSpace or StorageFailed."""
        row = self._row
        assert row is not None
        joined = row.joined + len(part.records)
        row = msgspec.structs.replace(row, joined_to=part.span.end, joined=joined)
        claim = self.claim
        self._engine.merge_part(
            part,
            VersionVector.from_flat(claim.seen),
            claim.time,
            rows={_ROW: codec.pack_whole(_VERSION, row)},
            whole=whole,
        )
        self._row = row

    def replace(self, replacement: Replacement) -> None:
        """Begin to join with the places of damaged records; durable on return.

        What is staged of those brings nothing new when its part comes. Raises PeerError, NoSpace or
        StorageFailed.
        """
        row, claim = self._row, self.claim
        assert row is not None
        row = msgspec.structs.replace(row, joined_to=_FIRST)
        self._engine.replace_part(
            replacement,
            VersionVector.from_flat(claim.seen),
            claim.time,
            rows={_ROW: codec.pack_whole(_VERSION, row)},
        )
        self._row = row

    def _part(self, start: bytes, records: int, size_bytes: int) -> Part:
        found: list[tuple[bytes, bytes, bytes]] = []
        staged: list[bytes] = []
        last, log, end = b"", b"", None
        with self._engine.store.snapshot() as snapshot:
            for at, row, key in self._merged(snapshot, start, None):
                if at == last:  # the later one
                    found.pop()
                elif len(found) >= records or size_bytes <= 0:
                    log = log or log_of(last)
                    if not (log and at.startswith(log)):
                        end = at
                        break
                last = at
                staged.append(key)
                found.append((at, row, key))
                size_bytes -= len(row)
        return Part(_in_sequence(found), Span(start, end), staged)

    def _merged(
        self, snapshot: Snapshot, start: bytes, end: bytes | None
    ) -> Iterator[tuple[bytes, bytes, bytes]]:
        """What is staged between addresses, in their order, and then in that in which it came."""
        assert self._row is not None
        stems = map(_stem, range(self._row.first_run, self._row.run + 1))
        return merge(*(_run(snapshot, stem, start, end) for stem in stems))

    # -- letting go -----------------------------------------------------------------------------

    def leaving(self) -> dict[bytes, bytes | None]:
        """The META rows to write so that nothing here waits for a claim any more; `left` next."""
        rows = {_ROW: self._row, _REST: self._rest}
        return {key: None for key, value in rows.items() if value is not None}

    def left(self) -> None:
        """Those rows are on the disk: what is left here is let go by and by."""
        self._drop()
        self._rest = None

    def discard(self) -> None:
        """Nothing of this is going to be joined. What is little goes at once."""
        assert not self.is_begun, "what is begun is finished"
        self._drop()
        if not self.is_clear:
            self.sweep()

    def give_up(self) -> None:
        """What is left is damaged. What has been joined stays, and waits for another pull's claim.

        Durable on return. Raises NoSpace or StorageFailed with nothing changed.
        """
        assert self.is_begun, "nothing of it is joined: discard it"
        rest = VersionVector.from_flat(self.claim.seen).join(self._rest or NOTHING)
        self._engine.stage({}, {_ROW: None, _REST: codec.pack_whole(_VERSION, rest.flat())})
        self._rest = rest
        self._drop()

    def _drop(self) -> None:
        self._forget_ahead()
        if self._row is not None:
            self._next_run = self._row.run + 1
            self._row = None
            self.is_clear = False

    def sweep(self) -> None:
        """Let some of it go. Raises NoSpace or StorageFailed; then it is tried again."""
        assert self._row is None, "the pages of a pull let it go"
        most = _SHORT_SWEEP_ROWS if self._engine.state.served else _SWEEP_ROWS
        rows = self._left_before(self._next_run, most)
        self._engine.stage(dict.fromkeys(rows), {_ROW: None})
        if len(rows) < most:
            self.is_clear, self._next_run = True, 0

    def _left_before(self, run: int, most: int) -> list[bytes]:
        """The keys of so many rows of the runs before this one; fewer only if there are no more."""
        if self.is_clear:
            return []
        with self._engine.store.snapshot() as snapshot:
            return [key for key, _ in islice(snapshot.scan(Table.STAGED, b"", _stem(run)), most)]


def staged_logs(logs: Iterable[tuple[bytes, int, bytes]]) -> dict[bytes, bytes | None]:
    """The rows of records that a copy puts aside: address, place at the donor, record."""
    stem = _stem(0)
    return {stem + at: place.to_bytes(_PLACE_BYTES, "big") + data for at, place, data in logs}


def _stem(run: int) -> bytes:
    """What the keys of a run begin with."""
    return run.to_bytes(_RUN_BYTES, "big")


def _run_of(key: bytes) -> int:
    return int.from_bytes(key[:_RUN_BYTES], "big")


def _read_rest(row: bytes) -> VersionVector:
    """Of a damaged row only so much is known: there is a rest."""
    try:
        return VersionVector.from_flat(codec.unpack_whole(_VERSION, row, _rest_decoder))
    except codec.FormatError:
        return NOTHING


def _run(
    snapshot: Snapshot, stem: bytes, start: bytes, end: bytes | None
) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Of one run: addresses, rows, and the keys of the rows."""
    last = address.after(stem) if end is None else stem + end
    for key, row in snapshot.scan(Table.STAGED, stem + start, last):
        yield key[_RUN_BYTES:], row, key


def _latest(
    entries: Iterable[tuple[bytes, bytes, bytes]],
) -> Iterable[tuple[bytes, bytes, bytes]]:
    """Of each address, the one that came last."""
    return {entry[0]: entry for entry in entries}.values()


def _in_sequence(found: list[tuple[bytes, bytes, bytes]]) -> Records:
    """Addresses and records in the order in which they came. Raises Spoiled."""
    if any(len(row) < _PLACE_BYTES for _, row, _ in found):
        raise Spoiled("what was pulled is damaged on disk")
    found.sort(key=lambda entry: entry[1][:_PLACE_BYTES])
    return [(at, row[_PLACE_BYTES:]) for at, row, _ in found]
