"""Reachable states for the laws: what real engines hold after a short execution.

A law need not hold for records that no execution leads to, and must hold for all others. So
states are not made up: Hypothesis draws a few steps, real replicas carry them out, and the laws
look at what they hold then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import permutations, product
from operator import add
from typing import Final, NamedTuple, TypeAlias

from hypothesis import strategies as st

from crdtdb import address, record
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.datatype import OperationType
from crdtdb.errors import CallerError
from crdtdb.record import Record
from crdtdb.store.base import Table
from crdtdb.transaction import Erase, Update
from crdtdb.types import CATALOGUE
from operations import all_operations, creation
from replicas import Replica, acquaint, update

__all__ = [
    "OPERATION_BASED",
    "STATE_BASED",
    "Held",
    "Reached",
    "carried_out",
    "held_together",
    "joined",
    "reached",
    "second_life",
    "textbook",
]

OPERATION_BASED: Final = [n for n, kind in CATALOGUE.items() if isinstance(kind, OperationType)]
STATE_BASED: Final = [name for name in CATALOGUE if name not in OPERATION_BASED]

_REPLICAS: Final = 3
_FEWEST_STEPS: Final = 3
_MOST_STEPS: Final = 12
_DEADLINE_MS: Final = 1_000
#: The latest of a record that are tried with each other.
_STATES: Final = 6


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
        # What is refused changes nothing.
        with suppress(CallerError):
            replicas[self.replica].commit(asked)


class _Pull(NamedTuple):
    """A replica takes in what it lacks."""

    replica: int
    donor: int

    def carry_out(self, replicas: list[Replica]) -> None:
        replicas[self.replica].pull(replicas[self.donor])


class _Wait(NamedTuple):
    """Time passes at a replica: its deadlines come."""

    replica: int

    def carry_out(self, replicas: list[Replica]) -> None:
        replicas[self.replica].now_ms += _DEADLINE_MS


_Step: TypeAlias = _Write | _Pull | _Wait


def _all_steps(type_name: str) -> list[_Step]:
    """Every step there is to try; as many pulls as writes, and a few deadlines."""
    kind = CATALOGUE[type_name]
    name = ObjectName("shop", type_name, "k")
    numbers = range(_REPLICAS)
    writes: list[_Step] = []
    for operation, number in product(all_operations(type_name), numbers):
        asked = update(name, operation)
        writes.append(_Write(number, asked))
        if kind.removable and hasattr(asked.operation, "seen"):
            writes += [_Write(number, asked, reader) for reader in numbers if reader != number]
    writes += [_Write(number, Erase(address.bucket_prefix("shop"))) for number in numbers]
    pulls: list[_Step] = [_Pull(*pair) for pair in permutations(numbers, 2)]
    share = len(writes) // len(pulls)
    timed: list[_Step] = []
    if kind.deletable:
        expire, persist = ({"op": "expire", "in_ms": _DEADLINE_MS}, {"op": "persist"})
        timed += [_Write(n, update(name, given)) for given in (expire, persist) for n in numbers]
        timed += [_Wait(number) for number in numbers]
    return writes + pulls * share + timed * max(1, share // 4)


def _first_writes(type_name: str) -> list[_Step]:
    """Each replica writes, knowing nothing of the others; into a map, three fields deep."""
    plain = creation(type_name)
    if "field" in plain:
        plain |= {"field": ["a", "b", "c"]}
    asked = update(ObjectName("shop", type_name, "k"), plain)
    return [_Write(number, asked) for number in range(_REPLICAS)]


def second_life(type_name: str) -> list[_Step]:
    """One replica writes after the deadline; another has got what was there before."""
    name = ObjectName("shop", type_name, "k")
    write = _Write(0, update(name, creation(type_name)))
    expire = _Write(0, update(name, {"op": "expire", "in_ms": _DEADLINE_MS}))
    return [*_first_writes(type_name), _Pull(0, 1), expire, _Pull(1, 0), _Wait(0), write]


class Reached(NamedTuple):
    """Where an execution has led."""

    replicas: list[Replica]
    #: By address: what somebody held there at some time, each once, the latest last.
    states: dict[bytes, list[Held]]


def carried_out(steps: list[_Step]) -> Reached:
    reached = Reached([Replica(number) for number in range(1, _REPLICAS + 1)], {})
    acquaint(*reached.replicas)
    for step in steps:
        step.carry_out(reached.replicas)
        replica = reached.replicas[step.replica]
        for at in replica.rows()[Table.RECORDS].keys() | reached.states.keys():
            now = Held(replica.record(at), replica.seen)
            states = reached.states.setdefault(at, [])
            if now not in states:
                states.append(now)
    return reached


@cache
def reached(type_name: str) -> st.SearchStrategy[Reached]:
    """What three replicas hold that write one object of the type, and exchange some of that."""
    step = st.sampled_from(_all_steps(type_name))
    steps = st.lists(step, min_size=_FEWEST_STEPS, max_size=_MOST_STEPS)
    begun = [_first_writes(type_name)]
    if CATALOGUE[type_name].deletable:
        begun.append(second_life(type_name))
    return st.one_of(steps, *(st.builds(add, st.just(first), steps) for first in begun)).map(
        carried_out
    )


def held_together(reached: Reached, count: int) -> Iterator[tuple[Held, ...]]:
    """So many states of one record, in every order; any of them may meet, however old."""
    for states in reached.states.values():
        yield from permutations(states[-_STATES:], count)
