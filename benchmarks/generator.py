"""The load generator: many keep-alive connections, each with one request under way.

It speaks just enough HTTP to be cheap (it knows its own requests, and that answers carry a
`Content-Length`), and lives in a process and on a core of its own, so that the server under test
is what is measured. `busy` says how far it was from being the bottleneck itself.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from math import inf
from multiprocessing.connection import Connection
from time import perf_counter, process_time
from typing import NamedTuple, cast

import uvloop

from figures import quantile
from machine import CLIENT, pin
from raw_http import answer_end, answer_status

__all__ = ["Generator", "Load", "Sample", "generator"]


class Load(NamedTuple):
    """What to send, in turn, over so many connections."""

    port: int
    connections: int
    requests: Sequence[bytes]
    #: For so long, over and over; None: each request once.
    seconds: float | None


class Sample(NamedTuple):
    """What came of it."""

    answers: int
    #: Answers a second.
    rate: float
    p50_ms: float
    p99_ms: float
    #: Share of its core that the generator used.
    busy: float


class Generator:
    """The process, seen from outside."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def run(self, load: Load) -> Sample:
        """Apply a load. Raises EOFError when an answer was not a 200."""
        self._pipe.send(load)
        sample: Sample = self._pipe.recv()
        return sample


@contextmanager
def generator() -> Iterator[Generator]:
    """A load generator, for as long as the block lasts."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_serve, args=(far,), daemon=True)
    process.start()
    far.close()
    try:
        yield Generator(near)
    finally:
        near.close()
        process.join()


def _serve(pipe: Connection) -> None:
    pin(0, CLIENT)
    while True:
        try:
            load = pipe.recv()
        except EOFError:
            return
        pipe.send(uvloop.run(_apply(load)))


async def _apply(load: Load) -> Sample:
    loop = asyncio.get_running_loop()
    callers = [
        (await loop.create_connection(_Caller, "127.0.0.1", load.port))[1]
        for _ in range(load.connections)
    ]
    began, worked = perf_counter(), process_time()
    run = _Run(load, loop.create_future())
    for caller in callers:
        caller.begin(run)
    await run.done
    wall_s, work_s = perf_counter() - began, process_time() - worked
    took_ms = sorted(took_s * 1_000 for took_s in run.took_s)
    p50_ms, p99_ms = quantile(took_ms, 0.5), quantile(took_ms, 0.99)
    return Sample(len(took_ms), len(took_ms) / wall_s, p50_ms, p99_ms, work_s / wall_s)


class _Run:
    """What the connections of one load share."""

    def __init__(self, load: Load, done: asyncio.Future[None]) -> None:
        self.done = done
        self.took_s: list[float] = []
        self._requests = iter(load.requests) if load.seconds is None else cycle(load.requests)
        self._deadline = inf if load.seconds is None else perf_counter() + load.seconds
        self._open = load.connections

    def next_request(self, now: float) -> bytes | None:
        """What to send; None: nothing more."""
        return next(self._requests, None) if now < self._deadline else None

    def leave(self) -> None:
        """A connection has nothing more to do."""
        self._open -= 1
        if not self._open and not self.done.done():
            self.done.set_result(None)

    def fail(self, reason: str) -> None:
        """Something is wrong with the server, or with this generator."""
        if not self.done.done():
            self.done.set_exception(RuntimeError(reason))


class _Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._run: _Run | None = None
        self._received = b""
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def begin(self, run: _Run) -> None:
        """Take part in a run."""
        self._run = run
        self._ask(run, perf_counter())

    def _ask(self, run: _Run, now: float) -> None:
        request = run.next_request(now)
        if request is None:
            self._run = None
            self._transport.close()
            run.leave()
            return
        self._began = now
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        run = self._run
        assert run is not None, "an answer to nothing"
        self._received += data
        end = answer_end(self._received)
        if end is None:
            return
        now = perf_counter()
        run.took_s.append(now - self._began)
        if answer_status(self._received) != 200:
            run.fail(f"the server answered {self._received!r}")
            return
        self._received = self._received[end:]
        self._ask(run, now)

    def connection_lost(self, error: Exception | None) -> None:
        if self._run is not None:
            self._run.fail(f"the server closed a connection: {error}")
