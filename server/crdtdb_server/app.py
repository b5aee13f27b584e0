"""The composition root: a database, on the network.

    async with serving(Service(database, Options(port=0))) as url:
        ...

One event loop serves everything; nothing here knows of replication, which brings its own routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from errno import EADDRINUSE
from typing import Final

from aiohttp import web

from crdtdb.errors import StartError
from crdtdb_server.dispatch import Dispatcher
from crdtdb_server.docs import described
from crdtdb_server.doors import Doors
from crdtdb_server.front import make_front
from crdtdb_server.hosts import is_loopback
from crdtdb_server.lane import FastLane
from crdtdb_server.routes import ROUTES
from crdtdb_server.routing import Route
from crdtdb_server.service import Options, Service
from crdtdb_server.slices import Sliced

__all__ = ["serving"]

#: For requests under way when the server stops.
_SHUTDOWN_S: Final = 10.0


@asynccontextmanager
async def serving(
    service: Service,
    routes: Iterable[Route] = ROUTES,
    make_dispatcher: Callable[[Service, Iterable[Route]], Dispatcher] = Dispatcher,
) -> AsyncIterator[str]:
    """Serve while the block lasts; gives the URL. Afterwards every accepted write is durable.

    Raises StartError for an address that must not or cannot be listened on. Closing the database
    is left to whoever opened it.
    """
    options = service.options
    _check_exposure(options)
    dispatcher = make_dispatcher(service, described(routes))
    front = make_front(dispatcher)
    lane = FastLane(dispatcher, lambda: Sliced(front()))
    runner = web.ServerRunner(front, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        doors = Doors(
            lane,
            lambda: len(lane.connections) + len(front.connections),
            options.bounds.connections,
        )
        listener = await _listen(doors, options)
        try:
            yield _url(listener, "http" if options.tls is None else "https")
        finally:
            listener.close()
            service.sessions.close()
            await lane.close(_SHUTDOWN_S)
            await runner.cleanup()
    finally:
        await service.writer.close()


async def _listen(doors: Doors, options: Options) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(
            doors, options.host, options.port, ssl=options.tls
        )
    except OSError as error:
        why: object = error
        if error.errno == EADDRINUSE:
            why = "another program listens there; stop it, or choose another --listen HOST:PORT"
        raise StartError(f"cannot listen on {options.host}:{options.port}: {why}") from error


def _url(listener: asyncio.Server, scheme: str) -> str:
    host, port, *_ = listener.sockets[0].getsockname()
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _check_exposure(options: Options) -> None:
    """Refuse to let strangers write. Raises StartError."""
    if not (is_loopback(options.host) or options.keyring or options.insecure):
        raise StartError(
            f"{options.host} can be reached from other machines, and nobody has to authenticate; "
            "listen on 127.0.0.1, name who may ask with --token-file, "
            "or allow it on a test network with --insecure"
        )
