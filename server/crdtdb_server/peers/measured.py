"""What operators measure of replication. Looked up when somebody asks; labels name replicas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, get_args

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from crdtdb import __version__
from crdtdb.causal import format_incarnation
from crdtdb_server.peers.clock import monotonic_ms
from crdtdb_server.peers.network import Network
from crdtdb_server.service import Service, State

__all__ = ["ReplicationCollector"]

#: Two members may share a name until an operator mends that; their incarnations differ.
_PEER: Final = ("peer", "incarnation")


class ReplicationCollector(Collector):
    """How this replica does, and each other member as it is seen from here."""

    def __init__(self, service: Service, network: Network) -> None:
        self._service = service
        self._network = network

    def collect(self) -> Iterator[Metric]:
        service, network = self._service, self._network
        replication = network.replication
        info = GaugeMetricFamily(
            "crdtdb_info",
            "1; the labels say which replica this is",
            labels=("version", "replica", "region", "cluster"),
        )
        database = service.database
        names = (database.replica, database.region or "", database.cluster)
        info.add_metric((__version__, *names), 1)
        yield info
        states = GaugeMetricFamily(
            "crdtdb_state", "1 for what the replica is doing, 0 for the rest", labels=("state",)
        )
        now = service.state()
        for state in get_args(State):
            states.add_metric((state,), state == now)
        yield states
        yield GaugeMetricFamily(
            "crdtdb_members", "Members of the cluster, this one included", len(replication.members)
        )
        yield GaugeMetricFamily(
            "crdtdb_unmet_peers",
            "Configured peers that are no members yet",
            len(replication.unmet()),
        )
        yield from self._peers()
        yield CounterMetricFamily(
            "crdtdb_replication_sent_bytes", "Bytes of bodies sent to peers", network.bytes_sent
        )
        refused = CounterMetricFamily(
            "crdtdb_replication_refused", "What peers sent and was refused", labels=("reason",)
        )
        for reason, count in (network.refusals + Counter(replication.refusals)).items():
            refused.add_metric((reason,), count)
        yield refused
        failed = CounterMetricFamily(
            "crdtdb_replication_failures",
            "Failures of parts of replication by a bug; they are tried again",
            labels=("chore",),
        )
        for chore, count in network.failures.items():
            failed.add_metric((chore,), count)
        yield failed
        records, size_bytes = replication.waiting
        yield GaugeMetricFamily(
            "crdtdb_reclaim_waiting_records", "Dead records that are not stable yet", records
        )
        yield GaugeMetricFamily(
            "crdtdb_reclaim_waiting_bytes", "Bytes of their rows and addresses", size_bytes
        )

    def _peers(self) -> Iterator[Metric]:
        replication, now_ms = self._network.replication, monotonic_ms()
        up = _of_peers("peer_up", "1: it answered the last time it was tried")
        contact = _of_peers("peer_contact_age_seconds", "Since it was heard last")
        lag = _of_peers(
            "replication_lag_seconds", "Since this replica last had everything the member had"
        )
        missing = _of_peers(
            "replication_missing_operations", "Operations the member has and this replica lacks"
        )
        ahead = _of_peers(
            "replication_unreported_operations",
            "Operations this replica has and the member has not reported",
        )
        offset = _of_peers("clock_offset_seconds", "The member's clock less this replica's")
        blocked = _of_peers(
            "stability_blocked_operations", "Operations that are not stable because of the member"
        )
        blocking = replication.blocking()
        seen = self._service.seen
        for incarnation, member in replication.members.items():
            if incarnation == replication.incarnation:
                continue
            labels = (member.name, format_incarnation(incarnation))
            link = self._network.links.get(member.endpoint)
            up.add_metric(labels, link is not None and link.is_up)
            blocked.add_metric(labels, blocking.get(incarnation, 0))
            peer = replication.peers.get(incarnation)
            if peer is None:
                continue  # nothing is known of it since the start
            contact.add_metric(labels, (now_ms - peer.last_contact_ms) / 1000)
            if peer.level_ms is not None:
                lag.add_metric(labels, (now_ms - peer.level_ms) / 1000)
            missing.add_metric(labels, seen.missing(peer.seen))
            ahead.add_metric(labels, peer.seen.missing(seen))
            offset.add_metric(labels, peer.clock_offset_ms / 1000)
        yield from (up, contact, lag, missing, ahead, offset, blocked)


def _of_peers(name: str, meaning: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"crdtdb_{name}", meaning, labels=_PEER)
