"""Overlays: which replica talks to which, as lists of neighbours.

The published ones come from a file (`{"partialmesh-15": [[1, 4, …], …], …}`: entry i names the
neighbours of replica i). Without it there are ones of the same shape, made here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

__all__ = ["OVERLAYS", "Overlay", "make", "overlays", "random_mesh"]

#: What is measured: the overlays of 15, 32 and 64 replicas of Enes et al. (ICDE 2019).
OVERLAYS: Final = ("tree-15", "partialmesh-15", "partialmesh-32", "partialmesh-64")
_NEIGHBOURS: Final = 4


class Overlay(NamedTuple):
    """A connected graph without direction."""

    name: str
    neighbours: Sequence[Sequence[int]]

    @property
    def diameter(self) -> int:
        """The longest of the shortest ways. O(replicas × links)."""
        return max(self._farthest(start) for start in range(len(self.neighbours)))

    def _farthest(self, start: int) -> int:
        distance = {start: 0}
        frontier = [start]
        for at in frontier:
            for other in self.neighbours[at]:
                if other not in distance:
                    distance[other] = distance[at] + 1
                    frontier.append(other)
        if len(distance) < len(self.neighbours):
            raise ValueError(f"overlay {self.name} is not connected")
        return max(distance.values())


def overlays(file: Path | None, names: Sequence[str] = OVERLAYS) -> list[Overlay]:
    """The overlays of these names, from a file or made. Raises KeyError for one not in the file."""
    if file is None:
        return [make(name) for name in names]
    published = json.loads(file.read_text())
    return [Overlay(name, published[name]) for name in names]


def make(name: str) -> Overlay:
    """An overlay in the place of a published one: a tree, or a mesh of four neighbours each."""
    shape, _, size = name.rpartition("-")
    number = int(size)
    links = _tree(number) if shape == "tree" else _mesh(number)
    return _overlay(f"made {name}", number, links)


def random_mesh(number: int, neighbours: int, random: Random) -> Overlay:
    """A ring with random links across: `neighbours` each, on average."""
    links = {(0, number - 1)} | {(i, i + 1) for i in range(number - 1)}
    while 2 * len(links) < number * neighbours:
        one, other = random.sample(range(number), 2)
        links.add((min(one, other), max(one, other)))
    return _overlay(f"random {number}", number, links)


def _tree(number: int) -> set[tuple[int, int]]:
    """Two children each: three neighbours at most."""
    return {((i - 1) // 2, i) for i in range(1, number)}


def _mesh(number: int) -> set[tuple[int, int]]:
    """A ring with links across: the published meshes are made so, too."""
    reach = max(2, number // _NEIGHBOURS)
    return {(i, (i + step) % number) for i in range(number) for step in (1, reach)}


def _overlay(name: str, number: int, links: set[tuple[int, int]]) -> Overlay:
    neighbours: list[set[int]] = [set() for _ in range(number)]
    for one, other in links:
        neighbours[one].add(other)
        neighbours[other].add(one)
    return Overlay(name, [sorted(others) for others in neighbours])
