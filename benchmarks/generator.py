"""The load generator: many keep-alive connections, each with one request under way.

It speaks just enough HTTP to be cheap (it knows its own requests, and that answers carry a
`Content-Length`), or another language whose answers it is told how to read, and lives in a process
and on a core of its own, so that the server under test is what is measured. `busy` says how far it
was from being the bottleneck itself.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from math import inf
from multiprocessing.connection import Connection
from time import perf_counter, process_time
from typing import Final, NamedTuple, cast

import uvloop

from figures import quantile
from machine import CLIENT, pin
from raw_http import answer_end, answer_retry_s, answer_status

__all__ = ["HTTP", "Generator", "Load", "Sample", "Speech", "generator"]


class Speech(NamedTuple):
    """How answers are read. Both are functions of a module, so that the generator can load them."""

    #: Where the first answer in some data ends; None while it is not there whole.
    end: Callable[[bytes], int | None]
    #: Is the answer that the data begins with what was wished for?
    is_good: Callable[[bytes], bool]


def _is_ok(data: bytes) -> bool:
    return answer_status(data) == 200


HTTP: Final = Speech(answer_end, _is_ok)


class Load(NamedTuple):
    """What to send, in turn, over so many connections."""

    port: int
    connections: int
    requests: Sequence[bytes]
    #: For so long, over and over, and at least once on each connection; None: each request once;
    #: infinite: until told to stop.
    seconds: float | None
    speech: Speech = HTTP
    #: From one request of a connection to its next; 0: as soon as there is an answer. Times are
    #: then taken from when a request was due, so a server that is late is late for all that wait.
    every_s: float = 0.0
    #: May answers be 429 or 503 with `Retry-After`? They are counted apart, and whoever got one
    #: asks again after that time; with `pressing` as if nothing had been said. Times are then taken
    #: from when a request was sent.
    refusals: bool = False
    pressing: bool = False


class Sample(NamedTuple):
    """What came of it."""

    answers: int
    #: Answers a second.
    rate: float
    p50_ms: float
    p99_ms: float
    #: Share of its core that the generator used.
    busy: float
    #: Answers that were refusals, beside the others.
    refused: int = 0


class Generator:
    """The process, seen from outside."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def run(self, load: Load) -> Sample:
        """Apply a load. Raises EOFError when an answer was not good."""
        self._pipe.send(load)
        sample: Sample = self._pipe.recv()
        return sample

    def begin(self, load: Load) -> None:
        """Apply a load until `stop`."""
        self._pipe.send(load._replace(seconds=inf))

    def stop(self) -> Sample:
        """What came of it. Raises EOFError when an answer was not good."""
        self._pipe.send(None)
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
        pipe.send(uvloop.run(_apply(load, pipe)))


async def _apply(load: Load, pipe: Connection) -> Sample:
    loop = asyncio.get_running_loop()
    callers = [
        (await loop.create_connection(_Caller, "127.0.0.1", load.port))[1]
        for _ in range(load.connections)
    ]
    began, worked = perf_counter(), process_time()
    run = _Run(load, loop.create_future())
    for number, caller in enumerate(callers):
        late_s = load.every_s * number / load.connections
        caller.begin(run, began + late_s if late_s else perf_counter())
    if load.seconds == inf:
        await _told_to_stop(pipe)
        run.end()
    await run.done
    wall_s, work_s = perf_counter() - began, process_time() - worked
    took_ms = sorted(took_s * 1_000 for took_s in run.took_s)
    p50_ms, p99_ms = quantile(took_ms, 0.5), quantile(took_ms, 0.99)
    count = len(took_ms)
    return Sample(count, count / wall_s, p50_ms, p99_ms, work_s / wall_s, run.refused)


async def _told_to_stop(pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_reader(pipe.fileno(), told.set)
    await told.wait()
    loop.remove_reader(pipe.fileno())
    os.set_blocking(pipe.fileno(), True)  # uvloop has changed that
    pipe.recv()


class _Run:
    """What the connections of one load share."""

    def __init__(self, load: Load, done: asyncio.Future[None]) -> None:
        self.done = done
        self.speech = load.speech
        self.every_s = load.every_s
        self.refusals = load.refusals
        self.pressing = load.pressing
        self.refused = 0
        self.took_s: list[float] = []
        self._requests = iter(load.requests) if load.seconds is None else cycle(load.requests)
        self._deadline = inf if load.seconds is None else perf_counter() + load.seconds
        self._open = load.connections

    def next_request(self, now: float, *, is_first: bool) -> bytes | None:
        """What to send on a connection; None: nothing more."""
        return next(self._requests, None) if is_first or now < self._deadline else None

    def end(self) -> None:
        """Send nothing more."""
        self._deadline = 0.0

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
        self._due = self._began = 0.0
        self._has_asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def begin(self, run: _Run, due: float) -> None:
        """Take part in a run."""
        self._run = run
        self._ask_at(run, due)

    def _ask_at(self, run: _Run, due: float) -> None:
        """Ask when it is due, or now if that is later."""
        now = perf_counter()
        if now < due:
            loop = asyncio.get_running_loop()
            loop.call_later(due - now, self._ask, run, due)
        else:
            self._ask(run, due)

    def _ask(self, run: _Run, due: float) -> None:
        began = perf_counter() if run.refusals else due
        request = run.next_request(began, is_first=not self._has_asked)
        self._has_asked = True
        if request is None:
            self._run = None
            self._transport.close()
            run.leave()
            return
        self._due, self._began = due, began
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        run = self._run
        assert run is not None, "an answer to nothing"
        self._received += data
        end = run.speech.end(self._received)
        if end is None:
            return
        now = perf_counter()
        wait_s = answer_retry_s(self._received) if run.refusals else None
        if wait_s is not None:
            run.refused += 1
        elif run.speech.is_good(self._received):
            run.took_s.append(now - self._began)
        else:
            run.fail(f"the server answered {self._received!r}")
            return
        self._received = self._received[end:]
        due = self._due + run.every_s if run.every_s else now
        if wait_s is not None and not run.pressing:
            due = max(due, now + wait_s)
        self._ask_at(run, due)

    def connection_lost(self, error: Exception | None) -> None:
        if self._run is not None:
            self._run.fail(f"the server closed a connection: {error}")
