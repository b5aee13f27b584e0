"""Recorded typing, carried out again: each change by its author's replica, on what that had seen.

A trace is a JSON document of josephg/editing-traces. Those of several authors name the parents of
each change, so what was typed at once is told apart from what came after.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from crdtdb.address import ObjectName
from crdtdb.transaction import Push
from operations import Plain
from replicas import Replica, update

__all__ = ["Trace", "read_trace", "replay"]

#: What carries out a patch on an object: (position, characters deleted, text inserted).
Patched: TypeAlias = Callable[[int, int, str], list[Plain]]
#: Operations of one commit.
_TOGETHER: Final = 500


class _Change(NamedTuple):
    """What one author changed, and how many changes of each author that was made after."""

    author: int
    after: list[int]
    patches: list[Any]


class Trace(NamedTuple):
    """What was typed, and the text it led to."""

    authors: int
    changes: list[_Change]
    text: str


def read_trace(path: Path) -> Trace:
    """A trace of one or several authors."""
    document = json.loads(gzip.decompress(path.read_bytes()))
    authors = document.get("numAgents", 1)
    changes: list[_Change] = []
    for number, change in enumerate(document["txns"]):
        author, after = change.get("agent", 0), [0] * authors
        for parent in change.get("parents", range(number)[-1:]):
            included = list(changes[parent].after)
            included[changes[parent].author] += 1
            after = list(map(max, after, included))
        changes.append(_Change(author, after, change["patches"]))
    return Trace(authors, changes, document["endContent"])


def replay(trace: Trace, name: ObjectName, patched: Patched) -> list[Replica]:
    """The authors' replicas, when each has seen everything."""
    asked_for = [
        {change.after[author] for change in trace.changes if change.author != author}
        for author in range(trace.authors)
    ]
    authors = [_Author(Replica(n + 1), asked_for[n], trace.authors) for n in range(trace.authors)]
    for number, after, patches in trace.changes:
        author = authors[number]
        if author.seen != after:
            author.commit(name, author.seen[number])  # that was typed on what is there now
            author.see(number, after, authors)
        author.waiting += [plain for patch in patches for plain in patched(*patch)]
        author.seen[number] += 1
        if author.seen[number] in author.asked_for or len(author.waiting) >= _TOGETHER:
            author.commit(name, author.seen[number])
    everything = [author.seen[number] for number, author in enumerate(authors)]
    for author, last in zip(authors, everything, strict=True):
        author.commit(name, last)
    for number, author in enumerate(authors):
        author.see(number, everything, authors)
    return [author.replica for author in authors]


class _Author:
    """One author, whose replica takes in what the others sent when it was seen in the trace."""

    def __init__(self, replica: Replica, asked_for: set[int], authors: int) -> None:
        self.replica = replica
        #: After how many changes somebody else went on.
        self.asked_for = asked_for
        self.seen = [0] * authors
        self.waiting: list[Plain] = []
        #: What was sent, each with the number of the last change in it.
        self.sent: list[tuple[int, Push]] = []

    def commit(self, name: ObjectName, last: int) -> None:
        """Carry out what was typed meanwhile."""
        if self.waiting:
            push = self.replica.commit(*(update(name, plain) for plain in self.waiting)).push
            assert push is not None
            self.sent.append((last, push))
            self.waiting = []

    def see(self, own: int, after: list[int], authors: list[_Author]) -> None:
        """Take in what the others had typed."""
        assert all(map(int.__le__, self.seen, after)), "an author has forgotten something"
        for number, other in enumerate(authors):
            if number != own:
                for last, push in other.sent:
                    if self.seen[number] < last <= after[number]:
                        assert self.replica.receive(push)
                self.seen[number] = after[number]
