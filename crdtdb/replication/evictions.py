"""Who does not count any more: evictions, replicated like the members that they take away.

An eviction names one incarnation and is for good: that incarnation never is a member again,
whatever anybody who has not heard of it still writes about it. Its replica may come back, under a
new one. Here is also what a replica keeps for itself once it was told of its own eviction, which
has no dot: it may not be certain of its identity when it hears of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.causal import format_incarnation
from crdtdb.datatype import Delete
from crdtdb.errors import StorageFailed
from crdtdb.operations import read_operation
from crdtdb.reading import SYSTEM_BUCKET, Reading
from crdtdb.replication.members import Member, incarnation_of, member_object
from crdtdb.store.base import Snapshot, Table
from crdtdb.transaction import Transaction, Update

__all__ = [
    "Eviction",
    "Stake",
    "evicting",
    "read_evictions",
    "read_told",
    "rejoined_rows",
    "told_rows",
]

_TYPE: Final = "register"
_KEY: Final = "evicted/"
_TOLD_KEY: Final = b"evicted"
_TOLD_VERSION: Final = 1
_told_decoder = msgspec.msgpack.Decoder(int)


class Eviction(NamedTuple):
    """One incarnation that an operator took out of the cluster."""

    incarnation: int
    name: str
    endpoint: str
    #: The replica at which it was asked for, and what its clock showed.
    by: str
    at_ms: int


class Stake(NamedTuple):
    """What an eviction would change, and what may be lost with the evicted."""

    #: Every incarnation of that name.
    members: tuple[Member, ...]
    #: Operations that become stable.
    unblocked: int
    #: Members that go on keeping operations from being stable.
    still_blocking: tuple[Member, ...]
    #: Operations that it has reported, and that nobody else has been seen to hold. It may hold
    #: more, made since its last report.
    unshared: int
    #: When it was last heard, on the machine's clock; None: not since this replica started.
    last_contact_ms: int | None
    #: When it last reported more than before, likewise.
    reported_ms: int | None


def evicting(members: Iterable[Member], by: str, at_ms: int) -> Transaction:
    """The transaction that takes members out."""
    updates: list[Update] = []
    for member in members:
        value = {"name": member.name, "endpoint": member.endpoint, "by": by, "at_ms": at_ms}
        name = ObjectName(SYSTEM_BUCKET, _TYPE, _KEY + format_incarnation(member.incarnation))
        updates.append(Update(member_object(member.incarnation), Delete()))
        updates.append(Update(name, read_operation(_TYPE, {"op": "set", "value": value})))
    return Transaction(tuple(updates))


def read_evictions(reading: Reading) -> dict[int, Eviction]:
    """The evictions as of a reading, by incarnation. O(evictions)."""
    evictions: dict[int, Eviction] = {}
    prefix = address.key_prefix(SYSTEM_BUCKET, _TYPE, _KEY)
    for name in reading.names(prefix):
        incarnation = incarnation_of(name, _KEY)
        if incarnation is None:
            continue
        try:
            value = reading.value(name, reading.head(name.prefix))
        except StorageFailed:
            value = {}  # it is out all the same
        if isinstance(value, dict):
            at_ms = value.get("at_ms")
            evictions[incarnation] = Eviction(
                incarnation,
                str(value.get("name", "")),
                str(value.get("endpoint", "")),
                str(value.get("by", "")),
                at_ms if isinstance(at_ms, int) else 0,
            )
    return evictions


def told_rows(incarnation: int) -> dict[bytes, bytes | None]:
    """The META row that keeps: this replica was told that it, under this incarnation, is out."""
    return {_TOLD_KEY: codec.pack_whole(_TOLD_VERSION, incarnation)}


def rejoined_rows() -> dict[bytes, bytes | None]:
    """The same row, when this replica has taken over what the others have done since."""
    return {_TOLD_KEY: None}


def read_told(snapshot: Snapshot) -> int | None:
    """The incarnation of which this replica was told so; a damaged row is told again."""
    row = snapshot.get(Table.META, _TOLD_KEY)
    try:
        return None if row is None else codec.unpack_whole(_TOLD_VERSION, row, _told_decoder)
    except codec.FormatError:
        return None
