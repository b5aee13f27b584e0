"""Several live replicas in this event loop, in memory, each with a region of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from crdtdb import Database
from crdtdb.store.memory import MemoryStore
from crdtdb_server.config import Settings
from crdtdb_server.peers.faults import Fault
from crdtdb_server.ports import free_ports
from crdtdb_server.serve import LiveReplica, live
from processes import DEADLINE_S
from wireclient import Wire

__all__ = ["LiveWire", "eventually", "live_cluster"]


async def eventually(what: str, check: Callable[[], bool]) -> None:
    """Poll until it is so. AssertionError at a deadline that only a broken run meets."""
    end = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < end, f"never happened: {what}"
        await asyncio.sleep(0.01)


class LiveWire(Wire):
    """A way to talk to one replica of the cluster, and to cut its links."""

    def __init__(self, replica: LiveReplica) -> None:
        super().__init__(replica.service, int(replica.url.rpartition(":")[2]))
        self.network = replica.network

    def cut(self, *others: LiveWire) -> None:
        """Break the links to others."""
        for other in others:
            self.network.faults.put(other.service.database.replica, Fault(drop=True))

    def mend(self, *others: LiveWire) -> None:
        """Take the faults away."""
        for other in others:
            self.network.faults.mend(other.service.database.replica)

    @property
    def is_whole(self) -> bool:
        """Serving, with as many members as it has peers?"""
        replication = self.network.replication
        return (
            self.service.state() == "serving"
            and replication.settled
            and not replication.unmet()
            and replication.incarnation in replication.members
        )


@asynccontextmanager
async def live_cluster(*names: str, tracing: bool = False) -> AsyncIterator[list[LiveWire]]:
    """Replicas of these names (`eu-1` is in the region `eu`), all members of each other."""
    urls = [f"http://127.0.0.1:{port}" for port in free_ports(len(names))]
    async with AsyncExitStack() as stack:
        wires: list[LiveWire] = []
        for name, url in zip(names, urls, strict=True):
            store = MemoryStore(name.encode())
            database = Database(store, replica=name, region=name.partition("-")[0])
            settings = Settings(
                data_dir=Path("unused"),
                listen=url.removeprefix("http://"),
                peers=tuple(other for other in urls if other != url),
                allow_fault_injection=True,
                tracing=tracing,
            )
            replica = await stack.enter_async_context(live(database, settings))
            wires.append(LiveWire(replica))
        await eventually("one cluster", lambda: all(wire.is_whole for wire in wires))
        yield wires
