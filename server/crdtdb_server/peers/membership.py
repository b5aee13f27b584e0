"""The routes by which an operator says who belongs to the cluster."""

from __future__ import annotations

from typing import Final, TypedDict

import msgspec

from crdtdb.causal import format_incarnation
from crdtdb.errors import (
    BadRequest,
    Evicted,
    Field,
    InvalidOperation,
    NoSpace,
    Overloaded,
    ReadOnly,
    StorageFailed,
    UnknownReplica,
    shortened,
)
from crdtdb.operations import refusal
from crdtdb.replication.evictions import Stake
from crdtdb_client.targets import replica_url
from crdtdb_server.access import Access
from crdtdb_server.documents import dump, read_json
from crdtdb_server.exchange import Answer, Request
from crdtdb_server.parameters import Boolean, Text, parameters
from crdtdb_server.peers.clock import monotonic_ms
from crdtdb_server.peers.network import Network
from crdtdb_server.peers.status import AmountDocument
from crdtdb_server.routing import Route
from crdtdb_server.schemas import content_of
from crdtdb_server.service import Service

__all__ = ["membership_routes"]

_MEMBERS: Final = "/v1/cluster/members"
_BODY_BYTES: Final = 4_096
_DRY_RUN: Final = Boolean("dry_run", "Say what it would change, and change nothing")
_NAMES: Final = parameters(Text("replica", "The name of a member"))
_WRITES: Final = (Evicted, NoSpace, Overloaded, ReadOnly, StorageFailed)


class Newcomer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A replica that shall become a member: where it is."""

    url: str


class NewcomerDocument(TypedDict):
    """Where it is, and its name once it is a member."""

    url: str
    replica: str | None


class UnblockedDocument(TypedDict):
    """What becomes stable, what waits to be reclaimed in all, and who else is waited for."""

    events: int
    waiting: AmountDocument
    still_blocked_by: list[str]


class AtStakeDocument(TypedDict):
    """Operations that it reported and nobody else is known to hold; how long ago it was heard."""

    events: int
    last_contact_ms: int | None
    reported_ms: int | None


class EvictionDocument(TypedDict):
    """What an eviction changes, or would."""

    replica: str
    incarnations: list[str]
    dry_run: bool
    reachable: bool
    unblocks: UnblockedDocument
    at_stake: AtStakeDocument


class RejoinDocument(TypedDict):
    """The new identity of the replica."""

    replica: str
    incarnation: str


def membership_routes(network: Network) -> tuple[Route, ...]:
    """Adding members, evicting them, and taking this replica back."""

    async def post_member(service: Service, request: Request) -> Answer:
        """Ask the replica at a URL to become a member.

        It is asked until it answers, for as long as this server runs, and is a member when it has
        begun to copy the data (`GET /v1/cluster`).
        """
        try:
            url = replica_url(msgspec.convert(read_json(request), Newcomer, strict=True).url)
        except msgspec.ValidationError as error:
            raise refusal(error) from error
        except ValueError as error:
            raise BadRequest(str(error), Field("url", "is not the URL of a replica")) from error
        if url == network.me.endpoint:
            raise InvalidOperation("that is this replica itself", Field("url", "is its own URL"))
        _check_not_evicted(network)
        await network.knock(url)
        members = network.replication.members.values()
        names = [member.name for member in members if member.endpoint == url]
        document: NewcomerDocument = {"url": url, "replica": names[0] if names else None}
        return Answer(dump(document), service.seen)

    async def delete_member(service: Service, request: Request) -> Answer:
        """Evict a member: nothing waits for it any more, and nobody takes in what it sends.

        Whether it can be reached or not. It may rejoin; what only it holds comes back with it.
        """
        (name,) = request.names
        if name == service.database.replica:
            raise InvalidOperation(
                "a replica does not evict itself; ask another one, or just stop it and ask then",
                Field("replica", "is the replica that was asked"),
            )
        _check_not_evicted(network)
        is_dry = _DRY_RUN.of(request.query)
        stake = await network.stake(name)
        if not stake.members:
            raise UnknownReplica(
                f"{shortened(name)!r} is no member (any more); GET /v1/cluster names them",
                Field("replica", "is no member"),
            )
        document = _document(network, name, stake, is_dry=is_dry)
        if not is_dry:
            await network.evict(name)
        return Answer(dump(document), service.seen)

    async def post_rejoin(service: Service, request: Request) -> Answer:
        """Take this replica back, which was evicted: it becomes a member under a new identity.

        What it wrote while it did not know goes to the others; what they deleted meanwhile goes
        here.
        """
        if not network.replication.is_evicted:
            raise InvalidOperation(
                "this replica was not evicted, as far as it knows", Field("", "is not evicted")
            )
        await network.rejoin()
        document: RejoinDocument = {
            "replica": service.database.replica,
            "incarnation": format_incarnation(network.replication.incarnation),
        }
        return Answer(dump(document), service.seen)

    return (
        Route(
            "POST",
            _MEMBERS,
            post_member,
            Access.ADMIN,
            "Add a member",
            (content_of(NewcomerDocument),),
            takes=content_of(Newcomer),
            body_bytes=_BODY_BYTES,
            problems=(InvalidOperation, Overloaded, ReadOnly, Evicted),
        ),
        Route(
            "DELETE",
            f"{_MEMBERS}/{{replica}}",
            delete_member,
            Access.ADMIN,
            "Evict a member",
            (content_of(EvictionDocument),),
            _NAMES,
            parameters(_DRY_RUN),
            problems=(UnknownReplica, InvalidOperation, *_WRITES),
        ),
        Route(
            "POST",
            "/v1/cluster/rejoin",
            post_rejoin,
            Access.ADMIN,
            "Rejoin after an eviction",
            (content_of(RejoinDocument),),
            problems=(InvalidOperation, NoSpace, Overloaded, ReadOnly, StorageFailed),
        ),
    )


def _check_not_evicted(network: Network) -> None:
    """Nobody would hear of it. Raises Evicted."""
    if network.replication.is_evicted:
        raise Evicted("this replica was evicted itself; ask a member")


def _document(network: Network, name: str, stake: Stake, *, is_dry: bool) -> EvictionDocument:
    records, size_bytes = network.replication.waiting
    links = (network.links.get(member.endpoint) for member in stake.members)
    return {
        "replica": name,
        "incarnations": [format_incarnation(member.incarnation) for member in stake.members],
        "dry_run": is_dry,
        "reachable": any(link is not None and link.is_up for link in links),
        "unblocks": {
            "events": stake.unblocked,
            "waiting": {"records": records, "bytes": size_bytes},
            "still_blocked_by": [member.name for member in stake.still_blocking],
        },
        "at_stake": {
            "events": stake.unshared,
            "last_contact_ms": _age(stake.last_contact_ms),
            "reported_ms": _age(stake.reported_ms),
        },
    }


def _age(since_ms: int | None) -> int | None:
    return None if since_ms is None else monotonic_ms() - since_ms
