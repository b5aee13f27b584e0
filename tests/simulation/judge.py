"""The judge: told of everything the engines do, holds it against the history at once.

After every commit and every merge, whatever was touched is read back and compared with what the
specification makes of exactly the operations that the replica's version vector covers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random

from crdtdb import address
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.errors import CallerError
from crdtdb.reading import Reading
from crdtdb.transaction import Committed, Erase, Transaction
from oracle.checks import Violation, check_books
from oracle.specification import Object
from simulation.checks import (
    check_disk,
    check_growth,
    check_news,
    check_shown,
    check_stable,
    shown,
)
from simulation.ledger import Issued, Ledger, issued_by
from simulation.replica import Machine
from simulation.trace import Trace

__all__ = ["Judge"]


class Judge:
    """Keeps the history of a run and raises Violation as soon as something is not as it says."""

    def __init__(self, machines: dict[str, Machine], tally: Counter[str], trace: Trace) -> None:
        self.ledger = Ledger()
        self._machines = machines
        self._tally = tally
        self._trace = trace
        #: What each machine was last seen to hold.
        self._known: dict[str, VersionVector] = {}
        #: What machines had seen and lost again with their disks: who counts them in is not wrong.
        self._put_back: dict[str, VersionVector] = {}
        #: What dying processes carried out, so that nobody knows whether it is on the disk.
        self._unanswered: dict[str, list[Issued]] = {}

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
    ) -> None:
        """A machine carried out local transactions (Watcher)."""
        issued = issued_by(machine.engine.state.incarnation, past, transactions, committed)
        if machine.disk.crashed:
            self._unanswered.setdefault(machine.name, []).extend(issued)
            return
        for transaction, outcome in zip(transactions, committed.outcomes, strict=True):
            if outcome.error is not None and not isinstance(outcome.error, CallerError):
                raise Violation("availability", f"{machine.name}: {transaction}: {outcome.error}")
        for one in issued:
            self.ledger.issue(one)
        self._tally["operations"] += sum(len(one.operations) for one in issued)
        self._look(machine, self._touched(issued))

    def merged(self, machine: Machine, addresses: Sequence[bytes]) -> None:
        """A machine took in records (Watcher)."""
        if machine.disk.crashed:
            return
        names: set[Object] = set()
        for at in addresses:
            if address.is_cut(at):
                names.update(self.ledger.within(address.cut_prefix(at)))
            else:
                names.add(address.name_of(address.split_object(at)[0]))
        self._look(machine, names)

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
        if not machine.disk.crashed:
            self.look_at_all(machine)

    # -- when a machine comes back --------------------------------------------------------------

    def restarted(self, machine: Machine) -> None:
        """A machine is about to start with what its disk shows."""
        if machine.disk.rolled_back:
            self._forget(machine)
        found = _seen(machine)
        check_disk(self._known.get(machine.name, NOTHING), found)
        for issued in self._unanswered.pop(machine.name, ()):
            survived = found.covers((issued.origin, issued.last))
            self._tally["unknown outcomes, " + ("kept" if survived else "lost")] += 1
            if survived:
                self.ledger.issue(issued)
        self.look_at_all(machine)

    def _forget(self, machine: Machine) -> None:
        """A machine's disk shows an earlier state: what is on no other disk is lost for good."""
        machine.disk.rolled_back = False
        kept = NOTHING
        for other in self._machines.values():
            kept = kept.join(_seen(other))
        before = self._put_back.get(machine.name, NOTHING).join(
            self._known.get(machine.name, NOTHING)
        )
        self._put_back[machine.name] = before.meet(kept)
        self._known[machine.name] = _seen(machine)
        self._unanswered.pop(machine.name, None)
        self._tally["operations lost with a disk"] += self.ledger.forget(kept)

    def look_at_one(self, machine: Machine, random: Random) -> None:
        """Compare what a machine shows of one object."""
        if names := sorted(self.ledger.objects):
            self._look(machine, [random.choice(names)])

    def look_at_all(self, machine: Machine) -> None:
        """Compare everything a machine shows, and its indexes, with what they must be."""
        self._look(machine, self.ledger.objects)
        check_books(machine.disk.mounted)

    # -- comparing --------------------------------------------------------------------------------

    def _look(self, machine: Machine, names: Iterable[Object]) -> None:
        try:
            with machine.disk.snapshot() as snapshot:
                self._compare(machine.name, Reading(snapshot), sorted(names))
        except Violation as violation:
            violation.add_note(f"at {machine.name}")
            raise

    def _compare(self, machine: str, reading: Reading, names: list[Object]) -> None:
        before, now = self._known.get(machine, NOTHING), reading.seen
        check_growth(before, now)
        check_news(self.ledger, before, now)
        self._known[machine] = now
        self._tally["comparisons"] += len(names)
        for name in names:
            check_shown(name, self.ledger.expected(name, now), shown(reading, name))

    def _touched(self, issued: Iterable[Issued]) -> set[Object]:
        names: set[Object] = set()
        for one in issued:
            for update, _, _ in one.operations:
                if isinstance(update, Erase):
                    names.update(self.ledger.within(update.prefix))
                else:
                    names.add(update.name)
        return names


def _seen(machine: Machine) -> VersionVector:
    """What a machine's disk says it has seen."""
    with machine.disk.snapshot() as snapshot:
        return Reading(snapshot).seen
