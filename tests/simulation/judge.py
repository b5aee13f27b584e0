"""The judge: told of everything the engines do, holds it against the history at once.

After every commit and every merge, whatever was touched is read back and compared with what the
specification makes of exactly the operations that the replica's version vector covers. At the end
the notes that were taken meanwhile go to the checkers (`conclude`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from random import Random
from typing import Final

from checkers.violation import raise_first
from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, Dot, VersionVector
from crdtdb.errors import CallerError, StorageFailed
from crdtdb.limits import LIMITS
from crdtdb.reading import Digest, Reading
from crdtdb.replication import staging
from crdtdb.replication.staging import COPY_ROW
from crdtdb.store.base import Table
from crdtdb.transaction import CleanUp, Committed, Erase, Transaction
from oracle.checks import Violation, check_books
from oracle.events import Held, Object, Shown
from simulation.checks import (
    check_disk,
    check_growth,
    check_news,
    check_shown,
    check_stable,
    shown,
)
from simulation.ledger import Issued, Ledger, issued_by
from simulation.notes import Notes
from simulation.replica import Machine
from simulation.trace import Trace
from simulation.workload import TIMED_BUCKET

__all__ = ["Judge"]

#: The bound that `crdtdb.replication.early` promises.
_HELD_PUSHES: Final = 256

#: Types whose operations are summed up and then let go, and what removes something of the sum.
#: (Of a map any operation may.)
_SUMMED: Final = frozenset({"counter", "opcounter", "list", "zset", "map"})
_REMOVALS: Final = frozenset({"Delete", "Reset", "Clear", "Remove", "Update"})
#: After reclaiming, what was touched is looked at; each so manieth time, everything is.
_LOOK_AT_ALL: Final = 10


class Judge:
    """Keeps the history of a run and raises Violation as soon as something is not as it says."""

    def __init__(self, machines: dict[str, Machine], tally: Counter[str], trace: Trace) -> None:
        self.ledger = Ledger()
        self._notes = Notes(self.ledger)
        #: The latest time that any clock has shown to a write.
        self._latest_ms = 0
        self._machines = machines
        self._tally = tally
        self._trace = trace
        #: What each machine was last seen to hold.
        self._known: dict[str, VersionVector] = {}
        #: What machines had seen and lost again with their disks: who counts them in is not wrong.
        self._put_back: dict[str, VersionVector] = {}
        #: What dying processes carried out, so that nobody knows whether it is on the disk.
        self._unanswered: dict[str, list[Issued]] = {}
        #: Objects of which two machines of one name removed something: each has been taken out of
        #: the members by the other, unknowingly. Nobody can say what they must show.
        self.disputed: set[Object] = set()
        #: Removals that came to nothing, by object.
        self._voided: dict[Object, set[Dot]] = {}
        #: How often something was reclaimed.
        self._reclaimed = 0

    # -- while machines run ---------------------------------------------------------------------

    def incarnated(self, machine: Machine, incarnation: int) -> None:
        """A machine took a new identity (Watcher)."""
        self._tally["incarnations"] += 1
        self._trace.named(incarnation, machine.name)

    def committed(
        self,
        machine: Machine,
        past: VersionVector,
        transactions: Sequence[Transaction],
        committed: Committed,
        held: Held,
    ) -> None:
        """A machine carried out local transactions (Watcher)."""
        members = frozenset(machine.replication.members)
        origin = machine.engine.state.incarnation
        let_go = {name: self.ledger.elements(name, past) - those for name, those in held.items()}
        issued = issued_by(origin, past, transactions, committed, members, let_go)
        if machine.disk.crashed:
            self._unanswered.setdefault(machine.name, []).extend(issued)
            return
        for transaction, outcome in zip(transactions, committed.outcomes, strict=True):
            error = outcome.error
            is_excused = isinstance(error, StorageFailed) and machine.disk.flipped
            if error is not None and not isinstance(error, CallerError) and not is_excused:
                raise Violation("availability", f"{machine.name}: {transaction}: {error}")
        for one in issued:
            self.ledger.issue(one)
        if machine.was_namesake:
            self.disputed.update(name for name in self._removed(issued) if name[1] in _SUMMED)
        self._notes.issued(machine.name, issued)
        self._note_clocks()
        self._tally["operations"] += sum(len(one.operations) for one in issued)
        self._tally["cleaned up"] += sum(
            isinstance(update, CleanUp)
            for transaction in transactions
            for update in transaction.updates
        )
        self._look(machine, self._touched(issued))

    def merged(self, machine: Machine, addresses: Sequence[bytes], *, ahead: bool = False) -> None:
        """A machine took in records (Watcher)."""
        if machine.disk.crashed:
            return
        self._tally["merges worked out ahead"] += ahead
        self._notes.sampled(machine.name, "held pushes", machine.held_pushes, _HELD_PUSHES)
        names: set[Object] = set()
        for at in addresses:
            if address.is_cut(at):
                names.update(self.ledger.within(address.cut_prefix(at)))
            else:
                names.add(address.name_of(address.split_object(at)[0]))
        self._look(machine, names)

    def voided(self, voided: Mapping[bytes, Collection[Dot]]) -> None:
        """Removals came to nothing at objects with these prefixes (Watcher)."""
        for prefix, dots in voided.items():
            self._tally["removals that came to nothing"] += len(dots)
            self._voided.setdefault(address.name_of(prefix), set()).update(dots)

    def joined_part(self, machine: Machine) -> None:
        """A machine joined a part of a pull (Watcher)."""
        self._tally["parts of pulls joined"] += machine.is_partial

    def mended(
        self, machine: Machine, damaged: Collection[bytes], addresses: Sequence[bytes]
    ) -> None:
        """A machine took in what a peer held in the place of damaged records (Watcher)."""
        self._tally["records mended"] += len(damaged)
        self.merged(machine, [*filter(_is_address, damaged), *addresses])

    def reclaimed(
        self, machine: Machine, stable: VersionVector, count: int, *, deletes: bool
    ) -> None:
        """A machine reclaimed records (Watcher)."""
        self._tally["reclaimed" if deletes else "folded"] += count
        members = [
            other.seen
            for other in self._machines.values()
            if other.is_up
            and other.engine.state.incarnation in machine.replication.members
            and other.seen.includes(self._put_back.get(other.name, NOTHING))
        ]
        check_stable(stable, members)
        if machine.disk.crashed:
            return
        self._reclaimed += 1
        if self._reclaimed % _LOOK_AT_ALL:
            self.merged(machine, list(machine.disk.latest.get(Table.RECORDS, ())))
        else:
            self.look_at_all(machine)

    # -- when a machine comes back --------------------------------------------------------------

    def restarted(self, machine: Machine) -> None:
        """A machine is about to start with what its disk shows."""
        if machine.disk.rolled_back:
            self._forget(machine)
        found = _seen(machine)
        self._notes.found(machine.name, found)
        check_disk(self._known.get(machine.name, NOTHING), found)
        for issued in self._unanswered.pop(machine.name, ()):
            survived = found.covers((issued.origin, issued.last))
            self._tally["unknown outcomes, " + ("kept" if survived else "lost")] += 1
            if survived:
                self.ledger.issue(issued)
                self._notes.issued(machine.name, [issued])
        self.look_at_all(machine)

    def gone(self, machine: Machine) -> None:
        """A machine is gone for good, with its disk."""
        self._known.pop(machine.name, None)
        self._unanswered.pop(machine.name, None)
        kept = self._kept()
        self._notes.put_back(machine.name, NOTHING, kept)
        self._tally["operations lost with a disk"] += self.ledger.forget(kept)

    def _kept(self) -> VersionVector:
        """What is on some disk."""
        kept = NOTHING
        for machine in self._machines.values():
            kept = kept.join(_seen(machine))
        return kept

    def _forget(self, machine: Machine) -> None:
        """A machine's disk shows an earlier state: what is on no other disk is lost for good."""
        machine.disk.rolled_back = False
        kept = self._kept()
        before = self._put_back.get(machine.name, NOTHING).join(
            self._known.get(machine.name, NOTHING)
        )
        self._put_back[machine.name] = before.meet(kept)
        self._known[machine.name] = _seen(machine)
        self._notes.put_back(machine.name, _seen(machine), kept)
        self._unanswered.pop(machine.name, None)
        self._tally["operations lost with a disk"] += self.ledger.forget(kept)

    def look_at_one(self, machine: Machine, random: Random) -> None:
        """Compare what a machine shows of one object."""
        if names := sorted(self.ledger.objects):
            self._look(machine, [random.choice(names)])
            with machine.disk.snapshot() as snapshot:
                self._notes.user_read(machine.name, Reading(snapshot))

    def look_at_all(self, machine: Machine) -> None:
        """Compare everything a machine shows, and its indexes, with what they must be."""
        if _is_copying(machine) or _is_partial(machine):
            return
        self._look(machine, self.ledger.objects)
        if not machine.disk.flipped:
            check_books(machine.disk.mounted)

    def conclude(self, states: Mapping[str, tuple[VersionVector, Digest]]) -> None:
        """Hand all that was noted to the checkers, with what each machine has in the end."""
        raise_first(self._notes.judge(states))

    def _note_clocks(self) -> None:
        times_ms = [machine.clock() for machine in self._machines.values()]
        self._latest_ms = max(self._latest_ms, *times_ms)
        if self._latest_ms - min(times_ms) > LIMITS.max_drift_ms:
            self._notes.disagree()

    # -- comparing --------------------------------------------------------------------------------

    def _look(self, machine: Machine, names: Iterable[Object]) -> None:
        if _is_copying(machine) or _is_partial(machine):
            return
        try:
            with machine.disk.snapshot() as snapshot:
                self._compare(machine, Reading(snapshot, machine.clock), sorted(names))
        except Violation as violation:
            violation.add_note(f"at {machine.name}")
            raise

    def _compare(self, machine: Machine, reading: Reading, names: list[Object]) -> None:
        before, now = self._known.get(machine.name, NOTHING), reading.seen
        check_growth(before, now)
        check_news(self.ledger, before, now)
        self._known[machine.name] = now
        self._tally["comparisons"] += len(names)
        showed: dict[Object, Shown] = {}
        for name in names:
            try:
                found = shown(reading, name)
            except StorageFailed:
                if not machine.disk.flipped:
                    raise
                self._tally["reads of damaged objects"] += 1
                self._notes.unreadable(machine.name, name)
                continue
            if name in self.disputed or self._is_voided(name, now):
                self._tally["reads of which nobody can say what they must show"] += 1
                self._notes.unreadable(machine.name, name)
                continue
            if name[0] == TIMED_BUCKET:
                self._compare_timed(reading, name, found)
                continue
            check_shown(name, self.ledger.expected(name, now), found)
            showed[name] = found
        self._notes.showed(machine.name, reading, showed)

    def _is_voided(self, name: Object, visible: VersionVector) -> bool:
        """Has a removal there come to nothing, that can be seen?

        Somebody who had been taken out, or put back, removed a part of what the others had folded
        together with what he had not seen: a sum cannot be taken apart. (Documented in
        `decisions.md`.) Then replicas must show the same, but nobody can say what.
        """
        return any(visible.covers(dot) for dot in self._voided.get(name, ()))

    def _compare_timed(self, reading: Reading, name: Object, found: Shown) -> None:
        """An object that may have a deadline: what it shows now, and until when."""
        expected, until_ms = self.ledger.expected_at(name, reading.seen, reading.now_ms)
        check_shown(name, expected, found)
        head = reading.head(ObjectName(*name).prefix)
        told_ms = head.expires_at_ms if head.exists else None
        if told_ms != until_ms:
            raise Violation("deadline", f"{name} ends at {told_ms}, not at {until_ms}")
        self._tally["shown until a deadline" if until_ms else "shown for ever"] += 1
        self._tally["hidden or empty"] += not found.exists
        self._tally["lives that may come back"] += head.timed and head.cut is not None

    def _removed(self, issued: Iterable[Issued]) -> set[Object]:
        """The objects of which something was removed."""
        return self._touched(
            one._replace(
                operations=[
                    (update, dot, time)
                    for update, dot, time in one.operations
                    if isinstance(update, Erase) or type(update.operation).__name__ in _REMOVALS
                ]
            )
            for one in issued
        )

    def _touched(self, issued: Iterable[Issued]) -> set[Object]:
        names: set[Object] = set()
        for one in issued:
            for update, _, _ in one.operations:
                if isinstance(update, Erase):
                    names.update(self.ledger.within(update.prefix))
                else:
                    names.add(update.name)
        return names


def _is_copying(machine: Machine) -> bool:
    """Has it rows of another, which it shows to nobody yet?"""
    with machine.disk.snapshot() as snapshot:
        return snapshot.get(Table.META, COPY_ROW) is not None


def _is_partial(machine: Machine) -> bool:
    """Has it joined a part of a pull, and not all? It says so with each answer."""
    with machine.disk.snapshot() as snapshot:
        if snapshot.get(Table.META, staging._REST) is not None:
            return True
        row = snapshot.get(Table.META, staging._ROW)
    if row is None:
        return False
    return bool(codec.unpack_whole(staging._VERSION, row, staging._decoder).joined_to != b"")


def _is_address(at: bytes) -> bool:
    """Is it one? A bit of the sequence may have flipped, which then names what is none."""
    try:
        address.name_of(address.split_object(at)[0])
    except ValueError:
        return address.is_cut(at)
    return True


def _seen(machine: Machine) -> VersionVector:
    """What a machine's disk says it has seen."""
    with machine.disk.survivors() as snapshot:
        return Reading(snapshot).seen
