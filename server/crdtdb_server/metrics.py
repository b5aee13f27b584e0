"""What operators measure. Labels hold routes, types and operations, never names of users' data."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from crdtdb.datatype import Operation
from crdtdb.store.base import Store

__all__ = ["Metrics"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_TRANSACTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    media_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, store: Store) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "crdtdb_http_request_duration_seconds",
            "From the parsed head of a request to its answer",
            ("route", "method", "code"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._operations = Counter(
            "crdtdb_operations",
            "Operations carried out for clients",
            ("type", "op"),
            registry=self.registry,
        )
        self._commit_seconds = Histogram(
            "crdtdb_commit_duration_seconds",
            "One group commit, until it is durable",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._commit_transactions = Histogram(
            "crdtdb_commit_transactions",
            "Transactions that share a group commit",
            buckets=_TRANSACTIONS,
            registry=self.registry,
        )
        self.registry.register(_StoreCollector(store))
        # Resolving labels costs more than counting, so each resolved child is kept.
        self._request_children: dict[tuple[str, str, int], Histogram] = {}
        self._operation_children: dict[tuple[str, type[Operation]], Counter] = {}

    def answered(self, route: str, method: str, code: int, seconds: float) -> None:
        """A request has been answered."""
        key = (route, method, code)
        child = self._request_children.get(key)
        if child is None:
            child = self._request_children[key] = self._requests.labels(route, method, str(code))
        child.observe(seconds)

    def operation(self, type_name: str, operation: type[Operation]) -> None:
        """An operation of a client has been carried out."""
        key = (type_name, operation)
        child = self._operation_children.get(key)
        if child is None:
            tag = str(operation.__struct_config__.tag)
            child = self._operation_children[key] = self._operations.labels(type_name, tag)
        child.inc()

    def committed(self, seconds: float, transactions: int) -> None:
        """A group commit is durable."""
        self._commit_seconds.observe(seconds)
        self._commit_transactions.observe(transactions)

    def text(self) -> bytes:
        """Everything, in the Prometheus text format."""
        return generate_latest(self.registry)


class _StoreCollector(Collector):
    """How full the store is, looked up when somebody asks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        stats = self._store.stats()
        for kind, size, meaning in (
            ("used", stats.used_bytes, "Bytes in use by entries of the store"),
            ("file", stats.file_bytes, "Bytes of the store's files"),
        ):
            yield GaugeMetricFamily(f"crdtdb_store_{kind}_bytes", meaning, value=size)
        entries = GaugeMetricFamily(
            "crdtdb_store_entries", "Entries of the store's tables", labels=("table",)
        )
        for table, count in stats.entries.items():
            entries.add_metric((table.value,), count)
        yield entries
