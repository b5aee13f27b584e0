"""What happened, line by line: always hashed, and written out when somebody wants to read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

import xxhash

from crdtdb.causal import format_incarnation

__all__ = ["Trace"]


class Trace:
    """The lines of one run. Two runs of one seed have the same hash."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out
        self._hash = xxhash.xxh3_128()
        #: Incarnation, as it is written in full → a name that people can tell apart.
        self._names: dict[str, str] = {}

    @property
    def hash(self) -> str:
        return self._hash.hexdigest()

    def named(self, incarnation: int, replica: str) -> None:
        """From now on show an incarnation as the replica's first, second, … life."""
        number = sum(name.startswith(replica + "#") for name in self._names.values())
        self._names.setdefault(format_incarnation(incarnation), f"{replica}#{number + 1}")

    def note(
        self, now_ms: int, where: str, what: str, told: Callable[[], str] | None = None
    ) -> None:
        """One line. `told` adds what only a reader wants; it is not hashed."""
        line = f"{now_ms} {where} {what}"
        self._hash.update(line.encode())
        if self._out is not None:
            if told is not None:
                line += " " + told()
            for full, name in self._names.items():
                line = line.replace(full, name)
            print(line, file=self._out)
