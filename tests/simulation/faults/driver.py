"""Which fault strikes next, and the lulls between them.

Lulls are forced: while something is always wrong nothing becomes stable, nothing is reclaimed, and
the mistakes that reclaiming can make stay hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from simulation.faults.identities import named_alike
from simulation.faults.links import asymmetric_loss, cut, flapping
from simulation.faults.machines import (
    clock_jump,
    crash,
    directory_copied,
    disk_full,
    disk_lost,
    put_back,
    record_flipped,
)
from simulation.faults.membership import evict, replace
from simulation.faults.world import World
from simulation.network import CALM

__all__ = ["FAULTS", "Faults"]

_Fault = Callable[[World], None]

#: Name → the fault.
FAULTS: Final[dict[str, _Fault]] = {
    fault.__name__: fault
    for fault in (
        asymmetric_loss,
        clock_jump,
        crash,
        cut,
        directory_copied,
        disk_full,
        disk_lost,
        evict,
        flapping,
        named_alike,
        put_back,
        record_flipped,
        replace,
    )
}


class Faults:
    """Draws one fault after the other and sees to their end."""

    def __init__(self, world: World, weights: Mapping[str, int], lull_ms: int) -> None:
        """`weights` say how often each fault comes; a lull lasts `lull_ms`."""
        self._world = world
        self._names = list(weights)
        self._weights = list(weights.values())
        self._lull_ms = lull_ms
        self._lull_until_ms = 0
        self._before_lull = 0

    def strike(self) -> None:
        """Let the next thing go wrong; after some, let there be a lull."""
        world = self._world
        if world.scheduler.now_ms < self._lull_until_ms:
            return
        self._before_lull += 1
        if self._before_lull % 4 == 0:
            self._lull()
            return
        (name,) = world.random.choices(self._names, self._weights)
        FAULTS[name](world)

    def cut(self) -> None:
        """Cut some links for a while."""
        cut(self._world)

    def back_up(self) -> None:
        """Keep a copy of some machine's disk, in the place of an earlier one."""
        machine = self._world.some_up()
        if machine is not None and not machine.disk.flipped:
            self._world.note(machine.name, "is backed up")
            machine.disk.back_up()

    def _lull(self) -> None:
        world = self._world
        world.tally["lulls"] += 1
        world.note("network", "lull")
        self._lull_until_ms = world.scheduler.now_ms + self._lull_ms
        weather = world.network.weather
        self._mend()

        def go_on() -> None:
            if not world.over:
                world.network.weather = weather

        world.scheduler.after(self._lull_ms, go_on)

    def end(self) -> None:
        """From now on nothing goes wrong any more; what is down comes back."""
        self._world.over = True
        self._mend()

    def _mend(self) -> None:
        world = self._world
        world.network.weather = CALM
        world.network.mend_all()
        for machine in list(world.machines.values()):
            machine.disk.is_full = False
            if machine.name in world.in_repair:
                continue
            if not machine.is_up:
                # Not at once: whoever started it may be in the middle of something.
                world.scheduler.after(0, partial(world.start, machine))
