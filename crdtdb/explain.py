"""Why an object reads as it does: what is in force, who wrote it, what loses, what was cut.

For people who look into a conflict. It shows the records as they are stored, a page of them at
most, and lets the type say what each payload means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector, format_dot, format_incarnation
from crdtdb.datatype import DocumentType, OperationType, ScalarType, StateType
from crdtdb.expiry import deadline_of, describe_deadline
from crdtdb.guarded import edit_of, is_beside_cut, read_inventory
from crdtdb.kinds import in_force, log_in
from crdtdb.operations import type_named
from crdtdb.reading import PageQuery, Reading
from crdtdb.record import Payload, Record, visible

__all__ = ["explain"]

_KINDS: Final = {
    address.OWN: "own",
    address.BASE: "base",
    address.OPERATION: "operation",
    address.MEMBER: "member",
    address.LEAF: "leaf",
}


def explain(
    reading: Reading, name: ObjectName, names: Mapping[int, str], query: PageQuery
) -> dict[str, Any]:
    """The records of an object as of a reading, as a JSON document.

    `names` are those of the replicas, as far as they are known, by incarnation; `query` says which
    members of a collection, which fields of a map. O(page), whatever the size of the object.
    """
    kind = type_named(name.type)
    head = reading.head(name.prefix)
    deadlines = reading.deadlines(name.prefix)
    records: list[dict[str, Any]] = []
    writers: set[int] = set()
    more = False
    for tail, record in reading.records(name, query):
        own = kind.at(tail) if isinstance(kind, StateType) else kind
        log, cut = log_in(name.prefix, tail), head.cut
        if log is not None and log.is_leaf:
            own, cut = log.kind, reading.cut_of(log)
        if not record.live or own is None or tail == address.EXPIRY:
            continue
        if len(records) == query.limit:
            more = True
            break
        records.append(_record(own, tail, record, cut))
        writers.update(incarnation for incarnation, _ in record.live)
        if isinstance(kind, ScalarType):
            writers.update(kind.concerns(visible(record.live, head.cut)))
    writers.update(incarnation for incarnation, _ in head.context.items())
    document: dict[str, Any] = {
        "replicas": {format_incarnation(i): names.get(i) for i in sorted(writers)},
        "context": _vector(head.context),
        "cut": None if head.cut is None else _vector(head.cut),
        "records": records,
        "more": more,
    }
    if deadlines:
        in_force = visible(deadlines, head.cut)
        document["expiry"] = {
            "now_ms": reading.now_ms,
            "expires_at_ms": deadline_of(in_force),
            "entries": [
                {"dot": format_dot(dot), "state": "cut" if dot not in in_force else "in force"}
                | describe_deadline(payload)
                for dot, payload in sorted(deadlines.items())
            ],
        }
    return document


def _record(
    kind: StateType | OperationType, tail: bytes, record: Record, cut: VersionVector | None
) -> dict[str, Any]:
    live = in_force(kind, tail, record.live, cut)
    document: dict[str, Any] = {"kind": _KINDS[tail[:1]]}
    if tail.startswith(address.LEAF):
        path, document["type"], tail = address.leaf_of(tail)
        document["field"] = list(path)
    decisive = kind.decisive(live) if isinstance(kind, StateType) else live.keys()
    if tail.startswith(address.MEMBER):
        document["member"] = address.member_value(tail)
    document["context"] = _vector(record.context)
    if isinstance(kind, ScalarType):
        document |= kind.overview(live)
    document["entries"] = [
        {"dot": format_dot(dot), "state": _state(dot in live, dot in decisive)}
        | _told(kind, tail, payload)
        for dot, payload in sorted(record.live.items())
    ]
    return document


def _told(kind: StateType | OperationType, tail: bytes, payload: Payload) -> dict[str, Any]:
    """What a payload says."""
    if isinstance(kind, OperationType) and tail == address.BASE:
        return {"value": kind.value(kind.load(payload))}
    if isinstance(kind, DocumentType) and is_beside_cut(payload):
        vector, edit = edit_of(payload)
        return {"depends_on": _vector(vector)} | kind.describe(edit)
    if isinstance(kind, StateType) and kind.totals and is_beside_cut(payload):
        rows = read_inventory(payload)
        return {"was": [{"dot": format_dot(d)} | kind.describe(former) for d, former in rows]}
    return kind.describe(payload)


def _state(is_live: bool, is_decisive: bool) -> str:
    if not is_live:
        return "cut"
    return "wins" if is_decisive else "loses"


def _vector(vector: VersionVector) -> dict[str, int]:
    return {format_incarnation(i): counter for i, counter in sorted(vector.items())}
