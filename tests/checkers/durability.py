"""No acknowledged operation is lost, unless the disk that holds it is.

What a replica has answered, shown or passed on it still has after any crash; and what some disk
holds in the end everybody has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from checkers.violation import Violation
from crdtdb.causal import NOTHING, VersionVector

__all__ = ["Ended", "Found", "Held", "Moment", "PutBack", "durability"]


class Held(NamedTuple):
    """A replica answered, showed or passed on so much."""

    replica: str
    seen: VersionVector


class PutBack(NamedTuple):
    """A replica's disk was lost, or put back to where it held no more than this."""

    replica: str
    seen: VersionVector


class Found(NamedTuple):
    """A replica's disk holds this, when its process starts."""

    replica: str
    seen: VersionVector


class Ended(NamedTuple):
    """A replica holds this in the end, when all could talk for long enough."""

    replica: str
    seen: VersionVector


Moment = Held | PutBack | Found | Ended


def durability(history: Sequence[Moment]) -> list[Violation]:
    """Everything that was promised and is not there. O(moments x incarnations)."""
    promised: dict[str, VersionVector] = {}
    found = []
    for moment in history:
        replica, seen = moment
        known = promised.get(replica, NOTHING)
        match moment:
            case Held():
                if not seen.includes(known):
                    found.append(Violation("growth", f"{replica} went from {known} to {seen}"))
                promised[replica] = known.join(seen)
            case PutBack():
                promised[replica] = seen
            case Found():
                if not seen.includes(known):
                    told = f"{replica} held {known}, its disk has {seen}"
                    found.append(Violation("durability", told))
            case Ended():
                for other, theirs in promised.items():
                    if not seen.includes(theirs):
                        told = f"{replica} ends with {seen}; {other} held {theirs}"
                        found.append(Violation("lost operation", told))
    return found
