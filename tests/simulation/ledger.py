"""What was done: every operation that took effect on some disk, with what it had seen.

This is all that the judgement rests on: which operations there are, which of them a version vector
covers, and what the specification (`oracle.specification`) makes of those. Nothing here asks the
implementation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from crdtdb import address, hlc
from crdtdb.causal import Dot, VersionVector, format_dot
from crdtdb.datatype import Operation
from crdtdb.jsonbytes import encode
from crdtdb.transaction import CleanUp, Committed, Erase, Transaction, Update
from oracle.checks import Violation
from oracle.events import ElementId, Event, Held, Missed, Object, Scope, Shown, covers
from oracle.history import numbers_of
from oracle.lives import Lives
from oracle.rights import check_bounds
from oracle.specification import show
from simulation.workload import TIMED_BUCKET

__all__ = ["Issued", "Ledger", "issued_by", "scope_of"]


#: Of these types a mark that was taken out of force for idle is missed by who was no member then.
_MARKED: Final = frozenset({"dwflag", "rwset"})


class Unmarked(NamedTuple):
    """A clean-up: marks that it took out of force, for every member has seen them."""

    name: Object
    dot: Dot
    marks: Sequence[Dot]
    #: Where in the object, as `Missed` has it.
    leaf: tuple[tuple[str, ...], str] | None
    member: bytes


class Issued(NamedTuple):
    """One transaction that took effect: its dots (consecutive) and its operations."""

    origin: int
    first: int
    last: int
    #: What was visible where it was issued, just before.
    past: VersionVector
    #: The operations that minted a dot; an erase stands under its last one.
    operations: Sequence[tuple[Update | Erase, Dot, int]]
    #: Clean-ups after which an object that had a deadline taken away does not say so any more.
    forgotten: Sequence[tuple[Object, Dot]] = ()
    unmarked: Sequence[Unmarked] = ()
    #: The members that the replica knew.
    members: Collection[int] = ()
    #: The elements of lists that it did not have any more.
    let_go: Held = MappingProxyType({})

    def dots(self) -> Iterator[Dot]:
        """All its dots."""
        return ((self.origin, counter) for counter in range(self.first, self.last + 1))


def issued_by(
    origin: int,
    past: VersionVector,
    transactions: Sequence[Transaction],
    committed: Committed,
    members: Collection[int] = (),
    let_go: Held = MappingProxyType({}),
) -> list[Issued]:
    """What a group commit carried out, of a replica that had seen `past` before it.

    `members`: those that it knew; `let_go`: elements of lists that it did not have any more.
    """
    issued: list[Issued] = []
    for transaction, outcome in zip(transactions, committed.outcomes, strict=True):
        if outcome.error is not None or outcome.first == outcome.after:
            continue
        operations = [
            (update, result.stamp.dot, result.stamp.time)
            for update, result in zip(transaction.updates, outcome.results, strict=True)
            if result.stamp is not None and not isinstance(update, CleanUp)
        ]
        forgotten = [
            (address.name_of(address.split_object(update.at)[0]), result.stamp.dot)
            for update, result in zip(transaction.updates, outcome.results, strict=True)
            if result.stamp is not None
            and isinstance(update, CleanUp)
            and address.is_expiry(update.at)
        ]
        unmarked = [
            one
            for update, result in zip(transaction.updates, outcome.results, strict=True)
            if result.stamp is not None and isinstance(update, CleanUp)
            for one in _unmarked(update, result.stamp.dot)
        ]
        last = outcome.after - 1
        one = Issued(
            origin, outcome.first, last, past, operations, forgotten, unmarked, members, let_go
        )
        issued.append(one)
        past = past.with_dot((origin, last))
    return issued


def _unmarked(clean_up: CleanUp, dot: Dot) -> Iterator[Unmarked]:
    """The clean-up of a mark, if it is one."""
    prefix, tail = address.split_object(clean_up.at)
    name, leaf = address.name_of(prefix), None
    type_name = name.type
    if tail.startswith(address.LEAF):
        path, type_name, tail = address.leaf_of(tail)
        leaf = path, type_name
    if type_name in _MARKED and tail != address.EXPIRY:
        member = encode(address.member_value(tail)) if tail.startswith(address.MEMBER) else b""
        yield Unmarked(name, dot, clean_up.dots, leaf, member)


def scope_of(prefix: bytes) -> Scope:
    """What an erase of this address prefix covers."""
    bucket, *rest = prefix[1:].decode().split("\0")
    return Scope(bucket, *rest) if rest != [""] else Scope(bucket)


class Ledger:
    """Every transaction of a run that is on some disk, and what its operations mean."""

    def __init__(self) -> None:
        self._transactions: dict[Dot, Issued] = {}
        #: Those that are on no disk any more.
        self._lost: dict[Dot, Issued] = {}
        self._events: dict[Object, list[Event]] = {}
        #: The time of each incarnation's latest operation.
        self._times: dict[int, int] = {}
        #: What happened to the objects that have deadlines.
        self._lives: dict[Object, Lives] = {}
        #: The clean-ups of an object's marks, and the transactions that they were in.
        self._unmarked: dict[Object, list[tuple[Unmarked, Issued]]] = {}
        #: Specifications are written for reading; equal histories are asked about once.
        self._meanings: dict[tuple[Object, tuple[Dot, ...], tuple[Dot, ...]], Shown] = {}

    @property
    def objects(self) -> Collection[Object]:
        """Every object that some operation named."""
        return self._events.keys()

    def events(self, name: Object) -> Sequence[Event]:
        """What was done to an object, in the order in which it was issued."""
        return self._events.get(name, ())

    def elements(self, name: Object, visible: VersionVector) -> frozenset[ElementId]:
        """All elements that were put into a list, or those of a map, deleted or not."""
        return frozenset(
            (*event.id, number)
            for event in self.events(name)
            if visible.covers(event.id)
            for number in numbers_of(event.operation)
        )

    def within(self, prefix: bytes) -> list[Object]:
        """Those of them whose addresses begin so."""
        return [n for n in self._events if address.object_prefix(*n).startswith(prefix)]

    def issue(self, issued: Issued) -> None:
        """Note a transaction that is durable.

        Raises Violation if a dot of it was issued before, or if its replica's time went back.
        """
        self._take(issued)
        times = {time for _, _, time in issued.operations}
        last = self._times.get(issued.origin, -1)
        if len(times) > 1 or min(times, default=last + 1) <= last:
            dot = issued.origin, issued.first
            raise Violation("clock", f"{format_dot(dot)} is not later than what came before")
        self._times[issued.origin] = max(times, default=last)

    def _take(self, issued: Issued) -> None:
        for dot in issued.dots():
            if dot in self._transactions:
                raise Violation("dot-reuse", f"{format_dot(dot)} was issued before")
        for dot in issued.dots():
            self._transactions[dot] = issued
            self._lost.pop(dot, None)
        seen = issued.past
        for update, dot, time in issued.operations:
            let_go = issued.let_go if isinstance(update, Update) else {}
            self._append(update, dot, time, seen, let_go)
            seen = seen.with_dot(dot)
        for name, dot in issued.forgotten:
            past = issued.past.with_dot((dot[0], dot[1] - 1))
            self._lives[name].forget(dot, past)
        for one in issued.unmarked:
            self._unmarked.setdefault(one.name, []).append((one, issued))

    def _append(
        self, update: Update | Erase, dot: Dot, time: int, seen: VersionVector, let_go: Held
    ) -> None:
        shown = seen
        has_context = False
        target: Object | Scope
        operation: dict[str, Any]
        if isinstance(update, Erase):
            target, operation = scope_of(update.prefix), {"op": "erase"}
        else:
            target, operation = update.name, _as_written(update.operation)
            self._events.setdefault(update.name, [])
            if update.seen is not None:
                shown, has_context = seen.meet(update.seen), True
        concerned = [events for name, events in self._events.items() if covers(target, name)]
        before = [earlier.id for events in concerned for earlier in events]
        past = frozenset(filter(seen.covers, before))
        observed = frozenset(filter(shown.covers, before))
        gone = frozenset[ElementId]() if isinstance(target, Scope) else let_go.get(target)
        event = Event(
            dot, target, operation, past, observed, time, gone or frozenset(), has_context
        )
        for events in concerned:
            events.append(event)
        if not isinstance(target, Scope) and target[0] == TIMED_BUCKET:
            self._lives.setdefault(target, Lives(target)).add(event, hlc.milliseconds(time))

    def forget(self, kept: VersionVector) -> int:
        """Disks were put back: what `kept` does not cover is on none of them any more.

        Its dots may be issued again; or it turns up after all, for a message may be waiting
        somewhere. Returns how many dots that are.
        """
        lost = [dot for dot in self._transactions if not kept.covers(dot)]
        for dot in lost:
            self._lost[dot] = self._transactions.pop(dot)
            self._times.pop(dot[0], None)
        for name, events in self._events.items():
            self._events[name] = [event for event in events if event.id in self._transactions]
        for name, unmarked in self._unmarked.items():
            self._unmarked[name] = [one for one in unmarked if one[0].dot in self._transactions]
        self._meanings.clear()
        return len(lost)

    def issued(self, dot: Dot) -> Issued | None:
        """The transaction a dot belongs to."""
        if dot in self._lost:
            self._take(self._lost[dot])
        return self._transactions.get(dot)

    def latest(self) -> VersionVector:
        """What covers every operation of the run."""
        return VersionVector.of(self._transactions)

    def expected(self, name: Object, visible: VersionVector) -> Shown:
        """What a reader must see of an object where exactly this is visible."""
        events = [event for event in self._events.get(name, ()) if visible.covers(event.id)]
        cleaned = [one for one in self._unmarked.get(name, ()) if visible.covers(one[0].dot)]
        key = name, tuple(event.id for event in events), tuple(one.dot for one, _ in cleaned)
        meaning = self._meanings.get(key)
        if meaning is None:
            own = [event for event in events if event.target == name]
            check_bounds(name, own)
            meaning = self._meanings[key] = show(name, _apart(events, cleaned))
        return meaning

    def expected_at(
        self, name: Object, visible: VersionVector, now_ms: int
    ) -> tuple[Shown, int | None]:
        """What a reader must see at a time, and until when, of an object that may end."""
        return self._lives.setdefault(name, Lives(name)).show(visible, now_ms)


def _apart(events: list[Event], cleaned: Sequence[tuple[Unmarked, Issued]]) -> list[Event]:
    """What was written apart from a clean-up by who was no member there: as if after the marks.

    (Evicted, its disk put back, or of a name that somebody else had: documented in `decisions.md`.)
    """
    named = {event.id: event for event in events}
    for one, by in cleaned:
        own = [named[mark] for mark in one.marks if mark in named]
        marks = frozenset[Dot](e.id for e in own).union(*(e.past for e in own))
        missed = frozenset(Missed(mark, one.leaf, one.member) for mark in marks)
        for event in events:
            is_outside = event.id[0] not in by.members and event.id[0] != one.dot[0]
            if is_outside and not by.past.covers(event.id):
                later = named[event.id]
                named[event.id] = later._replace(missed=later.missed | missed)
    return list(named.values())


def _as_written(operation: Operation) -> dict[str, Any]:
    """An operation as a user writes it."""
    plain: dict[str, Any] = msgspec.to_builtins(operation)
    if "do" in plain:  # of a map: what is done at the field, with the type of the leaf
        type_name, inner, *_ = plain["do"]
        plain["do"] = {"type": type_name, **inner}
    return plain
