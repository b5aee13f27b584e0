"""Version vectors as tests write them: `vv(a=2, b=1)`."""

from __future__ import annotations

from typing import Final

from crdtdb.causal import VersionVector

__all__ = ["A", "B", "C", "vv"]

A: Final = 1
B: Final = 2
C: Final = 3


def vv(**counters: int) -> VersionVector:
    """The counters of the incarnations A, B and C."""
    names = {"a": A, "b": B, "c": C}
    return VersionVector({names[name]: counter for name, counter in counters.items()})
