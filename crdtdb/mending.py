"""Mending: what is damaged in a store is put right from what others hold, or from its records."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from crdtdb import address, codec
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.cuts import WideCuts, covered, is_object_prefix
from crdtdb.draft import Draft
from crdtdb.head import Head
from crdtdb.kinds import is_uncut, log_at, log_of, mended_with, object_of, type_of
from crdtdb.oplog import replace_log
from crdtdb.record import EMPTY, Record, visible
from crdtdb.rows import read_record, record_of
from crdtdb.store.base import Snapshot, Table

__all__ = ["begin_head", "held", "rebuild", "replace_damaged"]


def held(
    snapshot: Snapshot, wide: WideCuts, damaged: Collection[bytes]
) -> list[tuple[bytes, bytes]]:
    """What a peer needs whose records there are damaged, in the order of the sequence.

    Without what a cut has taken out for good: there, everything may be swept and the cut be gone.
    Of a log every record. Raises StorageFailed for one that is damaged here.
    """
    found: dict[bytes, tuple[int, bytes]] = {}
    ranges = [(at, at + b"\0") for at in damaged]
    ranges += [(log, address.after(log) or b"") for log in set(map(mended_with, damaged)) - {b""}]
    for start, end in ranges:
        for below, row in snapshot.scan(Table.RECORDS, start, end):
            record, place = record_of(below, row)
            left = visible(record.live, _cut_for_good(snapshot, wide, below))
            found[below] = place, codec.encode_record(below, Record(left, record.context))
    in_order = sorted(found.items(), key=lambda entry: entry[1])
    return [(below, data) for below, (_, data) in in_order]


def _cut_for_good(snapshot: Snapshot, wide: WideCuts, at: bytes) -> VersionVector | None:
    """What is cut where a record is, by cuts that depend on no deadline. Raises StorageFailed."""
    prefix = object_of(at)
    if not prefix:
        return None
    cut_at, applying = log_of(at) or prefix, None
    if cut_at == prefix:
        if is_uncut(type_of(prefix)):
            return None
        applying = wide.applying(prefix)
    cuts, _ = read_record(snapshot, address.cut(cut_at))
    return covered(cuts.live).join(applying or NOTHING)


def replace_damaged(
    draft: Draft, damaged: Collection[bytes], incoming: Mapping[bytes, Record], seen: VersionVector
) -> None:
    """Put what a replica that has seen `seen` holds in the place of damaged records.

    That replica had seen all that they said: what it does not hold was removed, whatever is
    known here. Of a log `incoming` has every record. O(records of the objects).
    """
    for at in damaged:
        draft.pass_over(at)
    for at in damaged:
        if address.is_cut(at) and at not in incoming:
            _sweep(draft, address.cut_prefix(at))
    prefixes = {at: _owner_of(at) for at in damaged}
    for prefix in set(prefixes.values()) - {b""}:
        begin_head(draft, prefix)
    for at in damaged:
        if prefixes[at] and log_of(at):
            continue
        record = incoming.get(at)
        draft.put(at, record)
        if record is not None and address.is_cut(at) and not mended_with(at):
            draft.install_cut(at, EMPTY, record)
    logs = set(map(mended_with, damaged)) - {b""}
    for prefix in logs:
        log = log_at(prefix)
        if log is not None and log.is_leaf:
            draft.count_anew(log)
        theirs = [entry for entry in incoming.items() if entry[0].startswith(prefix)]
        replace_log(draft, prefix, theirs, seen)
    for prefix in set(prefixes.values()) - {b""}:
        if prefix in logs:
            draft.settle(prefix, prefix)
        else:
            rebuild(draft, prefix)
        draft.vacate_if_bare(prefix)


def _owner_of(at: bytes) -> bytes:
    """The object of which something is counted anew; empty: none."""
    log = log_at(mended_with(at)) if address.is_cut(at) else None
    return object_of(at) if log is None else log.owner


def _sweep(draft: Draft, prefix: bytes) -> None:
    """Take out what a cut covered that cannot be read, and that the peer has reclaimed.

    What it covered is said elsewhere, too, but for logs, which are taken over whole.
    """
    if is_object_prefix(prefix):
        head = draft.head(prefix)
        vector = None if head.timed else head.cut
    else:
        vector = draft.wide.at(prefix)
    if vector is not None:
        draft.sweep(prefix, vector)


def rebuild(draft: Draft, prefix: bytes) -> None:
    """Make an object's head, and its materialised value, from its records. O(those)."""
    begin_head(draft, prefix)
    draft.recount(prefix, draft.head(prefix), type_of(prefix))


def begin_head(draft: Draft, prefix: bytes) -> None:
    """A head that counts nothing yet: what is stored may be damaged, or count what is damaged.

    Nothing is folded, for without what is damaged operations may be left that cannot be.
    """
    context = NOTHING
    for _, record in draft.records_under(prefix):
        context = context.join(record.context)
    draft.pass_over_head(prefix)
    draft.set_head(prefix, Head(context=context, cut=draft.standing(prefix).cut))
    draft.settle(prefix, prefix)
