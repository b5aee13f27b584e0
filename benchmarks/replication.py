"""What replication costs, as ratios to the least that could be sent or kept.

    python benchmarks/replication.py [--quick] [--only NAME]... [--topologies FILE] [--seed N]
                                     [--json FILE]

All but `space` and `scattered`, which write to a disk and count pages, run the real core on a
network in this process, where time is virtual and every byte is counted (bodies, uncompressed):
with the same seed the counts are the same on every machine. Exit code 1 if a target is missed.

The overlays of the ICDE 2019 comparison are read from a file if one is given; else they are made,
of the same sizes and similar shape.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import command
from catch_up import catch_up, counter, idle_digest
from dissemination import crowd, dissemination
from figures import Figure
from machine import facts
from overlays import OVERLAYS, Overlay, overlays
from skew import skew
from space import space

__all__ = ["BENCHMARKS", "Extent", "main"]


class Extent(NamedTuple):
    """How much one run measures."""

    seed: int
    overlays: list[Overlay]
    #: Where Retwis is played.
    retwis: Overlay
    #: Of each replica.
    updates: int
    users: int
    #: Records stored before a catch-up.
    stored: tuple[int, ...]
    increments: int
    #: Members that come and go.
    churned: int
    crowd: int

    @classmethod
    def of(cls, seed: int, topologies: Path | None, *, quick: bool) -> Extent:
        """What the command line asks for."""
        if quick:
            few, (retwis,) = overlays(topologies, OVERLAYS[:2]), overlays(topologies, [_SMALL])
            return cls(seed, few, retwis, 20, 1_000, (1_000, 10_000), 10_000, 20_000, 50)
        every, (retwis,) = overlays(topologies), overlays(topologies, [_LARGE])
        sizes = (1_000, 32_000, 1_000_000)
        return cls(seed, every, retwis, 100, 10_000, sizes, 1_000_000, 1_000_000, 1_000)


_SMALL: Final = "partialmesh-16"
_LARGE: Final = "partialmesh-50"


def _overlays(extent: Extent) -> Iterator[Figure]:
    for overlay in extent.overlays:
        yield from dissemination(overlay, extent.updates, extent.seed)


def _catch_up(extent: Extent) -> Iterator[Figure]:
    yield from catch_up(extent.stored, extent.seed)


def _counter(extent: Extent) -> Iterator[Figure]:
    yield counter(extent.increments, extent.seed)


def _idle(extent: Extent) -> Iterator[Figure]:
    yield from idle_digest((extent.stored[0], extent.stored[-1]), extent.seed)


def _skew(extent: Extent) -> Iterator[Figure]:
    yield from skew(extent.retwis, extent.users, extent.updates, extent.seed)


def _space(extent: Extent, *, scattered: bool = False) -> Iterator[Figure]:
    with TemporaryDirectory(prefix="crdtdb-bench-") as directory:
        yield from space(Path(directory), extent.churned, extent.seed, scattered=scattered)


def _crowd(extent: Extent) -> Iterator[Figure]:
    yield crowd(extent.crowd, extent.seed)


BENCHMARKS: Final[Mapping[str, Callable[[Extent], Iterator[Figure]]]] = {
    "overlays": _overlays,
    "catch-up": _catch_up,
    "counter": _counter,
    "idle": _idle,
    "skew": _skew,
    "space": _space,
    "scattered": partial(_space, scattered=True),
    "crowd": _crowd,
}


def main() -> int:
    """Measure, print, judge."""
    arguments = _arguments()
    topologies: Path | None = arguments.topologies
    if topologies is None or not topologies.exists():
        absent = "no --topologies" if topologies is None else f"{topologies} is not there"
        print(f"{absent}: overlays are made, not those of the ICDE 2019 comparison")
        topologies = None
    run: dict[str, object] = {**facts(), "seed": arguments.seed, "quick": arguments.quick}
    extent = Extent.of(arguments.seed, topologies, quick=arguments.quick)
    figures = (
        figure for name in arguments.only or BENCHMARKS for figure in BENCHMARKS[name](extent)
    )
    return command.tell(run, figures, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What replication costs, as ratios.")
    parser.add_argument("--quick", action="store_true", help="small clusters, in about a minute")
    parser.add_argument(
        "--only", action="append", choices=BENCHMARKS, help="this one (may be given more than once)"
    )
    parser.add_argument("--topologies", type=Path, metavar="FILE", help="overlays as JSON")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of all choices")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
