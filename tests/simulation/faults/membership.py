"""What operators do to the members: take one out, let it rejoin, put another in its place."""

from __future__ import annotations

from typing import Final

from crdtdb.causal import NOTHING, VersionVector
from simulation.faults.world import World
from simulation.replica import Machine

__all__ = ["await_all", "evict", "replace", "take_back_again"]

#: Most who were evicted come back soon, some much later; who has not been told is asked again.
_OUT_MS: Final = ((0, 500), (500, 2_000), (2_000, 5_000))
_ASK_AGAIN_MS: Final = 200


def evict(world: World) -> None:
    """Some machine takes another out of the cluster, be it reachable or not; it rejoins."""
    by = _able(world)
    if world.out is not None or by is None:
        return
    members = by.replication.members
    names = {member.name for member in members.values()} - {by.name}
    names &= world.machines.keys()
    if not names:
        return
    name = world.random.choice(sorted(names))
    gone = {i for i, member in members.items() if member.name == name}
    if any(_is(other, gone) for other in world.machines.values() if other.name != name):
        return  # it was set up under that name, and has been called otherwise since
    world.tally["evictions"] += 1
    world.note(by.name, f"evicts {name}")
    world.out = machine = world.machines[name]
    by.evict(name)
    world.bury(by)
    world.later(world.random.choice(_OUT_MS), lambda: _take_back(world, machine, gone))


def replace(world: World) -> None:
    """A machine is gone for good with its disk; another, of another name, takes its place."""
    machine = world.some_up() if world.can_spare_one() else None
    name = f"{machine.name[0]}{world.tally['replacements'] + 60}" if machine else ""
    if machine is None or world.out is not None or name in world.names:
        return
    if not any(peer != machine.name for peer in machine.peers):
        return  # who starts with nobody to ask begins a cluster of its own
    world.tally["replacements"] += 1
    world.note(machine.name, f"is gone for good, {name} takes its place")
    world.lose(machine)
    world.out = other = world.add(name, None)
    other.peers = machine.peers
    for each in world.machines.values():
        each.peers = tuple(name if peer == machine.name else peer for peer in each.peers)
        if each.is_up and not each.endpoint:
            each.knock(name)  # nobody can reach it, so it has to be told
    world.later((0, 1_000), lambda: world.start(other))
    world.later((0, 2_000), lambda: _evict_gone(world, machine.name))
    await_all(world, other)


def _is(machine: Machine, incarnations: set[int]) -> bool:
    return machine.is_up and machine.replication.incarnation in incarnations


def _able(world: World) -> Machine | None:
    able = [machine for machine in world.machines.values() if machine.serves]
    return world.random.choice(able) if able else None


def _evict_gone(world: World, name: str) -> None:
    """Evict who is gone wherever it is a member, for as long as somebody brings it up again.

    Who never was a member cannot be evicted: machines that are configured with it and have not met
    it are started anew, with what they are configured with now.
    """
    able = [m for m in world.machines.values() if m.serves and not m.disk.is_full]
    for machine in able:
        members = machine.replication.members.values()
        if any(member.name == name for member in members):
            world.note(machine.name, f"evicts {name}, which is gone")
            machine.evict(name)
            world.bury(machine)
            break
    for machine in able:
        if machine.is_up and name in machine.replication.unmet():
            world.note(machine.name, f"is started without {name}, which is gone")
            world.repair(machine, (0, 0), lambda: None)
    world.scheduler.after(5 * _ASK_AGAIN_MS, lambda: _evict_gone(world, name))


def take_back_again(world: World, machine: Machine) -> None:
    """Let a machine rejoin whenever it is found evicted: its disk was put back to before it did."""
    if machine.is_evicted:
        world.tally["rejoins"] += 1
        world.note(machine.name, "rejoins again")
        machine.rejoin()
        world.bury(machine)
    world.scheduler.after(_ASK_AGAIN_MS, lambda: take_back_again(world, machine))


def _take_back(world: World, machine: Machine, gone: set[int]) -> None:
    """Let a machine rejoin, as soon as it knows that it must."""
    if machine.is_evicted:
        world.tally["rejoins"] += 1
        world.note(machine.name, "rejoins")
        machine.rejoin()
        world.bury(machine)
    if machine.is_up and machine.replication.incarnation not in gone:
        await_all(world, machine)
    else:
        world.scheduler.after(_ASK_AGAIN_MS, lambda: _take_back(world, machine, gone))


def await_all(world: World, machine: Machine, floor: VersionVector | None = None) -> None:
    """Let nobody be evicted until everybody counts on the one that has come.

    And until that one has what others reclaimed without it: two replicas that evict each other
    may both have folded operations that the other never saw, which cannot be joined.
    """
    machines = world.machines.values()
    if (
        machine.is_up
        and floor is None
        and all(
            other.is_up
            and (other is machine or machine.replication.incarnation in other.replication.members)
            for other in machines
        )
    ):
        floor = NOTHING
        for other in machines:
            floor = floor.join(other.seen)
    if floor is not None and machine.is_up and machine.seen.includes(floor):
        world.out = None
    else:
        world.scheduler.after(_ASK_AGAIN_MS, lambda: await_all(world, machine, floor))
