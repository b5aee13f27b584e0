"""Reachable states for the laws: what real engines hold after a short execution.

A law need not hold for records that no execution leads to, and must hold for all others. So
states are not made up: Hypothesis draws a few steps, real replicas carry them out, and the laws
look at what they hold then.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import permutations, product
from typing import Final, NamedTuple

from hypothesis import strategies as st

from crdtdb import address, record
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.datatype import OperationType
from crdtdb.record import Record
from crdtdb.store.base import Table
from crdtdb.transaction import Erase, Update
from crdtdb.types import CATALOGUE
from operations import all_operations
from replicas import Replica, update

__all__ = ["OPERATION_BASED", "STATE_BASED", "Held", "held", "joined", "reached", "textbook"]

OPERATION_BASED: Final = [n for n, kind in CATALOGUE.items() if isinstance(kind, OperationType)]
STATE_BASED: Final = [name for name in CATALOGUE if name not in OPERATION_BASED]

_REPLICAS: Final = 3
_FEWEST_STEPS: Final = 4
_MOST_STEPS: Final = 16


class Held(NamedTuple):
    """A record, and what its holder has seen: together the whole of a state."""

    record: Record
    seen: VersionVector


def joined(a: Held, b: Held) -> Held:
    """What somebody holds who had one and takes in the other."""
    return Held(record.join(a.record, b.record, a.seen, b.seen), a.seen.join(b.seen))


def textbook(state: Held) -> Record:
    """The same with its whole context written out."""
    return Record(state.record.live, state.seen)


class _Write(NamedTuple):
    """A replica carries out an operation, maybe with what another has seen as read context."""

    replica: int
    asked: Update | Erase
    reader: int | None = None

    def carry_out(self, replicas: list[Replica]) -> None:
        asked = self.asked
        if self.reader is not None and isinstance(asked, Update):
            asked = asked._replace(seen=replicas[self.reader].seen)
        replicas[self.replica].commit(asked)


class _Pull(NamedTuple):
    """A replica takes in what it lacks."""

    replica: int
    donor: int

    def carry_out(self, replicas: list[Replica]) -> None:
        replicas[self.replica].pull(replicas[self.donor])


def _all_steps(type_name: str) -> list[_Write | _Pull]:
    """Every step there is to try; as many pulls as writes."""
    kind = CATALOGUE[type_name]
    name = ObjectName("shop", type_name, "k")
    numbers = range(_REPLICAS)
    bucket = Erase(address.bucket_prefix("shop"))
    writes: list[_Write | _Pull] = [_Write(number, bucket) for number in numbers]
    for operation, number in product(all_operations(type_name), numbers):
        asked = update(name, operation)
        writes.append(_Write(number, asked))
        if kind.removable and hasattr(asked.operation, "seen"):
            writes += [_Write(number, asked, reader) for reader in numbers if reader != number]
    pulls = [_Pull(*pair) for pair in permutations(numbers, 2)]
    return writes + pulls * (len(writes) // len(pulls))


def _carried_out(steps: list[_Write | _Pull]) -> list[Replica]:
    replicas = [Replica(number) for number in range(1, _REPLICAS + 1)]
    for step in steps:
        step.carry_out(replicas)
    return replicas


@cache
def reached(type_name: str) -> st.SearchStrategy[list[Replica]]:
    """Three replicas that have written one object of the type, and exchanged some of that."""
    steps = st.sampled_from(_all_steps(type_name))
    return st.lists(steps, min_size=_FEWEST_STEPS, max_size=_MOST_STEPS).map(_carried_out)


def held(replicas: list[Replica]) -> Iterator[list[Held]]:
    """What the replicas hold at each address at which any of them holds something."""
    for at in sorted({at for replica in replicas for at in replica.rows()[Table.RECORDS]}):
        yield [Held(replica.record(at), replica.seen) for replica in replicas]
