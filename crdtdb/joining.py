"""Records of somebody else's, joined into a draft; and what that comes to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from crdtdb import address, codec
from crdtdb.admission import admit_together
from crdtdb.causal import Dot, VersionVector
from crdtdb.conflicts import journal_rows
from crdtdb.cuts import WideCuts
from crdtdb.digests import HeadChanges
from crdtdb.draft import Draft, Span
from crdtdb.errors import StorageFailed
from crdtdb.record import Record
from crdtdb.store.base import Batch, Snapshot, Table

__all__ = ["Joined", "Part", "Records", "Spoiled", "decoded", "join_in", "join_into"]

#: Addresses and records, as they travel.
Records: TypeAlias = Sequence[tuple[bytes, bytes]]


class Part(NamedTuple):
    """All that a pull brought of a range of addresses, in the donor's sequence."""

    records: Records
    span: Span
    #: The keys under which they were staged, which are let go when they are joined.
    staged: Sequence[bytes] = ()


class Joined(NamedTuple):
    """What a merge writes."""

    batch: Batch
    wide: WideCuts
    #: The last place of the sequence that is given out with it.
    sequence: int
    #: None: of more heads than anybody follows.
    heads: HeadChanges | None
    #: Object prefix → the dots of cuts that do not count there any more (`Draft.voided`).
    voided: Mapping[bytes, Collection[Dot]]


class Spoiled(StorageFailed):
    """What was pulled is damaged on the disk, so that it cannot be joined: it is pulled again."""


def join_in(
    snapshot: Snapshot,
    here: VersionVector,
    wide: WideCuts,
    sequence: int,
    join: Callable[[Draft], None],
    now_ms: int,
) -> Joined:
    """Work out what a merge writes that joins its records so, into the state of a snapshot.

    That state has seen `here`, and given out places up to `sequence`. Raises PeerError or
    StorageFailed.
    """
    draft = Draft(snapshot, here, wide)
    join(draft)
    batch, _, sequence = draft.batch(sequence)
    if losses := draft.losses():
        batch[Table.CONFLICTS] = journal_rows(snapshot, losses, now_ms)
    return Joined(batch, draft.wide, sequence, draft.head_changes(), draft.voided)


def decoded(records: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, Record]]:
    """Records that were admitted when they were staged. Raises Spoiled."""
    try:
        return [(at, codec.decode_record(at, data)) for at, data in records]
    except codec.FormatError as error:
        raise Spoiled(f"what was pulled is damaged on disk ({error})") from error


def join_into(
    draft: Draft,
    incoming: list[tuple[bytes, Record]],
    seen: VersionVector,
    whole: VersionVector,
    span: Span,
) -> None:
    """Join what a replica holds that has seen `seen`. Raises PeerError."""
    # Bases first: they stand for operations that come before all others.
    incoming.sort(key=lambda entry: not address.is_base(entry[0]))
    if len(whole):
        draft.join_whole(incoming, seen, span)
    else:
        for at, record in incoming:
            draft.join(at, record, seen)
    admit_together(draft, (at for at, _ in incoming))
