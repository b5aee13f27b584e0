"""What operators measure. Labels hold routes, types and operations, never names of users' data."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from crdtdb.datatype import Operation
from crdtdb.reclaimed import read_reclaimed
from crdtdb.replication import Replication
from crdtdb.replication.pull import Progress
from crdtdb.store.base import Store
from crdtdb_server.logins import Logins
from crdtdb_server.tls import Tls

__all__ = ["Metrics"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_TRANSACTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    media_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, store: Store, progress: Callable[[], Progress | None]) -> None:
        self.registry = CollectorRegistry()
        self._requests = _Requests()
        self.registry.register(self._requests)
        self._operations = _Operations()
        self.registry.register(self._operations)
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
        self.registry.register(_PullCollector(progress))

    def answered(self, route: str, method: str, code: int, seconds: float) -> None:
        """A request has been answered."""
        self._requests.add((route, method, code), seconds)

    def operation(self, type_name: str, operation: type[Operation]) -> None:
        """An operation of a client has been carried out."""
        self._operations.counts[type_name, operation] += 1

    def committed(self, seconds: float, transactions: int) -> None:
        """A group commit is durable."""
        self._commit_seconds.observe(seconds)
        self._commit_transactions.observe(transactions)

    def watch_damage(self, replication: Replication) -> None:
        """Tell of the look for damage, and how many records wait to be mended."""
        self.registry.register(_DamageCollector(replication))

    def watch(self, collector: Collector) -> None:
        """Tell of something else, too."""
        self.registry.register(collector)

    def watch_certificates(self, tls: Tls) -> None:
        """Tell when certificates end; no number if there is none."""
        self.registry.register(_CertificateCollector(tls))

    def watch_logins(self, logins: Logins) -> None:
        """Tell how many logins failed."""
        self.registry.register(_LoginCollector(logins))

    def text(self) -> bytes:
        """Everything, in the Prometheus text format."""
        return generate_latest(self.registry)


class _Requests(Collector):
    """Durations by route, method and status: what every request adds to has to be cheap."""

    def __init__(self) -> None:
        #: How many took at most so long, each bucket for itself; what is longer comes last.
        self._buckets: dict[tuple[str, str, int], list[int]] = {}
        self._sums: dict[tuple[str, str, int], float] = {}

    def add(self, labels: tuple[str, str, int], seconds: float) -> None:
        buckets = self._buckets.get(labels)
        if buckets is None:
            buckets = self._buckets[labels] = [0] * (len(_SECONDS) + 1)
            self._sums[labels] = 0.0
        buckets[bisect_left(_SECONDS, seconds)] += 1
        self._sums[labels] += seconds

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "crdtdb_http_request_duration_seconds",
            "From the parsed head of a request to its answer",
            labels=("route", "method", "code"),
        )
        bounds = [*map(str, _SECONDS), "+Inf"]
        for (route, method, code), counts in self._buckets.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric((route, method, str(code)), buckets, self._sums[route, method, code])
        yield family


class _Operations(Collector):
    """Operations by type and name."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, type[Operation]]] = Counter()

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "crdtdb_operations", "Operations carried out for clients", labels=("type", "op")
        )
        for (type_name, operation), count in self.counts.items():
            family.add_metric((type_name, str(operation.__struct_config__.tag)), count)
        yield family


class _PullCollector(Collector):
    """How far the pull under way has come; no numbers while there is none."""

    def __init__(self, progress: Callable[[], Progress | None]) -> None:
        self._progress = progress

    def collect(self) -> Iterator[Metric]:
        progress = self._progress()
        for name, field, meaning in (
            ("records", "records", "Records that the pull under way has brought"),
            ("bytes", "size_bytes", "Bytes of their addresses and of themselves"),
            ("joined_records", "joined", "How many of them have been joined"),
            ("place", "place", "The place of the donor's sequence that was read last"),
            ("head", "head", "The last place of the donor's sequence"),
        ):
            family = GaugeMetricFamily(f"crdtdb_pull_{name}", meaning, labels=())
            if progress is not None:
                family.add_metric((), getattr(progress, field))
            yield family


class _CertificateCollector(Collector):
    """When certificates end: others may have been read meanwhile."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "crdtdb_certificate_expiry_timestamp_seconds",
            "When the server's own certificate ends, and the first of its authorities, in seconds "
            "since 1970",
            labels=("certificate",),
        )
        for certificate, ends_s in self._tls.ends_s.items():
            family.add_metric((certificate,), ends_s)
        yield family


class _LoginCollector(Collector):
    """Logins that failed, or were not looked at because so many had."""

    def __init__(self, logins: Logins) -> None:
        self._logins = logins

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "crdtdb_failed_logins",
            "Tokens that are not known, peers that were not believed, and what was refused unseen "
            "because too many from its address had failed",
            labels=("reason",),
        )
        for reason, count in self._logins.refused.items():
            family.add_metric((reason,), count)
        yield family


class _DamageCollector(Collector):
    """The look for damage since the start."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication

    def collect(self) -> Iterator[Metric]:
        mending, damaged = self._replication.mending, len(self._replication.damaged)
        yield GaugeMetricFamily(
            "crdtdb_damaged_records", "Damaged records not mended yet", value=damaged
        )
        progress = mending.progress
        yield GaugeMetricFamily(
            "crdtdb_scrub_progress_ratio",
            "The part of the store that the look for damage has looked at; 1 when it rests",
            value=float(mending.walks > 0) if progress is None else progress,
        )
        for name, number, meaning in (
            ("scrub_rows", mending.rows, "Rows of the store looked at for damage"),
            ("scrub_walks", mending.walks, "Times that every row was looked at"),
            ("damage_found", mending.found, "Rows that were found damaged"),
            ("damage_mended", mending.mended, "Damaged records that were put right"),
            (
                "damage_accepted",
                self._replication.losses.accepted,
                "Damaged records whose loss an operator accepted",
            ),
        ):
            yield CounterMetricFamily(f"crdtdb_{name}", meaning, value=number)


class _StoreCollector(Collector):
    """How full the store is and what has left it, looked up when somebody asks."""

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
        with self._store.snapshot() as snapshot:
            reclaimed = read_reclaimed(snapshot)
        yield CounterMetricFamily(
            "crdtdb_reclaimed_records",
            "Tombstones, cuts and operations that were stable and have gone",
            value=reclaimed.records,
        )
        yield CounterMetricFamily(
            "crdtdb_reclaimed_bytes",
            "Bytes of their rows and addresses",
            value=reclaimed.size_bytes,
        )
