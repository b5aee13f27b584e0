"""No dot is ever issued twice, and no incarnation is used by two disks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from checkers.violation import Violation
from crdtdb.causal import Dot, VersionVector, format_dot, format_incarnation

__all__ = ["Forgotten", "Minted", "dots"]


class Minted(NamedTuple):
    """A replica gave operations these dots: consecutive counters of one incarnation."""

    replica: str
    incarnation: int
    first: int
    last: int


class Forgotten(NamedTuple):
    """Disks were lost: what this does not cover is on none any more, as if it had never been."""

    kept: VersionVector


def dots(history: Sequence[Minted | Forgotten]) -> list[Violation]:
    """Every dot that is issued again, or by another replica than the earlier ones. O(dots)."""
    issued: dict[Dot, str] = {}
    owners: dict[int, str] = {}
    found = []
    for moment in history:
        if isinstance(moment, Forgotten):
            issued = {dot: who for dot, who in issued.items() if moment.kept.covers(dot)}
            continue
        replica, incarnation, first, last = moment
        owner = owners.setdefault(incarnation, replica)
        if owner != replica:
            told = f"{format_incarnation(incarnation)} is used by {replica} and by {owner}"
            found.append(Violation("shared incarnation", told))
        for dot in ((incarnation, counter) for counter in range(first, last + 1)):
            if dot in issued:
                told = f"{format_dot(dot)}, issued by {replica}, was issued by {issued[dot]} before"
                found.append(Violation("dot-reuse", told))
            issued[dot] = replica
    return found
