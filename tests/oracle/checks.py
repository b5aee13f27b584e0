"""What must hold of one replica at any moment, whatever happened: its own books agree.

Heads and folded values answer in O(1) what a scan of the records would; here they are counted
again by that scan. Every check has a name, so that a planted bug can say which one must find it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from checkers.violation import Violation
from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.cuts import check_cut
from crdtdb.datatype import DocumentType, OperationType, SequenceType, StateType
from crdtdb.errors import PeerError
from crdtdb.head import FRESH, Head
from crdtdb.kinds import in_force, log_at
from crdtdb.materialised import reread_materialised
from crdtdb.oplog import operations_in_force
from crdtdb.record import Live, Record, visible
from crdtdb.state import STATE_KEY, State
from crdtdb.store.base import Snapshot, Table
from crdtdb.store.memory import MemoryStore
from crdtdb.types import CATALOGUE
from crdtdb.types._runs import ids_from
from oracle.events import ElementId

__all__ = ["Violation", "check_books", "elements_held", "folded_values"]


class _Row(NamedTuple):
    record: Record
    sequence: int


class _Books(NamedTuple):
    """Every row of a store, decoded."""

    state: State
    records: Mapping[bytes, _Row]
    sequence: Mapping[int, bytes]
    heads: Mapping[bytes, Head]
    folded: Mapping[bytes, Any]


def check_books(store: MemoryStore) -> None:
    """Raise Violation unless everything a store keeps twice agrees."""
    with store.snapshot() as snapshot:
        state = snapshot.get(Table.META, STATE_KEY)
        if state is None:
            return  # nothing was ever written
        books = _read(snapshot, State.decode(state))
    _check_sequence(books)
    _check_contexts(books)
    objects = {address.split_object(at)[0] for at in books.records if not address.is_cut(at)}
    for prefix in objects | set(books.heads):
        _check_head(books, prefix)


def _read(snapshot: Snapshot, state: State) -> _Books:
    return _Books(
        state,
        {at: _Row(*codec.decode_row(at, row)) for at, row in snapshot.scan(Table.RECORDS)},
        {int.from_bytes(key, "big"): at for key, at in snapshot.scan(Table.SEQUENCE)},
        {prefix: Head.decode(row) for prefix, row in snapshot.scan(Table.HEADS)},
        folded_values(snapshot),
    )


def elements_held(snapshot: Snapshot, name: ObjectName) -> frozenset[ElementId]:
    """All elements that are stored of a list, or of those in a map, deleted ones among them."""
    lengths = (
        (tuple(first), held)
        for prefix, rows in folded_values(snapshot, name.prefix).items()
        if (log := log_at(prefix)) is not None and isinstance(log.kind, SequenceType)
        for first, *_, held in rows
    )
    return frozenset(
        one
        for first, held in lengths
        for one in ids_from(first, held if isinstance(held, int) else len(held))
    )


def folded_values(snapshot: Snapshot, below: bytes = b"") -> dict[bytes, Any]:
    """The materialised values that are stored, as plain values, by the prefixes of logs."""
    values: dict[bytes, Any] = {}
    prefix: bytes | None = None
    for key, _ in snapshot.scan(Table.FOLDED, below, address.after(below) if below else None):
        if prefix is not None and key.startswith(prefix):
            continue  # steps of the same value
        log = log_at(prefix := key)
        assert log is not None
        assert log.kind is not None
        found = reread_materialised(snapshot, prefix, log.kind)
        values[prefix] = _as_stored(log.kind.dump(found.value))
    return values


def _check_sequence(books: _Books) -> None:
    """Every record is in the sequence once, at its latest change."""
    by_records = {row.sequence: at for at, row in books.records.items()}
    if by_records != books.sequence:
        raise Violation("sequence", f"{books.sequence} is not {by_records}")
    if by_records and max(by_records) > books.state.sequence:
        raise Violation("sequence", f"{max(by_records)} was given out, {books.state.sequence} kept")


def _check_contexts(books: _Books) -> None:
    """Live dots are in their record's context, contexts in what the replica has seen."""
    for at, (record, _) in books.records.items():
        if not all(record.context.covers(dot) for dot in record.live):
            raise Violation("contexts", f"{at!r} holds {record}")
        if not books.state.seen.includes(record.context):
            raise Violation("contexts", f"{at!r} has {record.context}, seen {books.state.seen}")


def _check_head(books: _Books, prefix: bytes) -> None:
    """Size, digest, cut and sequence of an object are those of its records."""
    head = books.heads.get(prefix, FRESH)
    kind = CATALOGUE[address.name_of(prefix).type]
    cut = _cut(books, prefix, kind)
    own = {
        at: row
        for at, row in books.records.items()
        if at.startswith(prefix) and not address.is_expiry(at)
    }
    size = digest = 0
    if isinstance(kind, OperationType):
        size, digest = _check_log(books, prefix, kind, own, cut)
    else:
        leaves = _leaves(own)
        for stem, leaf_kind in leaves.items():
            records = {at: row for at, row in own.items() if at.startswith(stem)}
            shown, more = _check_log(books, stem, leaf_kind, records, _cut_at(books, stem, cut))
            size += min(shown, 1)
            digest ^= more
        if left := [at for at in books.folded if at.startswith(prefix) and at not in leaves]:
            raise Violation("folded", f"no operation is left of {left}")
        for at, live in _alive(kind, own, cut):
            size += 1
            digest ^= codec.live_digest(at, live)
    if (head.size, head.digest) != (size, digest):
        raise Violation("heads", f"{prefix!r} has {head}, not {size}, {digest}")
    for at, (record, _) in own.items():
        # A cut may leave the head before it goes, or stay there when it has gone: if it was swept.
        if _in_force(kind, at, record.live, head.cut) != _in_force(kind, at, record.live, cut):
            raise Violation("heads", f"{prefix!r} has {head}, not {cut}: {at!r} shows otherwise")
        if not head.context.includes(VersionVector.of(visible(record.live, cut))):
            raise Violation("heads", f"{prefix!r} has {head}, which {at!r} exceeds with {record}")
    if any(row.sequence > head.sequence for at, row in own.items() if not _is_local(at)):
        raise Violation("heads", f"{prefix!r} has changed after {head.sequence}")


def _check_log(
    books: _Books,
    prefix: bytes,
    kind: OperationType,
    own: Mapping[bytes, _Row],
    cut: VersionVector | None,
) -> tuple[int, int]:
    """The materialised value of a log is that of its records; its size and digest."""
    try:
        folded = _fold(kind, own, cut)
    except PeerError as error:
        raise Violation(
            "folded", f"the operations of {prefix!r} cannot be folded: {error}"
        ) from error
    stored = None if folded is None else _as_stored(kind.dump(folded))
    if not _is_same(kind, stored, books.folded.get(prefix)):
        raise Violation("folded", f"{prefix!r} has {books.folded.get(prefix)}, not {stored}")
    if folded is None or not (size := kind.size(folded)):
        return 0, 0
    return size, codec.live_digest(prefix, {(0, 0): kind.shown(folded)})


def _leaves(own: Mapping[bytes, _Row]) -> dict[bytes, OperationType]:
    """The op-based leaves among the records of an object, by what their addresses start with."""
    leaves: dict[bytes, OperationType] = {}
    for at in own:
        tail = address.split_object(at)[1]
        if tail.startswith(address.LEAF):
            leaf = address.leaf_of(tail)
            kind = CATALOGUE.get(leaf.type)
            if isinstance(kind, OperationType):
                leaves[at[: len(at) - len(leaf.tail)]] = kind
    return leaves


def _is_same(kind: OperationType, stored: Any, found: Any) -> bool:
    """Are these the same materialised value? Equal documents may be stored as other bytes."""
    if isinstance(kind, DocumentType) and None not in (stored, found):
        return bool(kind.shown(kind.load(stored)) == kind.shown(kind.load(found)))
    return bool(stored == found)


def _as_stored(plain: Any) -> Any:
    """As it comes back from a store: there are no tuples."""
    return msgspec.msgpack.decode(codec.pack(plain))


def _is_local(at: bytes) -> bool:
    """Is this a record that changes without anything that users see changing (a base)?"""
    return address.is_base(at)


def _cut_at(books: _Books, prefix: bytes, above: VersionVector | None) -> VersionVector | None:
    """The join of the cuts in force at the prefix of a leaf, and above it."""
    row = books.records.get(address.cut(prefix))
    whole = above or NOTHING
    for payload in () if row is None else row.record.live.values():
        whole = whole.join(check_cut(payload, is_object=True))
    return whole if len(whole) else None


def _cut(books: _Books, prefix: bytes, kind: StateType | OperationType) -> VersionVector | None:
    """The join of all cuts in force above or at an object.

    What depends on a deadline is in force unless one that was given before it ends after it.
    """
    is_uncut = isinstance(kind, DocumentType) or (isinstance(kind, StateType) and kind.totals)
    plain = NOTHING
    guarded: list[tuple[VersionVector, int]] = []
    for at, (record, _) in books.records.items():
        if address.is_cut(at) and prefix.startswith(address.cut_prefix(at)):
            for payload in record.live.values():
                vector = check_cut(payload, is_object=True)
                if payload[1] is not None:
                    guarded.append((vector, payload[1]))
                elif not is_uncut:
                    plain = plain.join(vector)
    found = books.records.get(prefix + address.EXPIRY)
    given = [] if found is None else visible(found.record.live, plain).values()
    whole = plain
    for vector, guard in guarded:
        if not any(s < guard and (at_ms is None or at_ms > guard) for at_ms, s in given):
            whole = whole.join(vector)
    return whole if len(whole) else None


def _in_force(
    kind: StateType | OperationType, at: bytes, live: Live, cut: VersionVector | None
) -> Live:
    if isinstance(kind, OperationType):
        return operations_in_force(kind, live, cut)
    return in_force(kind, address.split_object(at)[1], live, cut)


def _alive(
    kind: StateType, own: Mapping[bytes, _Row], cut: VersionVector | None
) -> Iterator[tuple[bytes, Live]]:
    """The records of an object that users see."""
    for at, (record, _) in own.items():
        live = _in_force(kind, at, record.live, cut)
        own_type = kind.at(address.split_object(at)[1])
        if live and own_type is not None and own_type.alive(live):
            yield at, live


def _fold(kind: OperationType, own: Mapping[bytes, _Row], cut: VersionVector | None) -> Any:
    """The base and every operation after it, in the order in which they came; None if none."""
    bases = [row.record for at, row in own.items() if _is_local(at)]
    standing = [
        folded for base in bases for folded in operations_in_force(kind, base.live, cut).values()
    ]
    operations = sorted((row.sequence, at) for at, row in own.items() if not _is_local(at))
    payloads = [
        (dot, payload)
        for _, at in operations
        for dot, payload in operations_in_force(kind, own[at].record.live, cut).items()
    ]
    if not standing and not payloads:
        return None
    folded = kind.load(standing[0]) if standing else kind.empty()
    for dot, payload in payloads:
        folded = kind.apply(folded, dot, payload)
    return folded
