"""Real replicas as real processes on loopback, for tests that kill them and cut their links.

Nothing here sleeps to wait for something: it polls what it waits for, with a deadline that only a
broken run meets.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from crdtdb.types import CATALOGUE
from crdtdb_server.ports import free_ports

__all__ = ["DEADLINE_S", "Replica", "cluster", "equal", "running", "until"]

#: For anything that must happen on any machine, however busy; a bug is what takes longer.
DEADLINE_S = 180.0


def until(what: str, check: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Poll until `check` gives something true; its value. AssertionError at the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.02)


class Replica:
    """One `crdtdb serve`."""

    def __init__(
        self,
        name: str,
        port: int,
        peers: list[int],
        directory: Path,
        *,
        host: str = "127.0.0.1",
        flags: Sequence[str] = (),
        within: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`peers` are ports on this machine; `within` are the words before the command, such as
        `ip netns exec …`; the data is in a directory of its name below `directory`."""
        self.name = name
        self.url = f"http://{host}:{port}"
        self.log = directory / f"{name}.log"
        self.data_dir = directory / name
        self.environment = dict(environment or {})
        self._command = [
            *within,
            *(sys.executable, "-m", "crdtdb_server", "serve"),
            *("--data-dir", str(self.data_dir), "--replica", name, "--region", name),
            *("--listen", f"{host}:{port}", "--allow-fault-injection"),
            *(part for peer in peers for part in ("--peer", f"http://127.0.0.1:{peer}")),
            *flags,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx2.Client(base_url=self.url, timeout=DEADLINE_S)

    def start(self, command: Sequence[str] = ()) -> Self:
        """Start the process, by another command if one is given; `until_ready` waits for it."""
        environment = os.environ | self.environment
        words = [*command] or self._command
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
        return self

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code of its process; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def until_ready(self) -> Self:
        """Wait until the replica serves."""
        until(f"{self.name} ready; its log: {self.log.read_text()}", self._has_become_ready)
        return self

    def _has_become_ready(self) -> bool:
        assert self.code is None, f"{self.name} ended: {self.log.read_text()}"
        return self.is_ready()

    def is_ready(self) -> bool:
        """Does it serve?"""
        try:
            return bool(self.http.get("/readyz").status_code == 200)
        except httpx2.TransportError:
            return False

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        code = self._process.wait(DEADLINE_S)
        self._process = None
        return code

    # -- what tests ask of it ---------------------------------------------------------------------

    def post(self, path: str, operation: Any) -> httpx2.Response:
        """An operation on the object at TYPE/KEY of the bucket `t`."""
        return self.http.post(f"/v1/buckets/t/{path}", json=operation)

    def value(self, path: str) -> Any:
        """The value, or the first thousand members, of the object at TYPE/KEY."""
        kind = path.partition("/")[0]
        query = {"limit": "1000"} if CATALOGUE[kind].collection else {}
        answer = self.http.get(f"/v1/buckets/t/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]

    def digest(self) -> tuple[str, str]:
        """The digest of all visible data, and the token of what it covers."""
        answer = self.http.get("/v1/digest").json()
        return answer["digest"], answer["context"]

    def cut(self, *others: Replica, direction: str = "both") -> None:
        """Break this replica's links to others."""
        for other in others:
            fault = {"drop": True, "direction": direction}
            answer = self.http.put(f"/v1/faults/links/{other.name}", json=fault)
            assert answer.status_code == 200, answer.text

    def mend(self, *others: Replica) -> None:
        """Take the faults away."""
        for other in others:
            assert self.http.delete(f"/v1/faults/links/{other.name}").status_code == 200

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self.http.close()
        if error is not None:
            print(f"--- log of {self.name}\n{self.log.read_text()}")


@contextmanager
def cluster(directory: Path, count: int) -> Iterator[list[Replica]]:
    """So many replicas that all know each other, ready; killed at the end."""
    ports = free_ports(count)
    names = [f"r{number}" for number in range(count)]
    replicas = [
        Replica(name, port, [p for p in ports if p != port], directory)
        for name, port in zip(names, ports, strict=True)
    ]
    with running(replicas):
        yield replicas


@contextmanager
def running(replicas: Sequence[Replica]) -> Iterator[None]:
    """These replicas, ready; killed at the end."""
    try:
        for replica in replicas:
            replica.start()
        for replica in replicas:
            replica.until_ready()
        yield
    except BaseException:
        for replica in replicas:
            print(f"--- log of {replica.name}\n{replica.log.read_text()}")
        raise
    finally:
        for replica in replicas:
            replica.kill()
            replica.http.close()


def equal(replicas: Sequence[Replica]) -> None:
    """Wait until all replicas have seen and show the same."""
    until("all digests equal", lambda: len({replica.digest() for replica in replicas}) == 1)
