"""Packets are dropped between network namespaces: nobody hears that the others are gone.

`test_partitions` has more shapes of cuts, by faults that replicas inject into their own links.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from faults.load import Load, check, loaded, members_of
from faults.namespaces import Machine, machines
from processes import Replica, running

PORT = 7460
REPLICAS = 3

#: Cuts a machine off from others. Is it alone then?
Cutting: TypeAlias = Callable[[Machine, list[Machine]], bool]


def both_ways(machine: Machine, others: list[Machine]) -> bool:
    machine.cut(*others)
    return True


def deaf(machine: Machine, others: list[Machine]) -> bool:
    """What it sends arrives, what is sent to it does not."""
    machine.cut(*others, sends=False)
    return True


def from_one_only(machine: Machine, others: list[Machine]) -> bool:
    """The other one relays."""
    machine.cut(others[0])
    return False


def replicas_on(places: list[Machine], directory: Path) -> list[Replica]:
    urls = [f"http://{place.host}:{PORT}" for place in places]
    return [
        Replica(
            f"r{number}",
            PORT,
            [],
            directory,
            host=place.host,
            within=place.within,
            flags=["--insecure", *(f"--peer={url}" for url in urls if place.host not in url)],
        )
        for number, place in enumerate(places)
    ]


@pytest.mark.parametrize("cutting", [both_ways, deaf, from_one_only])
def test_packets_are_dropped(cutting: Cutting, tmp_path: Path, at_length: bool) -> None:
    if cutting is not both_ways and not at_length:
        pytest.skip("the long form only: make faults")
    with machines(REPLICAS) as places:
        replicas = replicas_on(places, tmp_path)
        with running(replicas):
            loads: list[Load] = []
            for cycle in range(3 if at_length else 1):
                with (
                    loaded(replicas[0], writers=1) as one,
                    loaded(replicas[1], writers=1) as two,
                    loaded(replicas[2], writers=1) as three,
                ):
                    now = [one, two, three]
                    for load in now:
                        load.until_writes(20)
                    alone = cutting(places[cycle], places[:cycle] + places[cycle + 1 :])
                    began = time.monotonic()
                    before = {name for load in now for name in load.acknowledged}
                    for load in now:
                        load.until_writes(60)
                    while at_length and time.monotonic() - began < 20:
                        one.until_writes(1)
                    since = {name for load in now for name in load.acknowledged} - before
                    assert not (alone and since <= members_of(replicas[cycle])), "there is no cut"
                    places[cycle].mend()
                loads += now
                assert not any(load.refused for load in now), "a live replica refuses nobody"
            mended = time.monotonic()
            writes = check(replicas, loads)
            met_s = time.monotonic() - mended
    print(f"{writes} acknowledged writes, none refused or lost; equal after {met_s:.1f} s")
