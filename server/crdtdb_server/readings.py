"""One reading for all requests that arrive in one turn of the event loop.

Opening a consistent state costs as much as looking three things up in it. What one turn reads is
the same state anyway, as long as nothing has been written meanwhile.
"""

from __future__ import annotations

import asyncio

from crdtdb.database import Database
from crdtdb.reading import Reading, ShortReading
from crdtdb.state import State

__all__ = ["TurnReadings"]


class TurnReadings:
    """Gives the newest state to those who read without waiting. Belongs to the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._open: ShortReading | None = None
        self._reading: Reading | None = None
        #: What the replica was when the reading began.
        self._state: State | None = None

    def newest(self) -> Reading:
        """The newest state; to be used up before anything is awaited."""
        state = self._database.engine.state
        if self._reading is None or self._state is not state:
            self.end()
            opened = self._database.reading()
            self._reading = opened.__enter__()
            self._open, self._state = opened, state
            self._loop.call_soon(self.end)
        return self._reading

    def end(self) -> None:
        """Nobody reads any more: before a write, or when the turn is over. Idempotent."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = self._reading = None
