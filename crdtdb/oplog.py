"""Logs: operations folded into a materialised value, and into a base.

The operations of an op-based object, or of such a leaf of a map, are records of their own. Their
effect is in the materialised value with the commit that takes them in. Those that every member has
seen go into the log's base, and their records go. A base of a peer is taken over whole.

What removes a leaf is a cut at the prefix of its log, as it is the cut of the object that removes
an op-based object: operations that it covers are out of force, those concurrent to it stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from crdtdb import address
from crdtdb.causal import Dot, VersionVector
from crdtdb.datatype import DocumentType, OperationType
from crdtdb.errors import PeerError
from crdtdb.guarded import edit_of, is_beside_cut
from crdtdb.head import Head
from crdtdb.kinds import Log, log_at, log_of
from crdtdb.pending import Pending
from crdtdb.record import EMPTY, Live, Payload, Record, visible

__all__ = [
    "SEPARATE_HISTORIES",
    "adopt_base",
    "fold_in",
    "fold_stable",
    "operations_in_force",
    "refold",
    "replace_log",
    "try_out",
]


#: Why what a peer has folded is refused.
SEPARATE_HISTORIES: Final = "separate-histories"


def operations_in_force(kind: OperationType, live: Live, cut: VersionVector | None) -> Live:
    """The operations that count, of those in a record. Of a document no edit is left out."""
    if not isinstance(kind, DocumentType):
        return visible(live, cut)
    counting: dict[Dot, Payload] = {}
    for dot, payload in live.items():
        if not is_beside_cut(payload):
            counting[dot] = payload
        elif cut is not None:
            vector, edit = edit_of(payload)
            if cut.includes(vector):
                counting[dot] = edit
    return counting


def fold_in(pending: Pending, log: Log, head: Head, context: VersionVector, live: Live) -> None:
    """Take the effect of an operation into the materialised value. O(it)."""
    kind = log.kind
    assert kind is not None
    folded = pending.folded(log.prefix, kind)
    for dot, payload in live.items():
        folded = kind.apply(folded, dot, payload)
    head = msgspec.structs.replace(head, context=context)
    pending.add_steps(log, head, folded, live)


def try_out(pending: Pending, log: Log, live: Live) -> None:
    """Edits that do not count now, but may come to: raises PeerError if they could not then."""
    if isinstance(log.kind, DocumentType):
        for dot, payload in live.items():
            if is_beside_cut(payload):
                log.kind.apply(pending.folded(log.prefix, log.kind), dot, edit_of(payload)[1])


def refold(pending: Pending, log: Log, head: Head) -> None:
    """Fold the base and every operation left again, in causal order. O(operations).

    `head` is that of the object, with what is cut of it.
    """
    prefix, _, kind = log
    assert kind is not None
    cut = pending.cut_of(log) if log.is_leaf else head.cut
    base = operations_in_force(kind, pending.record(prefix + address.BASE).live, cut)
    folded = _base_value(kind, base)
    order = pending.order()
    rest = [
        (order.get(at) or pending.found(at)[1], dot, payload)
        for at, record in pending.records_under(prefix + address.OPERATION)
        for dot, payload in operations_in_force(kind, record.live, cut).items()
    ]
    for _, dot, payload in sorted(rest, key=lambda entry: entry[:2]):
        folded = kind.apply(folded, dot, payload)
    pending.set_folded(log, head, folded if base or rest else None)


def adopt_base(pending: Pending, at: bytes, log: Log, incoming: Record) -> Record:
    """Take over a peer's base, unless all of it has been seen here.

    Only a replica that has never reported what it saw can meet a base it does not cover
    (folded operations are stable), so there is no base of its own to lose: the operations
    that the base includes are dropped, the others folded on top again. Raises PeerError
    when there is one: then two clusters with histories of their own have met.
    """
    standing = pending.record(at)
    if pending.seen.includes(incoming.context):
        return standing
    if not incoming.context.includes(standing.context) and visible(
        standing.live, pending.cut_of(log)
    ):
        raise _separate_histories()
    prefix, owner, kind = log
    pending.put(at, incoming)
    pending.changed_last(owner, at)
    pending.adopted[prefix] = incoming.context
    for operation_at, record in list(pending.records_under(prefix + address.OPERATION)):
        if record.live and incoming.context.includes(record.context):
            pending.put(operation_at, None)
    head = pending.head(owner)
    head = msgspec.structs.replace(head, context=head.context.join(incoming.context))
    if kind is not None:
        refold(pending, log, head)
    return incoming


def replace_log(
    pending: Pending, prefix: bytes, incoming: list[tuple[bytes, Record]], seen: VersionVector
) -> None:
    """Take over the log at a prefix, with one's own operations that `seen` lacks on top."""
    log = _log_at(prefix)
    if not seen.includes(pending.record(prefix + address.BASE).context):
        raise _separate_histories()
    own = sorted(
        (pending.found(at)[1], at) for at, _ in pending.records_under(prefix) if log_of(at)
    )
    later = [
        (at, record) for _, at in own if not seen.includes((record := pending.record(at)).context)
    ]
    for _, at in own:
        pending.put(at, None)
    # While the pages came, the donor folded what had come already into the base.
    base_at = prefix + address.BASE
    base = dict(incoming).get(base_at, EMPTY).context
    taken = [e for e in incoming if e[0] == base_at or not base.includes(e[1].context)]
    head = pending.head(log.owner)
    context = head.context if log.is_leaf else pending.record(prefix + address.EXPIRY).context
    for at, record in (*taken, *later):
        pending.put(at, record)
        pending.changed_last(log.owner, at)
        context = context.join(record.context)
    refold(pending, log, msgspec.structs.replace(head, context=context))
    pending.vacate_if_bare(log.owner)


def fold_stable(
    pending: Pending, prefix: bytes, operations: Iterable[bytes], *, settle: bool
) -> None:
    """Put operations that every member has seen into the base, and drop their records.

    `operations` are addresses in causal order. What users see does not change. Nothing
    concurrent to them can arrive any more and cuts of such objects take no read context, so
    a later cut covers all of the base. Unless it is from an evicted replica: so long, nothing
    that its operations may refer to goes (`settle`).
    """
    log = _log_at(prefix)
    kind = log.kind
    assert kind is not None
    cut = pending.cut_of(log)
    base_at = prefix + address.BASE
    base = pending.record(base_at)
    live, context = operations_in_force(kind, base.live, cut), base.context
    folded, last = _base_value(kind, live), next(iter(live), None)
    for at in operations:
        record = pending.record(at)
        context = context.join(record.context)
        for dot, payload in operations_in_force(kind, record.live, cut).items():
            folded, last = kind.apply(folded, dot, payload), dot
        pending.put(at, None)
    stored, has_settled = kind.dump(folded), False
    if kind.settles and settle:
        later = pending.records_under(prefix + address.OPERATION)
        folded = kind.settled(folded, (p for _, r in later for p in visible(r.live, cut).values()))
        former, stored = stored, kind.dump(folded)
        has_settled = stored != former
    left = last is not None and not kind.is_bare(folded)
    live = {last: stored} if left and last is not None else {}
    pending.put(base_at, Record(live, context))
    if has_settled or not left:
        refold(pending, log, pending.head(log.owner))


def _log_at(prefix: bytes) -> Log:
    log = log_at(prefix)
    assert log is not None
    return log


def _base_value(kind: OperationType, base: Live) -> Any:
    """The materialised value of a base, of which no more than one dot is visible."""
    return kind.load(next(iter(base.values()))) if base else kind.empty()


def _separate_histories() -> PeerError:
    return PeerError(
        SEPARATE_HISTORIES,
        "both sides have reclaimed operations that the other never saw; start one of them again "
        "with an empty directory",
    )
