"""Spans for OpenTelemetry: from a request to its commit, and to the merge of it at each replica.

Nothing about traces travels between replicas, so replicas of any version go together. A commit is
named by the last of its dots, which every replica knows: the ids of a commit's span are computed
from that, so whoever merges the commit can link to its span.

    request ── link ─▶ commit (span id from the dot) ◀─ link ── merge, at every other replica

Only `crdtdb serve --tracing` imports this module, or OpenTelemetry. It puts its own writer,
dispatcher and machine in the place of the plain ones, which know nothing of it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import local
from time import perf_counter
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from xxhash import xxh3_64_intdigest, xxh3_128_intdigest

from crdtdb import __version__
from crdtdb.causal import Dot, VersionVector, format_incarnation
from crdtdb.database import Database
from crdtdb.engine import Engine
from crdtdb.errors import Problem
from crdtdb.replication import Replication, Send
from crdtdb.replication.messages import Sender
from crdtdb.transaction import Outcome, Transaction
from crdtdb_server.dispatch import Dispatcher
from crdtdb_server.exchange import Incoming, Response, split_target
from crdtdb_server.jobs import Bulk, Call, Group
from crdtdb_server.metrics import Metrics
from crdtdb_server.pending import Pending
from crdtdb_server.routing import Route
from crdtdb_server.service import Service
from crdtdb_server.writer import Writer

__all__ = ["Tracing", "commit_context"]

#: Of one span, as OpenTelemetry's own default bound.
_LINKS: Final = 128
_NS: Final = 1_000_000_000

_CarriedOut = list[Dot]


def commit_context(last: Dot) -> SpanContext:
    """The identity of the span of the commit whose last operation has this dot."""
    name = f"crdtdb commit {format_incarnation(last[0])}:{last[1]}".encode()
    # Zero is no id. Nobody knows here whether the other replica sampled it.
    trace_id, span_id = xxh3_128_intdigest(name) or 1, xxh3_64_intdigest(name) or 1
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(1))


class _Ids(RandomIdGenerator):
    """Random ids, but for a span whose ids are given."""

    def __init__(self) -> None:
        self._given = local()

    @contextmanager
    def given(self, identity: SpanContext) -> Iterator[None]:
        """Spans that begin in this block, in this thread, have that identity."""
        self._given.identity = identity
        try:
            yield
        finally:
            self._given.identity = None

    def generate_trace_id(self) -> int:
        identity: SpanContext | None = getattr(self._given, "identity", None)
        return super().generate_trace_id() if identity is None else identity.trace_id

    def generate_span_id(self) -> int:
        identity: SpanContext | None = getattr(self._given, "identity", None)
        return super().generate_span_id() if identity is None else identity.span_id


class Tracing:
    """The spans of one replica."""

    def __init__(self, database: Database, processor: SpanProcessor) -> None:
        """`processor` gets every span that ends."""
        resource = Resource.create(
            {SERVICE_INSTANCE_ID: database.replica, "crdtdb.region": database.region or ""}
        )
        if str(resource.attributes.get(SERVICE_NAME)).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "crdtdb"}))
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("crdtdb", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._engine = database.engine
        #: Of the request that is being handled: the last dots of the commits it shared in.
        self._carried_out: ContextVar[_CarriedOut | None] = ContextVar("carried_out", default=None)

    @classmethod
    def from_environment(cls, database: Database) -> Tracing:
        """Export by OTLP over HTTP, to where the variables `OTEL_…` say."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        return cls(database, BatchSpanProcessor(OTLPSpanExporter()))

    def close(self) -> None:
        """Send what has not been sent. Waits for the collector, within its own time limit."""
        self._provider.shutdown()

    # -- the parts that make spans ----------------------------------------------------------------

    def writer(self, database: Database, metrics: Metrics) -> Writer:
        return _TracedWriter(self, database, metrics)

    def dispatcher(self, service: Service, routes: Iterable[Route]) -> Dispatcher:
        return _TracedDispatcher(self, service, routes)

    def replication(self, engine: Engine, **options: Any) -> Replication:
        return _TracedReplication(self, engine, **options)

    # -- what they tell ---------------------------------------------------------------------------

    def begin_request(self) -> _CarriedOut:
        """A request arrives; what is committed in its context from here on is added to the list."""
        carried_out: _CarriedOut = []
        self._carried_out.set(carried_out)
        return carried_out

    def note_commits(self, pending: Pending[Outcome]) -> Pending[Outcome]:
        """The write of the request that is being handled is on its way."""
        carried_out = self._carried_out.get()
        if carried_out is None:
            return pending

        def note(outcome: Outcome) -> Outcome:
            if outcome.after > outcome.first:
                carried_out.append(self._last())
            return outcome

        return pending.then(note)

    def _last(self) -> Dot:
        """Settling is part of the turn that has installed a commit, so nothing came since."""
        state = self._engine.state
        return state.incarnation, state.seen.get(state.incarnation)

    def answered(
        self, incoming: Incoming, route: str, response: Response, took_s: float, last: _CarriedOut
    ) -> None:
        """A request has been answered."""
        ended_ns = time.time_ns()
        headers = dict(response.headers)
        span = self._tracer.start_span(
            f"{incoming.method} {route}",
            self._propagator.extract(incoming.headers, Context()),
            SpanKind.SERVER,
            {
                "http.request.method": incoming.method,
                "http.route": route,
                "http.response.status_code": response.status,
                "crdtdb.request_id": headers.get("X-Request-Id", ""),
            },
            [_link(dot) for dot in last[:_LINKS]],
            ended_ns - round(took_s * _NS),
        )
        if response.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended_ns)

    def committed(self, first: Dot, last: int, transactions: int, took_s: float) -> None:
        """A commit of this replica is durable."""
        ended_ns = time.time_ns()
        with self._ids.given(commit_context((first[0], last))):
            span = self._tracer.start_span(
                "crdtdb commit",
                Context(),
                SpanKind.PRODUCER,
                {
                    "crdtdb.origin": format_incarnation(first[0]),
                    "crdtdb.first": first[1],
                    "crdtdb.last": last,
                    "crdtdb.transactions": transactions,
                },
                start_time=ended_ns - round(took_s * _NS),
            )
        span.end(ended_ns)

    def taking_in(self, peer: str, take_in: Callable[[], list[Send]]) -> list[Send]:
        """Let the machine go on; what it merges of others by that is a span."""
        before = self._engine.state.seen
        began_ns = time.time_ns()
        sends = take_in()
        self._merged(peer, before, began_ns)
        return sends

    def _merged(self, peer: str, before: VersionVector, began_ns: int) -> None:
        state = self._engine.state
        if state.seen is before:
            return
        # What a replica has seen ends, of each origin, with the last operation of a commit.
        news = [
            (dot, before.get(dot[0]))
            for dot in state.seen.items()
            if dot[1] > before.get(dot[0]) and dot[0] != state.incarnation
        ]
        if not news:
            return
        span = self._tracer.start_span(
            "crdtdb merge",
            Context(),
            SpanKind.CONSUMER,
            {
                "crdtdb.peer": peer,
                "crdtdb.operations": sum(dot[1] - counter for dot, counter in news),
            },
            [_link(dot, counter) for dot, counter in news[:_LINKS]],
            began_ns,
        )
        span.end()


def _link(last: Dot, before: int | None = None) -> Link:
    """To a commit; of those from `before` on, to the last."""
    attributes: dict[str, str | int] = {
        "crdtdb.origin": format_incarnation(last[0]),
        "crdtdb.last": last[1],
    }
    if before is not None:
        attributes["crdtdb.first"] = before + 1
    return Link(commit_context(last), attributes)


class _TracedWriter(Writer):
    """A writer whose commits are spans."""

    def __init__(self, tracing: Tracing, database: Database, metrics: Metrics) -> None:
        super().__init__(database, metrics)
        self._tracing = tracing

    def commit(
        self,
        transaction: Transaction,
        *,
        before: Callable[[], None] | None = None,
        body_bytes: int = 0,
    ) -> Pending[Outcome]:
        return self._tracing.note_commits(
            super().commit(transaction, before=before, body_bytes=body_bytes)
        )

    def _settle(self, job: Group | Bulk | Call[Any]) -> None:
        super()._settle(job)
        if not isinstance(job, Call) and job.committed is not None:
            push = job.committed.push
            if push is not None:
                self._tracing.committed(
                    (push.origin, push.first), push.last, len(job), job.duration_s
                )


class _TracedDispatcher(Dispatcher):
    """A dispatcher whose requests are spans."""

    def __init__(self, tracing: Tracing, service: Service, routes: Iterable[Route]) -> None:
        super().__init__(service, routes)
        self._tracing = tracing

    def begin(self, incoming: Incoming) -> Response | Pending[Response] | Awaitable[Response]:
        began = perf_counter()
        carried_out = self._tracing.begin_request()

        def answered(response: Response) -> Response:
            route = self._route(incoming)
            if route is not None:
                took_s = perf_counter() - began
                self._tracing.answered(incoming, route, response, took_s, carried_out)
            return response

        async def awaited(response: Awaitable[Response]) -> Response:
            return answered(await response)

        response = super().begin(incoming)
        if isinstance(response, Response):
            return answered(response)
        if isinstance(response, Pending):
            return response.then(answered)
        return awaited(response)

    def keep(self, key: Hashable, incoming: Incoming, response: Response) -> None:
        """No answer is kept: each request is a span."""

    def _route(self, incoming: Incoming) -> str | None:
        """The route of a request for data; None: it makes no span."""
        try:
            _, raw_path, _ = split_target(incoming.target)
            route, _ = self._router.find(incoming.method, raw_path)
        except Problem:
            return None
        return route.path if route.access.is_of_data else None


class _TracedReplication(Replication):
    """A machine whose merges are spans."""

    def __init__(self, tracing: Tracing, engine: Engine, **options: Any) -> None:
        super().__init__(engine, **options)
        self._tracing = tracing

    def step(self, sender: Sender, frame: bytes, now_ms: int, via: str = "") -> list[Send]:
        step = super().step
        return self._tracing.taking_in(sender.name, lambda: step(sender, frame, now_ms, via))

    def tick(self, now_ms: int) -> list[Send]:
        tick = super().tick
        return self._tracing.taking_in("", lambda: tick(now_ms))
