"""Faults of the network: links that carry nothing, now and then nothing, or not all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from simulation.faults.world import World
from simulation.network import Cut, bridge, halves, isolated, one_way, ring

__all__ = ["asymmetric_loss", "cut", "flapping"]

_CUTS: Final = (halves, isolated, one_way, ring, bridge)
_CUT_MS: Final = (200, 4_000)


def cut(world: World) -> None:
    """Some links carry nothing for a while."""
    how = world.random.choice(_CUTS)
    links = how(list(world.machines), world.random)
    world.tally[f"cuts, {how.__name__}"] += 1
    _cut(world, links, how.__name__, _CUT_MS, lambda: None)


def flapping(world: World) -> None:
    """The same links go down and come back several times, faster than anybody recovers."""
    links = world.random.choice(_CUTS)(list(world.machines), world.random)
    world.tally["flapping"] += 1
    left = world.random.randint(3, 8)

    def down() -> None:
        nonlocal left
        left -= 1
        if left and not world.over:
            _cut(world, links, "flapping", (30, 400), lambda: world.later((30, 400), down))

    down()


def asymmetric_loss(world: World) -> None:
    """Some links lose most of what they carry, in one direction."""
    names, random = list(world.machines), world.random
    links = one_way(names, random)
    loss = random.choice((0.3, 0.6, 0.9))
    world.tally["asymmetric loss"] += 1
    world.note("network", f"loses {loss} of {_told(links)}")
    world.network.lossy[links] = loss
    world.later((500, 4_000), lambda: world.network.lossy.pop(links, None))


def _cut(
    world: World, links: Cut, how: str, between_ms: tuple[int, int], then: Callable[[], None]
) -> None:
    world.note("network", f"cut, {how}: {_told(links)}")
    world.network.cut(links)

    def mend() -> None:
        if not world.over:
            world.note("network", f"mended, {how}")
            world.network.mend(links)
            _probe(world, links)
            then()

    world.later(between_ms, mend)


def _probe(world: World, links: Cut) -> None:
    """Some transports notice at once that a link carries again."""
    for origin, target in sorted(links):
        machine, other = world.machines.get(origin), world.machines.get(target)
        if machine and other and machine.is_up and other.endpoint and world.random.random() < 0.5:
            machine.probe(other.endpoint)


def _told(links: Cut) -> str:
    return " ".join(f"{a}>{b}" for a, b in sorted(links)[:40])
