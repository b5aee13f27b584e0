"""`crdtdb serve`: a data directory as a live replica, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING, NamedTuple

import structlog
import uvloop

from crdtdb.database import Database
from crdtdb.errors import StartError
from crdtdb.replication import Replication
from crdtdb_server.app import serving
from crdtdb_server.config import Settings
from crdtdb_server.credentials import Keyring
from crdtdb_server.dispatch import Dispatcher
from crdtdb_server.exposed import exposed_files
from crdtdb_server.hosts import is_anywhere
from crdtdb_server.peers.certified import Certified
from crdtdb_server.peers.clock import monotonic_ms, off_by_ms
from crdtdb_server.peers.losses import damage_routes
from crdtdb_server.peers.measured import ReplicationCollector
from crdtdb_server.peers.membership import membership_routes
from crdtdb_server.peers.network import Network
from crdtdb_server.peers.routes import fault_routes, peer_routes
from crdtdb_server.peers.secret import Secrets
from crdtdb_server.peers.staleness import Staleness
from crdtdb_server.peers.status import state_of
from crdtdb_server.peers.trust import Trust
from crdtdb_server.ports import free_ports
from crdtdb_server.rereading import Reread
from crdtdb_server.routes import ROUTES
from crdtdb_server.service import Options, Service
from crdtdb_server.tls import Tls
from crdtdb_server.writer import Writer

if TYPE_CHECKING:
    from crdtdb_server.tracing import Tracing

__all__ = ["LiveReplica", "live", "serve"]

_log = structlog.get_logger("crdtdb")


class LiveReplica(NamedTuple):
    """A replica on the network."""

    url: str
    service: Service
    network: Network


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM. Raises StartError, with the files as they were."""
    with Database.open(
        settings.data_dir,
        replica=settings.replica,
        region=settings.region,
        cluster=settings.cluster,
    ) as database:
        _collect_less_often()
        uvloop.run(_until_told(database, settings))


def _collect_less_often() -> None:
    """Requests and commits make many objects and hardly any cycles.

    By default each 700 that outlive the moment are searched for cycles, and after a group commit
    that is most of what it made; what was loaded until now stays for good and need not be searched.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _until_told(database: Database, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with live(database, settings) as replica:
        _log.info(
            "serving",
            url=replica.url,
            replica=database.replica,
            region=database.region,
            cluster=database.cluster,
            data_dir=str(settings.data_dir),
        )
        await stop.wait()
        _log.info("stopping")


@asynccontextmanager
async def live(database: Database, settings: Settings) -> AsyncIterator[LiveReplica]:
    """A database as a live replica, while the block lasts.

    Raises StartError for settings that do not go together, or cannot be carried out.
    """
    try:
        settings.check()
    except ValueError as error:
        raise StartError(str(error)) from error
    random = SystemRandom()
    keyring, rereads = None, []
    if settings.token_file is not None:
        keyring = Keyring.read(settings.token_file)
        reread_tokens = partial(keyring.reread, settings.token_file)
        rereads.append(Reread("tokens", [settings.token_file], reread_tokens))
    secrets = None
    if settings.cluster_secret_file is not None:
        secrets = Secrets(settings.cluster_secret_file)
        rereads.append(Reread("secret", [settings.cluster_secret_file], secrets.reread))
    tls = Tls(settings.tls_cert, settings.tls_key, settings.tls_ca, mutual=settings.mutual)
    if tls.files:
        rereads.append(Reread("certificates", tls.files, tls.reread))
    for file, what in exposed_files(settings):
        _log.warning(f"every user of this machine can {what} this file", file=str(file))
    trust = Trust(secrets, Certified(tls, settings.peers) if settings.mutual else None, tls)
    scheme = "http" if tls.listening is None else "https"
    host = settings.host
    try:
        port = settings.port or free_ports(1, host)[0]  # peers must be told of it
    except OSError as error:
        raise StartError(f"cannot listen on {settings.listen}: {error}") from error
    endpoint = settings.advertise or (
        "" if is_anywhere(host) else f"{scheme}://{settings.listen.rpartition(':')[0]}:{port}"
    )
    if endpoint in settings.peers:
        _log.warning("a peer is this replica itself; leave it out", endpoint=endpoint)
    tracing = _tracing(database) if settings.tracing else None
    make_replication = Replication if tracing is None else tracing.replication
    replication = make_replication(
        database.engine,
        name=database.replica,
        region=database.region or "",
        cluster=database.cluster,
        endpoint=endpoint,
        peers=settings.peers,
        random=random,
    )
    options = Options(
        host,
        port,
        settings.advertise,
        settings.allow_hosts,
        settings.insecure,
        keyring,
        tls.listening,
        settings.bounds,
    )
    service = Service(database, options, make_writer=tracing.writer if tracing else Writer)
    network = Network(replication, service.writer, random, trust)
    service.state = lambda: state_of(network, service.writer)
    service.progress = lambda: replication.progress
    service.is_partial = lambda: replication.is_partial
    service.clock_off_by_ms = lambda: off_by_ms(replication)
    service.newer_peers = lambda: network.newer.names(monotonic_ms())
    service.failing = lambda: network.failing
    service.metrics.watch_damage(replication)
    service.metrics.watch(ReplicationCollector(service, network))
    service.metrics.watch_certificates(tls)
    service.witnesses = network
    service.staleness = Staleness(replication).text
    service.writer.on_commit = network.committed
    routes = ROUTES + peer_routes(network) + membership_routes(network)
    routes += damage_routes(network)
    if settings.allow_fault_injection:
        routes += fault_routes(network)
    dispatcher = tracing.dispatcher if tracing else Dispatcher
    try:
        async with serving(service, routes, dispatcher) as url:
            await network.start()
            watching = [asyncio.create_task(reread.keep_looking()) for reread in rereads]
            watching.append(asyncio.create_task(tls.keep_warning()))
            try:
                yield LiveReplica(url, service, network)
            finally:
                for task in watching:
                    task.cancel()
                await network.close()
    finally:
        if tracing is not None:
            await asyncio.to_thread(tracing.close)


def _tracing(database: Database) -> Tracing:
    """The spans of this replica. Raises StartError where OpenTelemetry is not installed."""
    try:
        from crdtdb_server.tracing import Tracing

        return Tracing.from_environment(database)
    except ModuleNotFoundError as error:
        raise StartError("--tracing needs OpenTelemetry: pip install 'crdtdb[otel]'") from error
