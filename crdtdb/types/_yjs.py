"""The bytes of Yjs, as far as plain text needs them: read strictly, before pycrdt sees them.

pycrdt believes what it is given: it takes in any type of content, keeps what refers to something
missing aside, and where bytes make it panic, its document is of no use any more. So what comes from
outside is read here first. An update (version 1 of the format, lib0 integers) is, for each client,
a row of structs (text, or how much of it is gone) with ids that follow each other, and the ranges
of ids that are deleted. An id is (client, clock): each UTF-16 unit of a text takes one.

Yjs, `INTERNALS.md` and `UpdateDecoder.js`; lib0, `decoding.js`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

from crdtdb.codec import fingerprint

__all__ = [
    "EDITORS",
    "ROOT",
    "Run",
    "State",
    "Update",
    "client_of",
    "covers",
    "disagree",
    "editor_of",
    "is_editor_of",
    "read_state",
    "read_update",
    "write_state",
]

#: The name of the one text in a document.
ROOT: Final = "text"

#: Yjs has ids as JavaScript has integers; clocks as far as lib0 reads 32 bits.
_CLIENTS: Final = 1 << 53
_CLOCKS: Final = 1 << 31
#: How many clients a replica can give to editors.
EDITORS: Final = (1 << 16) - 1
#: Half of a character that stood in two structs: Yjs puts this in its place.
_REPLACED: Final = "\ufffd".encode("utf-16-le")
#: A struct has a number for its content, and says in the same byte which neighbours it names.
_KIND: Final = 0x1F
_HAS_LEFT: Final = 0x80
_HAS_RIGHT: Final = 0x40
_GONE: Final = 0
_DELETED: Final = 1
_TEXT: Final = 4

#: client → how many of its clocks are taken.
State = dict[int, int]


class Run(NamedTuple):
    """Text with ids that follow each other."""

    client: int
    clock: int
    #: In UTF-16, as Yjs counts it.
    units: bytes

    @property
    def end(self) -> int:
        """The clock behind it."""
        return self.clock + len(self.units) // 2


class Update(NamedTuple):
    """What an update brings."""

    #: The texts in it, in the order in which it has them, and where they stand.
    texts: tuple[str, ...]
    runs: tuple[Run, ...]
    #: How far the ids go that it has structs for.
    brings: State
    #: How far a document must be so that nothing in it is missing, once it has taken that in.
    reach: State
    #: How many UTF-16 units it deletes, in how many ranges.
    deleted: int
    ranges: int


def client_of(incarnation: int) -> int:
    """The Yjs client of a replica's own edits.

    An incarnation is never used twice, and its edits of one object come one after the other, so
    no id is given out twice. 53 bits of a hash: of a thousand incarnations that ever write to one
    object, two have the same with a probability of 1 in 10^10.
    """
    return fingerprint(incarnation) % _CLIENTS


def editor_of(incarnation: int, number: int) -> int:
    """The client of an editor that a replica has given this number, 1 … `EDITORS`.

    They follow the replica's own, so that each replica knows its editors, and nobody else takes
    them for its own: of ten incarnations that ever write to one object, two share any with a
    probability of 1 in 10^9.
    """
    return (client_of(incarnation) + number) % _CLIENTS


def is_editor_of(own: int, client: int) -> bool:
    """Is it an editor of the replica whose own client is `own`?"""
    return 1 <= (client - own) % _CLIENTS <= EDITORS


def disagree(one: Iterable[Run], other: Iterable[Run]) -> bool:
    """Do two updates have different text under the same ids? O(runs log runs + bytes)."""
    by_client: dict[int, list[Run]] = {}
    for run in one:
        by_client.setdefault(run.client, []).append(run)  # in order of their clocks
    for run in other:
        known = by_client.get(run.client, [])
        first = bisect_right(known, run.clock, key=lambda candidate: candidate.end)
        for candidate in islice(known, first, None):
            if candidate.clock >= run.end:
                break
            for clock in range(max(run.clock, candidate.clock), min(run.end, candidate.end)):
                mine, theirs = _unit(candidate, clock), _unit(run, clock)
                if mine != theirs and _REPLACED not in (mine, theirs):
                    return True
    return False


def _unit(run: Run, clock: int) -> bytes:
    start = 2 * (clock - run.clock)
    return run.units[start : start + 2]


def covers(state: State, reach: State) -> bool:
    """Has a document got that far?"""
    return all(state.get(client, 0) >= clock for client, clock in reach.items())


def read_state(data: bytes) -> State:
    """A state vector. Raises ValueError."""
    reader = _Reader(data)
    state: State = {}
    for _ in range(reader.number(len(data))):
        client = reader.number(_CLIENTS - 1)
        if client in state:
            raise ValueError("a client is there twice")
        state[client] = reader.number(_CLOCKS)
    reader.end()
    return state


def write_state(state: State) -> bytes:
    """The inverse of `read_state`."""
    entries = (_number(part) for entry in sorted(state.items()) for part in entry)
    return _number(len(state)) + b"".join(entries)


def _number(value: int) -> bytes:
    """An integer of seven bits a byte, the least first."""
    data = bytearray()
    while value > 0x7F:
        data.append(0x80 | value & 0x7F)
        value >>= 7
    data.append(value)
    return bytes(data)


def read_update(data: bytes) -> Update:
    """An update of one plain text. Raises ValueError. O(bytes)."""
    reader = _Reader(data)
    texts: list[str] = []
    runs: list[Run] = []
    brings: State = {}
    reach: State = {}
    clients: set[int] = set()

    def reached(client: int, clock: int) -> None:
        if clock > reach.get(client, 0):
            reach[client] = clock

    def named() -> None:
        client = reader.number(_CLIENTS - 1)
        reached(client, reader.number(_CLOCKS - 1) + 1)

    for _ in range(reader.number(len(data))):
        count, client = reader.number(len(data)), reader.number(_CLIENTS - 1)
        clock = reader.number(_CLOCKS - 1)
        if client in clients or count == 0:
            raise ValueError("a client is there twice, or has nothing")
        clients.add(client)
        for _ in range(count):
            info = reader.byte()
            kind = info & _KIND
            if kind == _GONE and info == _GONE:
                clock += reader.number(_CLOCKS - 1)
            elif kind in (_TEXT, _DELETED) and not info & 0x20:
                if info & _HAS_LEFT:
                    named()
                if info & _HAS_RIGHT:
                    named()
                is_first = not info & (_HAS_LEFT | _HAS_RIGHT)
                if is_first and (reader.number(1) != 1 or reader.text() != ROOT):
                    raise ValueError(f"it is about something else than the text {ROOT!r}")
                if kind == _DELETED:
                    length = reader.number(_CLOCKS - 1)
                else:
                    texts.append(text := reader.text())
                    runs.append(Run(client, clock, text.encode("utf-16-le")))
                    length = len(runs[-1].units) // 2
                if length == 0:
                    raise ValueError("a struct is empty")
                clock += length
            else:
                raise ValueError("it holds something else than plain text")
            if clock >= _CLOCKS:
                raise ValueError("a clock is out of range")
        brings[client] = clock
        reached(client, clock)
    deleted = ranges = 0
    clients.clear()
    for _ in range(reader.number(len(data))):
        client, count = reader.number(_CLIENTS - 1), reader.number(len(data))
        if client in clients:
            raise ValueError("a client is there twice")
        clients.add(client)
        for _ in range(count):
            clock, length = reader.number(_CLOCKS - 1), reader.number(_CLOCKS - 1)
            if length == 0 or clock + length >= _CLOCKS:
                raise ValueError("a range is empty or out of range")
            reached(client, clock + length)
            deleted, ranges = deleted + length, ranges + 1
    reader.end()
    return Update(tuple(texts), tuple(runs), brings, reach, deleted, ranges)


class _Reader:
    """Reads lib0 integers and texts from bytes. Raises ValueError where they end too soon."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        if self._at >= len(self._data):
            raise ValueError("cut short")
        self._at += 1
        return self._data[self._at - 1]

    def number(self, most: int) -> int:
        """An integer of seven bits a byte, the least first."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 49:
                raise ValueError("an integer is too long")
        if value > most:
            raise ValueError("an integer is out of range")
        return value

    def text(self) -> str:
        length = self.number(len(self._data))
        start, self._at = self._at, self._at + length
        if self._at > len(self._data):
            raise ValueError("cut short")
        return self._data[start : self._at].decode()

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("something follows")
