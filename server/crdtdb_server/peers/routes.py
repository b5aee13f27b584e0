"""The routes that exist because there are other replicas."""

from __future__ import annotations

from typing import Final

import msgspec
import structlog

from crdtdb.errors import (
    BadRequest,
    Field,
    Forbidden,
    IdentityConflict,
    PeerError,
    UnknownReplica,
    shortened,
)
from crdtdb.operations import refusal
from crdtdb_server.access import Access
from crdtdb_server.answers import DroppedDocument
from crdtdb_server.documents import dump, read_json
from crdtdb_server.exchange import Answer, Headers, Request
from crdtdb_server.logins import A_REPLICA, Caller
from crdtdb_server.parameters import Text, parameters
from crdtdb_server.peers.clock import now_s
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
from crdtdb_server.peers.faults import BrokenDocument, Fault, FaultsDocument, LinkDown
from crdtdb_server.peers.network import Network
from crdtdb_server.peers.secret import PROOF_HEADER, Unproven
from crdtdb_server.peers.status import ClusterDocument, cluster_document
from crdtdb_server.problems import problem_answer
from crdtdb_server.routing import Route
from crdtdb_server.schemas import Content, content_of
from crdtdb_server.service import Service

__all__ = ["fault_routes", "peer_routes"]

_log = structlog.get_logger("crdtdb.peers")

_FRAMES: Final = Content(
    {"type": "string", "format": "binary", "description": "Of this version of crdtdb only"},
    "application/octet-stream",
)
_REPLICA: Final = parameters(Text("replica", "The name of another replica"))
_FAULT: Final = "/v1/faults/links/{replica}"
_FAULT_BYTES: Final = 4_096
#: So many names at most are told to who asks for another.
_NAMED: Final = 20

#: Who was not believed: a connection is known by the certificate that was shown when it began.
_BEGIN_ANEW: Final[Headers] = (("Connection", "close"),)
#: Refusals that say: this is not a peer of yours.
_IDENTITY: Final = frozenset({"wrong-cluster", "self", "identity-conflict"})


def peer_routes(network: Network) -> tuple[Route, ...]:
    """How replicas talk, and how the cluster looks from here.

    Frames are taken only from those who prove that they are of this cluster (`Network.trust`).
    """

    said = _Said()

    async def post_frames(service: Service, request: Request) -> Answer:
        """What another replica sends, answered in frames. For replicas of one cluster only."""
        sealed_sender = request.headers.get(SENDER_HEADER.lower(), "")
        encoding = request.headers.get(ENCODING_HEADER.lower())
        proof = request.headers.get(PROOF_HEADER.lower(), "")
        secrets, certified, _ = network.trust
        secret = None
        try:
            try:
                if secrets is not None:
                    secret = secrets.check_request(
                        proof, now_s(), sealed_sender, encoding, request.body
                    )
                sender = open_sender(sealed_sender)
                if certified is not None:
                    members = network.replication.members
                    certified.check(sender, request.connection, members)
                frames = open_body(request.body, encoding)
            except (Unproven, PeerError) as error:
                reason = error.reason if isinstance(error, PeerError) else "unproven"
                network.refusals[reason] += 1
                if isinstance(error, Unproven):
                    service.logins.fail(request.address, "peer", request.began)
                raise
            if secrets is not None or certified is not None:
                service.logins.admit(Caller(request.address, A_REPLICA), request.began)
            answers = await network.receive(sender, frames)
        except Unproven as error:
            field = Field("" if secrets is None else PROOF_HEADER, str(error))
            forbidden = Forbidden(f"replication is refused: {error}", field)
            return problem_answer(forbidden, service.seen, _BEGIN_ANEW)
        except LinkDown:
            return Answer(b"", service.seen, 503)
        except PeerError as error:
            if error.reason in _IDENTITY:
                said.note(error)
                raise IdentityConflict(str(error), Field("", error.reason)) from error
            raise BadRequest(f"{error.reason}: {error}", Field("", error.reason)) from error
        body, encoding = seal_body(answers)
        me = seal_sender(network.me)
        headers: Headers = ((SENDER_HEADER, me),)
        if encoding is not None:
            headers += ((ENCODING_HEADER, encoding),)
        if secret is not None:
            headers += ((PROOF_HEADER, secret.prove_answer(proof, me, encoding, body)),)
        return Answer(body, service.seen, media_type=_FRAMES.media_type, headers=headers)

    async def get_cluster(service: Service, request: Request) -> Answer:
        """The members as this replica sees them, and what keeps operations from being stable."""
        return Answer(dump(cluster_document(service, network)), service.seen)

    return (
        Route(
            "POST",
            PATH,
            post_frames,
            Access.PEER,
            "Frames of another replica",
            (_FRAMES,),
            takes=_FRAMES,
            body_bytes=BODY_BYTES,
            problems=(Forbidden, IdentityConflict),
        ),
        Route(
            "GET",
            "/v1/cluster",
            get_cluster,
            Access.STATUS,
            "Members, lag and stability",
            (content_of(ClusterDocument),),
        ),
    )


class _Said:
    """What the log has said of two replicas with one identity: once, until it is another two."""

    def __init__(self) -> None:
        self._last = ""

    def note(self, error: PeerError) -> None:
        if error.reason == "identity-conflict" and str(error) != self._last:
            self._last = str(error)
            _log.error("two replicas with one identity", why=self._last)


def fault_routes(network: Network) -> tuple[Route, ...]:
    """Breaking links on purpose; only with `--allow-fault-injection`."""

    async def put_fault(service: Service, request: Request) -> Answer:
        """Break this replica’s link to another, on purpose."""
        (replica,) = request.names
        if replica == service.database.replica:
            raise BadRequest(
                "that is this replica itself", Field("replica", "has no link to itself")
            )
        if replica not in (known := network.known()):
            raise UnknownReplica(
                f"{shortened(replica)!r} is no replica that this one knows; it knows "
                f"{', '.join(map(shortened, known[:_NAMED])) or 'no other yet'}",
                Field("replica", "is not known"),
            )
        try:
            fault = msgspec.convert(read_json(request), type=Fault, strict=True)
        except msgspec.ValidationError as error:
            raise refusal(error) from error
        network.faults.put(replica, fault)
        return Answer(dump({"replica": replica, **msgspec.to_builtins(fault)}), service.seen)

    async def delete_fault(service: Service, request: Request) -> Answer:
        """Let the link to a replica work again."""
        (replica,) = request.names
        return Answer(dump({"mended": network.faults.mend(replica)}), service.seen)

    async def get_faults(service: Service, request: Request) -> Answer:
        """The faults in force."""
        links = {name: msgspec.to_builtins(fault) for name, fault in network.faults.all().items()}
        return Answer(dump({"links": links}), service.seen)

    return (
        Route(
            "PUT",
            _FAULT,
            put_fault,
            Access.ADMIN,
            "Break the link to a replica",
            (content_of(BrokenDocument),),
            _REPLICA,
            takes=content_of(Fault),
            body_bytes=_FAULT_BYTES,
            problems=(UnknownReplica,),
        ),
        Route(
            "DELETE",
            _FAULT,
            delete_fault,
            Access.ADMIN,
            "Mend the link to a replica",
            (content_of(DroppedDocument),),
            _REPLICA,
        ),
        Route(
            "GET",
            "/v1/faults/links",
            get_faults,
            Access.ADMIN,
            "List broken links",
            (content_of(FaultsDocument),),
        ),
    )
