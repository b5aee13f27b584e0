"""Reading: what one snapshot shows, and what it covers.

Everything a `Reading` says is of one consistent state, whose VV is `seen`; a token made from that
covers every answer. A reading is short: one request, no waiting while it lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from typing import Any

from crdtdb import address, codec, hlc, jsonbytes
from crdtdb.address import ObjectName
from crdtdb.answers import LEFT_OUT, Given
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.conflicts import NotedPage, read_journal
from crdtdb.cuts import covered
from crdtdb.datatype import (
    CollectionType,
    DocumentType,
    NestedType,
    OperationType,
    ScalarType,
    ScoredType,
    SequenceType,
    StateType,
)
from crdtdb.digests import Digest, digest_from_scratch
from crdtdb.errors import BadRequest, Field, InvalidOperation
from crdtdb.expiry import is_hidden
from crdtdb.head import FRESH, Head
from crdtdb.jsonvalue import JsonValue
from crdtdb.kinds import Log, in_force, log_at
from crdtdb.materialised import read_materialised, read_shown, shown_digest
from crdtdb.operations import type_named
from crdtdb.paging import Page, PageQuery, range_of, read_page
from crdtdb.record import EMPTY, Live, Record
from crdtdb.rows import head_of, record_of, scan_heads, scan_records
from crdtdb.state import STATE_KEY, read_state
from crdtdb.store.base import Snapshot, Store, Table
from crdtdb.types import CATALOGUE

__all__ = ["SYSTEM_BUCKET", "Digest", "Page", "PageQuery", "Reading", "ShortReading"]

#: Objects of the system itself: replicated, but not shown and not part of the digest.
SYSTEM_BUCKET = "_system"


#: What was read lately is read again: so many rows are kept decoded, if they are no longer than
#: this. The key is the bytes of a row, so a changed row is another one. Scans and writes pass this
#: by.
_KEPT = 8_192
_KEPT_BYTES = 1_024

_head = lru_cache(maxsize=_KEPT)(head_of)
_kept_record = lru_cache(maxsize=_KEPT)(record_of)


@lru_cache(maxsize=8)
def _seen(row: bytes) -> VersionVector:
    """What a state covers. Many readings share the state of the one before."""
    return read_state(row).seen


class ShortReading:
    """`with` it, a reading of the newest state, which ends with the block."""

    __slots__ = ("_clock", "_snapshot")

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._snapshot = store.snapshot()
        self._clock = clock

    def __enter__(self) -> Reading:
        snapshot = self._snapshot.__enter__()
        try:
            return Reading(snapshot, self._clock)
        except BaseException:
            self._snapshot.__exit__(None, None, None)
            raise

    def __exit__(self, *error: Any) -> None:
        self._snapshot.__exit__(*error)


def _no_clock() -> int:
    """Without a wall clock, the time is that of the state."""
    return 0


class Reading:
    """One consistent state of a replica, as it shows at one moment."""

    def __init__(self, snapshot: Snapshot, clock: Callable[[], int] = _no_clock) -> None:
        """`clock` is the wall clock that objects with a deadline are held against."""
        self._snapshot = snapshot
        self._clock = clock
        self._now_ms: int | None = None
        self._seen: VersionVector | None = None

    def _state_row(self) -> bytes | None:
        return self._snapshot.get(Table.META, STATE_KEY)

    @property
    def seen(self) -> VersionVector:
        """What this state covers. One store get, the first time."""
        if self._seen is None:
            row = self._state_row()
            self._seen = NOTHING if row is None else _seen(row)
        return self._seen

    @property
    def sequence(self) -> int:
        """The last place of the sequence that has been given out."""
        row = self._state_row()
        return 0 if row is None else read_state(row).sequence

    def head_row(self, prefix: bytes) -> bytes | None:
        """The row of an object's head, which every change of the object changes. One store get."""
        return self._snapshot.get(Table.HEADS, prefix)

    def head(self, prefix: bytes) -> Head:
        """The head of an object, by its prefix. One store get."""
        row = self._snapshot.get(Table.HEADS, prefix)
        if row is None:
            return FRESH
        head = _head(prefix, row)
        return head if head.expires_at_ms is None else self._now(head)

    @property
    def now_ms(self) -> int:
        """The moment, ms since 1970: the wall clock's, or the state's if that is later."""
        if self._now_ms is None:
            row = self._state_row()
            time = 0 if row is None else read_state(row).time
            self._now_ms = max(hlc.milliseconds(time), self._clock())
        return self._now_ms

    def _now(self, head: Head) -> Head:
        """What users see of an object now; that may end with its deadline."""
        return head.hidden() if is_hidden(head.expires_at_ms, self.now_ms) else head

    def _heads(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, Head]]:
        """The heads of the objects there that exist, in order."""
        for prefix, head in scan_heads(self._snapshot, start, end):
            if head.exists and (head.expires_at_ms is None or self._now(head).exists):
                yield prefix, head

    def deadlines(self, prefix: bytes) -> Live:
        """The deadlines that an object was given, cut ones too. One store get."""
        return self._record(prefix + address.EXPIRY).live

    def passing_head(self, prefix: bytes) -> Head:
        """As `head`, of one object of very many that are read once: it is not kept decoded."""
        row = self._snapshot.get(Table.HEADS, prefix)
        return FRESH if row is None else self._now(head_of(prefix, row))

    def value(self, name: ObjectName, head: Head) -> JsonValue:
        """The value of an object that reads as one value. At most one store get."""
        kind = type_named(name.type)
        if isinstance(kind, OperationType):
            return kind.value(self._folded(name, kind, head))
        assert isinstance(kind, ScalarType)
        return kind.value(self._own(name, head))

    def exported(self, name: ObjectName, head: Head) -> JsonValue:
        """What an export holds of an object that reads as one value. At most one store get."""
        kind = type_named(name.type)
        if isinstance(kind, ScalarType):
            return kind.exported(self._own(name, head))
        return self.value(name, head)

    def difference(self, name: ObjectName, since: bytes) -> bytes:
        """What somebody lacks of a document; see `DocumentType.difference`. O(document)."""
        kind = type_named(name.type)
        assert isinstance(kind, DocumentType)
        if is_hidden(self._expires_at_ms(name.prefix), self.now_ms):
            return kind.difference(kind.empty(), since)
        return kind.difference(self._stored(name, kind), since)

    def editor(self, name: ObjectName, writer: int, number: int) -> int:
        """A name for an editor of a document; see `DocumentType.editor`."""
        kind = type_named(name.type)
        assert isinstance(kind, DocumentType)
        return kind.editor(writer, number)

    def _expires_at_ms(self, prefix: bytes) -> int | None:
        row = self._snapshot.get(Table.HEADS, prefix)
        return None if row is None else _head(prefix, row).expires_at_ms

    def _folded(self, name: ObjectName, kind: OperationType, head: Head) -> Any:
        """The materialised value of an op-based object."""
        return self._stored(name, kind) if head.exists else kind.empty()

    def _stored(self, name: ObjectName, kind: OperationType) -> Any:
        """The same, also of an object that shows nothing any more."""
        return read_materialised(self._snapshot, name.prefix, kind).value

    def folded(self, log: Log) -> Any | None:
        """The materialised value of an op-based leaf; None if users see nothing of it."""
        return None if log.kind is None else read_shown(self._snapshot, log.prefix, log.kind)

    def log_digest(self, log: Log) -> int:
        """The digest of what users see of an op-based leaf; 0 if that is nothing. O(value)."""
        folded = self.folded(log)
        if folded is None or log.kind is None:
            return 0
        return shown_digest(log.prefix, log.kind, folded)

    def cut_of(self, log: Log) -> VersionVector | None:
        """What is cut of an op-based leaf. One store get."""
        vector = covered(self._record(address.cut(log.prefix)).live)
        return vector if len(vector) else None

    def _own(self, name: ObjectName, head: Head) -> Live:
        """What is in force of an object that is one record."""
        if not head.exists:
            return {}
        record = self._record(name.prefix + address.OWN)
        return in_force(type_named(name.type), address.OWN, record.live, head.cut)

    def _record(self, at: bytes) -> Record:
        row = self._snapshot.get(Table.RECORDS, at)
        if row is None:
            return EMPTY
        return (_kept_record if len(row) <= _KEPT_BYTES else record_of)(at, row)[0]

    def also(self, name: ObjectName) -> list[str]:
        """Other types under which the key exists. One store get per type."""
        return [
            other
            for other in CATALOGUE
            if other != name.type and self.head(name._replace(type=other).prefix).exists
        ]

    def contains(self, name: ObjectName, member: bytes) -> bool:
        """Is the value with this encoding a member?

        Two store gets, whatever the size; in a sequence O(n) besides.
        """
        prefix = name.prefix
        head = self.head(prefix)
        sequence = type_named(name.type)
        if isinstance(sequence, SequenceType):
            folded = self._folded(name, sequence, head)
            return sequence.contains(folded, jsonbytes.decode(member)[0])
        kind = _collection(name)
        if not head.exists:
            return False
        at = prefix + address.MEMBER + member
        row = self._snapshot.get(Table.RECORDS, at)
        if row is None:
            return False
        if kind.plain and head.cut is None and codec.is_settled(at, row):
            return True
        live = in_force(kind, address.MEMBER, record_of(at, row)[0].live, head.cut)
        return bool(live) and kind.alive(live)

    def score(self, name: ObjectName, tail: bytes) -> int | float:
        """The score of a member that is alive. Two store gets."""
        kind = type_named(name.type)
        assert isinstance(kind, ScoredType)
        record = self._record(name.prefix + tail)
        return kind.score(in_force(kind, tail, record.live, self.head(name.prefix).cut))

    def value_at(self, name: ObjectName, tail: bytes) -> Given:
        """What the record of a member or leaf that is alive says: score or value, if it has one.

        Two store gets.
        """
        kind = type_named(name.type)
        assert isinstance(kind, StateType)
        log = log_at((name.prefix + tail)[:-1]) if isinstance(kind, NestedType) else None
        if log is not None:
            folded = self.folded(log)
            return LEFT_OUT if folded is None or log.kind is None else log.kind.value(folded)
        own = kind.at(tail)
        live = in_force(
            kind, tail, self._record(name.prefix + tail).live, self.head(name.prefix).cut
        )
        if isinstance(own, ScoredType):
            return own.score(live)
        return own.value(live) if isinstance(own, ScalarType) else LEFT_OUT

    def page(self, name: ObjectName, head: Head, query: PageQuery) -> Page:
        """A page of a collection, in the order of its members. O(page + dead records between).

        The bounds of a sequence are positions, and it is read whole for each page.
        """
        sequence = type_named(name.type)
        if isinstance(sequence, SequenceType):
            start, end = _position(query.start, "from"), _position(query.end, "to")
            folded = self._folded(name, sequence, head)
            page = sequence.page(
                folded, query.limit, query.after, start, end, reverse=query.reverse
            )
            return Page(*page)
        kind = _collection(name)
        if not head.exists:
            return Page([], None)
        return read_page(self._snapshot, name, kind, head.cut, query)

    def records(self, name: ObjectName, query: PageQuery) -> Iterator[tuple[bytes, Record]]:
        """The records of an object by tail: of a collection or map those in the range, lazily."""
        prefix_bytes = len(name.prefix)
        start, end = range_of(name, type_named(name.type), query)
        for at, record in scan_records(self._snapshot, start, end, reverse=query.reverse):
            yield at[prefix_bytes:], record

    def records_between(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Record]]:
        """The records with start ≤ address < end, in order, lazily."""
        return scan_records(self._snapshot, start, end)

    def changed_since(
        self, prefix: bytes, place: int, most: int
    ) -> list[tuple[bytes, Record]] | None:
        """The records below `prefix` that changed after a place of the sequence, by their tails.

        Those that went are not among them. None if it takes a look at more than `most` places.
        """
        start = (place + 1).to_bytes(8, "big")
        places = list(islice(self._snapshot.scan(Table.SEQUENCE, start), most + 1))
        if len(places) > most:
            return None
        object_bytes = len(prefix) - len(address.MEMBER)
        return [(at[object_bytes:], self._record(at)) for _, at in places if at.startswith(prefix)]

    def keys(
        self, bucket: str, type_name: str, start: str, after: str | None, limit: int
    ) -> tuple[list[str], bool]:
        """Keys that exist, begin with `start` and follow `after`; and whether there are more."""
        prefix = address.key_prefix(bucket, type_name, start)
        first = prefix
        if after is not None:
            first = max(first, address.object_prefix(bucket, type_name, after) + b"\0")
        found: list[str] = []
        for at, _ in self._heads(first, address.after(prefix)):
            if len(found) == limit:
                return found, True
            found.append(address.name_of(at).key)
        return found, False

    def types(self, bucket: str) -> list[str]:
        """The types under which something exists in a bucket."""
        return [name for name in CATALOGUE if self._any_exists(address.type_prefix(bucket, name))]

    def buckets(self, after: str | None, limit: int) -> tuple[list[str], bool]:
        """Buckets in which something exists, without those of the system."""
        found: list[str] = []
        start: bytes | None = address.DATA
        if after is not None:
            start = address.after(address.bucket_prefix(after))
        while start is not None:
            entry = next(scan_heads(self._snapshot, start), None)
            if entry is None:
                break
            bucket = address.name_of(entry[0]).bucket
            prefix = address.bucket_prefix(bucket)
            if not bucket.startswith("_") and self._any_exists(prefix):
                if len(found) == limit:
                    return found, True
                found.append(bucket)
            start = address.after(prefix)
        return found, False

    def losses(
        self, admits: Callable[[ObjectName], bool], position: bytes | None, limit: int
    ) -> NotedPage:
        """What lost to a concurrent value in objects that are asked for, the latest first."""
        return read_journal(self._snapshot, admits, position, limit)

    def digest(self) -> Digest:
        """Equal exactly when two replicas show the same data. O(objects)."""
        return digest_from_scratch(self._snapshot)

    def existing(self, prefix: bytes, start: bytes = b"") -> Iterator[ObjectName]:
        """The objects that exist below an address prefix, from an address on."""
        first = max(prefix, start)
        for at, _ in self._heads(first, address.after(prefix)):
            yield address.name_of(at)

    def names(self, prefix: bytes) -> Iterator[ObjectName]:
        """All objects below an address prefix: also those that do not exist any more.

        And those whose head is damaged. O(objects there).
        """
        for at, _ in self._snapshot.scan(Table.HEADS, prefix, address.after(prefix)):
            with suppress(ValueError):  # what is no name was damaged
                yield address.name_of(at)

    def _any_exists(self, prefix: bytes) -> bool:
        return next(self.existing(prefix), None) is not None


def _position(bound: bytes | None, field: str) -> int | None:
    """A bound of a page of a sequence. Raises BadRequest."""
    if bound is None:
        return None
    position, _ = jsonbytes.decode(bound)
    if isinstance(position, bool) or not isinstance(position, int) or position < 0:
        raise BadRequest(
            f"`{field}` is a position, counted from 0", Field(field, "not a position", 0)
        )
    return position


def _collection(name: ObjectName) -> CollectionType:
    kind: StateType | OperationType = type_named(name.type)
    if not isinstance(kind, CollectionType):
        raise InvalidOperation(
            f"a {name.type} has no members; read it whole", Field("member", "not a collection")
        )
    return kind
