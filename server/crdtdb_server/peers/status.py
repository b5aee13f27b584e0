"""The cluster as this replica sees it, for people and programs."""

from __future__ import annotations

from collections import Counter
from typing import Final, NotRequired, TypedDict

from crdtdb.causal import format_incarnation
from crdtdb.replication import Phase
from crdtdb_server.answers import ProgressDocument, progress_document
from crdtdb_server.peers.clock import monotonic_ms
from crdtdb_server.peers.network import Network
from crdtdb_server.service import Service, State
from crdtdb_server.writer import Writer

__all__ = ["ClusterDocument", "cluster_document", "state_of"]


class SelfDocument(TypedDict):
    """The replica that answers."""

    replica: str
    incarnation: str
    region: str
    state: State
    clock_off_by_ms: NotRequired[int]
    progress: NotRequired[ProgressDocument]
    failing: NotRequired[list[str]]


class MemberOfClusterDocument(TypedDict):
    """A member, as it is seen from here."""

    replica: str
    incarnation: str
    region: str
    url: str
    self: bool
    reachable: bool
    trouble: NotRequired[str | None]
    last_contact_ms: NotRequired[int | None]
    lag_events: int | None
    missing_events: NotRequired[int | None]
    lag_ms: int | None
    clock_offset_ms: NotRequired[int | None]


class BlockingDocument(TypedDict):
    """Who keeps operations from being stable, how many, and how long ago it last reported some."""

    replica: str
    events: int
    reported_ms: int | None


class EvictedDocument(TypedDict):
    """A replica that an operator took out of the cluster, at which other one and when."""

    replica: str
    incarnation: str
    url: str
    by: str
    at_ms: int


class AmountDocument(TypedDict):
    """Records, and the bytes of their rows and addresses."""

    records: int
    bytes: int


class StabilityDocument(TypedDict):
    """Which operations every member has, and what is in the way of more."""

    stable: dict[str, int]
    blocked_by: list[BlockingDocument]
    unmet_peers: list[str]
    reclaimed: AmountDocument
    waiting: AmountDocument


class IntegrityDocument(TypedDict):
    """The look for damage since the start: walks through, rows looked at, rows damaged.

    `progress` is the part of the store that the walk under way has looked at, null between two.
    `damaged` are records that wait for a peer to mend them (`GET /v1/damage` names them), `mended`
    those that were put right, `accepted` those whose loss an operator accepted.
    """

    walks: int
    rows: int
    progress: float | None
    found: int
    damaged: int
    mended: int
    accepted: int


class ClusterDocument(TypedDict):
    """The cluster, as it is seen from here."""

    cluster: str
    self: SelfDocument
    members: list[MemberOfClusterDocument]
    evicted: list[EvictedDocument]
    stability: StabilityDocument
    integrity: IntegrityDocument
    troubles: dict[str, str]
    refusals: dict[str, int]
    bytes_sent: int


#: Looked up here, as an enumeration's members take a while to find.
_SERVING: Final = Phase.SERVING


def state_of(network: Network, writer: Writer) -> State:
    """What the replica is doing, as `/readyz` says it."""
    replication = network.replication
    phase = replication.phase
    if phase is _SERVING and not replication.damaged and not writer.is_refused:
        return "serving"  # each request asks
    match phase:
        case Phase.BOOTSTRAPPING:
            return "bootstrapping"
        case Phase.EVICTED:
            return "evicted"
        case _ if replication.damaged:
            return "damaged"
        case _ if writer.is_refused:
            return "read_only"
        case Phase.CATCHING_UP:
            return "catching_up"
        case Phase.SERVING:
            return "serving"


def cluster_document(service: Service, network: Network) -> ClusterDocument:
    """Members with their lag, and what keeps operations from being stable.

    Ages are in milliseconds; `lag_events` counts operations known here that a member has not
    reported, `missing_events` operations it reported that are not here; null: never heard (of
    `lag_ms`: never level with it since the start). `troubles`: URLs that cannot be replicated with
    now, or not wholly, members or not yet, and why. `clock_off_by_ms` is there when the clocks of
    most members are that far off this one's, and more than they may be; `failing` names parts of
    replication that end in a bug (they are tried again, and the log has the reason). `reclaimed`
    is what has gone so far, `waiting` what would go if it were stable, as last looked at (not what
    a cut hides until its turn comes).
    """
    replication, database = network.replication, service.database
    reclaimed = database.engine.reclaimed
    waiting_records, waiting_bytes = replication.waiting
    myself: SelfDocument = {
        "replica": database.replica,
        "incarnation": format_incarnation(replication.incarnation),
        "region": database.region or "",
        "state": service.state(),
    }
    if (off_by_ms := service.clock_off_by_ms()) is not None:
        myself["clock_off_by_ms"] = off_by_ms
    if (progress := replication.progress) is not None:
        myself["progress"] = progress_document(progress)
    if failing := network.failing:
        myself["failing"] = failing
    return {
        "cluster": database.cluster,
        "self": myself,
        "members": [_member(service, network, incarnation) for incarnation in replication.members],
        "evicted": [
            {
                "replica": eviction.name,
                "incarnation": format_incarnation(incarnation),
                "url": eviction.endpoint,
                "by": eviction.by,
                "at_ms": eviction.at_ms,
            }
            for incarnation, eviction in replication.evictions.items()
        ],
        "stability": {
            "stable": {
                format_incarnation(incarnation): counter
                for incarnation, counter in sorted(replication.stable().items())
            },
            "blocked_by": [
                {
                    "replica": _name(network, incarnation),
                    "events": events,
                    "reported_ms": _age(replication.reported_ms(incarnation)),
                }
                for incarnation, events in replication.blocking().items()
            ],
            "unmet_peers": replication.unmet(),
            "reclaimed": {"records": reclaimed.records, "bytes": reclaimed.size_bytes},
            "waiting": {"records": waiting_records, "bytes": waiting_bytes},
        },
        "integrity": _integrity(network),
        "troubles": {
            url: why
            for url, link in network.links.items()
            if (why := link.trouble or link.refused) is not None
        }
        | network.newer.troubles(monotonic_ms())
        | replication.failing()
        | replication.namesakes()
        | replication.twins(),
        "refusals": dict(network.refusals + Counter(replication.refusals)),
        "bytes_sent": network.bytes_sent,
    }


def _integrity(network: Network) -> IntegrityDocument:
    mending = network.replication.mending
    return {
        "walks": mending.walks,
        "rows": mending.rows,
        "progress": mending.progress,
        "found": mending.found,
        "damaged": len(network.replication.damaged),
        "mended": mending.mended,
        "accepted": network.replication.losses.accepted,
    }


def _name(network: Network, incarnation: int) -> str:
    return network.replication.members[incarnation].name


def _age(since_ms: int | None) -> int | None:
    return None if since_ms is None else monotonic_ms() - since_ms


def _member(service: Service, network: Network, incarnation: int) -> MemberOfClusterDocument:
    replication, now_ms = network.replication, monotonic_ms()
    member = replication.members[incarnation]
    if incarnation == replication.incarnation:
        return {
            "replica": member.name,
            "incarnation": format_incarnation(incarnation),
            "region": member.region,
            "url": member.endpoint,
            "self": True,
            "reachable": True,
            "lag_events": 0,
            "lag_ms": 0,
        }
    peer = replication.peers.get(incarnation)
    link = network.links.get(member.endpoint)
    seen = service.seen
    return {
        "replica": member.name,
        "incarnation": format_incarnation(incarnation),
        "region": member.region,
        "url": member.endpoint,
        "self": False,
        "reachable": link is not None and link.is_up,
        "trouble": (None if link is None else link.trouble or link.refused)
        or (None if peer is None else peer.failed),
        "last_contact_ms": None if peer is None else now_ms - peer.last_contact_ms,
        "lag_events": None if peer is None else peer.seen.missing(seen),
        "missing_events": None if peer is None else seen.missing(peer.seen),
        "lag_ms": None if peer is None or peer.level_ms is None else now_ms - peer.level_ms,
        "clock_offset_ms": None if peer is None else peer.clock_offset_ms,
    }
