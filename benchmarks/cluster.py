"""Real replicas: each a `crdtdb serve` of its own, on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Final, NamedTuple

from machine import pin
from raw_http import Line, request

__all__ = ["Replica", "replicas"]

_START_S: Final = 30.0
_READY: Final = request("GET", "/readyz")


class Replica(NamedTuple):
    """A process that serves."""

    port: int
    pid: int


@contextmanager
def replicas(directories: Sequence[Path], cores: frozenset[int]) -> Iterator[list[Replica]]:
    """A replica for each directory, with all others as peers, while the block lasts."""
    ports = _free_ports(len(directories))
    started: list[Replica] = []
    with ExitStack() as running:
        for directory, port in zip(directories, ports, strict=True):
            process = _start(directory, port, set(ports) - {port})
            running.callback(_stop, process)
            pin(process.pid, cores)
            started.append(Replica(port, process.pid))
        for port in ports:
            _await_ready(port)
        yield started


def _start(directory: Path, port: int, peers: Collection[int]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "crdtdb_server", "serve", "--data-dir", str(directory)]
    command += ["--listen", f"127.0.0.1:{port}"]
    for peer in peers:
        command += ["--peer", f"http://127.0.0.1:{peer}"]
    with directory.with_name(f"{directory.name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def _await_ready(port: int) -> None:
    deadline = monotonic() + _START_S
    while True:
        try:
            with Line(port) as line:
                line.exchange(_READY)
            return
        except (OSError, RuntimeError):  # not listening yet, or not ready
            if monotonic() > deadline:
                raise
            sleep(0.05)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
