"""Letting any number of tasks wait for the next time that something happens."""

from __future__ import annotations

import asyncio

__all__ = ["Signal"]


class Signal:
    """Costs nothing while nobody waits. Belongs to the running event loop."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def give(self) -> None:
        """It has happened: wakes all who wait now."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def next(self) -> None:
        """Wait until it happens."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)
