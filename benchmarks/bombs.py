"""Requests that are meant to hurt: how soon each is refused, and what everybody else feels of it.

    python benchmarks/bombs.py [--quick] [--seed N] [--json FILE]

Each request of the corpus goes to a real replica over a connection of its own, again and again for
a while, as fast as it is answered. Meanwhile another connection asks for a counter all the time:
the longest of its waits says how long the event loop was held (and what else the machine was busy
with, so the longest wait without any bomb stands beside it; and of several tries with one bomb the
best counts: what a bomb does, it does each time). The figures are the slowest refusal in seconds,
that wait, and what resident memory grew by after the first time. Who is not refused with
one of the statuses that the corpus names ends the benchmark.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Final

import command
from bomb_corpus import CORPUS, Bomb
from cluster import Replica, replicas
from disk import Disk
from figures import Figure, Round, at_most
from machine import BOTH, resident_bytes
from plan import Plan
from raw_http import Line, request

__all__ = ["measure", "refusal"]

_MIB: Final = 2**20
_TRIES: Final = 3
_ANSWER_S: Final = 60.0
#: So many of the bombs that others felt most are told.
_TOLD: Final = 8

_SLOWEST_S: Final = at_most(1.0)
_HELD_S: Final = at_most(0.05)
_GROWN: Final = at_most(0.1)


def measure(plan: Plan, directory: Path, _disk: Disk) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    bomb_s = 0.1 if plan.quick else 1.0
    with replicas([directory / "bombs"], BOTH) as (replica,):
        probe = _Probe(replica)
        for bomb in CORPUS:
            _throw(replica, bomb, bomb_s)  # what allocators keep for the next time, they keep once
        calm_s, _ = probe.longest_s(partial(_wait, 10 * bomb_s))
        before = resident_bytes(replica.pid)
        slowest, held = [], []
        for bomb in CORPUS:
            throw = partial(_throw, replica, bomb, bomb_s / _TRIES)
            tries = [probe.longest_s(throw) for _ in range(_TRIES)]
            held.append(min(longest_s for longest_s, _ in tries))
            slowest.append(max(refusal_s for _, refusal_s in tries))
        grown = max(0, resident_bytes(replica.pid) - before)
    worst = max(range(len(CORPUS)), key=slowest.__getitem__)
    longest = max(range(len(CORPUS)), key=held.__getitem__)
    print(f"slowest: {CORPUS[worst].name}; felt most:")
    for held_s, bomb in sorted(zip(held, CORPUS, strict=True), key=lambda one: -one[0])[:_TOLD]:
        print(f"  {1_000 * held_s:6.1f} ms  {bomb.name}")
    yield Figure(
        "slowest refusal / 1 s", _SLOWEST_S, [Round(slowest[worst], {"bombs": len(CORPUS)})]
    )
    yield Figure(
        "longest wait of others / 1 s", _HELD_S, [Round(held[longest], {"without bombs s": calm_s})]
    )
    measured = {"before MiB": before / _MIB, "grown MiB": grown / _MIB}
    yield Figure("memory grown / before", _GROWN, [Round(grown / before, measured)])


def _wait(seconds: float) -> float:
    Event().wait(seconds)
    return seconds


def _throw(replica: Replica, bomb: Bomb, seconds: float) -> float:
    """Throw a bomb, again and again for so long; how long the slowest refusal took, in seconds."""
    until = perf_counter() + seconds
    slowest_s = 0.0
    while True:
        began = perf_counter()
        status = refusal(replica.port, bomb)
        ended = perf_counter()
        if status not in bomb.statuses:
            raise RuntimeError(f"{bomb.name} was answered {status}, not {sorted(bomb.statuses)}")
        slowest_s = max(slowest_s, ended - began)
        if ended >= until:
            return slowest_s


def refusal(port: int, bomb: Bomb) -> int:
    """The status that a bomb is answered with; 0: the connection was cut without an answer."""
    with socket.create_connection(("127.0.0.1", port), _ANSWER_S) as stream:
        # Who is refused before everything has been sent may find the connection closed.
        with suppress(ConnectionError):
            for piece in bomb.pieces:
                stream.sendall(piece)
        data = b""
        with suppress(ConnectionError):
            while len(data) < 12 and (part := stream.recv(4_096)):
                data += part
        return int(data[9:12] or 0)


class _Probe:
    """Another client, who asks for a counter all the time."""

    def __init__(self, replica: Replica) -> None:
        self._port = replica.port
        self._ask = request("GET", "/v1/buckets/shop/counter/views")

    def longest_s(self, work: Callable[[], float]) -> tuple[float, float]:
        """How long this client waited at most while the work was done, and what that gave."""
        stop = Event()
        waits: list[float] = []

        def ask() -> None:
            with Line(self._port) as line:
                while not stop.is_set():
                    began = perf_counter()
                    line.exchange(self._ask)
                    waits.append(perf_counter() - began)
                    stop.wait(0.002)

        asking = Thread(target=ask)
        asking.start()
        try:
            done = work()
        finally:
            stop.set()
            asking.join()
        return max(waits), done


if __name__ == "__main__":
    sys.exit(command.run("Requests that are meant to hurt.", measure))
