"""The author: carries out what callers ask, as this replica, on a draft.

It asks the type what an operation changes, mints the operation's dot and time, and joins the
delta. An operation that changes nothing mints nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from crdtdb import address, hlc
from crdtdb.causal import NOTHING, Dot, VersionVector
from crdtdb.cuts import covered, cut_payload
from crdtdb.datatype import (
    NO_PAYLOAD,
    Change,
    Cut,
    Delete,
    Operation,
    OperationType,
    ScalarType,
    Stamp,
    StateType,
)
from crdtdb.draft import Draft, type_of
from crdtdb.errors import Field, InvalidOperation, TooLarge, UnknownType
from crdtdb.limits import LIMITS
from crdtdb.record import Live, Record, after, visible
from crdtdb.transaction import Erase, Result, Transaction, Update
from crdtdb.types import CATALOGUE

__all__ = ["Author", "Replicas"]

#: Gives the names of the members, and of this replica, by incarnation.
Replicas: TypeAlias = Callable[[], Mapping[int, str]]


class Author:
    """Writes under one incarnation; `time` is its hybrid logical clock."""

    def __init__(
        self, incarnation: int, time: int, clock: Callable[[], int], replicas: Replicas
    ) -> None:
        self.time = time
        self._incarnation = incarnation
        self._clock = clock
        self._replicas = replicas

    def carry_out(self, draft: Draft, transaction: Transaction) -> tuple[Result, ...]:
        """Carry out all updates. Raises a Problem at the first that cannot be."""
        return tuple(self._stamped(draft, update) for update in transaction.updates)

    def _stamped(self, draft: Draft, update: Update | Erase) -> Result:
        """What one update did, with what was minted for it."""
        before = draft.seen.get(self._incarnation)
        result = (
            self._erase(draft, update.prefix)
            if isinstance(update, Erase)
            else self._update(draft, update)
        )
        last = draft.seen.get(self._incarnation)
        if last == before:
            return result
        stamp = Stamp((self._incarnation, last), self.time)
        return Result(result.changed, result.value, result.size, stamp)

    def _next(self, draft: Draft) -> Stamp:
        dot = (self._incarnation, draft.seen.get(self._incarnation) + 1)
        return Stamp(dot, hlc.tick(self.time, self._clock()))

    def _mint(self, draft: Draft, stamp: Stamp) -> None:
        """The operation with this stamp has happened."""
        draft.seen = draft.seen.with_dot(stamp.dot)
        self.time = stamp.time

    # -- one object -----------------------------------------------------------------------------

    def _update(self, draft: Draft, update: Update) -> Result:
        name, operation, seen = update
        kind = CATALOGUE.get(name.type)
        if kind is None:
            raise UnknownType(
                f"there is no type {name.type!r}; GET /v1 lists them", Field("type", "unknown type")
            )
        if seen is not None:
            if not kind.removable:
                raise InvalidOperation(
                    f"a {name.type} cannot be split at an earlier read; leave `seen` out",
                    Field("seen", f"not for a {name.type}"),
                )
            seen = seen.meet(draft.seen)
        prefix = name.prefix
        if isinstance(kind, OperationType):
            return self._update_log(draft, prefix, kind, operation)
        view = _View(draft, prefix, seen, self._replicas)
        stamp = self._next(draft)
        changes = (
            kind.delete(view, stamp)
            if isinstance(operation, Delete)
            else kind.mutate(operation, view, stamp)
        )
        changed = self._apply(draft, view, kind, changes, stamp)
        if isinstance(kind, ScalarType):
            return Result(changed, kind.value(view.live(address.OWN)))
        return Result(changed, size=draft.head(prefix).size)

    def _apply(
        self,
        draft: Draft,
        view: _View,
        kind: StateType,
        changes: Iterator[Change | Cut],
        stamp: Stamp,
    ) -> bool:
        """Join what one operation changes; does it change what users see?"""
        wrote = changed = False
        for change in changes:
            if isinstance(change, Cut):
                if not draft.has_standing(view.prefix):
                    continue
                covers = draft.seen if view.seen is None else view.seen
                changed |= self._cut_object(draft, view.prefix, kind, covers, stamp.dot)
                view.forget()
            else:
                changed |= self._change(draft, view, kind, change, stamp.dot)
            wrote = True
        if wrote:
            self._mint(draft, stamp)
        return changed

    def _change(self, draft: Draft, view: _View, kind: StateType, change: Change, dot: Dot) -> bool:
        before = view.live(change.tail)
        standing = Record(before, NOTHING)
        delta = (
            after(standing, dot, change.replaces)
            if change.payload is NO_PAYLOAD
            else after(standing, dot, change.replaces, change.payload)
        )
        draft.change(view.prefix, change.tail, delta)
        view.now_live(change.tail, delta.live)
        own = kind.at(change.tail)
        assert own is not None
        return bool(own.shows(before) != own.shows(delta.live))

    def _cut_object(
        self, draft: Draft, prefix: bytes, kind: StateType, covers: VersionVector, dot: Dot
    ) -> bool:
        own = prefix + address.OWN
        head, before = draft.head(prefix), draft.live(own, prefix)
        self._cut(draft, prefix, covers, dot)
        now = draft.head(prefix)
        if now.size != head.size:
            return True
        if kind.collection:
            # As many as before may be others: a cut takes out marks, too.
            return now.digest != head.digest and any(
                kind.alive(visible(live, head.cut)) != kind.alive(visible(live, now.cut))
                for _, live in draft.members(prefix, address.MEMBER)
            )
        return bool(kind.shows(before) != kind.shows(draft.live(own, prefix)))

    def _update_log(
        self, draft: Draft, prefix: bytes, kind: OperationType, operation: Operation
    ) -> Result:
        stamp = self._next(draft)
        exists = draft.head(prefix).exists
        payload = (
            Cut()
            if type(operation) is Delete
            else kind.prepare(operation, draft.folded(prefix, kind))
        )
        if not isinstance(payload, Cut):
            record = Record({stamp.dot: payload}, VersionVector.of([stamp.dot]))
            at = address.operation(address.name_of(prefix), stamp.dot)
            draft.join(at, record, draft.seen.with_dot(stamp.dot))
            self._mint(draft, stamp)
        elif exists:
            self._cut(draft, prefix, draft.seen, stamp.dot)
            self._mint(draft, stamp)
        changed = exists or not isinstance(payload, Cut)
        if kind.collection:
            return Result(changed, size=draft.head(prefix).size)
        return Result(changed, value=kind.value(draft.folded(prefix, kind)))

    # -- cuts -----------------------------------------------------------------------------------

    def _cut(self, draft: Draft, prefix: bytes, covers: VersionVector, dot: Dot) -> None:
        """Cut at a prefix. The new cut replaces those seen, so it covers what they covered."""
        at = address.cut(prefix)
        standing = draft.record(at)
        payload = cut_payload(covers.join(covered(standing.live)))
        delta = after(standing, dot, standing.live.keys(), payload)
        draft.join(at, delta, draft.seen.with_dot(dot))

    def _erase(self, draft: Draft, prefix: bytes) -> Result:
        """Cut a whole prefix, and reset each running total below it."""
        standing = [p for p in draft.heads_under(prefix) if draft.has_standing(p)]
        if len(standing) > LIMITS.delete_objects:
            raise TooLarge(
                f"{len(standing)} objects are below; delete at most {LIMITS.delete_objects} at "
                "once, by key prefix",
                Field("prefix", "covers too many objects", LIMITS.delete_objects),
            )
        living = sum(draft.head(p).exists for p in standing)
        covers = draft.seen
        to_cut = False
        for object_prefix in standing:
            kind = type_of(object_prefix)
            if isinstance(kind, StateType) and kind.totals:
                stamp = self._next(draft)
                view = _View(draft, object_prefix, None, self._replicas)
                self._apply(draft, view, kind, kind.delete(view, stamp), stamp)
            else:
                to_cut = True
        if to_cut:
            stamp = self._next(draft)
            self._cut(draft, prefix, covers, stamp.dot)
            self._mint(draft, stamp)
        return Result(living > 0, size=living)


class _View:
    """What a type sees of an object while one operation is carried out."""

    __slots__ = ("_draft", "_live", "_replicas", "prefix", "seen")

    def __init__(
        self, draft: Draft, prefix: bytes, seen: VersionVector | None, replicas: Replicas
    ) -> None:
        self._draft = draft
        self._replicas = replicas
        self.prefix = prefix
        #: The read context of the operation.
        self.seen = seen
        #: What was looked at, by tail.
        self._live: dict[bytes, Live] = {}

    def live(self, tail: bytes) -> Live:
        live = self._live.get(tail)
        if live is None:
            live = self._live[tail] = self._draft.live(self.prefix + tail, self.prefix)
        return live

    def now_live(self, tail: bytes, live: Live) -> None:
        """The operation has changed what is in force there."""
        self._live[tail] = live

    def forget(self) -> None:
        """The operation has changed everything."""
        self._live.clear()

    def size(self) -> int:
        return self._draft.head(self.prefix).size

    def members(self, stem: bytes = address.MEMBER) -> Iterator[tuple[bytes, Live]]:
        cut = self._draft.head(self.prefix).cut
        for tail, live in self._draft.members(self.prefix, stem):
            if standing := visible(live, cut):
                yield tail, standing

    def observed(self, live: Live) -> list[Dot]:
        seen = self.seen
        return list(live) if seen is None else [dot for dot in live if seen.covers(dot)]

    def replicas(self) -> Mapping[int, str]:
        return self._replicas()
