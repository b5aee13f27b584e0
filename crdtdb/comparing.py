"""Comparing two replicas by digests of ranges: the first difference, in O(log n) exchanges.

One side divides a range of addresses into parts that hold about as much each, both say what their
digests of these parts are, and the first part that differs is the next range; the side that holds
more of it divides. A range that holds few objects is listed, and the first object that differs is
then looked into in the same way, record by record. Only states that cover the same operations can
be told to differ; otherwise one of them has merely not seen yet what the other shows.

Positions are addresses (`crdtdb.address`), so a question means the same at every replica.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple, Protocol, TypeAlias

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.datatype import OperationType
from crdtdb.digests import END, START, Digest, DigestTree, DigestView
from crdtdb.errors import BadRequest, Field
from crdtdb.head import Head
from crdtdb.kinds import alive, in_force, log_in, type_of
from crdtdb.reading import Reading

__all__ = [
    "LISTED",
    "PARTS",
    "Answer",
    "Ask",
    "Difference",
    "Entry",
    "Part",
    "Question",
    "Unsettled",
    "answer",
    "find_difference",
]

#: Parts that a range is divided into.
PARTS: Final = 16
#: A range that holds so few objects or records is listed.
LISTED: Final = 64


class Question(NamedTuple):
    """What is in a range? Of all objects by their addresses, or of the records of one object."""

    start: bytes = b""
    end: bytes = b""
    #: Divide it there; if nothing is said, into so many parts.
    bounds: tuple[bytes, ...] = ()
    parts: int = PARTS
    object: ObjectName | None = None


class Part(NamedTuple):
    """One part of a range, which ends where the next begins."""

    start: bytes
    digest: int
    #: Objects, or records, that users see something of.
    held: int


class Entry(NamedTuple):
    """An object, with its size, or a record, in a range that holds few."""

    at: bytes
    digest: int
    size: int


class Answer(NamedTuple):
    """What a replica that has seen `seen` shows of a range, and where the range ends."""

    seen: VersionVector
    end: bytes
    parts: tuple[Part, ...]
    #: If they are few.
    entries: tuple[Entry, ...] | None


Ask: TypeAlias = Callable[[Question], Answer]


class Difference(NamedTuple):
    """The first difference: between these addresses, and what is there at either side."""

    start: bytes
    end: bytes
    #: None: nothing is there.
    mine: Entry | None
    theirs: Entry | None


class Unsettled(Exception):
    """The two have not seen the same, or went on while they were asked."""

    def __init__(self, mine: VersionVector, theirs: VersionVector) -> None:
        super().__init__("the replicas have not seen the same")
        self.mine = mine
        self.theirs = theirs


# -- answering ------------------------------------------------------------------------------------


class _View(Protocol):
    """What can be asked of a range."""

    def digest(self, start: bytes, end: bytes) -> Digest: ...

    def bounds(self, start: bytes, end: bytes, parts: int) -> list[bytes]: ...

    def entries(self, start: bytes, end: bytes) -> Iterator[Entry]: ...


def answer(tree: DigestTree, question: Question) -> Answer:
    """What a replica has to say to a question.

    O(pages of the tree + heads of two pages for each part); within an object, O(its records).

    Raises BadRequest for bounds that make no range, StorageFailed.
    """
    with tree.view() as view:
        name = question.object
        low, high = START, END
        chosen: _View = _Objects(view)
        if name is not None:
            low, high = name.prefix, address.after(name.prefix) or END
            chosen = _Records(view, name)
        start, end = question.start or low, question.end or high
        _check((low, start, *question.bounds, end, high))
        bounds = list(question.bounds) or chosen.bounds(start, end, question.parts)
        parts = tuple(
            Part(one, *chosen.digest(one, other)) for one, other in pairwise((start, *bounds, end))
        )
        few = sum(part.held for part in parts) <= LISTED
        entries = tuple(chosen.entries(start, end)) if few else None
        return Answer(Reading(view.snapshot).seen, end, parts, entries)


def _check(edges: tuple[bytes, ...]) -> None:
    if any(one > other for one, other in pairwise(edges)):
        raise BadRequest(
            "the positions of a range are in order, and within what is asked about",
            Field("from", "out of order"),
        )


class _Objects:
    """All objects, by the digests that are at hand."""

    def __init__(self, view: DigestView) -> None:
        self._view = view
        self.digest = view.digest
        self.bounds = view.bounds

    def entries(self, start: bytes, end: bytes) -> Iterator[Entry]:
        for prefix, head in self._view.objects(start, end):
            yield Entry(prefix, head.shown, head.size)


class _Records:
    """The records of one object that users see something of, which are read."""

    def __init__(self, view: DigestView, name: ObjectName) -> None:
        self._reading = Reading(view.snapshot)
        self._name = name
        self._head: Head = self._reading.head(name.prefix)

    def entries(self, start: bytes, end: bytes) -> Iterator[Entry]:
        kind = type_of(self._name.prefix)
        if isinstance(kind, OperationType):
            return  # replicas fold operations at different times; what they come to is the object's
        prefix = self._name.prefix
        last = b""
        for at, record in self._reading.records_between(start, end):
            tail = at[len(prefix) :]
            live = in_force(kind, tail, record.live, self._head.cut)
            log = log_in(prefix, tail)
            if log is not None:
                if log.at != last and log.at >= start:
                    last = log.at
                    if digest := self._reading.log_digest(log):
                        yield Entry(log.at, digest, 1)
            elif alive(kind, tail, live):
                yield Entry(at, codec.live_digest(at, live), 1)

    def digest(self, start: bytes, end: bytes) -> Digest:
        digest = count = 0
        for entry in self.entries(start, end):
            digest ^= entry.digest
            count += 1
        return Digest(digest, count)

    def bounds(self, start: bytes, end: bytes, parts: int) -> list[bytes]:
        positions = [entry.at for entry in self.entries(start, end)]
        step = -(-len(positions) // parts) or 1
        return positions[step::step]


# -- asking ---------------------------------------------------------------------------------------


def find_difference(mine: Ask, theirs: Ask, name: ObjectName | None = None) -> Difference | None:
    """The first difference between two replicas, or between their records of one object.

    None if they show the same. O(log n) questions to each. Raises Unsettled, with what they have
    seen, if they differ and have not seen the same.
    """
    # Who holds more divides: then each question leaves a fraction of what there is to look at.
    divide, follow = mine, theirs
    start = end = b""
    is_narrowed = False
    while True:
        first = divide(Question(start, end, object=name))
        edges = (*(part.start for part in first.parts), first.end)
        second = follow(Question(edges[0], edges[-1], edges[1:-1], 1, name))
        ours, others = (first, second) if divide is mine else (second, first)
        index = _first_differing(ours.parts, others.parts)
        if index is None and not is_narrowed:
            return None
        if index is None or ours.seen != others.seen:
            raise Unsettled(ours.seen, others.seen)
        if ours.entries is not None and others.entries is not None:
            return _first_entry(ours.entries, others.entries, edges[0], edges[-1])
        if is_narrowed and (start, end) == (edges[index], edges[index + 1]):
            return Difference(start, end, None, None)  # whoever was asked cannot divide it
        start, end = edges[index], edges[index + 1]
        is_narrowed = True
        is_mine = ours.parts[index].held >= others.parts[index].held
        divide, follow = (mine, theirs) if is_mine else (theirs, mine)


def _first_differing(mine: tuple[Part, ...], theirs: tuple[Part, ...]) -> int | None:
    pairs = enumerate(zip(mine, theirs, strict=True))
    return next((index for index, (one, other) in pairs if one != other), None)


def _first_entry(
    mine: tuple[Entry, ...], theirs: tuple[Entry, ...], start: bytes, end: bytes
) -> Difference:
    """Two lists whose digests differ; if all the entries agree, something in the range does."""
    ours, others = ({entry.at: entry for entry in entries} for entries in (mine, theirs))
    for at in sorted(ours.keys() | others.keys()):
        if ours.get(at) != others.get(at):
            return Difference(at, at, ours.get(at), others.get(at))
    return Difference(start, end, None, None)
