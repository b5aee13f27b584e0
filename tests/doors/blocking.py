"""The asynchronous door as a synchronous one, so that one suite fits all doors."""

from __future__ import annotations

from asyncio import Runner
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from inspect import iscoroutine
from typing import Any

from crdtdb_client import AsyncClient
from crdtdb_client.async_handles import AsyncMembers, AsyncValue

__all__ = ["Blocking"]


class Blocking:
    """Something asynchronous, each of whose methods returns when it is through."""

    def __init__(self, inner: Any, runner: Runner) -> None:
        self._inner = inner
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if not callable(attribute):
            return attribute

        def call(*arguments: Any, **options: Any) -> Any:
            return self._finished(attribute(*arguments, **options))

        return call

    def _finished(self, result: Any) -> Any:
        if iscoroutine(result):
            return self._run(result)
        if hasattr(result, "__anext__"):
            return self._iterate(result)
        if hasattr(result, "__aenter__") and not isinstance(result, AsyncClient):
            return self._within(result)
        if isinstance(result, AsyncClient | AsyncMembers | AsyncValue):
            return Blocking(result, self._runner)
        return result

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)

    def _iterate(self, iterator: Any) -> Iterator[Any]:
        while True:
            try:
                yield self._run(iterator.__anext__())
            except StopAsyncIteration:
                return

    @contextmanager
    def _within(self, manager: Any) -> Iterator[Any]:
        entered = self._run(manager.__aenter__())
        try:
            yield entered
        except BaseException as error:
            if not self._run(manager.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            self._run(manager.__aexit__(None, None, None))

    # What only synchronous handles have.

    def __contains__(self, value: object) -> bool:
        return bool(self._run(self._inner.contains(value)))

    def __len__(self) -> int:
        return int(self._run(self._inner.size()))

    def __iter__(self) -> Iterator[Any]:
        return self._iterate(self._inner.__aiter__())
