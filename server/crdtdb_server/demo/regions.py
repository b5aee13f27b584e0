"""Regions to tell a story to: cut apart, healed, and as they were at the end, whatever comes.

Each region is one `crdtdb serve`: a process that is started for the demo, with a data directory of
its own on a free loopback port, or a replica that runs somewhere already. They know nothing of the
demo; a cut is a fault that a replica injects into its own links.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from crdtdb.errors import CrdtdbError, StartError
from crdtdb.reading import Digest
from crdtdb_client import Client, Unreachable
from crdtdb_server.ports import free_ports

__all__ = ["NotConverged", "Region", "Regions", "Started", "already_running", "running"]

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
class Started:
    """The process of a replica, if it was started for the demo."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    log: Path


@dataclass(frozen=True, slots=True)
class Region:
    """One replica, and a session with it."""

    name: str
    replica: str
    url: str
    db: Client
    started: Started | None = None


class Regions:
    """The replicas of the demo, which start equal."""

    def __init__(self, regions: Sequence[Region]) -> None:
        self.all = tuple(regions)
        self._by_name = {region.name: region for region in regions}
        self._cut_off: set[str] = set()

    def __getitem__(self, name: str) -> Region:
        return self._by_name[name]

    def others(self, name: str) -> list[Region]:
        """All regions but one."""
        return [region for region in self.all if region.name != name]

    def cut(self, name: str) -> None:
        """Let nothing through between this region and the others, in either direction."""
        self._cut_off.add(name)
        for other in self.others(name):
            self[name].db.put_fault(other.replica, drop=True)

    def heal(self, name: str) -> None:
        """Undo the cut."""
        for other in self.others(name):
            self[name].db.mend(other.replica)
        self._cut_off.discard(name)

    def heal_all(self) -> None:
        """Undo what is left of cuts, as far as that can be done."""
        for name in tuple(self._cut_off):
            with suppress(CrdtdbError):
                self.heal(name)

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
        """The last lines that each replica of this demo has logged."""
        return "\n".join(
            f"--- {region.replica}\n{_tail(region.started.log)}"
            for region in self.all
            if region.started is not None
        )


@contextmanager
def running(names: Sequence[str]) -> Iterator[Regions]:
    """Replicas in these regions, serving, while the block lasts. Raises StartError."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="crdtdb-demo-")))
        ports = free_ports(len(names))
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        regions: list[Region] = []
        stack.callback(_stop, regions)
        for name, url in zip(names, urls, strict=True):
            db = stack.enter_context(Client(url))
            regions.append(_start(name, url, [peer for peer in urls if peer != url], home, db))
        for region in regions:
            _await_serving(region.replica, region.db, region.started)
        yield Regions(regions)


@contextmanager
def already_running(names: Sequence[str], urls: Sequence[str]) -> Iterator[Regions]:
    """The replicas at these URLs, one in each of these regions; left without a cut.

    Raises StartError if they are not.
    """
    with ExitStack() as stack:
        found = [_ask(url, stack.enter_context(Client(url))) for url in urls]
        labels = [region.name for region in found]
        if sorted(labels) != sorted(names):
            raise StartError(
                f"one replica in each of the regions {', '.join(names)} is needed; "
                f"these are in: {', '.join(labels)}"
            )
        regions = Regions(sorted(found, key=lambda region: names.index(region.name)))
        stack.callback(regions.heal_all)
        yield regions


def _ask(url: str, db: Client) -> Region:
    """Who is at a URL, as soon as it serves?"""
    _await_serving(f"the replica at {url}", db)
    oneself = db.cluster()["self"]
    return Region(oneself["region"], oneself["replica"], url, db)


def _start(name: str, url: str, peers: Sequence[str], home: Path, db: Client) -> Region:
    log = home / f"{name}.log"
    replica = f"{name}-1"
    command = [sys.executable, "-m", "crdtdb_server", "serve"]
    command += ["--data-dir", str(home / name), "--listen", url.removeprefix("http://")]
    command += ["--replica", replica, "--region", name, "--cluster", "demo"]
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
    return Region(name, replica, url, db, Started(process, home / name, log))


def _stop(regions: Sequence[Region]) -> None:
    processes = [region.started.process for region in regions if region.started is not None]
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_serving(replica: str, db: Client, started: Started | None = None) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if started is not None and started.process.poll() is not None:
            raise StartError(f"{replica} ended at once.{_logged(started)}")
        try:
            if db.readiness() == "serving":
                return
        except Unreachable:
            pass
        time.sleep(_POLL_S)
    raise StartError(f"{replica} is not ready yet.{_logged(started)}")


def _logged(started: Started | None) -> str:
    return "" if started is None else f" Its log:\n{_tail(started.log)}"


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
