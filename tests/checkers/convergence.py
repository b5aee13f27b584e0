"""Replicas that have seen the same show the same, and what the causal history says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from checkers.violation import Violation
from crdtdb.causal import VersionVector
from oracle.events import Object, Shown

__all__ = ["Oracle", "State", "convergence", "wrong_reads"]

#: What a reader must be shown of an object where exactly this is visible.
Oracle = Callable[[Object, VersionVector], Shown]


class State(NamedTuple):
    """What a replica shows at some moment."""

    replica: str
    seen: VersionVector
    #: Equal exactly where all that users see is: a digest over it.
    digest: object
    objects: Mapping[Object, Shown] = {}


def convergence(history: Sequence[State], oracle: Oracle, latest: VersionVector) -> list[Violation]:
    """The last state of each replica, when all could talk for long enough; every read of any.

    O(states x objects) and what the oracle takes.
    """
    found = []
    digests: dict[tuple[tuple[int, int], ...], State] = {}
    for state in history:
        other = digests.setdefault(tuple(sorted(state.seen.items())), state)
        if state.digest != other.digest:
            told = f"{state.replica} and {other.replica} have seen {state.seen}"
            found.append(Violation("digest", f"{told} and show different data"))
        for name, shown in state.objects.items():
            for violation in wrong_reads(name, oracle(name, state.seen), shown):
                violation.add_note(f"at {state.replica}")
                found.append(violation)
    for replica, state in {state.replica: state for state in history}.items():
        if state.seen != latest:
            told = f"{replica} has seen {state.seen}, not all of {latest}"
            found.append(Violation("convergence", told))
    return found


def wrong_reads(name: Object, expected: Shown, actual: Shown) -> Iterator[Violation]:
    """What a read shows otherwise than it must: value, existence, size, of a map the leaves."""
    checks = ("value", "existence", "size", "leaves")
    for check, right, found in zip(checks, expected, actual, strict=True):
        if right != found:
            yield Violation(check, f"{'/'.join(name)} shows {found}, must be {right}")
