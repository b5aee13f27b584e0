"""What the replicas of a benchmark write, and the bytes that this cannot do without."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Final

from crdtdb import codec
from crdtdb.address import ObjectName
from crdtdb.operations import read_operation
from crdtdb.replication.members import SYSTEM_PREFIX
from crdtdb.store.base import Store, Table
from crdtdb.transaction import Update

__all__ = ["changed_records", "members", "update"]

_BUCKET: Final = "bench"
_MEMBER_BYTES: Final = 10
#: The greatest number of values that one operation takes.
_VALUES: Final = 1_000


def update(kind: str, key: str, op: str, **arguments: Any) -> Update:
    """One operation on one object."""
    return Update(ObjectName(_BUCKET, kind, key), read_operation(kind, {"op": op, **arguments}))


def members(random: Random, number: int) -> Iterator[list[str]]:
    """So many random set members of 20 characters, as many at a time as one operation takes."""
    for start in range(0, number, _VALUES):
        size = min(_VALUES, number - start)
        yield [random.randbytes(_MEMBER_BYTES).hex() for _ in range(size)]


def changed_records(store: Store, since: int) -> tuple[int, int]:
    """Users' records changed after a place of the sequence, and their bytes, each sent once.

    That is the least that a replica has to be sent which has not seen these changes.
    """
    records = size = 0
    with store.snapshot() as snapshot:
        for _, at in snapshot.scan(Table.SEQUENCE, (since + 1).to_bytes(8, "big")):
            row = snapshot.get(Table.RECORDS, at)
            assert row is not None, "the sequence names a record that is not there"
            if not at.startswith(SYSTEM_PREFIX):
                records += 1
                size += len(at) + len(codec.row_record(at, row))
    return records, size
