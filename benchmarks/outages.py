"""What happens to the network: named scenarios, each a list of steps within the time of the cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Final, NamedTuple, TypeAlias

from wires import SOUND, Fault, Route

__all__ = ["SCENARIOS", "Scenario", "Step"]

_CUT: Final = Fault(cut=True)
_OCEAN: Final = Fault(latency_s=0.15, jitter_s=0.03, loss=0.02, bytes_per_s=250_000)
#: How often a flapping link goes down.
_FLAPS: Final = 6


class Step(NamedTuple):
    """From a moment on (a share of the time of the cut, 0 to 1), these wires are like this."""

    at: float
    routes: Sequence[Route]
    fault: Fault


#: The steps for replicas of these names. The last one is the far side, all others the near one.
Steps: TypeAlias = Callable[[Sequence[str], Random], Iterator[Step]]


class Scenario(NamedTuple):
    """One way in which networks fail."""

    name: str
    about: str
    steps: Steps


def _between(near: Sequence[str], far: str) -> list[Route]:
    return [route for one in near for route in (Route(one, far), Route(far, one))]


def _region_lost(names: Sequence[str], _: Random) -> Iterator[Step]:
    yield Step(0, _between(names[:-1], names[-1]), _CUT)


def _flapping_link(names: Sequence[str], random: Random) -> Iterator[Step]:
    routes = _between(names[:1], names[-1])
    for flap in range(_FLAPS):
        yield Step(flap / _FLAPS, routes, _CUT)
        yield Step((flap + random.uniform(0.3, 0.9)) / _FLAPS, routes, SOUND)


def _slow_ocean(names: Sequence[str], _: Random) -> Iterator[Step]:
    yield Step(0, _between(names[:-1], names[-1]), _OCEAN)


def _one_way_silence(names: Sequence[str], _: Random) -> Iterator[Step]:
    yield Step(0, [Route(names[-1], near) for near in names[:-1]], _CUT)


def _total_isolation(names: Sequence[str], _: Random) -> Iterator[Step]:
    everywhere = [Route(one, other) for one in names for other in names if one != other]
    yield Step(0, everywhere, _CUT)


SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario("region-lost", "the far replica is cut off from all others", _region_lost),
        Scenario("flapping-link", "the link of two replicas comes and goes", _flapping_link),
        Scenario("slow-ocean", "the far replica: 150 ± 30 ms, 2 % loss, 250 kB/s", _slow_ocean),
        Scenario("one-way-silence", "the far replica hears and is not heard", _one_way_silence),
        Scenario("total-isolation", "no replica reaches any other", _total_isolation),
    )
}
