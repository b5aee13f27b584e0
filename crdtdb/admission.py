"""Admission: is what a peer sent something that an honest, compatible replica could have sent?

A batch is checked whole before anything of it is merged, and refused whole. Nothing that passes
can make a later read fail, give a type a payload it never writes, or name an operation that its
sender has not seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from crdtdb import address, codec
from crdtdb.address import CutAddress, RecordAddress
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.cuts import check_cut, is_object_prefix, is_wide_or_object
from crdtdb.datatype import DataType, DocumentType, OperationType, ScalarType
from crdtdb.draft import Draft
from crdtdb.errors import PeerError
from crdtdb.expiry import check_deadline
from crdtdb.guarded import edit_of, is_beside_cut, read_inventory
from crdtdb.kinds import log_at, log_in
from crdtdb.limits import LIMITS
from crdtdb.record import Record
from crdtdb.store.base import KEY_BYTES
from crdtdb.types import CATALOGUE

__all__ = ["admit", "admit_together", "inspect", "is_judged_alone"]

_WITH_RULES_TOGETHER: Final = {
    name.encode(): kind
    for name, kind in CATALOGUE.items()
    if isinstance(kind, ScalarType) and type(kind).check_together is not ScalarType.check_together
}


def is_judged_alone(kind: DataType) -> bool:
    """Is nothing to be checked of records of that type together (`admit_together`)?"""
    return kind.name.encode() not in _WITH_RULES_TOGETHER


def admit(at: bytes, data: bytes, seen: VersionVector) -> Record:
    """Decode a record from a peer that has seen `seen`.

    Raises PeerError with a reason: `newer-version`, `bad-record` or `beyond-claim`.
    """
    record, needs = inspect(at, data)
    if not seen.includes(needs):
        raise PeerError("beyond-claim", "a record says more than its sender has seen")
    return record


def inspect(at: bytes, data: bytes) -> tuple[Record, VersionVector]:
    """Decode a record from a peer; also, what a peer must have seen who sends it.

    Raises PeerError with a reason: `newer-version` or `bad-record`.
    """
    try:
        if len(at) > KEY_BYTES:
            raise ValueError("an address is too long")
        parsed = address.parse(at)
        record = codec.decode_record(at, data)
        if isinstance(parsed, CutAddress):
            return record, record.context.join(_covered_by_cut(parsed, record))
        _check_record(parsed, record)
    except codec.NewerVersion as error:
        raise PeerError("newer-version", str(error)) from error
    except (ValueError, msgspec.ValidationError) as error:
        raise PeerError("bad-record", str(error)) from error
    return record, record.context


def admit_together(draft: Draft, addresses: Iterable[bytes]) -> None:
    """Check what records from a peer, once joined, amount to. One lookup per scalar object.

    Raises PeerError for what no honest replicas can have done together: `bad-record`.
    """
    for at in addresses:
        if at.endswith(address.OWN) and at.startswith(address.DATA):
            kind = _WITH_RULES_TOGETHER.get(at.split(b"\0", 2)[1])
            if kind is not None:
                prefix, tail = address.split_object(at)
                if tail != address.OWN:
                    continue
                try:
                    kind.check_together(draft.live(at, prefix))
                except ValueError as error:
                    raise PeerError("bad-record", str(error)) from error


def _covered_by_cut(cut: CutAddress, record: Record) -> VersionVector:
    if not is_wide_or_object(cut.prefix) and log_at(cut.prefix) is None:
        raise ValueError("within an object only the logs of op-based leaves are cut")
    is_object = is_object_prefix(cut.prefix)
    vector = NOTHING
    for payload in record.live.values():
        vector = vector.join(check_cut(payload, is_object=is_object))
    return vector


def _check_record(parsed: RecordAddress, record: Record) -> None:
    """What a type of a newer version would store is kept and relayed, but not understood."""
    kind = CATALOGUE.get(parsed.name.type)
    if parsed.tail == address.EXPIRY:
        if kind is not None and not kind.deletable:
            raise ValueError(f"a {kind.name} has no deadline")
        for payload in record.live.values():
            check_deadline(payload)
        return
    if kind is None:
        for payload in record.live.values():
            _check_depth(payload, LIMITS.json_depth)
        return
    if not kind.places(parsed.tail):
        raise ValueError(f"a {kind.name} has no record there")
    if isinstance(kind, OperationType):
        _check_log(kind, parsed.tail, record)
        return
    log = log_in(parsed.name.prefix, parsed.tail)
    if log is not None and log.kind is not None:
        _check_log(log.kind, address.leaf_of(parsed.tail).tail, record)
        return
    own = kind.at(parsed.tail)
    for dot, payload in record.live.items():
        if own is None:
            _check_depth(payload, LIMITS.json_depth)
        elif own.totals and own.deletable and is_beside_cut(payload):
            for former, inner in read_inventory(payload):
                own.check(former, inner)
        else:
            own.check(dot, payload)


def _check_depth(value: Any, levels: int) -> None:
    """What nests too deep can be read only near the top of the stack: here, but not elsewhere."""
    if isinstance(value, dict):
        inner = [*value, *value.values()]
    elif isinstance(value, list | tuple):
        inner = [*value]
    else:
        return
    if levels == 0:
        raise ValueError("a payload is nested too deep")
    for item in inner:
        _check_depth(item, levels - 1)


def _check_log(kind: OperationType, tail: bytes, record: Record) -> None:
    if tail == address.BASE:
        if len(record.live) > 1:
            raise ValueError("a base is one value")
        for folded in record.live.values():
            kind.check_base(folded, record.context)
        return
    dot = address.operation_dot(tail)
    # One that a cut took out is kept as a tombstone until that is stable.
    if not record.live.keys() <= {dot} or record.context != VersionVector.of([dot]):
        raise ValueError("the record of an operation holds that operation and nothing else")
    for payload in record.live.values():
        if isinstance(kind, DocumentType) and is_beside_cut(payload):
            _, payload = edit_of(payload)
            kind.check_removal(payload)
        kind.check(dot, payload)
