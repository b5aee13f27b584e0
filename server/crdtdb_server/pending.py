"""A result that is on its way, and what is to be done with it when it is there.

A write waits for its commit. A task that waits with it, and a coroutine for each function on the
way back, would cost more than all that is done there; so the way back is a chain of plain functions
that whoever settles the result runs through. Coroutines can await one like anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar, cast

__all__ = ["Pending"]

T = TypeVar("T")
U = TypeVar("U")


class Pending(Generic[T]):
    """A result of some later turn of the event loop. One step or one `await` may follow it."""

    __slots__ = ("__weakref__", "_error", "_listener", "_result", "_source", "is_settled")

    _result: T
    #: Told of the result, or of the error.
    _listener: Callable[[T | None, Exception | None], None] | None

    def __init__(self, source: Pending[Any] | None = None) -> None:
        self._error: Exception | None = None
        self._listener = None
        #: What this one is made from.
        self._source = source
        #: Is it there, or given up?
        self.is_settled = False

    def then(
        self, step: Callable[[T], U], otherwise: Callable[[Exception], U] | None = None
    ) -> Pending[U]:
        """What `step` makes of the result, or `otherwise` of an error, as soon as it is there.

        Without `otherwise`, an error is passed on; so is one that a step raises. Nothing may have
        been settled yet.
        """
        following: Pending[U] = Pending(self)

        def listener(result: T | None, error: Exception | None) -> None:
            try:
                if error is None:
                    made = step(cast(T, result))
                elif otherwise is not None:
                    made = otherwise(error)
                else:
                    following.fail(error)
                    return
            except Exception as failure:
                following.fail(failure)
                return
            following.succeed(made)

        self._listener = listener
        return following

    def tell(self, listener: Callable[[T | None, Exception | None], None]) -> None:
        """Call `listener` with the result or the error; it must not raise."""
        self._listener = listener

    def succeed(self, result: T) -> None:
        """This is the result."""
        if not self.is_settled:
            self._result = result
            if (listener := self._settle()) is not None:
                listener(result, None)

    def fail(self, error: Exception) -> None:
        """There will be none."""
        if not self.is_settled:
            self._error = error
            if (listener := self._settle()) is not None:
                listener(None, error)

    def give_up(self) -> None:
        """Nobody waits for it any more: what has not begun need not."""
        source = self._source
        self._settle()
        if source is not None:
            source.give_up()

    def _settle(self) -> Callable[[T | None, Exception | None], None] | None:
        """From now on there is nothing to wait for. Returns whom to tell.

        A step knows what follows it, and that knows its source. Unless both let go, each write
        leaves its whole chain to the collector of cycles, which then costs a fifth of a write.
        """
        listener = self._listener
        self._listener = self._source = None
        self.is_settled = True
        return listener

    def __await__(self) -> Generator[Any, None, T]:
        if not self.is_settled:
            future = asyncio.get_running_loop().create_future()

            def wake(*_: object) -> None:
                if not future.done():
                    future.set_result(None)

            self._listener = wake
            try:
                yield from future
            except asyncio.CancelledError:
                self.give_up()
                raise
        if self._error is not None:
            try:
                raise self._error
            finally:
                # Who awaits it holds it, and the error's traceback holds who awaits it: a request
                # with its body would be left to the collector of cycles. It is awaited once.
                self._error = None
        return self._result
