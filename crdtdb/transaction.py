"""What a caller asks of the engine and what comes back. Plain values; nothing here acts."""

from __future__ import annotations

from typing import NamedTuple

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import Dot, VersionVector
from crdtdb.datatype import Operation, Stamp
from crdtdb.errors import Problem
from crdtdb.jsonvalue import JsonValue

__all__ = [
    "CleanUp",
    "Committed",
    "Erase",
    "Expectation",
    "IdempotencyKey",
    "Outcome",
    "Push",
    "Result",
    "Transaction",
    "Update",
]


class Update(NamedTuple):
    """One operation on one object. `seen` is its read context, already decoded."""

    name: ObjectName
    operation: Operation
    seen: VersionVector | None = None


class Erase(NamedTuple):
    """Remove every object whose address starts with `prefix` (a bucket, a type, a key prefix)."""

    prefix: bytes


class CleanUp(NamedTuple):
    """Take what says nothing any more out of force. A replica's own; users see no difference."""

    #: The address of the record.
    at: bytes
    dots: tuple[Dot, ...]

    @property
    def prefix(self) -> bytes:
        """The object that it is about."""
        return address.split_object(self.at)[0]


class IdempotencyKey(NamedTuple):
    """A caller's name for a request, and a fingerprint of what it asks."""

    text: str
    request: int
    #: Are the results to be kept, too? Else a repetition learns only that it is one.
    keeps_results: bool = True


class Expectation(NamedTuple):
    """An object that must be here as its head had one of these sequence numbers."""

    name: ObjectName
    #: None: any number will do, but the object must exist.
    sequences: frozenset[int] | None


class Transaction(NamedTuple):
    """Updates that take effect together or not at all."""

    updates: tuple[Update | Erase | CleanUp, ...]
    #: Checked against the state the updates apply to.
    expects: tuple[Expectation, ...] = ()
    #: Carried out once, however often it is sent to this replica.
    key: IdempotencyKey | None = None
    #: The object whose sequence number the outcome shall give.
    watch: ObjectName | None = None


class Result(NamedTuple):
    """What one update did."""

    #: Did it change what users see?
    changed: bool
    #: The value afterwards, of a type that reads as one value.
    value: JsonValue = None
    #: The size afterwards, of a collection; the objects removed, of an erase.
    size: int | None = None
    #: The dot and time that were minted for it (of an erase, the last); None: it wrote nothing.
    stamp: Stamp | None = None


class Outcome(NamedTuple):
    """What became of one transaction: results in order of its updates, or why it was refused."""

    results: tuple[Result, ...]
    error: Problem | None
    #: Counters of the dots it got: first and one past the last. Equal when it wrote nothing.
    first: int
    after: int
    #: The VV that its answer covers, if that is not the VV after the commit: a replayed answer's.
    replayed: VersionVector | None = None
    #: Of the head of the watched object as this transaction left it. None where nobody can know:
    #: a replayed answer's, or when a later transaction of the same commit wrote to it too.
    sequence: int | None = None


class Push(NamedTuple):
    """The records one commit changed, as of that commit, for peers to take in at once."""

    origin: int
    #: Counters of the commit's operations, both included.
    first: int
    last: int
    #: Everything the origin had seen before, without its own entry.
    deps: VersionVector
    time: int
    records: tuple[tuple[bytes, bytes], ...]


class Committed(NamedTuple):
    """What a group commit did: one outcome per transaction, the push, and the VV afterwards."""

    outcomes: tuple[Outcome, ...]
    push: Push | None
    seen: VersionVector
