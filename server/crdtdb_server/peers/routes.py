"""The routes that exist because there are other replicas."""

from __future__ import annotations

from typing import Final

import msgspec

from crdtdb.errors import BadRequest, Field, IdentityConflict, PeerError
from crdtdb_server.documents import dump, read_json
from crdtdb_server.exchange import Answer, Headers, Request
from crdtdb_server.peers.envelope import (
    BODY_BYTES,
    ENCODING_HEADER,
    PATH,
    SENDER_HEADER,
    open_body,
    open_sender,
    seal_body,
    seal_sender,
)
from crdtdb_server.peers.faults import Fault, LinkDown
from crdtdb_server.peers.network import Network
from crdtdb_server.peers.status import cluster_document
from crdtdb_server.routes import Access, Route
from crdtdb_server.service import Service

__all__ = ["fault_routes", "peer_routes"]

_FRAMES: Final = "application/octet-stream"
_FAULT: Final = "/v1/faults/links/{replica}"
_FAULT_BYTES: Final = 4_096

#: Refusals that say: this is not a peer of yours.
_IDENTITY: Final = frozenset({"wrong-cluster", "self"})


def peer_routes(network: Network) -> tuple[Route, ...]:
    """How replicas talk, and how the cluster looks from here."""

    async def post_frames(service: Service, request: Request) -> Answer:
        try:
            sender = open_sender(request.headers.get(SENDER_HEADER.lower(), ""))
            frames = open_body(request.body, request.headers.get(ENCODING_HEADER.lower()))
            answers = await network.receive(sender, frames)
        except LinkDown:
            return Answer(b"", service.seen, 503)
        except PeerError as error:
            if error.reason in _IDENTITY:
                raise IdentityConflict(str(error), Field("", error.reason)) from error
            raise BadRequest(f"{error.reason}: {error}", Field("", error.reason)) from error
        body, encoding = seal_body(answers)
        headers: Headers = ((SENDER_HEADER, seal_sender(network.me)),)
        if encoding is not None:
            headers += ((ENCODING_HEADER, encoding),)
        return Answer(body, service.seen, media_type=_FRAMES, headers=headers)

    async def get_cluster(service: Service, request: Request) -> Answer:
        return Answer(dump(cluster_document(service, network)), service.seen)

    return (
        Route(
            "POST",
            PATH,
            post_frames,
            Access.OPEN,
            "Frames of another replica",
            frozenset(),
            BODY_BYTES,
        ),
        Route("GET", "/v1/cluster", get_cluster, Access.OPEN, "Members, lag and stability"),
    )


def fault_routes(network: Network) -> tuple[Route, ...]:
    """Breaking links on purpose; only with `--allow-fault-injection`."""

    async def put_fault(service: Service, request: Request) -> Answer:
        (replica,) = request.names
        if replica == service.database.replica:
            raise BadRequest(
                "that is this replica itself", Field("replica", "has no link to itself")
            )
        try:
            fault = msgspec.convert(await read_json(request), type=Fault, strict=True)
        except msgspec.ValidationError as error:
            raise BadRequest(f"a link's fault: {error}", Field("", str(error))) from error
        network.faults.put(replica, fault)
        return Answer(dump({"replica": replica, **msgspec.to_builtins(fault)}), service.seen)

    async def delete_fault(service: Service, request: Request) -> Answer:
        (replica,) = request.names
        return Answer(dump({"mended": network.faults.mend(replica)}), service.seen)

    async def get_faults(service: Service, request: Request) -> Answer:
        links = {name: msgspec.to_builtins(fault) for name, fault in network.faults.all().items()}
        return Answer(dump({"links": links}), service.seen)

    return (
        Route(
            "PUT",
            _FAULT,
            put_fault,
            Access.ADMIN,
            "Break the link to a replica",
            frozenset(),
            _FAULT_BYTES,
        ),
        Route("DELETE", _FAULT, delete_fault, Access.ADMIN, "Mend the link to a replica"),
        Route("GET", "/v1/faults/links", get_faults, Access.READ, "List broken links"),
    )
