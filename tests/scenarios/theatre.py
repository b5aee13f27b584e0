"""Carrying a scenario out: machines with the real core, a network that delivers, virtual time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, Final
from unittest.mock import patch

from checkers.violation import Violation
from crdtdb import address, replication
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.errors import CallerError, CrdtdbError
from crdtdb.operations import read_operation
from crdtdb.reading import Digest, Reading
from crdtdb.replication import Send, Sender
from crdtdb.rows import scan_records
from crdtdb.store.memory import MemoryStore
from crdtdb.transaction import Transaction, Update
from scenarios.script import Command, ScriptError, read_script, value_of, values_of
from simulation.checks import check_fenced, shown
from simulation.clock import Clock
from simulation.judge import Judge
from simulation.network import CALM, Letter, Network
from simulation.replica import Machine, is_displaced
from simulation.scheduler import Scheduler
from simulation.trace import Trace

__all__ = ["play"]

_TICK_MS: Final = 50
#: A long wait is felt in so many ticks.
_TICKS: Final = 400
_EQUAL_WITHIN_MS: Final = 600_000
_UNITS_MS: Final = {
    "ms": 1,
    "second": 1_000,
    "minute": 60_000,
    "hour": 3_600_000,
    "day": 86_400_000,
}


def play(path: Path) -> None:
    """Tell a story to the end. Raises Violation, with the line in a note, or ScriptError."""
    with ExitStack() as stack:
        theatre = _Theatre(stack)
        for command in read_script(path):
            try:
                getattr(theatre, command.name)(**command.given)
            except Violation as violation:
                violation.add_note(_told(command))
                raise
            except (CrdtdbError, LookupError) as error:
                raise ScriptError(f"{_told(command)}: {error}") from error
        theatre.end()


def _told(command: Command) -> str:
    return f"{command.where} ({command.name})"


class _Theatre:
    """The methods are the commands of `script`, with what their lines give."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._scheduler = Scheduler()
        self._network = Network(
            self._scheduler,
            Random("network"),
            CALM,
            self._machine_at,
            self._deliver,
        )
        self._machines: dict[str, Machine] = {}
        self._judge = Judge(self._machines, Counter(), Trace())
        #: The incarnation each machine had when its disk was last touched by somebody else.
        self._earlier: dict[str, int] = {}

    # -- machines -------------------------------------------------------------------------------

    def replicas(self, names: str) -> None:
        for name in names.split():
            self._add(name, tuple(names.split())).power_on(self._scheduler.now_ms)
        count = len(self._machines)
        self._until(
            lambda: all(m.serves and len(m.replication.members) == count for m in self._up()),
            "the replicas do not know each other yet",
        )

    def join(self, name: str) -> None:
        self._add(name, (name, *self._machines)).power_on(self._scheduler.now_ms)

    def _add(
        self, name: str, peers: tuple[str, ...], surface: MemoryStore | None = None
    ) -> Machine:
        machine = self._machines[name] = Machine(
            name,
            reachable=True,
            peers=peers,
            clock=Clock(self._scheduler, 0, 1.0),
            random=Random(name),
            watcher=self._judge,
            send=self._send,
            surface=surface,
        )
        return machine

    def pages(self, count: str) -> None:
        self._stack.enter_context(patch.object(replication.donor, "PAGE_RECORDS", int(count)))

    def stop(self, name: str) -> None:
        self._machines[name].power_off()

    def start(self, name: str) -> None:
        machine = self._machines[name]
        machine.disk.remount()
        self._judge.restarted(machine)
        machine.power_on(self._scheduler.now_ms)

    def back_up(self, name: str) -> None:
        self._machines[name].disk.back_up()

    def restore(self, name: str) -> None:
        self._note_identity(name)
        self.stop(name)
        self._machines[name].disk.roll_back()
        self.start(name)

    def lose_disk(self, name: str) -> None:
        self._note_identity(name)
        self.stop(name)
        self._machines[name].disk.wipe()
        self.start(name)

    def copy(self, name: str, other: str) -> None:
        origin = self._machines[name]
        self._note_identity(name)
        self._earlier[other] = self._earlier[name]
        surface = origin.disk.copy(other.encode(), backup=False)
        machine = self._add(other, (other, *self._machines), surface)
        machine.power_on(self._scheduler.now_ms)

    def set_up(self, name: str, other: str) -> None:
        machine = self._add(name, tuple(self._machines))
        machine.called = machine.endpoint = other
        machine.power_on(self._scheduler.now_ms)

    def rename(self, name: str) -> None:
        self.stop(name)
        machine = self._machines[name]
        machine.called = machine.endpoint = name
        self.start(name)

    def _note_identity(self, name: str) -> None:
        self._earlier[name] = self._machines[name].replication.incarnation

    def jump(self, name: str, count: str, unit: str) -> None:
        self._machines[name].clock.jump(_in_ms(count, unit))

    def evict(self, name: str, other: str) -> None:
        self._machines[name].evict(other)

    def rejoin(self, name: str) -> None:
        self._machines[name].rejoin()

    def _up(self) -> list[Machine]:
        return [machine for machine in self._machines.values() if machine.is_up]

    # -- the network ------------------------------------------------------------------------------

    def cut(self, groups: str) -> None:
        sides = [group.split() for group in groups.split(" | ")]
        for side in sides:
            others = [name for other in sides if other is not side for name in other]
            self._cut((name, other) for name in side for other in others)

    def cut_one_way(self, origin: str, target: str) -> None:
        self._cut([(origin, target)])

    def cut_link(self, origin: str, target: str) -> None:
        self._cut([(origin, target), (target, origin)])

    def _cut(self, links: Iterable[tuple[str, str]]) -> None:
        cut = frozenset(links)
        for name in (name for link in cut for name in link):
            self._machines[name]  # a cut of somebody who does not exist is a mistake
        self._network.cut(cut)

    def heal(self) -> None:
        self._network.mend_all()

    def _machine_at(self, endpoint: str) -> str | None:
        if not endpoint.startswith("~"):
            return endpoint if endpoint in self._machines else None
        incarnation = int(endpoint[1:], 16)
        return next((m.name for m in self._up() if m.replication.incarnation == incarnation), None)

    def _send(self, origin: str, sender: Sender, send: Send) -> None:
        self._network.send(origin, sender, send)

    def _deliver(self, letter: Letter) -> None:
        machine = self._machines[letter.target]
        if not machine.is_up:
            return
        is_fenced = letter.sender.incarnation in machine.replication.evictions
        before = machine.seen
        machine.receive(
            letter.sender,
            letter.frame,
            self._scheduler.now_ms,
            via=letter.via,
            displaced=is_displaced(self._machines, letter.sender),
        )
        if is_fenced:
            check_fenced(letter.sender.name, before, machine.seen)

    # -- time -------------------------------------------------------------------------------------

    def wait(self, count: str, unit: str) -> None:
        end_ms = self._scheduler.now_ms + _in_ms(count, unit)
        step_ms = max(_TICK_MS, _in_ms(count, unit) // _TICKS)
        while self._scheduler.now_ms < end_ms:
            self._pass(min(step_ms, end_ms - self._scheduler.now_ms))

    def _pass(self, step_ms: int) -> None:
        self._scheduler.run_until(self._scheduler.now_ms + step_ms)
        for machine in self._up():
            machine.tick(self._scheduler.now_ms)

    def wait_until_equal(self) -> None:
        self._until(self._are_equal, "they do not become equal")

    def _until(self, holds: Callable[[], bool], otherwise: str) -> None:
        end_ms = self._scheduler.now_ms + _EQUAL_WITHIN_MS
        step_ms = _TICK_MS
        while not holds():
            if self._scheduler.now_ms >= end_ms:
                seen = {machine.name: machine.seen for machine in self._up()}
                raise Violation("convergence", f"{otherwise}: {seen}")
            self._pass(step_ms)
            step_ms = min(2 * step_ms, 1_000)

    def _are_equal(self) -> bool:
        states = self._states()
        counted = [m for m in self._up() if not m.is_evicted]
        return all(m.serves for m in counted) and len(set(map(str, states.values()))) == 1

    def _states(self) -> dict[str, tuple[VersionVector, Digest]]:
        states = {}
        for machine in self._up():
            if not machine.is_evicted:
                with machine.disk.snapshot() as snapshot:
                    reading = Reading(snapshot)
                    states[machine.name] = reading.seen, reading.digest()
        return states

    def end(self) -> None:
        """All that are up are equal, have everything, and the checkers find nothing."""
        for machine in self._up():
            self._judge.look_at_all(machine)
        self._judge.conclude(self._states())

    # -- what users do and see ------------------------------------------------------------------

    def refuse(self, name: str, **operation: str) -> None:
        try:
            self.write(name, **operation)
        except CallerError:
            return
        raise Violation("story", f"{name} carries out what it must refuse: {operation}")

    def write(self, name: str, type: str, bucket: str, key: str, op: str, arguments: str) -> None:
        unnamed = "by" if op in ("increment", "decrement") else "value"
        plain = {"op": op, **values_of(arguments, unnamed)}
        update = Update(ObjectName(bucket, type, key), read_operation(type, plain))
        committed = self._machines[name].write([Transaction((update,))])
        assert committed is not None, "no disk here is full or damaged"
        if (error := committed.outcomes[0].error) is not None:
            raise error

    def show(self, who: str, type: str, bucket: str, key: str, value: str) -> None:
        expected = value_of(value)
        for machine in self._who(who):
            with machine.disk.snapshot() as snapshot:
                found = json.loads(shown(Reading(snapshot), (bucket, type, key)).text)
            if type == "list":
                found = [element["value"] for element in found]
            if found != expected:
                told = f"{machine.name} shows {bucket}/{key} as {json.dumps(found)}"
                raise Violation("story", f"{told}, must be {json.dumps(expected)}")

    def count(self, who: str, what: str, count: str) -> None:
        for machine in self._who(who):
            found = _COUNTED[what](machine)
            if found != int(count):
                raise Violation("story", f"{machine.name} has {found} {what}, must have {count}")

    def state(self, name: str, what: str) -> None:
        machine = self._machines[name]
        is_same = name in self._earlier and (self._earlier[name] == machine.replication.incarnation)
        holds: dict[str, bool] = {
            "is evicted": machine.is_evicted,
            "serves": machine.serves,
            "is new": name in self._earlier and not is_same,
            "is the same": is_same,
        }
        if not holds[what]:
            raise Violation("story", f"it is not so that {name} {what}")

    def report(self, name: str, other: str) -> None:
        if other not in self._machines[name].replication.twins():
            raise Violation("story", f"{name} does not report that there are two of {other}")

    def _who(self, who: str) -> list[Machine]:
        if who == "every replica":
            if silent := [name for name, machine in self._machines.items() if not machine.serves]:
                raise Violation("story", f"not every replica answers: {', '.join(silent)} do not")
            return [*self._machines.values()]
        return [self._machines[name] for name in who.split()]


def _tombstones(machine: Machine) -> int:
    return sum(not address.is_cut(at) and not live for at, live in _records(machine))


def _cuts(machine: Machine) -> int:
    return sum(address.is_cut(at) for at, _ in _records(machine))


def _records(machine: Machine) -> list[tuple[bytes, Any]]:
    with machine.disk.snapshot() as snapshot:
        return [(at, record.live) for at, record in scan_records(snapshot, b"", None)]


_COUNTED: Final[dict[str, Callable[[Machine], int]]] = {
    "members": lambda machine: len(machine.replication.members),
    "tombstones": _tombstones,
    "cuts": _cuts,
}


def _in_ms(count: str, unit: str) -> int:
    return int(count) * _UNITS_MS[unit.removesuffix("s") if unit != "ms" else unit]
