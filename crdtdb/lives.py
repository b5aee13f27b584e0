"""The lives of an object that deadlines end: what ends one for now, and what for good.

Who begins a new life of an object leaves a guarded cut (`expiry`), and beside it what that needs
(`guarded`). When nobody can move the deadline any more, operations take the place of all this.
Here are the records that either changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Set

from crdtdb import address
from crdtdb.causal import Dot, VersionVector
from crdtdb.datatype import NO_PAYLOAD, Delete, DocumentType, NestedType, OperationType, StateType
from crdtdb.draft import Draft
from crdtdb.errors import Field, TooLarge
from crdtdb.guarded import (
    found_then,
    guarded_edit,
    has_beside_cut,
    inventory,
    is_beside_cut,
    totals_of,
)
from crdtdb.kinds import Log, log_in, type_of
from crdtdb.limits import LIMITS
from crdtdb.oplog import operations_in_force
from crdtdb.record import Payload, Record, after

__all__ = ["beside_cut", "edits_in_force", "ended", "logs", "only"]


def only(dot: Dot) -> VersionVector:
    """The context of the record of one operation."""
    return VersionVector.of([dot])


def beside_cut(draft: Draft, prefix: bytes, dot: Dot) -> list[tuple[bytes, Record]]:
    """What a guarded cut, of this dot, leaves in other records of the object. O(records).

    Raises TooLarge.
    """
    kind = type_of(prefix)
    left: list[tuple[bytes, Record]] = []
    for log in logs(draft, prefix):
        if isinstance(log.kind, DocumentType):
            folded = draft.folded(log.prefix, log.kind)
            edit = log.kind.edit(folded, [Delete()], dot[0]).payload
            if edit is not None:
                record = Record({dot: guarded_edit(draft.seen, edit)}, only(dot))
                left.append((address.operation_in(log.prefix, dot), record))
    if isinstance(kind, StateType) and kind.totals:
        left += _inventories(draft, prefix, kind, dot)
    return left


def logs(draft: Draft, prefix: bytes) -> list[Log]:
    """The log of an op-based object, or those of the op-based leaves of a map. O(records)."""
    kind = type_of(prefix)
    if isinstance(kind, OperationType):
        return [Log(prefix, prefix, kind)]
    if not isinstance(kind, NestedType):
        return []
    found = (log_in(prefix, at[len(prefix) :]) for at, _ in draft.records_under(prefix))
    return [*dict.fromkeys(log for log in found if log is not None and log.kind is not None)]


def _inventories(
    draft: Draft, prefix: bytes, kind: StateType, dot: Dot
) -> list[tuple[bytes, Record]]:
    left: list[tuple[bytes, Record]] = []
    for at, own, record in _records(draft, prefix, kind):
        if own.totals and (found := own.counting(totals_of(record.live))):
            left.append((at, after(record, dot, (), inventory(found))))
        if len(left) > LIMITS.delete_objects:
            raise TooLarge(
                f"more than {LIMITS.delete_objects} records with running totals were there until "
                "the deadline; delete the object first",
                Field("", "too many totals from before the deadline", LIMITS.delete_objects),
            )
    return left


def _records(
    draft: Draft, prefix: bytes, kind: StateType
) -> Iterator[tuple[bytes, StateType, Record]]:
    """The records of an object whose type is known, with that."""
    for at, record in list(draft.records_under(prefix)):
        tail = at[len(prefix) :]
        own = None if tail == address.EXPIRY else kind.at(tail)
        if own is not None:
            yield at, own, record


def ended(
    draft: Draft,
    prefix: bytes,
    final: VersionVector,
    left: Set[Dot],
    dot: Dot,
    members: Collection[int],
) -> Iterator[tuple[bytes, Record]]:
    """What an operation with this dot changes that takes out for good all that `final` covers.

    Of an object that is without cuts but guarded ones; `left` are those that stay. O(records).
    """
    kind = type_of(prefix)
    assert isinstance(kind, StateType)
    for at, own, record in _records(draft, prefix, kind):
        gone: set[Dot] = {covered for covered in record.live if final.covers(covered)}
        payload: Payload = NO_PAYLOAD
        if own.totals:
            gone, payload = _taken_out(own, record, final, dot, members)
            gone |= {d for d, p in record.live.items() if is_beside_cut(p) and d not in left}
        if gone or payload is not NO_PAYLOAD:
            marks = () if payload is NO_PAYLOAD else (payload,)
            yield at, after(record, dot, gone, *marks)


def _taken_out(
    own: StateType, record: Record, final: VersionVector, dot: Dot, members: Collection[int]
) -> tuple[set[Dot], Payload]:
    """The dots that go, and the baselines that take out what others repeat of them.

    Every member has seen that they are cut, and counts on under another name. Whoever is none may
    not have: such totals stay, and baselines take out what is known of them.
    """
    totals = totals_of(record.live)
    covered = {d: payload for d, payload in totals.items() if final.covers(d)}
    counting = own.counting(covered)
    gone = {d for d in covered if d not in counting or d[0] in members}
    standing = {d: payload for d, payload in totals.items() if d not in gone}
    former = {**found_then(record.live, final), **counting}
    return gone, own.taken_out(standing, former, dot)


def edits_in_force(draft: Draft, prefix: bytes) -> list[tuple[Log, Payload]]:
    """The edits of documents that count only as long as a cut does, and do."""
    return [
        (log, edit)
        for log in logs(draft, prefix)
        if isinstance(log.kind, DocumentType)
        for _, record in draft.records_under(log.prefix + address.OPERATION)
        if has_beside_cut(record.live)
        for edit in operations_in_force(log.kind, record.live, draft.cut_of(log)).values()
    ]
