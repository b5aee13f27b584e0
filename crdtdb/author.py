"""The author: carries out what callers ask, as this replica, on a draft.

It asks the type what an operation changes, mints the operation's dot and time, and joins the
delta. An operation that changes nothing mints nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence, Set
from functools import reduce

from crdtdb import address, hlc, lives
from crdtdb.causal import NOTHING, Dot, VersionVector
from crdtdb.cuts import covered, cut_payload, replaced
from crdtdb.datatype import (
    NO_PAYLOAD,
    Change,
    Cut,
    Delete,
    DocumentType,
    Logged,
    NestedType,
    Operation,
    OperationType,
    ScalarType,
    Stamp,
    StateType,
)
from crdtdb.draft import Draft
from crdtdb.editing import Document, Turn, document_edit, in_turns
from crdtdb.errors import Field, InvalidOperation, Problem, TooLarge, UnknownType
from crdtdb.expiry import (
    Expire,
    Persist,
    deadline_of,
    deadline_payload,
    guarded,
    is_hidden,
    since_of,
)
from crdtdb.kinds import Log, in_force, is_uncut, log_at, type_of
from crdtdb.limits import LIMITS
from crdtdb.lives import only
from crdtdb.record import EMPTY, Payload, Record, after, visible
from crdtdb.transaction import CleanUp, Erase, Result, Transaction, Update
from crdtdb.types import CATALOGUE
from crdtdb.view import ObjectView, Replicas

__all__ = ["Author", "Replicas"]


class Author:
    """Writes under one incarnation; `time` is its hybrid logical clock."""

    def __init__(
        self,
        incarnation: int,
        time: int,
        clock: Callable[[], int],
        replicas: Replicas,
        told_ms: int = 0,
    ) -> None:
        """`told_ms` is the latest time that others were told: deadlines before it have come."""
        self.time = time
        self._told_ms = told_ms
        self._incarnation = incarnation
        #: What the wall clock shows while this commit is worked out.
        self._now_ms = clock()
        #: The time of all operations of the transaction under way. With a time each, two concurrent
        #: transactions that write the same registers in different orders would both win in part.
        self._instant = time
        self._replicas = replicas
        #: What was minted for the update under way; None: it has not written anything yet.
        self._minted: Stamp | None = None

    def carry_out(self, draft: Draft, transaction: Transaction) -> tuple[Result, ...]:
        """Carry out all updates. Raises a Problem at the first that cannot be."""
        self._instant = hlc.tick(self.time, self._now_ms)
        updates = transaction.updates
        if len(updates) == 1 and document_edit(updates[0]) is None:  # most are like that
            return (self._carry_out(draft, updates[0]),)
        turns = in_turns(updates)
        try:
            return self._carry_out_turns(draft, updates, turns)
        except Problem:
            if len(turns) == len(updates):
                raise
            draft.go_back()  # another one, before it in the transaction, may be wrong as well
            draft.keep_trail()
        return tuple(
            result
            for update in updates
            for result in self._carry_out_turns(draft, [update], in_turns([update]))
        )

    def _carry_out_turns(
        self, draft: Draft, updates: Sequence[Update | Erase | CleanUp], turns: Sequence[Turn]
    ) -> tuple[Result, ...]:
        results: dict[int, Result] = {}
        for turn in turns:
            several = [updates[number] for number in turn.numbers]
            if turn.document is None:
                done = [self._carry_out(draft, update) for update in several]
            else:
                edits = [update for update in several if isinstance(update, Update)]
                done = self._edit_anew(draft, turn.document, edits, turn.edits)
            results.update(zip(turn.numbers, done, strict=True))
        return tuple(results[number] for number in range(len(updates)))

    def _carry_out(self, draft: Draft, update: Update | Erase | CleanUp) -> Result:
        self._minted = None
        if isinstance(update, Update):
            return self._update(draft, update)
        if isinstance(update, Erase):
            return self._erase(draft, update.prefix)
        return self._clean_up(draft, update)

    def _next(self, draft: Draft) -> Stamp:
        dot = (self._incarnation, draft.seen.get(self._incarnation) + 1)
        return Stamp(dot, self._instant)

    def _mint(self, draft: Draft, stamp: Stamp) -> None:
        """The operation with this stamp has happened."""
        draft.seen = draft.seen.with_dot(stamp.dot)
        self.time = stamp.time
        self._minted = stamp

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
                raise _indivisible(name.type)
            seen = seen.meet(draft.seen)
        prefix = name.prefix
        if type(operation) is Expire or type(operation) is Persist:
            return self._give_deadline(draft, prefix, kind, operation)
        if draft.head(prefix).timed:
            return self._update_until(draft, update, kind)
        return self._carry_out_on(draft, prefix, kind, operation, seen)

    def _carry_out_on(
        self,
        draft: Draft,
        prefix: bytes,
        kind: StateType | OperationType,
        operation: Operation,
        seen: VersionVector | None,
    ) -> Result:
        if isinstance(kind, OperationType):
            return self._update_log(draft, prefix, kind, operation)
        view = ObjectView(draft, prefix, seen, self._replicas)
        stamp = self._next(draft)
        changes = (
            kind.delete(view, stamp)
            if isinstance(operation, Delete)
            else kind.mutate(operation, view, stamp)
        )
        changed = self._apply(draft, view, kind, changes, stamp)
        if view.was_whole:
            self._forget_deadlines(draft, prefix)
        if isinstance(kind, ScalarType):
            return Result(changed, kind.value(view.live(address.OWN)), None, self._minted)
        return Result(changed, None, draft.head(prefix).size, self._minted)

    def _apply(
        self,
        draft: Draft,
        view: ObjectView,
        kind: StateType,
        changes: Iterator[Change | Cut | Logged],
        stamp: Stamp,
    ) -> bool:
        """Join what one operation changes; does it change what users see?"""
        wrote = changed = False
        for change in changes:
            if isinstance(change, Change):
                changed |= self._change(draft, view, kind, change, stamp.dot)
            elif isinstance(change, Logged):
                prefix = view.prefix + change.stem
                changed |= self._log(draft, prefix, change.payload, stamp.dot)
            else:
                if not draft.has_standing(view.prefix):
                    continue
                covers = draft.seen if view.seen is None else view.seen
                changed |= self._cut_object(draft, view.prefix, kind, covers, stamp.dot)
                view.forget()
            wrote = True
        if wrote:
            self._mint(draft, stamp)
        return changed

    def _change(
        self, draft: Draft, view: ObjectView, kind: StateType, change: Change, dot: Dot
    ) -> bool:
        before, held = view.live(change.tail), view.held(change.tail)
        standing = Record(held, NOTHING)
        delta = (
            after(standing, dot, change.replaces)
            if change.payload is NO_PAYLOAD
            else after(standing, dot, change.replaces, change.payload)
        )
        own = kind.at(change.tail)
        assert own is not None
        was_alive, is_alive = draft.change(view.prefix, change.tail, own, delta)
        left = delta.live
        if held is not before:
            left = in_force(kind, change.tail, left, draft.head(view.prefix).cut)
        view.now_live(change.tail, left)
        if was_alive and is_alive:
            return bool(own.shows(before) != own.shows(left))
        return was_alive != is_alive

    def _log(self, draft: Draft, prefix: bytes, payload: Payload | Cut, dot: Dot) -> bool:
        """Add an operation to the log of a leaf, or cut it; does that change what users see?"""
        if not isinstance(payload, Cut):
            record = Record({dot: payload}, only(dot))
            draft.join(address.operation_in(prefix, dot), record, draft.seen.with_dot(dot))
            return True
        log = log_at(prefix)
        assert log is not None
        was_shown = draft.is_shown(log)
        self._cut(draft, prefix, draft.seen, dot)
        return was_shown

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
        after_cut = draft.live(own, prefix)
        was_alive, is_alive = kind.alive(before), kind.alive(after_cut)
        if was_alive and is_alive:
            return bool(kind.shows(before) != kind.shows(after_cut))
        return was_alive != is_alive

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
            record = Record({stamp.dot: payload}, only(stamp.dot))
            at = address.operation(address.name_of(prefix), stamp.dot)
            draft.join(at, record, draft.seen.with_dot(stamp.dot))
            self._mint(draft, stamp)
        elif exists or draft.head(prefix).timed:  # what a deadline has hidden may come back
            self._cut(draft, prefix, draft.seen, stamp.dot)
            self._mint(draft, stamp)
        changed = exists or not isinstance(payload, Cut)
        if kind.collection:
            return Result(changed, None, draft.head(prefix).size, self._minted)
        return Result(changed, kind.value(draft.folded(prefix, kind)), None, self._minted)

    def _edit_anew(
        self,
        draft: Draft,
        document: Document,
        updates: Sequence[Update],
        edits: Sequence[Operation],
    ) -> list[Result]:
        """Edits of one document, which may have a deadline; then one after the other."""
        prefix = document.name.prefix
        results: list[Result] = []
        for number, update in enumerate(updates):
            if not draft.head(prefix).timed:
                return results + self._edit(draft, document, updates[number:], edits[number:])
            if document.stem:
                results.append(self._carry_out(draft, update))
            else:
                results.append(self._edit_until(draft, document, update))
        return results

    def _edit_until(self, draft: Draft, document: Document, update: Update) -> Result:
        """An edit of an object that has a deadline. Emptied, it has none any more."""
        prefix, deletes = document.name.prefix, _deletes(update)
        self._minted = None
        was_hidden = is_hidden(draft.head(prefix).expires_at_ms, self._passed_ms())
        if deletes:
            self._confirm_edits(draft, prefix)
        elif was_hidden:
            self._begin_anew(draft, prefix)
        existed = draft.head(prefix).exists
        (result,) = self._edit(draft, document, [update], [update.operation])
        self._forget_if_emptied(draft, prefix, existed=existed)
        if deletes:
            self._forget_deadlines(draft, prefix)
        changed = result.changed and not (was_hidden and deletes)
        return result._replace(changed=changed, stamp=self._minted)

    def _edit(
        self,
        draft: Draft,
        document: Document,
        updates: Sequence[Update],
        edits: Sequence[Operation],
    ) -> list[Result]:
        """Edits of one document. Each has its dot, and all are the operation of the last.

        That is enough, for nobody ever gets only part of a transaction.
        """
        name, stem, kind = document
        owner = name.prefix
        log = Log(owner + stem, owner, kind)
        self._check_edits(draft, log, updates)
        others = draft.head(owner).size - draft.is_shown(log) if stem else 0
        payload, outcomes = kind.edit(draft.folded(log.prefix, kind), edits, self._incarnation)
        _, last = dot = self._incarnation, draft.seen.get(self._incarnation)
        results: list[Result] = []
        for changed, size in outcomes:
            stamp = None
            if changed:
                last += 1
                dot, self.time = (self._incarnation, last), self._instant
                stamp = self._minted = Stamp(dot, self.time)
            results.append(Result(changed, None, others + (size > 0) if stem else size, stamp))
        if payload is not None:
            record = Record({dot: payload}, only(dot))
            seen = draft.seen.with_dot(dot)
            draft.join(address.operation_in(log.prefix, dot), record, seen)
            draft.seen = seen
        return results

    def _check_edits(self, draft: Draft, log: Log, updates: Sequence[Update]) -> None:
        """May these be, of a document that has no deadline? Raises InvalidOperation."""
        seen = next((update.seen for update in updates if update.seen is not None), None)
        owner = type_of(log.owner)
        if isinstance(owner, NestedType):
            view = ObjectView(draft, log.owner, seen, self._replicas)
            owner.check_edits([update.operation for update in updates], view)
        elif seen is not None:
            raise _indivisible(updates[0].name.type)

    def _clean_up(self, draft: Draft, clean_up: CleanUp) -> Result:
        """Take out what is still in force of dots that say nothing any more (`StateType.idle`)."""
        prefix, tail = address.split_object(clean_up.at)
        if tail == address.EXPIRY:
            return self._end(draft, prefix, clean_up.dots)
        live = draft.live(clean_up.at, prefix)
        idle = [dot for dot in clean_up.dots if dot in live]
        if idle:
            stamp = self._next(draft)
            kind = type_of(prefix)
            assert isinstance(kind, StateType)
            standing = Record(ObjectView(draft, prefix, None, self._replicas).held(tail), NOTHING)
            draft.change(prefix, tail, kind.at(tail), after(standing, stamp.dot, idle))
            self._mint(draft, stamp)
        return Result(changed=False, stamp=self._minted)

    # -- deadlines ------------------------------------------------------------------------------

    def _passed_ms(self) -> int:
        """Deadlines up to here have come."""
        return max(hlc.milliseconds(self._instant), self._told_ms)

    def _give_deadline(
        self, draft: Draft, prefix: bytes, kind: StateType | OperationType, operation: Operation
    ) -> Result:
        """Move or take away the deadline of an object, if it is there."""
        now_ms = self._passed_ms()
        deadline = operation.deadline_ms(now_ms) if isinstance(operation, Expire) else None
        head = draft.head(prefix)
        if not head.exists or is_hidden(head.expires_at_ms, now_ms):
            return self._result(draft, prefix, kind, changed=False)
        at = prefix + address.EXPIRY
        live = draft.standing(prefix).deadlines
        if deadline is None and [given for given, _ in live.values()] == [None]:
            return self._result(draft, prefix, kind, changed=False)
        stamp = self._next(draft)
        payload = deadline_payload(deadline, since_of(live, now_ms))
        delta = after(Record(live, NOTHING), stamp.dot, live.keys(), payload)
        draft.join(at, delta, draft.seen.with_dot(stamp.dot))
        self._mint(draft, stamp)
        return self._result(draft, prefix, kind, changed=deadline != head.expires_at_ms)

    def _result(
        self, draft: Draft, prefix: bytes, kind: StateType | OperationType, *, changed: bool
    ) -> Result:
        """What an object shows, of which only the deadline was at stake."""
        head = draft.head(prefix)
        shown = head.hidden() if is_hidden(head.expires_at_ms, self._passed_ms()) else head
        if kind.sized:
            return Result(changed, None, shown.size, self._minted)
        if isinstance(kind, OperationType):
            folded = draft.folded(prefix, kind) if shown.exists else kind.empty()
            return Result(changed, kind.value(folded), None, self._minted)
        assert isinstance(kind, ScalarType)
        live = draft.live(prefix + address.OWN, prefix) if shown.exists else {}
        return Result(changed, kind.value(live), None, self._minted)

    def _update_until(
        self, draft: Draft, update: Update, kind: StateType | OperationType
    ) -> Result:
        """An operation on an object that has a deadline. Emptied, it has none any more."""
        name, operation, seen = update
        prefix = name.prefix
        was_hidden = is_hidden(draft.head(prefix).expires_at_ms, self._passed_ms())
        if _deletes(update):
            self._confirm_edits(draft, prefix)
        elif was_hidden:
            self._begin_anew(draft, prefix)
        if seen is not None:
            seen = seen.meet(draft.seen)
        existed = draft.head(prefix).exists
        result = self._carry_out_on(draft, prefix, kind, operation, seen)
        self._forget_if_emptied(draft, prefix, existed=existed)
        if was_hidden and _deletes(update):
            result = result._replace(changed=False)
        return result

    def _begin_anew(self, draft: Draft, prefix: bytes) -> None:
        """Take out what was there until the deadline; it comes back if that was moved elsewhere."""
        seen, stamp = draft.seen, self._next(draft)
        beside = lives.beside_cut(draft, prefix, stamp.dot)
        self._cut(draft, prefix, seen, stamp.dot, draft.head(prefix).expires_at_ms)
        for at, record in beside:
            draft.join(at, record, seen.with_dot(stamp.dot))
        self._mint(draft, stamp)

    def _take_out(self, draft: Draft, prefix: bytes) -> None:
        """Take out all there is of an object, for good."""
        kind = type_of(prefix)
        if isinstance(kind, DocumentType):
            document, delete = Document(address.name_of(prefix), b"", kind), Delete()
            self._confirm_edits(draft, prefix)
            self._edit(draft, document, [Update(document.name, delete)], [delete])
        elif isinstance(kind, StateType) and kind.totals:
            self._confirm_edits(draft, prefix)
            stamp = self._next(draft)
            view = ObjectView(draft, prefix, None, self._replicas)
            self._apply(draft, view, kind, kind.delete(view, stamp), stamp)
        else:
            stamp = self._next(draft)
            self._cut(draft, prefix, draft.seen, stamp.dot)
            self._mint(draft, stamp)
        self._forget_deadlines(draft, prefix)

    def _forget_if_emptied(self, draft: Draft, prefix: bytes, *, existed: bool) -> None:
        head = draft.head(prefix)
        if existed and not head.exists and head.expires_at_ms is not None:
            self._forget_deadlines(draft, prefix)

    def _forget_deadlines(self, draft: Draft, prefix: bytes) -> None:
        if not draft.record(prefix + address.EXPIRY).live:
            return
        stamp, at = self._next(draft), prefix + address.EXPIRY
        draft.join(at, after(EMPTY, stamp.dot, ()), draft.seen.with_dot(stamp.dot))
        self._mint(draft, stamp)

    def _end(self, draft: Draft, prefix: bytes, dots: Collection[Dot]) -> Result:
        """Make final what some deadlines, and cuts that depend on some, have hidden.

        Every member's time is past them, so none can be moved any more.
        """
        at = address.cut(prefix)
        cuts = draft.record(at).live
        if ended := guarded(cuts).keys() & set(dots):
            self._end_cuts(draft, prefix, ended)
        live = draft.standing(prefix).deadlines
        if live and live.keys() <= set(dots):
            if is_hidden(deadline_of(live), self._passed_ms()):
                self._take_out(draft, prefix)
            elif deadline_of(live) is None and not draft.is_guarded(prefix):
                self._forget_deadlines(draft, prefix)
        return Result(changed=False, stamp=self._minted)

    def _end_cuts(self, draft: Draft, prefix: bytes, ended: Set[Dot]) -> None:
        """In the place of guarded cuts, take out for good what those in force cover."""
        at, kind = address.cut(prefix), type_of(prefix)
        cuts, (cut, present) = draft.record(at).live, draft.standing(prefix)
        vectors = (VersionVector.from_flat(list(cuts[dot][0])) for dot in ended)
        final = reduce(VersionVector.join, filter((cut or NOTHING).includes, vectors), NOTHING)
        self._confirm_edits(draft, prefix)
        stamp = self._next(draft)
        if len(final) and not is_uncut(kind):
            self._cut(draft, prefix, final, stamp.dot, instead_of=ended)
        else:
            if isinstance(kind, StateType):
                left = cuts.keys() - ended
                deltas = lives.ended(draft, prefix, final, left, stamp.dot, self._replicas())
                for record_at, delta in deltas:
                    draft.join(record_at, delta, draft.seen.with_dot(stamp.dot))
                for log in lives.logs(draft, prefix) if len(final) else ():
                    if not isinstance(log.kind, DocumentType):
                        self._cut(draft, log.prefix, final, stamp.dot)
            delta = after(draft.record(at), stamp.dot, ended)
            draft.join(at, delta, draft.seen.with_dot(stamp.dot))
        deadlines = after(Record(present, NOTHING), stamp.dot, ())
        draft.join(prefix + address.EXPIRY, deadlines, draft.seen.with_dot(stamp.dot))
        self._mint(draft, stamp)

    def _confirm_edits(self, draft: Draft, prefix: bytes) -> None:
        """What guarded edits in force have taken out of documents stays out from now on."""
        for log, edit in lives.edits_in_force(draft, prefix):
            stamp = self._next(draft)
            record = Record({stamp.dot: edit}, only(stamp.dot))
            at = address.operation_in(log.prefix, stamp.dot)
            draft.join(at, record, draft.seen.with_dot(stamp.dot))
            self._mint(draft, stamp)

    # -- cuts -----------------------------------------------------------------------------------

    def _cut(
        self,
        draft: Draft,
        prefix: bytes,
        covers: VersionVector,
        dot: Dot,
        guard: int | None = None,
        *,
        instead_of: Collection[Dot] = (),
    ) -> None:
        """Cut at a prefix. A cut replaces those seen like it, so it covers what they covered."""
        at = address.cut(prefix)
        standing = draft.record(at)
        if guard is None:
            covers = covers.join(covered(standing.live))
        gone = {*replaced(standing.live, covers, guard), *instead_of}
        delta = after(standing, dot, gone, cut_payload(covers, guard))
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
        now_ms = self._passed_ms()
        living = sum(
            head.exists and not is_hidden(head.expires_at_ms, now_ms)
            for head in map(draft.head, standing)
        )
        covers = draft.seen
        to_cut = False
        for object_prefix in standing:
            if is_uncut(type_of(object_prefix)):
                self._take_out(draft, object_prefix)
            else:
                to_cut = True
        if to_cut:
            stamp = self._next(draft)
            self._cut(draft, prefix, covers, stamp.dot)
            self._mint(draft, stamp)
        return Result(living > 0, None, living, self._minted)


def _deletes(update: Update | Erase | CleanUp) -> bool:
    """Does it delete the whole object?"""
    operation = update.operation if isinstance(update, Update) else None
    return isinstance(operation, Delete) and operation.whole


def _indivisible(type_name: str) -> InvalidOperation:
    return InvalidOperation(
        f"a {type_name} cannot be split at an earlier read; leave `seen` out",
        Field("seen", f"not for a {type_name}"),
    )
