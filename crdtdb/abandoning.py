"""Abandoning: what a damaged record held is given up, for good and everywhere, by an operation.

As long as there is a peer that knows all that a damaged record held, that peer mends it. When there
is none, the record waits for ever, and with it everybody who lacks what is written here since, and
all that waits to be reclaimed. So an operator may accept the loss. What cannot be read cannot be
told from what others still hold. So an operation takes out all that was seen in that place, at
every replica, as a delete does, and what is concurrent to it stays:

- a record, of a member, a field, a counter, a register: it alone;
- a log of operations, of an object or of a leaf of a map: all of it, for what follows an operation
  that nobody has means nothing;
- a cut of which the head of the object tells what it covered: nothing, it is cut once more;
- an object with a deadline, of which the deadline or a cut cannot be read: all of it.

A text is taken out by edits that name what stood there, which cannot be read either. A bounded
counter has rights, which must not come into being anew. Who has lost one of these, or what it knew
of the cluster, starts again with an empty directory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from crdtdb import address
from crdtdb.causal import Dot, VersionVector
from crdtdb.cuts import covered, cut_payload, is_object_prefix
from crdtdb.datatype import DocumentType, OperationType
from crdtdb.draft import Draft
from crdtdb.errors import Field, InvalidOperation, StorageFailed
from crdtdb.kinds import is_uncut, log_at, mended_with, type_of
from crdtdb.lives import logs, only
from crdtdb.mending import begin_head, rebuild
from crdtdb.record import Record

__all__ = ["abandon", "by_owner", "goes_whole", "owner_of"]

_SYSTEM: Final = address.DATA + b"_"


def owner_of(at: bytes) -> bytes:
    """The prefix of the object that a damaged record is about; of a wide cut, the prefix it cuts.

    What is no address, and below no object, stands for itself.
    """
    if _is_address(at):
        prefix = address.cut_prefix(at) if address.is_cut(at) else at
        return prefix if prefix.count(b"\0") < 3 else address.split_object(prefix)[0]
    end = len(at) - len(at.split(b"\0", 3)[-1])
    return at[:end] if _is_object(at[:end]) else at


def by_owner(damaged: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """Damaged records by what they are about, in order."""
    owners: dict[bytes, list[bytes]] = {}
    for at in sorted(damaged):
        owners.setdefault(owner_of(at), []).append(at)
    return owners


def goes_whole(draft: Draft, owner: bytes, damaged: Collection[bytes]) -> bool:
    """Would all of an object go, and not only these records of it, and logs that they belong to?

    Raises InvalidOperation if the loss cannot be accepted.
    """
    for at in damaged:
        draft.pass_over(at)
    if owner.startswith(_SYSTEM):
        raise _refusal("it is what this replica knows of the cluster")
    if not _is_object(owner):
        return False
    kind = type_of(owner)
    if kind is None or not kind.deletable:
        raise _refusal("objects of this type cannot be deleted")
    is_op_based = isinstance(kind, OperationType)
    timing = {owner + address.EXPIRY} if _known_cut(draft, owner) else _timing(owner)
    is_whole = is_op_based or not timing.isdisjoint(damaged)
    lost = {log for at in damaged if (log := log_at(mended_with(at)))}
    if is_whole and not is_op_based:
        lost.update(logs(draft, owner))
    if any(isinstance(log.kind, DocumentType) for log in lost):
        raise _refusal("a text cannot be taken out unread")
    return is_whole


def abandon(draft: Draft, owner: bytes, damaged: Collection[bytes], dot: Dot) -> bool:
    """Give up what the damaged records of an object held, by the operation with this dot.

    They are all that are damaged there. Returns whether it takes the operation: what is no address
    said nothing, and just goes. O(records of the object).

    Raises InvalidOperation, as `goes_whole`, or StorageFailed if more is damaged there.
    """
    is_whole = goes_whole(draft, owner, damaged)
    if not _is_object(owner):
        return _abandon_wide(draft, owner, damaged, dot)
    kind, known = type_of(owner), _known_cut(draft, owner)
    begin_head(draft, owner)
    if not is_whole:
        restored = {address.cut(owner)} & set(damaged)
        _take_out(draft, owner, set(damaged) - restored, dot)
        if restored and known is not None:
            _cut(draft, owner, known, dot)
    elif is_uncut(kind):
        everything = {at for at, _ in draft.records_under(owner)}
        _take_out(draft, owner, everything | _timing(owner), dot)
    else:
        is_log = isinstance(kind, OperationType)
        for at in [at for at, _ in draft.records_under(owner) if is_log or at in damaged]:
            draft.put(at, None)
        _take_out(draft, owner, {owner + address.EXPIRY}, dot)
        _cut(draft, owner, draft.seen, dot)
    rebuild(draft, owner)
    draft.vacate_if_bare(owner)
    return True


def _take_out(draft: Draft, owner: bytes, lost: Collection[bytes], dot: Dot) -> None:
    """Take out what records of an object held; of logs that they belong to, all there is."""
    leaves = {prefix for at in lost if (prefix := mended_with(at)) not in (b"", owner)}
    for at in lost:
        if mended_with(at) not in leaves:
            draft.put(at, Record({}, only(dot)) if _is_address(at) else None)
    for prefix in sorted(leaves):
        log = log_at(prefix)
        assert log is not None
        for at, _ in list(draft.records_under(prefix)):
            draft.put(at, None)
        draft.count_anew(log)
        _cut(draft, prefix, draft.seen, dot)


def _abandon_wide(draft: Draft, owner: bytes, damaged: Collection[bytes], dot: Dot) -> bool:
    """Cut once more what a wide cut covered; the heads know it, if nothing else does."""
    if address.cut(owner) not in damaged:
        draft.put(owner, None)
        return False
    vector = draft.wide.at(owner)
    if vector is not None:
        _cut(draft, owner, vector, dot)
        return True
    draft.put(address.cut(owner), Record({}, only(dot)))
    for prefix in draft.heads_under(owner):
        cut = draft.head(prefix).cut
        if cut is not None and not is_uncut(type_of(prefix)):
            _cut(draft, prefix, cut, dot)
    return True


def _cut(draft: Draft, prefix: bytes, vector: VersionVector, dot: Dot) -> None:
    """Cut in the place of all cuts that were seen there."""
    at = address.cut(prefix)
    vector = vector.join(covered(draft.record(at).live))
    cut = Record({dot: cut_payload(vector)}, only(dot))
    draft.join(at, cut, draft.seen.with_dot(dot))


def _known_cut(draft: Draft, owner: bytes) -> VersionVector | None:
    """What is cut of an object, if its head tells that for all times; None: it does not."""
    try:
        head = draft.head(owner)
    except StorageFailed:
        return None
    return None if head.timed or is_uncut(type_of(owner)) else head.cut


def _timing(owner: bytes) -> set[bytes]:
    """The records that say what of an object is there, and until when."""
    return {owner + address.EXPIRY, address.cut(owner)}


def _is_object(owner: bytes) -> bool:
    return is_object_prefix(owner) and _is_address(owner + address.OWN)


def _is_address(at: bytes) -> bool:
    try:
        address.parse(at)
    except ValueError:
        return False
    return True


def _refusal(why: str) -> InvalidOperation:
    return InvalidOperation(
        f"this loss cannot be accepted by itself: {why}; export what can be read, and start the "
        "replica again with an empty directory",
        Field("key", "cannot be given up"),
    )
