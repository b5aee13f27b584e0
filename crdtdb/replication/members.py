"""Who counts: the members of the cluster, as a replicated object like any other.

Each member is a register in the system bucket, named by its incarnation. A donor writes a joiner
in before its first page, so everybody who reclaims something after hearing of it waits for the
joiner too. The object converges like all data; nobody leads.

A record that is damaged still says by its name which incarnation it is about. That one counts as
before, called nothing and being nowhere, until a peer has mended the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import format_incarnation
from crdtdb.datatype import Delete
from crdtdb.errors import StorageFailed
from crdtdb.operations import read_operation
from crdtdb.reading import SYSTEM_BUCKET, Reading
from crdtdb.replication.messages import Sender
from crdtdb.transaction import Transaction, Update

__all__ = [
    "SYSTEM_PREFIX",
    "Member",
    "adding",
    "incarnation_of",
    "member_object",
    "predecessors",
    "read_members",
    "touches_members",
    "unreadable",
]

_TYPE: Final = "register"
_KEY: Final = "member/"

#: Every record about members lies below this address prefix.
SYSTEM_PREFIX: Final = address.bucket_prefix(SYSTEM_BUCKET)


class Member(NamedTuple):
    """One replica that counts for stability."""

    incarnation: int
    name: str
    region: str
    endpoint: str


def unreadable(incarnation: int) -> Member:
    """A member of which no more is known, for its record is damaged here."""
    return Member(incarnation, "", "", "")


def member_object(incarnation: int) -> ObjectName:
    """The object that says of an incarnation that it is a member."""
    return ObjectName(SYSTEM_BUCKET, _TYPE, _KEY + format_incarnation(incarnation))


def incarnation_of(name: ObjectName, prefix: str) -> int | None:
    """The incarnation that an object is about; None for a key that no replica writes.

    A peer may plant any key. It means nothing, and must not keep a replica from starting.
    """
    try:
        incarnation = int(name.key.removeprefix(prefix), 16)
    except ValueError:
        return None
    is_ours = incarnation < 1 << 64 and name.key == prefix + format_incarnation(incarnation)
    return incarnation if is_ours else None


def _setting(sender: Sender) -> Update:
    value = {"name": sender.name, "region": sender.region, "endpoint": sender.endpoint}
    operation = read_operation(_TYPE, {"op": "set", "value": value})
    return Update(member_object(sender.incarnation), operation)


def adding(sender: Sender, *predecessors: int) -> Transaction:
    """The transaction that makes a replica a member, in the place of its earlier incarnations."""
    gone = (Update(member_object(incarnation), Delete()) for incarnation in predecessors)
    return Transaction((*gone, _setting(sender)))


def predecessors(members: Iterable[Member], sender: Sender) -> list[int]:
    """Incarnations under which the same replica, at the same endpoint, was a member before."""
    return [
        member.incarnation
        for member in members
        if (member.name, member.endpoint) == (sender.name, sender.endpoint)
        and member.incarnation != sender.incarnation
    ]


def read_members(reading: Reading) -> dict[int, Member]:
    """The members as of a reading, by incarnation. O(members)."""
    members: dict[int, Member] = {}
    prefix = address.key_prefix(SYSTEM_BUCKET, _TYPE, _KEY)
    for name in reading.names(prefix):
        incarnation = incarnation_of(name, _KEY)
        if incarnation is None:
            continue
        try:
            value = reading.value(name, reading.head(name.prefix))
        except StorageFailed:
            members[incarnation] = unreadable(incarnation)
            continue
        if isinstance(value, dict):
            members[incarnation] = Member(
                incarnation,
                str(value.get("name", "")),
                str(value.get("region", "")),
                str(value.get("endpoint", "")),
            )
    return members


def touches_members(records: Sequence[tuple[bytes, bytes]]) -> bool:
    """Do these records say anything about members?"""
    below = (SYSTEM_PREFIX, address.cut(SYSTEM_PREFIX))
    return any(at.startswith(below) for at, _ in records)
