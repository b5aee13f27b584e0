"""The comparator from outside: Redis that syncs each append before it answers.

Debian's `redis-server`, on a free port, with a directory that is thrown away. The language spoken
with it is RESP, unpipelined, by the same load generator as HTTP.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection
from time import monotonic, sleep
from typing import Final

from cluster import Replica
from crdtdb_server.ports import free_ports
from generator import Speech
from machine import SERVER, pin

__all__ = ["ABSENT", "RESP", "answer_end", "call", "is_installed", "redis_server"]

ABSENT: Final = "redis-server is not installed (apt-get install redis-server): left out"
_START_S: Final = 60.0
_LINE_END: Final = b"\r\n"


def is_installed() -> bool:
    """Is there a redis-server on this machine?"""
    return shutil.which("redis-server") is not None


def call(*words: str) -> bytes:
    """A command as it goes over the wire."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%s\r\n" % (len(data), data) for data in map(str.encode, words)]
    return b"".join(parts)


def answer_end(data: bytes) -> int | None:
    """Where the first answer in the data ends: a line, or a string with its length before it."""
    line = data.find(_LINE_END)
    if line < 0:
        return None
    end = line + len(_LINE_END)
    if data[:1] == b"$" and data[1:2] != b"-":
        end += int(data[1:line]) + len(_LINE_END)
    return end if len(data) >= end else None


def _is_good(data: bytes) -> bool:
    return not data.startswith(b"-")


RESP: Final = Speech(answer_end, _is_good)


@contextmanager
def redis_server(directory: Path) -> Iterator[Replica]:
    """Redis with `appendonly yes, appendfsync always`, on the servers' core."""
    directory.mkdir(parents=True)
    (port,) = free_ports(1)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        pin(process.pid, SERVER)
        _await_start(port)
        yield Replica(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _await_start(port: int) -> None:
    deadline = monotonic() + _START_S
    while True:
        try:
            with create_connection(("127.0.0.1", port), timeout=_START_S) as connection:
                connection.sendall(call("PING"))
                if connection.recv(64) == b"+PONG\r\n":
                    return
        except OSError:  # it does not listen yet
            pass
        if monotonic() > deadline:
            raise TimeoutError("redis-server did not start")
        sleep(0.05)
