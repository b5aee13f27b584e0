"""Faults of single machines: power, disk and clock."""

from __future__ import annotations

from typing import Final

from crdtdb.causal import NOTHING
from crdtdb.kinds import object_of
from crdtdb.reading import Reading
from crdtdb.store.base import Table
from simulation.disk import Moment
from simulation.faults.membership import take_back_again
from simulation.faults.world import OUTLIVED_MS, World
from simulation.replica import Machine

__all__ = [
    "clock_jump",
    "crash",
    "directory_copied",
    "disk_full",
    "disk_lost",
    "put_back",
    "record_flipped",
]

#: A crash that waits for a commit strikes after so long in any case.
_PATIENCE_MS: Final = 1_000
#: How often an operator looks after a machine with a damaged record, and how long it is hoped for.
_LOOK_AFTER_MS: Final = 1_000
_HOPED_FOR_MS: Final = 12_000
#: Where bits flip, and how often.
_FLIPPED: Final = (*3 * (Table.RECORDS,), Table.HEADS, Table.FOLDED, Table.SEQUENCE)
_JUMPS_MS: Final = (-3_600_000, -3_000, -200, 40, 900, 4_500, 60_000, 86_400_000)


def crash(world: World) -> None:
    """Power fails, between two commits or in the middle of one."""
    machine = world.some_up()
    if machine is None:
        return
    moment = world.random.choice((None, Moment.BEFORE, Moment.AFTER))
    if moment is None:
        world.crash(machine)
        return
    machine.disk.fail_at_next_commit(moment)
    world.note(machine.name, f"will crash {moment.value} its next commit")

    def lose_patience() -> None:
        if machine.is_up and machine.disk.is_failing:
            world.crash(machine)

    world.scheduler.after(_PATIENCE_MS, lose_patience)


def put_back(world: World) -> None:
    """A machine loses power, and much later starts with its disk as it was some time ago."""
    machine = world.some_up()
    if machine is None:
        return
    world.note(machine.name, "is down, to be put back")

    def put_back() -> None:
        world.tally["disks put back"] += 1
        world.note(machine.name, "is put back")
        machine.disk.roll_back()

    world.repair(machine, (OUTLIVED_MS, OUTLIVED_MS), put_back)
    take_back_again(world, machine)


def disk_lost(world: World) -> None:
    """A disk dies; the machine comes back with an empty one."""
    machine = world.some_up() if world.can_spare_one() else None
    if machine is None:
        return
    world.tally["disks lost"] += 1
    world.note(machine.name, "loses its disk")
    world.repair(machine, (50, 3_000), machine.disk.wipe)


def directory_copied(world: World) -> None:
    """Somebody copies a data directory, or the back-up of one, for one more machine.

    Both run. What is in the copy says that it is the other one.
    """
    machine = world.some_up()
    if machine is None or machine.disk.flipped or len(world.machines) >= world.most:
        return
    name = next(name for n in range(2, 99) if (name := f"{machine.name[0]}{n}") not in world.names)
    is_old = world.random.random() < 0.3
    world.tally["directories copied"] += 1
    world.note(machine.name, f"is copied to {name}" + ", from its back-up" * is_old)
    twin = world.add(name, machine.disk.copy(name.encode(), backup=is_old))
    twin.peers = machine.peers
    world.later((0, 500), lambda: world.start(twin))


def disk_full(world: World) -> None:
    """A disk has no room for some time."""
    machine = world.some_up()
    if machine is None:
        return
    world.tally["disks full"] += 1
    world.note(machine.name, "has a full disk")
    machine.disk.is_full = True

    def make_room() -> None:
        world.note(machine.name, "has room again")
        machine.disk.is_full = False

    world.later((100, 3_000), make_room)


def record_flipped(world: World) -> None:
    """A bit of a stored row flips. The machine finds out, and has a record mended by another.

    What follows from records it makes anew. If no other disk holds all that the record held, or
    those that do are out of reach or damaged for long, an operator gives it a new disk.
    """
    machine = world.some_up() if world.can_spare_one() else None
    if machine is None or machine.disk.flipped:
        return
    table = world.random.choice(_FLIPPED)
    if not machine.disk.flip(world.random, table=table):
        return
    world.tally[f"{table.value} flipped"] += 1
    world.note(machine.name, f"has a flipped bit among its {table.value}")

    until_ms = world.scheduler.now_ms + _HOPED_FOR_MS

    def look_after() -> None:
        if machine.name not in world.machines or not machine.disk.flipped:
            return
        is_hopeless = world.scheduler.now_ms >= until_ms
        # Nor is one waited for that does not start again.
        is_there = machine.is_up or (is_hopeless and machine.name not in world.in_repair)
        if is_there and (is_hopeless or not _is_elsewhere(world, machine)):
            why = "nobody mended" if is_hopeless else "nobody else had"
            world.tally[f"records that {why}"] += 1
            world.note(machine.name, f"gets a new disk: it has a record that {why}")
            world.repair(machine, (0, 500), machine.disk.wipe)
        else:
            world.scheduler.after(_LOOK_AFTER_MS, look_after)

    look_after()


def _is_elsewhere(world: World, machine: Machine) -> bool:
    """Do the other disks hold all that this one's damaged records held?"""
    flipped = machine.disk.flipped
    objects = set(map(object_of, flipped))
    seen = NOTHING
    for other in world.machines.values():
        if other is not machine and objects.isdisjoint(map(object_of, other.disk.flipped)):
            with other.disk.snapshot() as snapshot:
                seen = seen.join(Reading(snapshot).seen)
    return all(seen.includes(held) for held in flipped.values())


def clock_jump(world: World) -> None:
    """A machine's clock is put wrong, or right."""
    machine = world.random.choice(list(world.machines.values()))
    by_ms = world.random.choice(_JUMPS_MS)
    world.tally["clock jumps"] += 1
    world.note(machine.name, f"clock jumps by {by_ms} ms")
    machine.clock.jump(by_ms)
