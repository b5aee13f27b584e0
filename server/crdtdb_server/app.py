"""The composition root: a database, on the network.

    async with serving(Service(database, Options(port=0))) as url:
        ...

One event loop serves everything; nothing here knows of replication, which brings its own routes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from crdtdb.errors import StartError
from crdtdb_server.dispatch import Dispatcher
from crdtdb_server.front import make_front
from crdtdb_server.hosts import is_loopback
from crdtdb_server.routes import ROUTES, Route
from crdtdb_server.service import Options, Service

__all__ = ["serving"]

#: For requests under way when the server stops.
_SHUTDOWN_S: Final = 10.0


@asynccontextmanager
async def serving(service: Service, routes: Iterable[Route] = ROUTES) -> AsyncIterator[str]:
    """Serve while the block lasts; gives the URL. Afterwards every accepted write is durable.

    Raises StartError for an address that must not or cannot be listened on. Closing the database
    is left to whoever opened it.
    """
    options = service.options
    _check_exposure(options)
    front = make_front(Dispatcher(service, routes))
    runner = web.ServerRunner(front, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, options.host, options.port)
        try:
            await site.start()
        except OSError as error:
            raise StartError(f"cannot listen on {options.host}:{options.port}: {error}") from error
        yield site.name
    finally:
        service.sessions.close()
        await runner.cleanup()
        await service.writer.close()


def _check_exposure(options: Options) -> None:
    """Refuse to let strangers write. Raises StartError."""
    if not (is_loopback(options.host) or options.insecure):
        raise StartError(
            f"{options.host} can be reached from other machines, and nobody has to authenticate; "
            "listen on 127.0.0.1, or allow it on a test network with --insecure"
        )
