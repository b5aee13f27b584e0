"""The routes by which an operator sees what is damaged and waits, and accepts the loss of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NotRequired, TypedDict

import msgspec
import structlog

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import format_incarnation
from crdtdb.cuts import is_object_prefix
from crdtdb.errors import (
    Evicted,
    Field,
    InvalidOperation,
    NoSpace,
    Overloaded,
    ReadOnly,
    StorageFailed,
)
from crdtdb.operations import check_name, refusal
from crdtdb.replication.losses import Wait
from crdtdb_server.access import Access
from crdtdb_server.documents import dump, read_json
from crdtdb_server.exchange import Answer, Request
from crdtdb_server.parameters import Boolean, parameters
from crdtdb_server.peers.network import Network
from crdtdb_server.routing import Route
from crdtdb_server.schemas import content_of
from crdtdb_server.service import Service

__all__ = ["damage_routes"]

_BODY_BYTES: Final = 16_384
#: Objects that one answer names, and records of each.
_MOST: Final = 100
_DRY_RUN: Final = Boolean("dry_run", "Say what would be lost, and change nothing")

_log = structlog.get_logger(__name__)


class Accepted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of which object the loss is accepted; or of everything that waits."""

    bucket: str = ""
    type: str = ""
    key: str = ""
    everything: bool = False


class PartDocument(TypedDict):
    """A damaged record: what of the object it holds.

    `of` is `value`, `member`, `field`, `operations`, `deadline`, `deletes` (what was deleted and
    when), or `nothing` (the row is at no address).
    """

    of: str
    member: NotRequired[Any]
    field: NotRequired[list[str]]
    type: NotRequired[str]


class UnreportedDocument(TypedDict):
    """Operations of one incarnation that no other member has reported, first to last."""

    incarnation: str
    first: int
    last: int


class WaitDocument(TypedDict):
    """An object of which records are damaged, and wait for a peer to mend them.

    Of a cut of several objects `key` is null, and `prefix` what it cuts. `loses` is what goes if
    the loss is accepted: `everything` there is of the object, or only `parts`; null: it cannot be
    accepted, `refusal` says why. `known_to` are other members that have seen all that the records
    can have held, and mend them if they can be reached and are sound themselves; `unreported` what
    they may have held and nobody else is known to have.
    """

    bucket: str
    type: str | None
    key: str | None
    prefix: NotRequired[str]
    records: int
    parts: list[PartDocument]
    loses: str | None
    refusal: NotRequired[str]
    known_to: list[str]
    unreported: list[UnreportedDocument]


class WaitingDocument(TypedDict):
    """What waits to be mended: the first hundred objects, and how many objects and records."""

    objects: int
    records: int
    waiting: list[WaitDocument]


class LossDocument(TypedDict):
    """What is lost, or would be; `waiting` names no more than a hundred of the objects."""

    dry_run: bool
    objects: int
    records: int
    lost: list[WaitDocument]
    refused: list[WaitDocument]


def damage_routes(network: Network) -> tuple[Route, ...]:
    """What waits to be mended, and accepting its loss."""

    async def get_damage(service: Service, _: Request) -> Answer:
        """Name what is damaged at this replica and waits for a peer to mend it."""
        found = await network.damage()
        document: WaitingDocument = {
            "objects": len(found),
            "records": sum(len(wait.damaged) for wait in found),
            "waiting": _documents(network, found),
        }
        return Answer(dump(document), service.seen)

    async def post_loss(service: Service, request: Request) -> Answer:
        """Accept the loss of what is damaged here and nobody else has: it is taken out everywhere.

        All that this replica had seen there goes, at every replica, also what others still show of
        it; what is concurrent stays. The object is looked at as a whole first. What waits for this
        goes on: peers get what is written here, and more is reclaimed.
        """
        try:
            given = msgspec.convert(read_json(request), Accepted, strict=True)
        except msgspec.ValidationError as error:
            raise refusal(error) from error
        owner = None if given.everything else _owner(given)
        if network.replication.is_evicted:
            raise Evicted("this replica was evicted; take it back first: crdtdb cluster rejoin")
        is_dry = _DRY_RUN.of(request.query)
        found = await network.damage(owner)
        if owner is not None and not found:
            raise InvalidOperation(
                "nothing of this object is damaged at this replica; GET /v1/damage says what is",
                Field("key", "is not damaged"),
            )
        lost = [wait for wait in found if wait.refusal is None]
        refused = [wait for wait in found if wait.refusal is not None]
        if owner is not None and refused:
            raise InvalidOperation(str(refused[0].refusal), Field("key", "cannot be given up"))
        document: LossDocument = {
            "dry_run": is_dry,
            "objects": len(lost),
            "records": sum(len(wait.damaged) for wait in lost),
            "lost": _documents(network, lost),
            "refused": _documents(network, refused),
        }
        if not is_dry and lost:
            await network.accept_losses([wait.owner for wait in lost])
            for wait in lost:
                _log.warning("a loss was accepted", **_document(network, wait))
        return Answer(dump(document), service.seen)

    return (
        Route(
            "GET",
            "/v1/damage",
            get_damage,
            Access.READ,
            "Name what waits to be mended",
            (content_of(WaitingDocument),),
        ),
        Route(
            "POST",
            "/v1/damage/losses",
            post_loss,
            Access.ADMIN,
            "Accept the loss of what is damaged",
            (content_of(LossDocument),),
            query=parameters(_DRY_RUN),
            takes=content_of(Accepted),
            body_bytes=_BODY_BYTES,
            problems=(InvalidOperation, Evicted, NoSpace, Overloaded, ReadOnly, StorageFailed),
        ),
    )


def _owner(given: Accepted) -> bytes:
    name = ObjectName(given.bucket, given.type, given.key)
    check_name(name)
    return name.prefix


def _documents(network: Network, found: Collection[Wait]) -> list[WaitDocument]:
    return [_document(network, wait) for wait in list(found)[:_MOST]]


def _document(network: Network, wait: Wait) -> WaitDocument:
    members = network.replication.members
    bucket, type_name, key, prefix = _named(wait.owner)
    document: WaitDocument = {
        "bucket": bucket,
        "type": type_name,
        "key": key,
        "records": len(wait.damaged),
        "parts": [_part(at, wait.owner) for at in wait.damaged[:_MOST]],
        "loses": None if wait.whole is None else "everything" if wait.whole else "parts",
        "known_to": sorted(members[incarnation].name for incarnation in wait.known_to),
        "unreported": [
            {"incarnation": format_incarnation(incarnation), "first": first, "last": last}
            for incarnation, (first, last) in sorted(wait.unreported.items())
        ],
    }
    if key is None:
        document["prefix"] = prefix
    if wait.refusal is not None:
        document["refusal"] = wait.refusal
    return document


def _named(owner: bytes) -> tuple[str, str | None, str | None, str]:
    """Bucket, type, key, and the prefix that is cut where there is no key."""
    if is_object_prefix(owner):
        return *address.name_of(owner), ""
    bucket, *more = owner[1:].decode("utf-8", "replace").split("\0")
    type_name, prefix = (*more, "", "")[:2]
    return bucket, type_name or None, None, prefix


def _part(at: bytes, owner: bytes) -> PartDocument:
    """What of an object is at an address."""
    try:
        address.parse(at)
    except ValueError:
        return {"of": "nothing"}
    tail = at.removeprefix(address.CUTS)[len(owner) :]
    part: PartDocument = {"of": "value"}
    if tail.startswith(address.LEAF):
        path, leaf_type, tail = address.split_leaf(tail)
        part = {"of": "field", "field": list(path), "type": leaf_type}
    if tail.startswith(address.MEMBER):
        part |= {"of": "member", "member": address.member_value(tail)}
    elif tail.startswith((address.OPERATION, address.BASE)):
        part["of"] = "operations"
    elif tail == address.EXPIRY:
        part["of"] = "deadline"
    if address.is_cut(at):
        part["of"] = "deletes"
    return part
