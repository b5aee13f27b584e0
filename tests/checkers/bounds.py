"""Memory and queues are bounded, whatever waits and however long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from checkers.violation import Violation

__all__ = ["Sample", "bounds"]


class Sample(NamedTuple):
    """How much of something a replica held at some moment, and how much it ever may."""

    replica: str
    #: In the words of a message: "held pushes", "bytes of held pushes".
    what: str
    held: int
    most: int


def bounds(history: Iterable[Sample]) -> list[Violation]:
    """Per replica and thing: the moment when most of it was held, if that was too much."""
    worst: dict[tuple[str, str], Sample] = {}
    for sample in history:
        key = sample.replica, sample.what
        if sample.held > sample.most and (key not in worst or sample.held > worst[key].held):
            worst[key] = sample
    return [
        Violation("bounds", f"{replica} has {held} {what}; at most {most} may be")
        for replica, what, held, most in worst.values()
    ]
