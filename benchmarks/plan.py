"""How much one run measures."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

__all__ = ["Plan"]


class Plan(NamedTuple):
    """Rounds and their sizes. `quick` shows that everything runs; its figures are rough."""

    rounds: int
    seed: int
    #: One load of the generator.
    window_s: float
    #: Operations of one kind and round that are timed one by one.
    operations: int
    #: How long a slow disk is waited for, before each part.
    patience_s: float
    #: How long replicas are left alone, and how often.
    idle_s: float
    idle_rounds: int
    #: Data is small, too.
    quick: bool = False

    @classmethod
    def of(cls, seed: int, *, rounds: int | None, quick: bool) -> Plan:
        """The plan that the command line asks for."""
        if quick:
            return cls(rounds or 3, seed, 0.2, 30, 1.0, 3.0, 1, quick=True)
        return cls(rounds or 7, seed, 1.0, 100, 10.0, 10.0, 3)

    def random(self, purpose: str) -> Random:
        """Random choices for one purpose: what one part draws does not change another's."""
        return Random(f"{self.seed} {purpose}")
