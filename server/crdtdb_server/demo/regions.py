"""Regions as processes: started, cut apart, healed, and gone at the end, whatever comes.

Each region is one `crdtdb serve` with a data directory of its own, on a free loopback port. They
know nothing of the demo; a cut is a fault that a replica injects into its own links.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Final

from crdtdb.errors import CrdtdbError, StartError
from crdtdb.reading import Digest
from crdtdb_client import Client, Unreachable

__all__ = ["NotConverged", "Region", "Regions", "running"]

#: A replica starts in about a second, on a very busy machine in ten.
_START_S: Final = 60.0
#: Replicas look for what they missed every second or so.
_CONVERGE_S: Final = 60.0
_STOP_S: Final = 10.0
_POLL_S: Final = 0.005
#: Lines of a log that are shown when something fails.
_LOG_LINES: Final = 20


class NotConverged(CrdtdbError):
    """The replicas did not become equal in time."""


@dataclass(frozen=True, slots=True)
class Region:
    """One replica: its process, and a session with it."""

    name: str
    url: str
    data_dir: Path
    log: Path
    process: subprocess.Popen[bytes]
    db: Client

    @property
    def replica(self) -> str:
        return f"{self.name}-1"


class Regions:
    """The replicas of the demo, which start equal: empty."""

    def __init__(self, regions: Sequence[Region]) -> None:
        self.all = tuple(regions)
        self._by_name = {region.name: region for region in regions}

    def __getitem__(self, name: str) -> Region:
        return self._by_name[name]

    def others(self, name: str) -> list[Region]:
        """All regions but one."""
        return [region for region in self.all if region.name != name]

    def cut(self, name: str) -> None:
        """Let nothing through between this region and the others, in either direction."""
        for other in self.others(name):
            self[name].db.put_fault(other.replica, drop=True)

    def heal(self, name: str) -> None:
        """Undo the cut."""
        for other in self.others(name):
            self[name].db.mend(other.replica)

    def meet(self, names: Sequence[str] = ()) -> tuple[Digest, float]:
        """Wait until these regions (or all) show the same; the digest, and the milliseconds.

        Raises NotConverged.
        """
        waiting_for = [self[name] for name in names] or self.all
        began = time.monotonic()
        while time.monotonic() - began < _CONVERGE_S:
            digests = {region.db.digest() for region in waiting_for}
            if len(digests) == 1:
                return digests.pop(), (time.monotonic() - began) * 1000
            time.sleep(_POLL_S)
        raise NotConverged(f"the regions still differ {_CONVERGE_S:.0f} s later")

    def log_tails(self) -> str:
        """The last lines that each replica has logged."""
        return "\n".join(f"--- {region.replica}\n{_tail(region.log)}" for region in self.all)


@contextmanager
def running(names: Sequence[str]) -> Iterator[Regions]:
    """Replicas in these regions, serving, while the block lasts. Raises StartError."""
    with ExitStack() as stack:
        stack.enter_context(_unwound_by_signals())
        home = Path(stack.enter_context(TemporaryDirectory(prefix="crdtdb-demo-")))
        ports = _free_ports(len(names))
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        regions: list[Region] = []
        stack.callback(_stop, regions)
        for name, url in zip(names, urls, strict=True):
            db = stack.enter_context(Client(url))
            regions.append(_start(name, url, [peer for peer in urls if peer != url], home, db))
        for region in regions:
            _await_serving(region)
        yield Regions(regions)


def _start(name: str, url: str, peers: Sequence[str], home: Path, db: Client) -> Region:
    log = home / f"{name}.log"
    command = [sys.executable, "-m", "crdtdb_server", "serve"]
    command += ["--data-dir", str(home / name), "--listen", url.removeprefix("http://")]
    command += ["--replica", f"{name}-1", "--region", name, "--cluster", "demo"]
    command += [part for peer in peers for part in ("--peer", peer)]
    command += ["--allow-fault-injection"]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 (nothing in it is from strangers)
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # The user's own settings are for the user's own replica.
            env={key: value for key, value in os.environ.items() if not key.startswith("CRDTDB_")},
            # Ctrl-C is for the demo, which then stops the replicas in good order.
            start_new_session=True,
        )
    return Region(name, url, home / name, log, process, db)


def _stop(regions: Sequence[Region]) -> None:
    for region in regions:
        region.process.terminate()
    for region in regions:
        try:
            region.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            region.process.kill()
            region.process.wait()


def _await_serving(region: Region) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if region.process.poll() is not None:
            raise StartError(f"{region.replica} ended at once. Its log:\n{_tail(region.log)}")
        try:
            if region.db.readiness() == "serving":
                return
        except Unreachable:
            pass
        time.sleep(_POLL_S)
    raise StartError(f"{region.replica} is not ready yet. Its log:\n{_tail(region.log)}")


def _free_ports(count: int) -> list[int]:
    """Ports that are free now. Held together until all are found, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextmanager
def _unwound_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that no replica is left behind."""

    def unwind(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, unwind) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
