"""Mending: what is damaged in a store is put right from what others hold, or from its records."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from crdtdb import address
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.draft import Draft
from crdtdb.expiry import standing
from crdtdb.head import Head
from crdtdb.kinds import is_uncut, log_at, log_of, mended_with, object_of, type_of
from crdtdb.oplog import replace_log
from crdtdb.record import EMPTY, Record

__all__ = ["rebuild", "replace_damaged"]


def replace_damaged(
    draft: Draft, damaged: Collection[bytes], incoming: Mapping[bytes, Record], seen: VersionVector
) -> None:
    """Put what a replica that has seen `seen` holds in the place of damaged records.

    That replica had seen all that they said: what it does not hold was removed, whatever is
    known here. Of a log `incoming` has every record. O(records of the objects).
    """
    for at in damaged:
        draft.pass_over(at)
    prefixes = {at: object_of(at) for at in damaged}
    for prefix in set(prefixes.values()) - {b""}:
        _begin_head(draft, prefix)
    for at in damaged:
        if prefixes[at] and log_of(at):
            continue
        record = incoming.get(at)
        draft.put(at, record)
        if record is not None and address.is_cut(at):
            draft.install_cut(at, EMPTY, record)
    logs = set(map(mended_with, damaged)) - {b""}
    for prefix in logs:
        log = log_at(prefix)
        if log is not None and log.is_leaf:
            draft.count_anew(log)
        held = [entry for entry in incoming.items() if entry[0].startswith(prefix)]
        replace_log(draft, prefix, held, seen)
    for prefix in set(prefixes.values()) - {b""}:
        if prefix in logs:
            draft.settle(prefix, prefix)
        else:
            rebuild(draft, prefix)
        draft.vacate_if_bare(prefix)


def rebuild(draft: Draft, prefix: bytes) -> None:
    """Make an object's head, and its materialised value, from its records. O(those)."""
    _begin_head(draft, prefix)
    draft.recount(prefix, draft.head(prefix), type_of(prefix))


def _begin_head(draft: Draft, prefix: bytes) -> None:
    """A head that counts nothing yet: what is stored may be damaged, or count what is damaged.

    Nothing is folded, for without what is damaged operations may be left that cannot be.
    """
    context, cut = NOTHING, None
    for _, record in draft.records_under(prefix):
        context = context.join(record.context)
    draft.pass_over_head(prefix)
    if not is_uncut(type_of(prefix)):
        cuts = draft.record(address.cut(prefix)).live
        deadlines = draft.record(prefix + address.EXPIRY).live
        cut = standing(cuts, deadlines, draft.wide.applying(prefix)).cut
    draft.set_head(prefix, Head(context=context, cut=cut))
    draft.settle(prefix, prefix)
