"""A draft: everything one store transaction will change, before it is written.

Here, and only here, records are joined, and each change is carried into the object's head (size,
digest, what a cut would have to cover).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from crdtdb import address, codec
from crdtdb.causal import Dot, VersionVector
from crdtdb.conflicts import Loss, loss_between
from crdtdb.cuts import WideCuts, covered, is_object_prefix, is_wide_or_object
from crdtdb.datatype import OperationType, StateType
from crdtdb.expiry import Standing, deadline_of, guarded, guards, standing
from crdtdb.head import Head
from crdtdb.kinds import (
    Log,
    alive,
    in_force,
    is_uncut,
    log_at,
    log_in,
    log_of,
    shows_nothing,
    type_of,
)
from crdtdb.oplog import (
    adopt_base,
    fold_in,
    operations_in_force,
    refold,
    replace_log,
    try_out,
)
from crdtdb.pending import Pending
from crdtdb.record import EMPTY, Live, Record, join, visible
from crdtdb.store.base import Snapshot, Table

__all__ = ["EVERYWHERE", "Draft", "Span"]


class Span(NamedTuple):
    """Addresses from `start` up to, without it, `end`; None: to the last."""

    start: bytes
    end: bytes | None


EVERYWHERE: Final = Span(b"", None)


class Draft(Pending):
    """Changes on top of a snapshot, made by joining records."""

    def __init__(self, snapshot: Snapshot, seen: VersionVector, wide: WideCuts) -> None:
        super().__init__(snapshot, seen, wide)
        #: Address → object prefix, of records that came to hold a value that loses.
        self._contended: dict[bytes, bytes] = {}
        #: Object prefix → the dots of cuts that do not count there any more.
        self.voided: dict[bytes, set[Dot]] = {}

    # -- changing -----------------------------------------------------------------------------

    def join(self, at: bytes, incoming: Record, seen: VersionVector) -> Record:
        """Join a record, whose sender has seen `seen`, into what is here: how state changes."""
        is_cut = address.is_cut(at)
        prefix, tail = (b"", b"") if is_cut else address.split_object(at)
        log = log_in(prefix, tail)
        if log is not None and tail.endswith(address.BASE) and address.is_base(at):
            if not self.seen.includes(incoming.context):
                self._void_cuts(log, incoming.context, seen)
            return adopt_base(self, at, log, incoming)
        old = self.record(at)
        if log is not None:
            adopted = self.adopted.get(log.prefix)
            if adopted is not None and adopted.includes(incoming.context):
                return old  # an operation of the base that came with it
        new = join(old, incoming, self.seen, seen)
        if new == old:
            return old
        self.put(at, new)
        if is_cut:
            self.install_cut(at, old, new)
        elif log is not None and log.kind is not None:
            self._install_operation(at, log, new)
        else:
            self._install(at, prefix, tail, old, new)
        return new

    def change(
        self, prefix: bytes, tail: bytes, own: StateType | None, delta: Record
    ) -> tuple[bool, bool]:
        """Take in the delta of an operation of one's own at prefix + tail, a record of type `own`.

        Whoever made it had seen all that is here, and the delta carries what of it stays in
        force: it is what `join` would give (the delta law), so nothing is compared. Returns
        whether users saw something there before, and whether they do now.
        """
        at = prefix + tail
        old = self.record(at)
        self.put(at, delta)
        return self._install_state(
            at, prefix, tail, shows_nothing if own is None else own.alive, old, delta
        )

    def _install(
        self,
        at: bytes,
        prefix: bytes,
        tail: bytes,
        old: Record,
        new: Record,
    ) -> None:
        kind = type_of(prefix)
        if tail == address.EXPIRY:
            head = self.head(prefix)
            context = head.context.join(new.context)
            self.set_head(prefix, msgspec.structs.replace(head, context=context))
            self.settle(prefix, at)
        elif not isinstance(kind, StateType):
            self._install_state(at, prefix, tail, bool, old, new)
        elif (own := kind.at(tail)) is None:
            self._install_state(at, prefix, tail, shows_nothing, old, new)
        else:
            self._install_state(at, prefix, tail, own.alive, old, new)
            if own.has_losers and len(new.live) > 1 and len(self.live(at, prefix)) > 1:
                self._contended[at] = prefix

    def _install_operation(self, at: bytes, log: Log, new: Record) -> None:
        self._set(self._latest, log.owner, at)
        head = self.head(log.owner)
        context = head.context.join(new.context)
        assert log.kind is not None
        if live := operations_in_force(log.kind, new.live, self.cut_of(log)):
            fold_in(self, log, head, context, live)
        else:
            try_out(self, log, new.live)
            self.set_head(log.owner, msgspec.structs.replace(head, context=context))

    def _install_state(
        self,
        at: bytes,
        prefix: bytes,
        tail: bytes,
        shows: Callable[[Live], bool],
        old: Record,
        new: Record,
    ) -> tuple[bool, bool]:
        """Carry a change of a record into its object's head.

        `shows` tells whether live dots, of which there are some, show anything to users. Returns
        whether those before did, and whether those now do.
        """
        self._set(self._latest, prefix, at)
        head = self.head(prefix)
        context = head.context.join(new.context)
        kind = type_of(prefix)
        before = in_force(kind, tail, old.live, head.cut)
        now = in_force(kind, tail, new.live, head.cut)
        was_alive, is_alive = bool(before) and shows(before), bool(now) and shows(now)
        digest = head.digest
        if was_alive:
            digest ^= codec.live_digest(at, before)
        if is_alive:
            digest ^= codec.live_digest(at, now)
        self.set_head(
            prefix,
            Head(
                head.size - was_alive + is_alive,
                head.sequence,
                context,
                head.cut,
                digest,
                head.expires_at_ms,
                head.timed,
            ),
        )
        return was_alive, is_alive

    # -- cuts ---------------------------------------------------------------------------------

    def install_cut(self, at: bytes, old: Record, new: Record) -> None:
        prefix = address.cut_prefix(at)
        vector, before = covered(new.live), covered(old.live)
        if is_object_prefix(prefix):
            if any(guards(old.live)) or any(guards(new.live)):
                if not vector.includes(before):
                    self.sweep(prefix, before)
                self.settle(prefix, at)
                return
            self._cut_object(prefix, vector, at)
        elif (log := log_at(prefix)) is not None:
            if not vector.includes(before):
                self.sweep(prefix, before)
            self._cut_leaf(log, vector, at)
            return
        else:
            self.wide = self.wide.with_cut(prefix, vector)
            for object_prefix in self.heads_under(prefix):
                if self.head(object_prefix).timed:
                    self.settle(object_prefix, at)
                else:
                    self._cut_object(object_prefix, vector, at)
        if not vector.includes(before):
            self.sweep(prefix, before)

    def sweep(self, prefix: bytes, vector: VersionVector) -> None:
        """Take out what a cut covered that is replaced by one that covers less. O(records).

        Whoever made the later one had reclaimed the earlier. The records get new places, for a
        pull under way may have passed them.
        """
        for at, record in list(self.records_under(prefix)):
            live = visible(record.live, vector)
            below, _ = address.split_object(at)
            kind = type_of(below)
            is_swept = len(below) < len(prefix) or (kind is not None and not is_uncut(kind))
            if len(live) < len(record.live) and is_swept:
                self.put(at, Record(live, record.context))
                self._set(self._latest, below, at)
                self.set_head(below, self.head(below))

    def _cut_object(self, prefix: bytes, vector: VersionVector, at: bytes) -> None:
        head = self.head(prefix)
        kind = type_of(prefix)
        cut = vector if head.cut is None else head.cut.join(vector)
        if cut == head.cut or is_uncut(kind):
            return
        self._note_change(prefix, at)
        head = msgspec.structs.replace(head, cut=cut)
        if cut.includes(head.context):
            # All there is was seen by the cut: nothing is left, and nothing need be read.
            if isinstance(kind, OperationType):
                self.set_folded(Log(prefix, prefix, kind), head, None)
            self.set_head(prefix, msgspec.structs.replace(head, size=0, digest=0))
        else:
            self.recount(prefix, head, kind)
        if head.timed:
            self.settle(prefix, at)

    def _cut_leaf(self, log: Log, vector: VersionVector, at: bytes) -> None:
        """O(1) if the cut has seen all there is of the map, else O(operations of the leaf)."""
        self._note_change(log.owner, at)
        head = self.head(log.owner)
        if log.kind is None:
            self.set_head(log.owner, head)
        elif vector.includes(head.context):
            self.set_folded(log, head, None)
        else:
            refold(self, log, head)

    def _note_change(self, prefix: bytes, at: bytes) -> None:
        """An object has changed because of what changed at `at`, which may lie outside of it.

        Where records of its own changed after that, the last of them gives the object its number.
        """
        if prefix not in self._latest or self.is_last(at):
            self._set(self._latest, prefix, at)

    def settle(self, prefix: bytes, at: bytes) -> None:
        """Find out anew what is cut of an object and until when it is there; `at` has changed.

        O(1), but O(records) if other records are cut than before.
        """
        self._note_change(prefix, at)
        former, kind = self.head(prefix), type_of(prefix)
        deadlines = self.record(prefix + address.EXPIRY).live
        cut, present = self.standing(prefix)
        timed = bool(deadlines) or any(guards(self.record(address.cut(prefix)).live))
        deadline = deadline_of(present)
        head = msgspec.structs.replace(former, cut=cut, expires_at_ms=deadline, timed=timed)
        if cut == former.cut:
            self.set_head(prefix, head)
        else:
            self.recount(prefix, head, kind)

    def standing(self, prefix: bytes) -> Standing:
        """What is cut of an object, and which of its deadlines are in force."""
        deadlines = self.record(prefix + address.EXPIRY).live
        cuts = self.record(address.cut(prefix)).live
        if is_uncut(type_of(prefix)):
            return standing(guarded(cuts), deadlines)
        return standing(cuts, deadlines, self.wide.applying(prefix))

    def is_guarded(self, prefix: bytes) -> bool:
        """Does what is cut of an object depend on a deadline, so that it may come back?"""
        return self.head(prefix).timed and any(guards(self.record(address.cut(prefix)).live))

    def uncover(self, prefix: bytes, swept: VersionVector, left: VersionVector | None) -> None:
        """Take a cut out of a head: nothing it covers is there any more. `left`: the other cuts."""
        head = self.head(prefix)
        standing = {i: n for i, n in head.context.items() if n > swept.get(i)}
        self.set_head(
            prefix, msgspec.structs.replace(head, context=VersionVector(standing), cut=left)
        )

    def recount(self, prefix: bytes, head: Head, kind: StateType | OperationType | None) -> None:
        """Count again what survives a cut that something is concurrent to. O(records)."""
        if isinstance(kind, OperationType):
            refold(self, Log(prefix, prefix, kind), head)
            return
        size = digest = 0
        logs: dict[bytes, Log] = {}
        for at, record in self.records_under(prefix):
            tail = at[len(prefix) :]
            live = in_force(kind, tail, record.live, head.cut)
            if alive(kind, tail, live):
                size += 1
                digest ^= codec.live_digest(at, live)
            elif (log := log_in(prefix, tail)) is not None and log.kind is not None:
                logs[log.prefix] = log
        self.set_head(prefix, msgspec.structs.replace(head, size=size, digest=digest))
        for log in logs.values():
            self.count_anew(log)
            refold(self, log, self.head(prefix))

    # -- all that somebody holds --------------------------------------------------------------

    def join_whole(
        self, incoming: list[tuple[bytes, Record]], seen: VersionVector, span: Span
    ) -> None:
        """Join all records of a replica that has seen `seen`; what it lacks, it has removed.

        All of a span of addresses, that is, which divides no log. Cuts that it lacks
        stay: they cover nothing that is left. Raises PeerError.
        """
        logs: dict[bytes, list[tuple[bytes, Record]]] = {}
        for at, record in incoming:
            if log := log_of(at):
                logs.setdefault(log, []).append((at, record))
            else:
                self.join(at, record, seen)
                if address.is_cut(at):
                    self._cut_again(at, record)
        sent = {at for at, _ in incoming}
        start = max(span.start, address.DATA)
        lacking = [
            at for at, _ in self._snapshot.scan(Table.RECORDS, start, span.end) if at not in sent
        ]
        for at in lacking:
            if log := log_of(at):
                logs.setdefault(log, [])
            elif self.join(at, EMPTY, seen) == EMPTY:
                self.drop(at)
                self.vacate_if_bare(address.split_object(at)[0])
        for prefix, records in logs.items():
            base = dict(records).get(prefix + address.BASE, EMPTY).context
            if (taken := log_at(prefix)) is not None and not self.seen.includes(base):
                self._void_cuts(taken, base, seen)
            replace_log(self, prefix, records, seen)

    def _cut_again(self, at: bytes, incoming: Record) -> None:
        """Let a cut count that a replica still holds whose logs are taken over.

        It may be reclaimed here, with what it covers, and not there.
        """
        old = self.record(at)
        live = {dot: cut for dot, cut in incoming.live.items() if not any(guards({dot: cut}))}
        if not live.keys() <= old.live.keys():
            new = Record({**old.live, **live}, old.context.join(incoming.context))
            self.put(at, new)
            self.install_cut(at, old, new)

    # -- cuts of a base that is taken over ----------------------------------------------------

    def _void_cuts(self, log: Log, base: VersionVector, seen: VersionVector) -> None:
        """Let no cut count against a log that is taken over which knows a part of its base only.

        The base is of somebody who has seen `seen`. Who was taken out of the cluster, and did not
        know it, may have removed what the others have folded since together with what it had not
        seen: a sum cannot be taken apart. Elsewhere nobody has such a cut, so it leaves no trace.
        O(1); but O(objects) to let a cut over several of them count against the others.
        """
        at = address.cut(log.prefix)
        wide = [] if log.is_leaf else list(self.wide.over(log.owner))
        void: set[Dot] = set()
        for cut in (*map(address.cut, wide), at):
            void |= self._take_out(cut, base, seen)
        if not void:
            return
        if log.is_leaf:
            self._note_change(log.owner, at)
        else:
            self.settle(log.owner, at)
        self.voided.setdefault(log.owner, set()).update(void)

    def _take_out(self, at: bytes, base: VersionVector, seen: VersionVector) -> set[Dot]:
        """Take out of a cut what knows a part of a base, but not all; the dots of that."""
        record = self.record(at)
        void = {
            dot: cut
            for dot, cut in record.live.items()
            if not (seen.covers(dot) or any(guards({dot: cut})))
            and not covered({dot: cut}).includes(base)
            and len(covered({dot: cut}).meet(base))
        }
        if not void:
            return set()
        left = {dot: cut for dot, cut in record.live.items() if dot not in void}
        self.put(at, Record(left, record.context))
        prefix = address.cut_prefix(at)
        if not is_wide_or_object(prefix) or is_object_prefix(prefix):
            return set(void)
        self.wide = self.wide.without(prefix)
        if left:
            self.wide = self.wide.with_cut(prefix, covered(left))
        for below in self.heads_under(prefix):
            if not is_uncut(type_of(below)):
                own_at = address.cut(below)
                own = self.record(own_at)
                cut = Record({**own.live, **void}, own.context.join(VersionVector.of(void)))
                self.put(own_at, cut)
                self.install_cut(own_at, own, cut)
        return set(void)

    # -- letting go ---------------------------------------------------------------------------

    def drop(self, at: bytes) -> None:
        """Let a record go that says nothing that this replica's VV does not say."""
        self.put(at, None)

    # -- what it comes to ---------------------------------------------------------------------

    def losses(self) -> list[Loss]:
        """Users' values that lose once this draft is written, and do not in the snapshot.

        Only merged records can make values lose: a write made here replaces what is in force here.
        """
        losses: list[Loss] = []
        for at, prefix in self._contended.items():
            if prefix[1:2] == b"_":
                continue
            kind, head = type_of(prefix), self._found_heads[prefix]
            assert isinstance(kind, StateType)
            own = kind.at(at[len(prefix) :])
            assert own is not None
            found = self._found[at][0].live
            before = in_force(kind, at[len(prefix) :], found, head.cut if head else None)
            loss = loss_between(own, at, before, self.live(at, prefix))
            if loss is not None:
                losses.append(loss)
        return losses
