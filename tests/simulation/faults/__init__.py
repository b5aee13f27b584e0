"""What goes wrong while a run is busy: one small function per fault, by name.

A plan gives each a weight. All of them end by themselves, and lulls come between them.
"""

from __future__ import annotations

from simulation.faults.driver import FAULTS, Faults
from simulation.faults.world import World

__all__ = ["FAULTS", "Faults", "World"]
