"""Reachable states for the laws: what real engines hold after a short execution.

A law need not hold for records that no execution leads to (a live dot without its operation's
other effects, say), and must hold for all others. So states are not made up: Hypothesis draws a
few steps, real replicas carry them out, and the laws look at what they hold then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from hypothesis import strategies as st

from crdtdb import address, record
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.datatype import OperationType
from crdtdb.record import Record
from crdtdb.store.base import Table
from crdtdb.transaction import Erase
from crdtdb.types import CATALOGUE
from operations import Plain, operations
from replicas import Replica, update

__all__ = ["OPERATION_BASED", "STATE_BASED", "Held", "held", "joined", "reached", "textbook"]

OPERATION_BASED: Final = [n for n, kind in CATALOGUE.items() if isinstance(kind, OperationType)]
STATE_BASED: Final = [name for name in CATALOGUE if name not in OPERATION_BASED]

_REPLICAS: Final = 3
_STEPS: Final = 10


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
    """A replica carries out an operation, maybe with the read context of some time before."""

    replica: int
    operation: Plain
    context: int | None


class _Pull(NamedTuple):
    replica: int
    donor: int


class _Remove(NamedTuple):
    """A replica erases the bucket."""

    replica: int


_Step: TypeAlias = _Write | _Pull | _Remove


def _steps(type_name: str) -> st.SearchStrategy[list[_Step]]:
    replicas = st.integers(0, _REPLICAS - 1)
    contexts = st.none() | st.integers(0, 3)
    write = st.builds(_Write, replicas, operations(type_name), contexts)
    pull = st.builds(_Pull, replicas, replicas)
    return st.lists(st.one_of(write, write, pull, pull, st.builds(_Remove, replicas)), max_size=10)


def reached(type_name: str) -> st.SearchStrategy[list[Replica]]:
    """Three replicas that have written and exchanged one object of the type."""
    return _steps(type_name).map(lambda steps: _carried_out(type_name, steps))


def _carried_out(type_name: str, steps: list[_Step]) -> list[Replica]:
    replicas = [Replica(n) for n in range(1, _REPLICAS + 1)]
    name = ObjectName("shop", type_name, "k")
    reads = [NOTHING]
    for step in steps:
        replica = replicas[step.replica]
        match step:
            case _Write(_, operation, context):
                asked = update(name, operation)
                if context is not None and hasattr(asked.operation, "seen") and CATALOGUE[type_name].removable:
                    asked = asked._replace(seen=reads[-1 - context % len(reads)])
                replica.commit(asked)
                reads.append(replica.seen)
            case _Pull(_, donor):
                replica.pull(replicas[donor])
            case _Remove():
                replica.commit(Erase(address.bucket_prefix("shop")))
    return replicas


def held(replicas: list[Replica]) -> Iterator[list[Held]]:
    """What the replicas hold at each address at which any of them holds something."""
    for at in sorted({at for replica in replicas for at in replica.rows()[Table.RECORDS]}):
        yield [Held(replica.record(at), replica.seen) for replica in replicas]
