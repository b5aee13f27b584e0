"""What goes wrong while a run is busy: cuts, crashes, clocks. Everything heals by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from crdtdb.causal import NOTHING, VersionVector
from simulation.disk import Moment
from simulation.network import Cut, Network, halves, isolated, one_way, ring
from simulation.replica import Machine
from simulation.scheduler import Scheduler
from simulation.trace import Trace

__all__ = ["Faults"]

_CUTS: Final = (halves, isolated, one_way, ring)
#: A crash that waits for a commit strikes after so long in any case.
_PATIENCE_MS: Final = 1_000
#: Most machines are back soon; some only after everybody has given them up.
_DOWN_MS: Final = ((50, 500), (50, 500), (1_000, 3_000), (5_000, 7_000))
#: Most who were evicted come back soon, some much later; who has not been told is asked again.
_OUT_MS: Final = ((0, 500), (500, 2_000), (2_000, 5_000))
_ASK_AGAIN_MS: Final = 200
#: Restoring an earlier state takes longer than any message is under way.
_RESTORED_AFTER_MS: Final = 4_100


class Faults:
    """Draws one fault after the other and sees to its end."""

    def __init__(
        self,
        scheduler: Scheduler,
        random: Random,
        network: Network,
        machines: Sequence[Machine],
        restart: Callable[[Machine], None],
        tally: Counter[str],
        trace: Trace,
        *,
        rolls_back: bool,
        evicts: bool,
    ) -> None:
        self._scheduler = scheduler
        self._random = random
        self._network = network
        self._machines = machines
        self._restart = restart
        self._tally = tally
        self._trace = trace
        self._over = False
        self._weighted = [self.cut] * 4 + [self._crash] * 3 + [self._jump]
        if rolls_back:
            self._weighted += [self._roll_back] * 3
        if evicts:
            self._weighted += [self._evict] * 3
        #: The machine that is out of the cluster, or soon will know that it is.
        self._evicted: Machine | None = None

    def strike(self) -> None:
        """Let the next thing go wrong."""
        self._random.choice(self._weighted)()

    def end(self) -> None:
        """From now on nothing goes wrong any more; what is down comes back."""
        self._over = True
        self._network.mend_all()
        for machine in self._machines:
            if not machine.is_up:
                self._restart(machine)

    # -- the network ------------------------------------------------------------------------------

    def cut(self) -> None:
        """Cut some links for a while."""
        random = self._random
        how = random.choice(_CUTS)
        names = [machine.name for machine in self._machines]
        links = how(names, random)
        self._tally[f"cuts, {how.__name__}"] += 1
        self._note("network", f"cut, {how.__name__}: " + " ".join(a + b for a, b in sorted(links)))
        self._network.cut(links)

        def mend() -> None:
            if not self._over:
                self._note("network", f"mended, {how.__name__}")
                self._network.mend(links)
                self._probe(links)

        self._scheduler.after(random.randint(200, 4_000), mend)

    def _probe(self, links: Cut) -> None:
        """Some transports notice at once that a link carries again."""
        for machine in self._machines:
            for other in self._machines:
                link = machine.name, other.name
                if (
                    link in links
                    and machine.is_up
                    and other.endpoint
                    and self._random.random() < 0.5
                ):
                    machine.probe(other.endpoint)

    # -- machines -------------------------------------------------------------------------------

    def _up(self) -> list[Machine]:
        return [machine for machine in self._machines if machine.is_up]

    def _crash(self) -> None:
        """Take the power from a machine, between two commits or in the middle of one."""
        up = self._up()
        if not up:
            return
        machine = self._random.choice(up)
        moment = self._random.choice((None, Moment.BEFORE, Moment.AFTER))
        if moment is None:
            self.crash(machine)
            return
        machine.disk.fail_at_next_commit(moment)
        self._note(machine.name, f"will crash {moment.value} its next commit")
        self._scheduler.after(_PATIENCE_MS, lambda: self._crash_if_waiting(machine))

    def _crash_if_waiting(self, machine: Machine) -> None:
        if machine.is_up and machine.disk.is_failing:
            self.crash(machine)

    def crash(self, machine: Machine) -> None:
        """A machine loses its power now, or has lost it in the commit that just ended."""
        self._tally["crashes"] += 1
        self._note(machine.name, "is down")
        machine.power_off()

        def come_back() -> None:
            if not machine.is_up:
                self._restart(machine)

        down_ms = 0 if self._over else self._random.randint(*self._random.choice(_DOWN_MS))
        self._scheduler.after(down_ms, come_back)

    def back_up(self) -> None:
        """Keep a copy of some machine's disk, in the place of an earlier one."""
        if up := self._up():
            machine = self._random.choice(up)
            self._note(machine.name, "is backed up")
            machine.disk.back_up()

    def _roll_back(self) -> None:
        """A machine loses power, and much later starts with its disk as it was some time ago.

        So much later that whatever it had sent has arrived or is lost.
        """
        up = self._up()
        if not up:
            return
        machine = self._random.choice(up)
        self._note(machine.name, "is down, to be rolled back")
        machine.power_off()

        def come_back() -> None:
            if not machine.is_up:
                self._tally["roll-backs"] += 1
                self._note(machine.name, "is rolled back")
                machine.disk.roll_back()
                self._restart(machine)

        self._scheduler.after(_RESTORED_AFTER_MS, come_back)

    def _evict(self) -> None:
        """Some machine takes another out of the cluster, be it reachable or not."""
        able = [machine for machine in self._up() if machine.serves]
        if self._evicted is not None or not able:
            return
        by = self._random.choice(able)
        members = by.replication.members
        names = sorted({member.name for member in members.values()} - {by.name})
        if not names:
            return
        name = self._random.choice(names)
        gone = {i for i, member in members.items() if member.name == name}
        self._tally["evictions"] += 1
        self._note(by.name, f"evicts {name}")
        by.evict(name)
        machine = next(machine for machine in self._machines if machine.name == name)
        self._evicted = machine
        down_ms = self._random.randint(*self._random.choice(_OUT_MS))
        self._scheduler.after(down_ms, lambda: self._take_back(machine, gone))

    def _take_back(self, machine: Machine, gone: set[int]) -> None:
        """Let a machine rejoin, as soon as it knows that it must."""
        if machine.is_evicted:
            self._tally["rejoins"] += 1
            self._note(machine.name, "rejoins")
            machine.rejoin()
        survived = machine.is_up and not machine.disk.crashed
        if survived and machine.replication.incarnation not in gone:
            self._await_all(machine)
        else:
            self._scheduler.after(_ASK_AGAIN_MS, lambda: self._take_back(machine, gone))

    def _await_all(self, machine: Machine, floor: VersionVector | None = None) -> None:
        """Let nobody be evicted until everybody counts on the one that has rejoined.

        And until that one has what others reclaimed without it: two replicas that evict each other
        may both have folded operations that the other never saw, which cannot be joined.
        """
        if (
            machine.is_up
            and floor is None
            and all(
                other.is_up
                and (
                    other is machine or machine.replication.incarnation in other.replication.members
                )
                for other in self._machines
            )
        ):
            floor = NOTHING
            for other in self._machines:
                floor = floor.join(other.seen)
        if floor is not None and machine.is_up and machine.seen.includes(floor):
            self._evicted = None
        else:
            self._scheduler.after(_ASK_AGAIN_MS, lambda: self._await_all(machine, floor))

    def _jump(self) -> None:
        """Put a machine's clock wrong."""
        machine = self._random.choice(self._machines)
        by_ms = self._random.choice((-3_000, -200, 40, 900, 4_500, 60_000))
        self._tally["clock jumps"] += 1
        self._note(machine.name, f"clock jumps by {by_ms} ms")
        machine.clock.jump(by_ms)

    def _note(self, where: str, what: str) -> None:
        self._trace.note(self._scheduler.now_ms, where, what)
