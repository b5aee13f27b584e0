"""Faults of identity that two live machines share: one name, one URL."""

from __future__ import annotations

from typing import Final

from crdtdb.store.memory import MemoryStore
from simulation.faults.membership import await_all
from simulation.faults.world import World
from simulation.replica import Machine

__all__ = ["named_alike"]

#: How long it takes somebody to notice, and the second one to start again.
_NOTICED_MS: Final = ((300, 1_500), (1_500, 6_000))
_RESTARTS_MS: Final = (0, 300)


def named_alike(world: World) -> None:
    """A machine is set up with the name and the URL of another one, which is there and stays.

    It has an empty directory, or a copy of the other's. What it sends arrives, and is answered;
    what is sent to the URL does not reach it. It is written to all the same, until an operator
    notices, and gives it a name and a URL of its own.
    """
    able = [m for m in world.machines.values() if m.is_up and m.endpoint == m.name == m.called]
    if world.out is not None or len(world.machines) >= world.most or not able:
        return
    first = world.random.choice(able)
    if first.disk.flipped or not any(peer != first.name for peer in first.peers):
        return
    name = f"{first.name[0]}{world.tally['names given twice'] + 80}"
    if name in world.names:
        return
    is_copy = world.random.random() < 0.5
    world.tally["names given twice"] += 1
    world.note(first.name, f"is the name of {name}, too" + ", a copy of it" * is_copy)
    surface: MemoryStore | None = None
    if is_copy:
        surface = first.disk.copy(name.encode(), backup=world.random.random() < 0.3)
    world.out = second = world.add(name, surface)
    second.called = second.endpoint = first.name
    first.was_namesake = second.was_namesake = True
    second.peers = first.peers
    world.start(second)
    world.later(world.random.choice(_NOTICED_MS), lambda: _rename(world, second))


def _rename(world: World, machine: Machine) -> None:
    if not machine.is_up or machine.disk.crashed or machine.name in world.in_repair:
        world.later((200, 200), lambda: _rename(world, machine))
        return
    world.note(machine.name, "gets a name of its own")

    def rename() -> None:
        machine.called = machine.endpoint = machine.name
        for other in world.machines.values():
            if other.is_up and not other.endpoint:
                other.knock(machine.name)  # nobody can reach it, so it has to be told

    world.repair(machine, _RESTARTS_MS, rename)
    await_all(world, machine)
