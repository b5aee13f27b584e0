"""The four session guarantees (Terry et al. 1994), of a history of transactions.

"Older" is by causal order alone: a session may be shown the concurrent write of somebody else in
the place of its own, for that is what converging means.

- Read your writes: nothing older than what the session itself wrote.
- Monotonic reads: nothing older than what it was shown before.
- Monotonic writes: who is shown a write of a session is shown nothing older than its earlier ones.
- Writes follow reads: nor anything older than what that session had been shown when it wrote.

O(reads x sessions that write or read the same variable).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from checkers.order import CausalOrder, Transaction
from checkers.violation import Violation

__all__ = ["sessions"]


def sessions(history: Sequence[Transaction]) -> list[Violation]:
    """Every read that a guarantee excludes."""
    return list(_Sessions(history).judge())


class _Sessions:
    def __init__(self, history: Sequence[Transaction]) -> None:
        self._order = CausalOrder(history)
        #: Variable → session → (places of its line that read it, from whom).
        self._reads: dict[str, dict[str, tuple[list[int], list[int]]]] = {}
        for session, line in self._order.lines.items():
            for place, index in enumerate(line):
                for variable, value in history[index].reads.items():
                    source = self._order.source(variable, value)
                    if source is not None:
                        readers = self._reads.setdefault(variable, {})
                        places, sources = readers.setdefault(session, ([], []))
                        places.append(place)
                        sources.append(source)

    def judge(self) -> Iterator[Violation]:
        for session, line in self._order.lines.items():
            yield from self._judge_line(session, line)

    def _judge_line(self, session: str, line: Sequence[int]) -> Iterator[Violation]:
        order = self._order
        #: Of every session: how much of its line has been heard of by reading what it wrote.
        heard: dict[str, int] = {}
        shown: dict[str, int] = {}
        for index in line:
            for source in order.sources(index):
                whose = order.history[source].session
                heard[whose] = max(heard.get(whose, 0), order.place(source) + 1)
            for variable, value in order.history[index].reads.items():
                source_or_none = order.source(variable, value)
                if value is not None and source_or_none is None:
                    continue  # out of thin air: `causality` says so
                own = order.last_write_of(session, variable, order.place(index))
                yield from self._compare("read your writes", index, variable, source_or_none, own)
                before = shown.get(variable)
                yield from self._compare("monotonic reads", index, variable, source_or_none, before)
                yield from self._judge_others(session, index, variable, source_or_none, heard)
                if source_or_none is not None:
                    shown[variable] = source_or_none

    def _judge_others(
        self, session: str, index: int, variable: str, source: int | None, heard: dict[str, int]
    ) -> Iterator[Violation]:
        order = self._order
        for whose, end in heard.items():
            if whose != session:
                write = order.last_write_of(whose, variable, end)
                yield from self._compare("monotonic writes", index, variable, source, write)
        for whose, (places, sources) in (
            self._reads[variable].items() if variable in self._reads else ()
        ):
            end = heard.get(whose, 0)
            if whose != session and end and (count := bisect_right(places, end - 1)):
                seen = sources[count - 1]
                yield from self._compare("writes follow reads", index, variable, source, seen)

    def _compare(
        self, check: str, index: int, variable: str, source: int | None, than: int | None
    ) -> Iterator[Violation]:
        order = self._order
        if than is not None and order.is_older(source, than):
            told = f"{order.told(index)} is shown {variable} of {order.told(source)}"
            yield Violation(check, f"{told}, which is older than {order.told(than)}")
