"""Real replicas: each a `crdtdb serve` of its own, on loopback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Final, NamedTuple

from crdtdb_server.ports import free_ports
from machine import pin
from raw_http import Line, request

__all__ = ["Replica", "replicas", "starting"]

#: A replica starts in about a second, on a very busy machine in twenty.
_START_S: Final = 120.0
#: What Python runs as a replica.
_CRDTDB: Final = ("-m", "crdtdb_server")
_READY: Final = request("GET", "/readyz")


class Replica(NamedTuple):
    """A process that serves."""

    port: int
    pid: int


@contextmanager
def replicas(
    directories: Sequence[Path],
    cores: frozenset[int],
    *,
    ports: Sequence[int] = (),
    gateways: Sequence[int] = (),
    program: Sequence[str] = _CRDTDB,
    options: Sequence[str] = (),
) -> Iterator[list[Replica]]:
    """A replica for each directory, with all others as peers, while the block lasts.

    They are named like their directories, and listen on these ports, or on free ones. With
    `gateways`, these are the ports at which others reach each of them. `program` is what Python is
    to run instead of crdtdb itself, `options` are further flags of `serve`.
    """
    ports = ports or free_ports(len(directories))
    outer = gateways or ports
    started: list[Replica] = []
    processes = []
    with ExitStack() as running:
        for directory, port, own in zip(directories, ports, outer, strict=True):
            process = _start(directory, port, own, set(outer) - {own}, program, options)
            running.callback(_stop, process)
            pin(process.pid, cores)
            started.append(Replica(port, process.pid))
            processes.append(process)
        for directory, port, process in zip(directories, ports, processes, strict=True):
            _await_ready(port, process, _log_of(directory))
        yield started


@contextmanager
def starting(
    directory: Path, cores: frozenset[int], port: int, peers: Collection[int]
) -> Iterator[Replica]:
    """A replica that need not be ready yet, while the block lasts."""
    process = _start(directory, port, port, peers)
    try:
        pin(process.pid, cores)
        yield Replica(port, process.pid)
    finally:
        _stop(process)


def _start(
    directory: Path,
    port: int,
    outer: int,
    peers: Collection[int],
    program: Sequence[str] = _CRDTDB,
    options: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    command = [sys.executable, *program, "serve", "--data-dir", str(directory), *options]
    command += ["--replica", directory.name, "--listen", f"127.0.0.1:{port}"]
    command += ["--advertise", f"http://127.0.0.1:{outer}"]
    for peer in peers:
        command += ["--peer", f"http://127.0.0.1:{peer}"]
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _log_of(directory).open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def _log_of(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.log")


def _await_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = monotonic() + _START_S
    while True:
        try:
            with Line(port) as line:
                line.exchange(_READY)
            return
        except (OSError, RuntimeError):  # not listening yet, or not ready
            if process.poll() is not None:
                raise RuntimeError(f"a replica ended: {log.read_text()}") from None
            if monotonic() > deadline:
                raise
            sleep(0.05)
