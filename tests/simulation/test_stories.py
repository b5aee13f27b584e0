"""Schedules that chance hardly ever finds, told step by step with the same machines and judge."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from random import Random

import pytest

from crdtdb import replication
from crdtdb.address import ObjectName
from crdtdb.operations import read_operation
from crdtdb.replication import Send, Sender
from crdtdb.transaction import Transaction, Update
from oracle.checks import Violation
from simulation.broken import session_that_moves_on
from simulation.clock import Clock
from simulation.judge import Judge
from simulation.network import Letter, kind_of
from simulation.replica import Machine
from simulation.scheduler import Scheduler
from simulation.trace import Trace


class Stage:
    """Machines whose messages lie on the table until the story delivers them."""

    def __init__(self, *names: str) -> None:
        self.letters: list[Letter] = []
        self.machines: dict[str, Machine] = {}
        self._scheduler = Scheduler()
        self._judge = Judge(self.machines, Counter(), Trace())
        for name in names:
            self.join(name, names)
        while not all(len(m.replication.members) == len(names) for m in self.machines.values()):
            self.deliver(*names)
            self.pass_time(*names)
        self.deliver(*names)

    def join(self, name: str, peers: tuple[str, ...]) -> None:
        """Start a machine that knows these others."""
        self.machines[name] = Machine(
            name,
            reachable=True,
            peers=peers,
            clock=Clock(self._scheduler, 0, 1.0),
            random=Random(name),
            watcher=self._judge,
            send=self._send,
        )
        self.machines[name].power_on(self._scheduler.now_ms)

    def _send(self, origin: str, sender: Sender, send: Send) -> None:
        self.letters.append(Letter(origin, send.endpoint, sender, send.frame))

    def pass_time(self, *names: str) -> None:
        """Let some machines feel the next tenth of a second."""
        self._scheduler.run_until(self._scheduler.now_ms + 100)
        for name in names:
            self.machines[name].tick(self._scheduler.now_ms)

    def deliver(self, *between: str, until: str = "") -> bool:
        """Deliver what lies between these machines, in order; stop after a kind of message."""
        while found := [x for x in self.letters if x.origin in between and x.target in between]:
            letter = found[0]
            self.letters.remove(letter)
            machine = self.machines[letter.target]
            machine.receive(letter.sender, letter.frame, self._scheduler.now_ms)
            if kind_of(letter.frame) == until:
                return True
        return False

    def report(self, origin: str, target: str) -> None:
        """One machine tells another what it has seen, which is level with it."""
        while not self.deliver(origin, target, until="Digest"):
            self.pass_time(origin)
        self.deliver(origin, target)

    def write(self, name: str, type_name: str, key: str, **operation: object) -> None:
        """One operation at a machine."""
        update = Update(ObjectName("shop", type_name, key), read_operation(type_name, operation))
        self.machines[name].write([Transaction((update,))])


@pytest.mark.parametrize("broken", [False, True])
def test_a_record_that_changes_during_a_pull(broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newer state comes by a push while the older one is staged; the newer one must win.

    `puller` has a page with x = 1, when the pushes of x = 1 and x = 2 reach it late. The donor's
    claim covers x = 2. So x has to come again with a later page, although the puller has it.
    """
    monkeypatch.setattr(replication.donor, "PAGE_RECORDS", 2)
    with session_that_moves_on() if broken else nullcontext():
        stage = Stage("donor", "puller", "writer")
        stage.write("writer", "register", "x", op="set", value=1)
        for n in range(6):
            stage.write("writer", "register", f"other {n}", op="set", value=n)
        stage.deliver("donor", "writer")
        while not stage.deliver("donor", "puller", until="Page"):
            stage.pass_time("donor", "puller")
        stage.write("writer", "register", "x", op="set", value=2)
        stage.deliver("donor", "writer")
        stage.deliver("puller", "writer")
        with (
            pytest.raises(Violation, match="value: shop/register/x shows null, must be 2")
            if (broken)
            else nullcontext()
        ):
            stage.deliver("donor", "puller")
    seen = {name: machine.seen for name, machine in stage.machines.items()}
    assert seen["puller"] == seen["writer"]


@pytest.mark.parametrize("far", range(10))
def test_more_becomes_stable_during_a_round_of_folding(
    far: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far the round is, operations are folded in the order in which they came.

    A round that has passed the first step, and then folds the second because both are stable by
    now, makes a base that claims to hold both. Whoever starts from it never gets the first.
    """
    monkeypatch.setattr(replication.machine, "FOLD_ENTRIES", 1)
    stage = Stage("folder", "writer")
    stage.write("writer", "register", "x", op="set", value=1)
    stage.deliver("folder", "writer")
    stage.report("writer", "folder")
    stage.write("writer", "opcounter", "k", op="increment", by=1)
    stage.write("writer", "opcounter", "k", op="increment", by=2)
    stage.deliver("folder", "writer")
    for _ in range(far):
        stage.pass_time("folder")
    stage.report("writer", "folder")
    for _ in range(10 - far):
        stage.pass_time("folder")
    stage.join("newcomer", ("folder",))
    while not stage.machines["newcomer"].serves:
        stage.deliver("folder", "newcomer")
        stage.pass_time("newcomer")
