"""The causal order of a history of transactions: session order and reads-from, transitively.

Each session is a line, so all that is before a transaction is a number of transactions per session:
a vector clock. That takes O(transactions x sessions) memory, where a closed graph takes the square.

Values are unique: no two transactions write the same value to the same variable, so a read says
which write it reads from (the "differentiated" histories of Bouajjani et al. 2017, section 3).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

__all__ = ["CausalOrder", "Transaction", "Value"]

#: What is written; None is what a variable shows that nobody wrote.
Value = Hashable | None


class Transaction(NamedTuple):
    """What a session read, at one snapshot, and wrote after that, in one step."""

    session: str
    reads: Mapping[str, Value] = {}
    writes: Mapping[str, Value] = {}


class CausalOrder:
    """Which transaction of a history is before which. Transactions are named by their index."""

    def __init__(self, history: Sequence[Transaction]) -> None:
        """Those of one session are in the order in which the session did them."""
        self.history: Final = history
        #: Of each session, its transactions in order.
        self.lines: Final[dict[str, list[int]]] = {}
        #: (variable, value) → who wrote it.
        self._writers: dict[tuple[str, Value], int] = {}
        #: Variable → session → places in its line that write it.
        self._writes: dict[str, dict[str, list[int]]] = {}
        self._places: list[int] = []
        self._numbers: dict[str, int] = {}
        for index, transaction in enumerate(history):
            line = self.lines.setdefault(transaction.session, [])
            self._numbers.setdefault(transaction.session, len(self._numbers))
            for variable, value in transaction.writes.items():
                if self._writers.setdefault((variable, value), index) != index:
                    raise ValueError(f"{variable} = {value!r} is written twice")
                lines = self._writes.setdefault(variable, {})
                lines.setdefault(transaction.session, []).append(len(line))
            self._places.append(len(line))
            line.append(index)
        #: How many transactions of each session are before this one; None: it is on a cycle, or
        #: behind one.
        self._clocks: list[list[int] | None] = [None] * len(history)
        #: One transaction of each session that cannot be put into any order.
        self.stuck: Final = self._place_all()

    def _place_all(self) -> list[int]:
        lines = list(self.lines.values())
        done = [0] * len(lines)
        waiting: dict[int, list[int]] = {}
        ready = list(range(len(lines)))
        while ready:
            number = ready.pop()
            line = lines[number]
            while done[number] < len(line):
                index = line[done[number]]
                sources = set(self.sources(index))
                missing = next((w for w in sources if self._clocks[w] is None), None)
                if missing is not None:
                    waiting.setdefault(missing, []).append(number)
                    break
                self._clocks[index] = self._clock(line, done[number], sources)
                done[number] += 1
                ready += waiting.pop(index, ())
        return [line[at] for line, at in zip(lines, done, strict=True) if at < len(line)]

    def _clock(self, line: Sequence[int], place: int, sources: set[int]) -> list[int]:
        clock = [0] * len(self.lines)
        for index in (*([line[place - 1]] if place else ()), *sources):
            number = self._numbers[self.history[index].session]
            if clock[number] <= self._places[index]:
                before = self._clocks[index]
                assert before is not None
                clock = list(map(max, clock, before))
                clock[number] = self._places[index] + 1
        return clock

    def source(self, variable: str, value: Value) -> int | None:
        """Who wrote this value; None: nobody did."""
        return self._writers.get((variable, value))

    def sources(self, index: int) -> Iterator[int]:
        """Whom a transaction reads from."""
        for item in self.history[index].reads.items():
            if (writer := self._writers.get(item)) is not None:
                yield writer

    def place(self, index: int) -> int:
        """The how many-th of its session a transaction is, from 0."""
        return self._places[index]

    def before(self, earlier: int, later: int) -> bool:
        """Is one before the other?"""
        clock = self._clocks[later]
        if clock is None:
            return False
        return clock[self._numbers[self.history[earlier].session]] > self._places[earlier]

    def is_older(self, source: int | None, than: int) -> bool:
        """Is what this one wrote (None: the initial value) older than what that one wrote?"""
        return source is None or (source != than and self.before(source, than))

    def last_writes(self, variable: str, index: int) -> Iterator[int]:
        """Of each session, its last write of a variable before a transaction."""
        clock = self._clocks[index]
        if clock is None:
            return
        for session, places in self._writes.get(variable, {}).items():
            if count := bisect_left(places, clock[self._numbers[session]]):
                yield self.lines[session][places[count - 1]]

    def last_write_of(self, session: str, variable: str, end: int) -> int | None:
        """The last write of a variable among the first `end` transactions of a session."""
        places = self._writes.get(variable, {}).get(session, [])
        count = bisect_left(places, end)
        return self.lines[session][places[count - 1]] if count else None

    def told(self, index: int | None) -> str:
        """A transaction as a reader of a message wants it."""
        if index is None:
            return "nobody"
        session, reads, writes = self.history[index]
        parts = [f"{name} = {value!r}" for name, value in writes.items()]
        read = [f"{name} is {value!r}" for name, value in reads.items()]
        what = " and ".join(
            filter(
                None,
                (
                    f"reads {', '.join(read)}" if read else "",
                    f"writes {', '.join(parts)}" if parts else "",
                ),
            )
        )
        return f"{session} #{self._places[index]} ({what or 'does nothing'})"
