"""The cluster as this replica sees it, for people and programs."""

from __future__ import annotations

from typing import Any

from crdtdb.causal import format_incarnation
from crdtdb.replication import Phase
from crdtdb_server.peers.clock import monotonic_ms
from crdtdb_server.peers.network import Network
from crdtdb_server.service import Service, State

__all__ = ["cluster_document", "state_of"]


def state_of(network: Network) -> State:
    """What the replica is doing, as `/readyz` says it."""
    match network.replication.phase:
        case Phase.BOOTSTRAPPING:
            return "bootstrapping"
        case Phase.CATCHING_UP:
            return "catching_up"
        case Phase.SERVING:
            return "serving"


def cluster_document(service: Service, network: Network) -> dict[str, Any]:
    """Members with their lag, and what keeps operations from being stable.

    Ages are in milliseconds; `lag_events` counts operations known here that a member has not
    reported, `missing_events` operations it reported that are not here; null: never heard (of
    `lag_ms`: never level with it since the start).
    """
    replication, database = network.replication, service.database
    return {
        "cluster": database.cluster,
        "self": {
            "replica": database.replica,
            "incarnation": format_incarnation(replication.incarnation),
            "region": database.region or "",
            "state": service.state(),
        },
        "members": [_member(service, network, incarnation) for incarnation in replication.members],
        "stability": {
            "stable": {
                format_incarnation(incarnation): counter
                for incarnation, counter in sorted(replication.stable().items())
            },
            "blocked_by": [
                {"replica": _name(network, incarnation), "events": events}
                for incarnation, events in replication.blocking().items()
            ],
            "unmet_peers": replication.unmet(),
        },
        "refusals": dict(replication.refusals),
        "bytes_sent": network.bytes_sent,
    }


def _name(network: Network, incarnation: int) -> str:
    return network.replication.members[incarnation].name


def _member(service: Service, network: Network, incarnation: int) -> dict[str, Any]:
    replication, now_ms = network.replication, monotonic_ms()
    member = replication.members[incarnation]
    document: dict[str, Any] = {
        "replica": member.name,
        "incarnation": format_incarnation(incarnation),
        "region": member.region,
        "url": member.endpoint,
    }
    if incarnation == replication.incarnation:
        return document | {"self": True, "reachable": True, "lag_events": 0, "lag_ms": 0}
    peer = replication.peers.get(incarnation)
    link = network.links.get(member.endpoint)
    seen = service.seen
    return document | {
        "self": False,
        "reachable": link is not None and link.trouble is None and link.replica is not None,
        "trouble": None if link is None else link.trouble,
        "last_contact_ms": None if peer is None else now_ms - peer.last_contact_ms,
        "lag_events": None if peer is None else peer.seen.missing(seen),
        "missing_events": None if peer is None else seen.missing(peer.seen),
        "lag_ms": None if peer is None or peer.level_ms is None else now_ms - peer.level_ms,
        "clock_offset_ms": None if peer is None else peer.clock_offset_ms,
    }
