"""What faults act on, and what they have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from crdtdb.store.memory import MemoryStore
from simulation.network import Network
from simulation.replica import Machine
from simulation.scheduler import Scheduler
from simulation.trace import Trace

__all__ = ["OUTLIVED_MS", "World"]

#: Most machines are back soon; some only after everybody has given them up.
_DOWN_MS: Final = ((50, 500), (50, 500), (1_000, 3_000), (5_000, 7_000))
#: So much later whatever a machine had sent has arrived or is lost.
OUTLIVED_MS: Final = 4_100


@dataclass
class World:
    """The machines and the network of one run, and whom to tell."""

    scheduler: Scheduler
    random: Random
    network: Network
    #: All there are; some may be added, and some go for good.
    machines: dict[str, Machine]
    #: All names that were ever given. None is given again: who is called what one was called that
    #: is gone is evicted in its place, and all that is random at a machine follows from its name.
    names: set[str]
    #: Gives a machine power.
    start: Callable[[Machine], None]
    #: Sets up a machine of a new name, perhaps with a disk that has something on it.
    add: Callable[[str, MemoryStore | None], Machine]
    #: A machine and its disk are gone for good.
    lose: Callable[[Machine], None]
    tally: Counter[str]
    trace: Trace
    #: How many machines there may be.
    most: int
    #: From now on nothing goes wrong any more.
    over: bool = False
    #: Names of machines without power to which something is yet to be done before they come back.
    in_repair: set[str] = field(default_factory=set)
    #: The machine that is out of the cluster, or soon will know that it is.
    out: Machine | None = None

    def note(self, where: str, what: str) -> None:
        self.trace.note(self.scheduler.now_ms, where, what)

    def some_up(self) -> Machine | None:
        """One of the machines that have power."""
        up = [machine for machine in self.machines.values() if machine.is_up]
        return self.random.choice(up) if up else None

    def can_spare_one(self) -> bool:
        """Is somebody there even without one of those that have power?"""
        return sum(machine.is_up for machine in self.machines.values()) > 1

    def later(self, between_ms: tuple[int, int], event: Callable[[], object]) -> None:
        """Let something happen in a while."""
        self.scheduler.after(self.random.randint(*between_ms), event)

    def crash(self, machine: Machine) -> None:
        """A machine loses its power now, or has lost it in the commit that just ended."""
        self.tally["crashes"] += 1
        self.note(machine.name, "is down")
        machine.power_off()
        down_ms = (0, 0) if self.over else self.random.choice(_DOWN_MS)
        self.later(down_ms, lambda: self.start(machine))

    def bury(self, machine: Machine) -> None:
        """A machine has done something; was it the last thing it did?"""
        if machine.is_up and machine.disk.crashed:
            self.crash(machine)

    def repair(self, machine: Machine, down_ms: tuple[int, int], what: Callable[[], None]) -> None:
        """Take a machine's power, and give it back after something was done to it."""
        machine.power_off()
        self.in_repair.add(machine.name)

        def come_back() -> None:
            self.in_repair.remove(machine.name)
            what()
            self.start(machine)

        self.later(down_ms, come_back)
