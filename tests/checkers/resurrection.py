"""What was removed stays removed, until somebody adds it again.

Of sets in which an element is there while an addition of it is in force that no removal has
observed. The history says which additions a removal observed, so the checker needs no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from checkers.violation import Violation
from crdtdb.causal import Dot, VersionVector, format_dot

__all__ = ["Added", "Moment", "Removed", "Viewed", "resurrection"]


class Added(NamedTuple):
    """An operation put this element in."""

    dot: Dot
    element: str


class Removed(NamedTuple):
    """An operation took out what these additions had put in."""

    dot: Dot
    observed: frozenset[Added]


class Viewed(NamedTuple):
    """A replica that had seen so much showed these elements."""

    replica: str
    seen: VersionVector
    elements: frozenset[str]


Moment = Added | Removed | Viewed


def resurrection(history: Sequence[Moment]) -> list[Violation]:
    """Every element that is shown though all that put it in was taken out, or is not there yet.

    O(views x operations); the order of a history means nothing.
    """
    added: dict[str, list[Added]] = {}
    for moment in history:
        if isinstance(moment, Added):
            added.setdefault(moment.element, []).append(moment)
    removals = [moment for moment in history if isinstance(moment, Removed)]
    found = []
    for view in (moment for moment in history if isinstance(moment, Viewed)):
        removed = {gone: r.dot for r in removals if view.seen.covers(r.dot) for gone in r.observed}
        for element in sorted(view.elements):
            visible = [one for one in added.get(element, ()) if view.seen.covers(one.dot)]
            if not visible:
                told = f"{view.replica} shows {element}, which nobody it has heard of has added"
                found.append(Violation("resurrection", told))
            elif all(one in removed for one in visible):
                by = ", ".join(sorted({format_dot(removed[one]) for one in visible}))
                told = f"{view.replica} shows {element}, which {by} removed"
                found.append(Violation("resurrection", told))
    return found
