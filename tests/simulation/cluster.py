"""One run: machines, network, users and faults, from a seed to a verdict."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final, NamedTuple, TextIO
from unittest.mock import patch

import xxhash

from crdtdb import address, replication
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.digests import END, Digest, digest_from_scratch
from crdtdb.reading import Reading
from crdtdb.replication import Send, Sender
from crdtdb.store.base import Snapshot
from crdtdb.store.memory import MemoryStore
from oracle.checks import Violation
from oracle.requests import as_transaction
from simulation.checks import (
    check_equal,
    check_fenced,
    check_folded,
    check_held,
    check_let_go,
    check_reclaimed,
)
from simulation.clock import Clock
from simulation.faults import Faults, World
from simulation.judge import Judge
from simulation.network import Letter, Network, kind_of
from simulation.plan import Plan, draw_plan
from simulation.replica import Machine, is_displaced
from simulation.scheduler import Scheduler
from simulation.trace import Trace, told_commit, told_frame
from simulation.workload import workload

__all__ = ["Report", "run"]

#: After everything is mended replicas must be equal within so long …
_CONVERGED_WITHIN_MS: Final = 20_000
#: … and have folded every operation, and reclaimed all that is dead, after so much more, and as
#: long as it takes to walk so often over all there is.
_FOLDED_WITHIN_MS: Final = 15_000
_WALKS: Final = 2
_LOOK_EVERY_MS: Final = 250
#: Mean time between back-ups, where disks come back as they were.
_BACK_UP_MS: Final = 300
#: How long a write may wait for the members to confirm a replica's identity.
_SETTLE_MS: Final = 500
#: A machine whose disk had no room when it started is started again.
_START_AGAIN_MS: Final = 300
#: How long what failed for want of room rests; a run has no minute to wait for it.
_DISK_PAUSE_MS: Final = 1_000
#: A disk is looked over at leisure, in many portions; a run has no hour to wait for the next time.
_SCRUB_ROWS: Final = 20
_SCRUB_REST_MS: Final = 500
_ASK_TO_MEND_MS: Final = 200
#: What comes with one mending, in pages of whatever size.
_MENDED_RECORDS: Final = 16_000
#: How often a donor dies just when it has sent a page that is not the last.
_DONOR_DIES: Final = 0.02


class Report(NamedTuple):
    """What a run that went well was like."""

    seed: int
    #: Hash over everything that happened.
    trace: str
    #: How often what happened: operations, messages of each kind, crashes, folded operations, …
    tally: Counter[str]
    virtual_ms: int
    #: From the end of all faults until all replicas were equal.
    converged_ms: int


def run(seed: int, out: TextIO | None = None, plan: Plan | None = None) -> Report:
    """Play one seed, by its own plan or another. Raises Violation.

    `out` is told what happens, event by event.
    """
    plan = draw_plan(seed) if plan is None else plan
    try:
        with (
            patch.object(replication.donor, "PAGE_RECORDS", plan.page_records),
            patch.object(replication.donor, "COPY_ROWS", plan.page_records),
            patch.object(replication.early, "_MOST", plan.held_pushes),
            patch.object(replication.staging, "SHORT_PART_RECORDS", plan.short_part_records),
            patch.object(replication.repair, "SHORT_PART_RECORDS", plan.short_part_records),
            patch.object(replication.repair, "ONE_COMMIT_RECORDS", plan.one_commit_records),
            patch.object(replication.reclaiming, "RECLAIM_ENTRIES", plan.reclaim_entries),
            patch.object(replication.reclaiming, "FEED_MS", plan.feed_ms),
            patch.object(replication.reclaiming, "FAILED_PAUSE_MS", _DISK_PAUSE_MS),
            patch.object(replication.sharing, "_FAILED_PAUSE_MS", _DISK_PAUSE_MS),
            patch.object(replication.mending, "SCRUB_ROWS", _SCRUB_ROWS),
            patch.object(replication.mending, "FIRST_MS", _SCRUB_REST_MS),
            patch.object(replication.mending, "REST_MS", _SCRUB_REST_MS),
            patch.object(replication.mending, "BUSY_MS", 0),
            patch.object(replication.mending, "ASK_MS", _ASK_TO_MEND_MS),
            patch.object(replication.mending, "MOST_PAGES", _MENDED_RECORDS // plan.page_records),
        ):
            return Cluster(seed, plan, Trace(out)).play()
    except Violation as violation:
        violation.add_note(_replay(seed))
        raise
    except Exception as error:
        raised = f"{type(error).__name__}: {error}; {_replay(seed)}"
        raise Violation("exception", raised) from error


def _replay(seed: int) -> str:
    return f"replay: python tests/simulation --seed {seed} --trace"


def _random(seed: int, what: str) -> Random:
    """An independent generator for one part of a run."""
    return Random(f"{seed} {what}")


class Cluster:
    """Everything that takes part in one run."""

    def __init__(self, seed: int, plan: Plan, trace: Trace) -> None:
        self.tally: Counter[str] = Counter()
        self._seed = seed
        self._plan = plan
        self._trace = trace
        self._scheduler = Scheduler()
        self._random = _random(seed, "cluster")
        self._requests = workload(_random(seed, "workload"), plan.objects, plan.timed)
        #: What reads showed, anywhere, to be given back as read contexts.
        self._reads: deque[VersionVector] = deque([NOTHING], maxlen=12)
        self._network = Network(
            self._scheduler,
            _random(seed, "network"),
            plan.weather,
            self._machine_at,
            self._deliver,
        )
        self._machines: dict[str, Machine] = {}
        self._names: set[str] = set()
        self._judge = Judge(self._machines, self.tally, trace)
        for name in plan.machines:
            reachable = not (plan.unreachable and name == plan.machines[-1])
            self._add(name, reachable=reachable)
        self._world = World(
            self._scheduler,
            _random(seed, "faults"),
            self._network,
            self._machines,
            self._names,
            start=self._start,
            add=lambda name, surface: self._add(name, surface=surface),
            lose=self._lose,
            tally=self.tally,
            trace=trace,
            most=len(plan.machines) + plan.spare,
        )
        self._faults = Faults(self._world, plan.faults, plan.lull_ms)
        self._busy = True

    def _add(
        self, name: str, *, reachable: bool = True, surface: MemoryStore | None = None
    ) -> Machine:
        """Set up one more machine, perhaps with a disk that has something on it."""
        assert name not in self._names, f"{name} is the name of another, be it gone"
        self._names.add(name)
        random, plan = _random(self._seed, name), self._plan
        offset_ms = random.randint(-plan.clock_offset_ms, plan.clock_offset_ms)
        rate = random.uniform(1 - plan.clock_drift, 1 + plan.clock_drift)
        machine = self._machines[name] = Machine(
            name,
            reachable=reachable,
            peers=plan.machines[: -1 if plan.unreachable else None],
            clock=Clock(self._scheduler, offset_ms, rate),
            random=random,
            watcher=self._judge,
            send=self._send,
            surface=surface,
        )
        return machine

    def _lose(self, machine: Machine) -> None:
        """A machine is gone for good, with its disk."""
        machine.power_off()
        del self._machines[machine.name]
        self._judge.gone(machine)

    # -- the run --------------------------------------------------------------------------------

    def play(self) -> Report:
        """From the first start to the verdict."""
        plan, scheduler = self._plan, self._scheduler
        if plan.begins_cut:
            self._faults.cut()
        early = len(plan.machines) - plan.late
        for place, machine in enumerate(list(self._machines.values())):
            when = (0, 300) if place < early else (plan.busy_ms // 4, plan.busy_ms * 3 // 4)
            self._scheduler.after(self._random.randint(*when), partial(self._start, machine))
        self.tally["late joins"] += plan.late
        self._again(plan.commit_ms, self._write)
        self._again(plan.commit_ms * 3, self._read)
        self._again(plan.fault_ms, self._faults.strike)
        if plan.faults.keys() & {"put_back", "directory_copied"}:
            self._again(_BACK_UP_MS, self._faults.back_up)
        scheduler.run_until(plan.busy_ms)
        self._busy = False
        self.tally["reclaimed while busy"] += self.tally["reclaimed"]
        self._faults.end()
        converged_ms = self._until(self._is_equal, _CONVERGED_WITHIN_MS, self._check_equal)
        self._until(self._is_folded, self._folded_within_ms(), self._check_folded)
        self._check_equal()
        for machine in self._machines.values():
            self._judge.look_at_all(machine)
        self._judge.conclude(self._states())
        self.tally["runs"] += 1
        amounts = ", ".join(f"{count} {what}" for what, count in sorted(self.tally.items()))
        self._note("cluster", f"ends equal, after {amounts}")
        return Report(self._seed, self._trace.hash, self.tally, scheduler.now_ms, converged_ms)

    def _again(self, mean_ms: int, event: Callable[[], None]) -> None:
        """Let something happen now and then, for as long as the run is busy."""

        def once() -> None:
            if self._busy:
                event()
                self._again(mean_ms, event)

        self._scheduler.after(round(self._random.expovariate(1 / mean_ms)), once)

    def _until(self, holds: Callable[[], bool], within_ms: int, check: Callable[[], None]) -> int:
        """Let time pass until something holds; if it does not in time, let the check say why."""
        begin_ms = self._scheduler.now_ms
        while not holds():
            if self._scheduler.now_ms - begin_ms >= within_ms:
                check()
                raise Violation("convergence", "somebody does not serve, or is damaged, still")
            self._scheduler.run_until(self._scheduler.now_ms + _LOOK_EVERY_MS)
        return self._scheduler.now_ms - begin_ms

    # -- machines -------------------------------------------------------------------------------

    def _start(self, machine: Machine) -> None:
        """Give a machine power, unless somebody already has; again, while its disk is full."""
        is_gone = machine.name not in self._machines or machine.name in self._world.in_repair
        if machine.is_up or is_gone:
            return
        self._note(machine.name, "starts")
        machine.disk.remount()
        self._judge.restarted(machine)
        life = machine.power_on(self._scheduler.now_ms)
        if not machine.is_up:
            self._scheduler.after(_START_AGAIN_MS, lambda: self._start(machine))
            return
        self._scheduler.after(self._plan.tick_ms, lambda: self._tick(machine, life))
        self._world.bury(machine)

    def _tick(self, machine: Machine, life: int) -> None:
        if machine.is_up and machine.life == life:
            machine.tick(self._scheduler.now_ms)
            check_held(machine.held_pushes, self._plan.held_pushes)
            self._scheduler.after(self._plan.tick_ms, lambda: self._tick(machine, life))
            self._world.bury(machine)

    def _serving(self) -> Machine | None:
        """One of the machines that answer users now."""
        serving = [m for m in self._machines.values() if m.serves and not m.is_partial]
        return self._random.choice(serving) if serving else None

    def _write(self) -> None:
        """Somebody writes somewhere."""
        machine = self._serving()
        if machine is None:
            return
        now_ms = self._scheduler.now_ms
        if not machine.replication.settled and now_ms - machine.started_ms < _SETTLE_MS:
            return
        transactions = [as_transaction(r) for r in self._requests.group(self._reads)]
        self._note(machine.name, f"commits {len(transactions)}", lambda: told_commit(transactions))
        if machine.write(transactions) is None:
            self.tally["commits refused by a disk"] += 1
        self._world.bury(machine)

    def _read(self) -> None:
        """Somebody reads somewhere, and keeps the read context."""
        machine = self._serving()
        if machine is not None:
            self._reads.append(machine.seen)
            self._judge.look_at_one(machine, self._random)

    # -- messages -------------------------------------------------------------------------------

    def _machine_at(self, endpoint: str) -> str | None:
        if not endpoint.startswith("~"):
            return endpoint if endpoint in self._machines else None
        incarnation = int(endpoint[1:], 16)
        for machine in self._machines.values():
            if machine.is_up and machine.replication.incarnation == incarnation:
                return machine.name
        return None

    def _send(self, origin: str, sender: Sender, send: Send) -> None:
        kind = kind_of(send.frame)
        self.tally[f"messages, {kind}"] += 1
        self._network.send(origin, sender, send)
        if kind == "Page" and self._busy and self._random.random() < _DONOR_DIES:
            self.tally["donors that died"] += 1
            donor = self._machines[origin]
            self._scheduler.after(0, lambda: self._kill(donor))

    def _kill(self, machine: Machine) -> None:
        if machine.is_up:
            self._world.crash(machine)

    def _deliver(self, letter: Letter) -> None:
        machine = self._machines.get(letter.target)
        if machine is None or not machine.is_up:
            return
        what = f"{letter.kind} {xxhash.xxh3_64_hexdigest(letter.frame)}"
        if letter.flipped:
            self.tally["frames flipped"] += 1
            self._note(f"{letter.origin}>{letter.target}", what + " with a flipped bit")
        else:
            self._note(f"{letter.origin}>{letter.target}", what, lambda: told_frame(letter.frame))
        self.tally["delivered"] += 1
        is_fenced = letter.sender.incarnation in machine.replication.evictions
        before = machine.seen
        now_ms = self._scheduler.now_ms
        displaced = is_displaced(self._machines, letter.sender)
        conflicts = machine.replication.refusals["identity-conflict"]
        machine.receive(
            letter.sender,
            letter.frame,
            now_ms,
            via=letter.via,
            flipped=letter.flipped,
            displaced=displaced,
            damaged=letter.origin in self._machines
            and bool(self._machines[letter.origin].disk.flipped),
        )
        if machine.replication.refusals["identity-conflict"] > conflicts:
            self.tally["twins refused"] += 1
        if is_fenced:
            check_fenced(letter.sender.name, before, machine.seen)
        self._world.bury(machine)

    def _note(self, where: str, what: str, told: Callable[[], str] | None = None) -> None:
        self._trace.note(self._scheduler.now_ms, where, what, told)

    # -- the verdict ----------------------------------------------------------------------------

    def _states(self) -> dict[str, tuple[VersionVector, Digest]]:
        states = {}
        for name, machine in self._machines.items():
            with machine.disk.snapshot() as snapshot:
                reading = Reading(snapshot)
                states[name] = reading.seen, self._digest(snapshot)
        return states

    def _digest(self, snapshot: Snapshot) -> Digest:
        """Over all that a machine shows, but where nobody can say what that must be."""
        digest, objects = digest_from_scratch(snapshot)
        for name in self._judge.disputed:
            prefix = ObjectName(*name).prefix
            apart = digest_from_scratch(snapshot, prefix, address.after(prefix) or END)
            digest, objects = digest ^ apart.digest, objects - apart.objects
        return Digest(digest, objects)

    def _check_equal(self) -> None:
        check_equal(self._states(), self._judge.ledger.latest())

    def _is_equal(self) -> bool:
        if any(m.disk.flipped or not m.serves for m in self._machines.values()):
            return False
        try:
            self._check_equal()
        except Violation:
            return False
        return True

    def _check_folded(self) -> None:
        for machine in self._machines.values():
            check_folded(machine.disk, machine.replication.blocking())
            check_let_go(machine.disk)
            members = machine.replication.members if machine.replication.evictions else None
            check_reclaimed(machine.disk, members)

    def _folded_within_ms(self) -> int:
        rows = max(machine.engine.state.sequence for machine in self._machines.values())
        ticks = _WALKS * rows // self._plan.reclaim_entries
        return _FOLDED_WITHIN_MS + ticks * self._plan.tick_ms

    def _is_folded(self) -> bool:
        try:
            self._check_folded()
        except Violation:
            return False
        return True
