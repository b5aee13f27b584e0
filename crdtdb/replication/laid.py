"""Floors that the cluster has agreed on: replicated like the members, and for good.

Each says what it adds to another one, so all of them together are as long as one version vector.
None is ever taken away: there may be vectors on it in frames and tokens, and in stores that were
put back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple

import msgspec

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import Floor, VersionVector, format_incarnation
from crdtdb.errors import StorageFailed
from crdtdb.floors import floor_of
from crdtdb.operations import read_operation
from crdtdb.reading import SYSTEM_BUCKET, Reading
from crdtdb.replication.members import incarnation_of
from crdtdb.transaction import Transaction, Update

__all__ = ["Laid", "laying", "rank", "read_floors"]

_TYPE: Final = "register"
_KEY: Final = "floor/"


class _Value(msgspec.Struct):
    """What the record of a floor says: on which it is laid, and what it adds."""

    on: str
    ended: dict[str, Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]]


class Laid(NamedTuple):
    """A floor in the system bucket."""

    floor: Floor
    #: The operation that laid it. Who has seen it can read vectors on this floor.
    context: VersionVector

    @property
    def rank(self) -> tuple[int, int, int]:
        """Replicas rest on the greatest. A floor is greater than the one it is laid on."""
        return rank(self.floor)


def rank(floor: Floor) -> tuple[int, int, int]:
    """How great a floor is: entries, operations below it, and its mark among equals."""
    return len(floor), sum(floor.values()), floor.mark


def laying(below: Floor, ended: Mapping[int, int]) -> Transaction:
    """The transaction that lays a floor on another one."""
    floor = floor_of(VersionVector({**below, **ended}))
    value = {
        "on": format_incarnation(below.mark),
        "ended": {format_incarnation(i): counter for i, counter in ended.items()},
    }
    name = ObjectName(SYSTEM_BUCKET, _TYPE, _KEY + format_incarnation(floor.mark))
    return Transaction((Update(name, read_operation(_TYPE, {"op": "set", "value": value})),))


def read_floors(reading: Reading, known: Mapping[int, Laid]) -> dict[int, Laid]:
    """The floors as of a reading, by mark; those that are known are not read again.

    A record that does not say what its mark says means nothing, nor does a floor that reaches over
    its own record: whoever has seen what is above a floor has seen its record, and so all of it.
    O(floors) and, for those that are not known, O(entries) each.
    """
    laid = dict(known)
    added: dict[int, tuple[int, VersionVector, VersionVector]] = {}
    prefix = address.key_prefix(SYSTEM_BUCKET, _TYPE, _KEY)
    for name in reading.names(prefix):
        mark = incarnation_of(name, _KEY)
        if mark is None or mark in laid:
            continue
        try:
            head = reading.head(name.prefix)
            value = msgspec.convert(reading.value(name, head), _Value)
            entries = VersionVector({int(i, 16): n for i, n in value.ended.items()})
            added[mark] = (int(value.on, 16), entries, head.context)
        except (ValueError, StorageFailed):
            continue  # what is damaged is mended; until then, nothing on that floor is taken in
    while ready := [mark for mark, (on, _, _) in added.items() if not on or on in laid]:
        for mark in ready:
            on, entries, context = added.pop(mark)
            below = VersionVector(laid[on].floor if on else None)
            try:
                floor = floor_of(below.join(entries))
            except ValueError:
                continue
            reaches_over = any(floor.get(i, 0) >= counter for i, counter in context.items())
            if floor.mark == mark and not reaches_over:
                laid[mark] = Laid(floor, context)
    return laid
