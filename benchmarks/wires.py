"""The network between replicas, with faults: every byte from one to another goes over a wire here.

A replica advertises the port of its gateway, so others reach it only through that. Who calls
stands in the first request of a connection, which tells on which two wires its bytes travel: one
there, one back. Faults act as TCP shows them: a lost packet is a pause until it is sent again, and
behind a cut bytes wait until it is mended or a side gives up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random
from typing import Final, NamedTuple

from crdtdb_server.peers.envelope import SENDER_HEADER, open_sender

__all__ = ["SOUND", "Fault", "Network", "Route"]

_CHUNK_BYTES: Final = 65_536
#: Chunks under way on one connection; a sender beyond that has to wait.
_CHUNKS: Final = 64
#: What TCP waits at least before it sends a lost packet again.
_RETRANSMIT_S: Final = 0.2


class Route(NamedTuple):
    """From one replica to another; the way back is another route."""

    source: str
    target: str


class Fault(NamedTuple):
    """What is wrong with a wire."""

    cut: bool = False
    latency_s: float = 0.0
    #: The latency varies by so much, either way.
    jitter_s: float = 0.0
    #: The share of chunks that have to be sent again.
    loss: float = 0.0
    #: 0: unbounded.
    bytes_per_s: float = 0.0


SOUND: Final = Fault()


class _Wire:
    """One way between two replicas."""

    def __init__(self, random: Random) -> None:
        self.fault = SOUND
        self.carried_bytes = 0
        self.whole = asyncio.Event()
        self.whole.set()
        self._random = random
        self._free_at = 0.0

    def due(self, size: int) -> float:
        """When a chunk that is sent now arrives, in the event loop's time."""
        fault, now = self.fault, asyncio.get_running_loop().time()
        delay_s = fault.latency_s + self._random.uniform(-fault.jitter_s, fault.jitter_s)
        if self._random.random() < fault.loss:
            delay_s += _RETRANSMIT_S + 2 * fault.latency_s
        if fault.bytes_per_s:
            self._free_at = max(self._free_at, now) + size / fault.bytes_per_s
            now = self._free_at
        return now + max(delay_s, 0.0)


class Network:
    """The gateways of some replicas and the wires between any two of them."""

    def __init__(self, names: Iterable[str], random: Random) -> None:
        self.names = list(names)
        self._wires = {
            Route(source, target): _Wire(random)
            for source in self.names
            for target in self.names
            if source != target
        }
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def carried_bytes(self) -> int:
        """Bytes that arrived over all wires since the start, HTTP heads included."""
        return sum(wire.carried_bytes for wire in self._wires.values())

    def put(self, route: Route, fault: Fault) -> None:
        """Break a wire, or with `SOUND` mend it."""
        wire = self._wires[route]
        wire.fault = fault
        (wire.whole.clear if fault.cut else wire.whole.set)()

    def mend(self) -> None:
        """Take all faults away."""
        for route in self._wires:
            self.put(route, SOUND)

    @asynccontextmanager
    async def gateways(self, ports: Mapping[str, tuple[int, int]]) -> AsyncIterator[None]:
        """Listen for each replica: by name, the port of its gateway and its own."""
        async with AsyncExitStack() as stack:
            for name, (outer, inner) in ports.items():
                server = await asyncio.start_server(self._accept(name, inner), "127.0.0.1", outer)
                stack.callback(server.close)
            try:
                yield
            finally:
                for connection in self._connections:
                    connection.cancel()
                await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(
        self, target: str, port: int
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connect(target, port, reader, writer))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

        return accepted

    async def _connect(
        self, target: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one connection until either side closes it."""
        inner: asyncio.StreamWriter | None = None
        pumps: list[asyncio.Task[None]] = []
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            source = _caller(head)
            back, inner = await asyncio.open_connection("127.0.0.1", port)
            there_wire = self._wires[Route(source, target)]
            back_wire = self._wires[Route(target, source)]
            pumps = [
                asyncio.create_task(_pump(there_wire, head, reader, inner)),
                asyncio.create_task(_pump(back_wire, b"", back, writer)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.IncompleteReadError):
            pass  # a side has gone away: so does the connection
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.close()
            if inner is not None:
                inner.close()


def _caller(head: bytes) -> str:
    """The name of the replica that sent a request, from its head."""
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == SENDER_HEADER.lower():
            return open_sender(value.strip()).name
    raise ValueError(f"a peer's request without {SENDER_HEADER}: {head!r}")


async def _pump(
    wire: _Wire, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Carry bytes one way, each when it is due, until there are no more."""
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS)

    async def take_up() -> None:
        chunk = first or await reader.read(_CHUNK_BYTES)
        while chunk:
            await under_way.put((wire.due(len(chunk)), chunk))
            chunk = await reader.read(_CHUNK_BYTES)
        await under_way.put((0.0, b""))

    taking = asyncio.create_task(take_up())
    try:
        while True:
            due, chunk = await under_way.get()
            if not chunk:
                return
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            await wire.whole.wait()
            writer.write(chunk)
            await writer.drain()
            wire.carried_bytes += len(chunk)
    finally:
        taking.cancel()
        with suppress(asyncio.CancelledError, OSError):
            await taking
