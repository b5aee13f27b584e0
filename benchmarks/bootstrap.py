"""A newcomer takes its first copy of a large replica: bytes, time, and memory.

    python benchmarks/bootstrap.py [--quick] [--records N] [--rounds N] [--seed N] [--json FILE]

A donor holds N records, half of them members of one set, half registers. A fresh replica with that
donor as its peer is started on an empty directory, both as processes on loopback.

- Bytes: all pages, as they are before compression, against a compact copy of the data file.
- Time: from the newcomer's first answer until it is ready, against a copy of the donor's data file
  by LMDB and the bytes of the pages over a bare socket.
- Memory: what the newcomer's own memory (`RssAnon`) grew by at most, in MiB. Pages of the mapped
  data file are left out: the system takes them back when it likes.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Thread
from time import perf_counter, sleep
from typing import Any, Final, NamedTuple

import lmdb

import command
from cluster import Replica, replicas, starting
from crdtdb.database import Database
from crdtdb.replication.donor import read_copy
from crdtdb.replication.messages import Copied, Copy, write_frame
from crdtdb_server.ports import free_ports
from figures import Figure, Round, at_most
from machine import CLIENT, SERVER, cpu_seconds, facts, private_bytes
from raw_http import Line, first_answer, request

__all__ = ["fill", "measure"]

_BUCKET: Final = "bench"
_CHUNK: Final = 1_000
_VALUE_BYTES: Final = 50
_MIB: Final = 2**20
_SAMPLE_S: Final = 0.02
_GIVEN_UP_S: Final = 3_600.0
_ALIVE: Final = request("GET", "/healthz")
_READY: Final = request("GET", "/readyz")
_CLUSTER: Final = request("GET", "/v1/cluster")


class _Took(NamedTuple):
    """One bootstrap."""

    seconds: float
    #: Time of the processor, of both replicas.
    used_seconds: float
    grown_bytes: int


def main() -> int:
    """Measure, print, judge."""
    arguments = _arguments()
    with TemporaryDirectory(prefix="crdtdb-bench-") as name:
        figures = measure(Path(name), arguments)
        return command.tell({**facts(), **vars(arguments)}, figures, arguments.json)


def measure(directory: Path, arguments: argparse.Namespace) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    donor = directory / "donor"
    with Database.open(donor, replica="donor") as database:
        fill(database, arguments.records, Random(arguments.seed))
        page_bytes = _page_bytes(database)
    compact_bytes = _copy(donor, directory / "compact", compact=True)
    measured = {"pages MiB": page_bytes / _MIB, "compact MiB": compact_bytes / _MIB}
    yield Figure(
        "bytes of all pages / compact copy of the data file",
        at_most(1.1),
        [Round(page_bytes / compact_bytes, measured)],
    )
    times, memory = [], []
    with replicas([donor], SERVER) as (running,):
        for number in range(arguments.rounds):
            copy_s = _copy_time(donor, directory / "copy") + _wire_time(page_bytes)
            took = _bootstrap(running, directory / f"newcomer-{number}")
            measured = {
                "bootstrap s": took.seconds,
                "copy and socket s": copy_s,
                "processor µs/record": took.used_seconds / arguments.records * 1e6,
            }
            times.append(Round(took.seconds / copy_s, measured))
            rate = {"records/s": arguments.records / took.seconds}
            memory.append(Round(took.grown_bytes / _MIB, rate))
            shutil.rmtree(directory / f"newcomer-{number}")
    yield Figure("time of a bootstrap / copy and bare socket", at_most(15.0), times)
    yield Figure("memory of the newcomer, grown by at most, MiB", at_most(64.0), memory)


def fill(database: Database, records: int, random: Random) -> None:
    """Give a replica so many records: half members of one set, half registers."""
    members = database.set(_BUCKET, "members")
    for start in range(0, records, 2 * _CHUNK):
        count = min(2 * _CHUNK, records - start) // 2
        members.add(*(random.randbytes(_VALUE_BYTES // 2).hex() for _ in range(count)))
        with database.transaction() as transaction:
            for _ in range(count):
                key = f"{random.getrandbits(64):016x}"
                value = random.randbytes(_VALUE_BYTES // 2).hex()
                transaction.register(_BUCKET, key).set(value)


def _page_bytes(database: Database) -> int:
    """The frames that a newcomer with nothing is sent."""
    size, after = 0, b""
    while True:
        page = read_copy(database.engine, Copy(1, after, []))
        assert isinstance(page, Copied), "nothing is reclaimed here"
        size += len(write_frame(page))
        if page.is_last:
            return size
        after = page.rows[-1][0]


def _copy(store: Path, target: Path, *, compact: bool) -> int:
    """Copy a store's data file; how long the copy is."""
    target.mkdir()
    with lmdb.open(str(store), readonly=True, lock=False, create=False) as environment:
        environment.copy(str(target), compact=compact)
    size = sum(file.stat().st_size for file in target.iterdir())
    shutil.rmtree(target)
    return size


def _copy_time(store: Path, target: Path) -> float:
    began = perf_counter()
    _copy(store, target, compact=False)
    return perf_counter() - began


def _wire_time(size: int) -> float:
    """So many bytes through a socket on loopback, in pieces of a page."""
    sending, receiving = socket.socketpair()
    piece = bytes(262_144)

    def send() -> None:
        with sending:
            for _ in range(-(-size // len(piece))):
                sending.sendall(piece)

    began = perf_counter()
    thread = Thread(target=send)
    with receiving:
        thread.start()
        while receiving.recv(len(piece)):
            pass
    thread.join()
    return perf_counter() - began


def _bootstrap(donor: Replica, directory: Path) -> _Took:
    """Start a newcomer and wait until it is ready."""
    (port,) = free_ports(1)
    with (
        starting(directory, CLIENT, port, [donor.port]) as newcomer,
        first_answer(port, _ALIVE, _GIVEN_UP_S) as line,
    ):
        before = private_bytes(newcomer.pid)
        used_before_s = cpu_seconds(newcomer.pid) + cpu_seconds(donor.pid)
        began, most = perf_counter(), before
        while not _is_ready(line):
            most = max(most, private_bytes(newcomer.pid))
            if perf_counter() - began > _GIVEN_UP_S:
                raise TimeoutError("the newcomer never was ready")
            sleep(_SAMPLE_S)
        took_s = perf_counter() - began
        most = max(most, private_bytes(newcomer.pid))
        document: dict[str, Any] = json.loads(line.ask(_CLUSTER).body)
        assert len(document["members"]) >= 1, "a state without members"
        used_s = cpu_seconds(newcomer.pid) + cpu_seconds(donor.pid) - used_before_s
        return _Took(took_s, used_s, most - before)


def _is_ready(line: Line) -> bool:
    try:
        return bool(line.exchange(_READY))
    except RuntimeError:
        return False


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The first copy of a large replica, as ratios.")
    parser.add_argument("--quick", action="store_true", help="few records, rough figures")
    parser.add_argument("--records", type=int, help="of the donor (1,000,000; quick: 50,000)")
    parser.add_argument("--rounds", type=int, help="bootstraps (3; quick: 1)")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of all choices")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw rounds there")
    arguments = parser.parse_args()
    arguments.records = arguments.records or (50_000 if arguments.quick else 1_000_000)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
