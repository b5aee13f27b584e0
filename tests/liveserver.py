"""A live replica on a free loopback port, in a thread: for what talks to it from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from crdtdb import Database
from crdtdb.store.memory import MemoryStore
from crdtdb_client import Client
from crdtdb_server.config import Settings
from crdtdb_server.ports import free_ports
from crdtdb_server.serve import live
from processes import DEADLINE_S

__all__ = ["live_server"]


@contextmanager
def live_server(replica: str = "eu-1", store: MemoryStore | None = None) -> Iterator[str]:
    """Serve a replica in memory, empty unless there is a store already; gives its URL."""
    started: SimpleQueue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = SimpleQueue()

    async def serve() -> None:
        stop = asyncio.Event()
        settings = Settings(
            data_dir=Path("unused"),
            listen=f"127.0.0.1:{free_ports(1)[0]}",
            allow_fault_injection=True,
        )
        with Database(store or MemoryStore(), replica=replica) as database:
            async with live(database, settings) as running:
                started.put((running.url, asyncio.get_running_loop(), stop))
                await stop.wait()

    thread = Thread(target=asyncio.run, args=[serve()], name=f"server {replica}")
    thread.start()
    url, loop, stop = started.get(timeout=DEADLINE_S)
    try:
        with Client(url) as client:
            while client.readiness() != "serving":
                pass
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
