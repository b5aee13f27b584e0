"""Records of somebody else's, joined into a draft."""

from __future__ import annotations

from collections.abc import Iterable

from crdtdb import address, codec
from crdtdb.admission import admit_together
from crdtdb.causal import VersionVector
from crdtdb.draft import Draft, Span
from crdtdb.errors import StorageFailed
from crdtdb.record import Record

__all__ = ["decoded", "join_into"]


def decoded(records: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, Record]]:
    """Records that were admitted when they were staged. Raises StorageFailed."""
    try:
        return [(at, codec.decode_record(at, data)) for at, data in records]
    except codec.FormatError as error:
        raise StorageFailed(f"what was pulled is damaged on disk ({error})") from error


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
