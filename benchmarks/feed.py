"""What the change feed costs a server: many records through one stream, and 500 idle readers.

    python benchmarks/feed.py [--quick] [--seed N] [--json FILE]

The memory figure is what the server's resident memory grew by while one reader took every record
by server-sent events, over what it was before; the processor figure is what idle readers add, as a
share of one core. A record that does not arrive ends the benchmark.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import Final

import command
from cluster import Replica, replicas
from crdtdb.database import Database
from disk import Disk
from figures import Figure, Round, at_most
from machine import BOTH, cpu_seconds, resident_bytes
from plan import Plan

__all__ = ["measure"]

_BUCKET: Final = "feed"
_RECORDS: Final = 50_000
_QUICK_RECORDS: Final = 5_000
_READERS: Final = 500
_COMMIT_OPERATIONS: Final = 1_000
#: Memory may move by what an allocator keeps, not by what was delivered.
_MEMORY: Final = at_most(0.15)
_PROCESSOR: Final = at_most(0.01)
_SETTLE_S: Final = 3.0
_CONNECTION_S: Final = 60.0


def measure(
    plan: Plan, directory: Path, _disk: Disk, records: int | None = None, readers: int = _READERS
) -> Iterator[Figure]:
    """Every figure, as soon as there is one."""
    count = records or (_QUICK_RECORDS if plan.quick else _RECORDS)
    _fill(directory / "feed", count)
    with replicas([directory / "feed"], BOTH) as (replica,):
        yield _delivered(replica, count)
        yield _idle(replica, readers, plan.idle_s)


def _fill(directory: Path, records: int) -> None:
    with Database.open(directory) as database:
        for start in range(0, records, _COMMIT_OPERATIONS):
            with database.transaction() as transaction:
                for number in range(start, min(start + _COMMIT_OPERATIONS, records)):
                    transaction.register(_BUCKET, f"key-{number:06}").set(f"value {number}")


def _delivered(replica: Replica, records: int) -> Figure:
    """Take every record twice: the first time warms what a server allocates once."""
    _take(replica, records)
    before = resident_bytes(replica.pid)
    _take(replica, records)
    grown = resident_bytes(replica.pid) - before
    measured = {"records": records, "before MiB": before / 2**20, "grown MiB": grown / 2**20}
    return Figure(
        f"memory grown by {records:,} records streamed / before",
        _MEMORY,
        [Round(max(0, grown) / before, measured)],
    )


def _take(replica: Replica, records: int) -> None:
    """Read the stream from the start until every key has come. Raises TimeoutError if not."""
    missing = {f"key-{number:06}" for number in range(records)}
    with _subscribe(replica, "") as stream, stream.makefile("rb") as lines:
        for line in lines:
            if line.startswith(b"data:"):
                event = json.loads(line[5:])
                missing.discard(event.get("key", ""))
                if not missing:
                    return
    raise RuntimeError(f"the stream ended before {len(missing):,} records had come")


def _idle(replica: Replica, readers: int, idle_s: float) -> Figure:
    def share() -> float:
        sleep(_SETTLE_S)
        before = cpu_seconds(replica.pid)
        sleep(idle_s)
        return (cpu_seconds(replica.pid) - before) / idle_s

    alone = share()
    with ExitStack() as open_streams:
        for _ in range(readers):
            open_streams.enter_context(_subscribe(replica, "&since=now"))
        watched = share()
    added = max(0.0, watched - alone)
    measured = {"readers": readers, "without": alone, "with": watched}
    return Figure(
        f"processor that {readers} idle readers add / one core",
        _PROCESSOR,
        [Round(added, measured)],
    )


def _subscribe(replica: Replica, query: str) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", replica.port), _CONNECTION_S)
    target = f"/v1/changes?feed=sse&bucket={_BUCKET}{query}"
    stream.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return stream


if __name__ == "__main__":
    sys.exit(command.run("What the change feed costs a server.", measure))
