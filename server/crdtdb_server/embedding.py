"""`serve_in_thread`: an open database of this process as a live replica.

The server has an event loop in a thread of its own. While it runs, the program's commits are handed
to the server's writer, the one place from which the engine is called, and take their turn with
those of clients and peers. Reads need no such care: each has a snapshot of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from os import PathLike
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

import structlog
import uvloop

from crdtdb.database import Database
from crdtdb.errors import ReadOnly, StartError
from crdtdb.transaction import Outcome, Transaction
from crdtdb_client.targets import replica_url
from crdtdb_server.config import Settings, read_host, read_listen
from crdtdb_server.serve import live
from crdtdb_server.service import Service

__all__ = ["ServerThread", "serve_in_thread"]

_log = structlog.get_logger("crdtdb")

#: What became of transactions; None: the server was stopping and did not take them.
_Taken = tuple[Outcome, ...] | None
_File = str | PathLike[str] | None


def serve_in_thread(
    database: Database,
    *,
    listen: str = "127.0.0.1:7460",
    peers: Sequence[str] = (),
    advertise: str | None = None,
    allow_hosts: Sequence[str] = (),
    token_file: _File = None,
    cluster_secret_file: _File = None,
    tls_cert: _File = None,
    tls_key: _File = None,
    tls_ca: _File = None,
    insecure: bool = False,
    tracing: bool = False,
) -> ServerThread:
    """Make an open database a live replica, until `stop` or until the database is closed.

    The settings mean what they mean to `crdtdb serve`. The program goes on to use the database,
    from any thread; what it writes is pushed to the peers like any other write.

        >>> from crdtdb import Database
        >>> from crdtdb_client import Client
        >>> with Database.in_memory() as db, serve_in_thread(db, listen="127.0.0.1:0") as server:
        ...     _ = db.counter("shop", "views").increment(5)
        ...     with Client(server.url) as client:
        ...         client.counter("shop", "views").get().value
        5

    Raises StartError, with the database as it was: for settings that do not go together, an address
    that cannot be listened on, a file that cannot be used, a database that is served already.
    """
    try:
        settings = Settings(
            data_dir=Path(),
            listen=read_listen(listen),
            peers=tuple(map(replica_url, peers)),
            advertise=None if advertise is None else replica_url(advertise),
            allow_hosts=tuple(map(read_host, allow_hosts)),
            token_file=_path(token_file),
            cluster_secret_file=_path(cluster_secret_file),
            tls_cert=_path(tls_cert),
            tls_key=_path(tls_key),
            tls_ca=_path(tls_ca),
            insecure=insecure,
            tracing=tracing,
        )
    except ValueError as error:
        raise StartError(str(error)) from error
    return ServerThread(database, settings)


def _path(file: _File) -> Path | None:
    return None if file is None else Path(file)


class ServerThread:
    """A server of this process; running from the start."""

    #: Where it answers.
    url: str

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._loop = uvloop.new_event_loop()
        self._stop = asyncio.Event()
        self._started: Future[str] = Future()
        #: Set once nothing of the server touches the database any more.
        self._ended = Event()
        #: The service, for commits that come before there is one.
        self._service: Future[Service] = Future()
        #: Commits that were handed over.
        self._taken: set[Future[_Taken]] = set()
        try:
            database.hand_over(self._submit, self.stop)
        except StartError:
            self._loop.close()
            raise
        self._thread = Thread(target=self._run, name=f"crdtdb {database.replica}", daemon=True)
        self._thread.start()
        try:
            self.url = self._started.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Answer what has begun, leave the cluster's conversation, and end. Idempotent.

        Afterwards the database is a lone one again.
        """
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # -- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        finally:
            self._ended.set()

    async def _serve(self) -> None:
        try:
            async with live(self._database, self._settings) as replica:
                self._service.set_result(replica.service)
                self._started.set_result(replica.url)
                await self._stop.wait()
        except Exception as error:
            if self._started.done():
                _log.exception("the server did not end as it should")
            else:
                self._started.set_exception(error)
        finally:
            self._service.cancel()
            # From here on nothing more is handed over; what has been is told that it is too late.
            self._database.take_back()
            waiting = map(asyncio.wrap_future, tuple(self._taken))
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _carry_out(self, transactions: Sequence[Transaction]) -> _Taken:
        try:
            service = await asyncio.wrap_future(self._service)
        except asyncio.CancelledError:
            return None
        try:
            return await service.carry_out_all(transactions)
        except ReadOnly:
            if service.writer.closed:
                return None
            raise

    # -- in the program's threads -----------------------------------------------------------------

    def _submit(self, transactions: Sequence[Transaction]) -> Callable[[], _Taken]:
        """Hand a commit over; the result waits for what became of it."""
        taken = asyncio.run_coroutine_threadsafe(self._carry_out(transactions), self._loop)
        self._taken.add(taken)

        def result() -> _Taken:
            try:
                outcomes = taken.result()
            finally:
                self._taken.discard(taken)
            if outcomes is None:
                self._ended.wait()
            return outcomes

        return result
