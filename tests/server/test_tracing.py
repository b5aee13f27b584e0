"""Spans: a write can be followed to its commit, and from there to its merge elsewhere."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from crdtdb import Database
from crdtdb.causal import format_incarnation
from crdtdb.errors import StartError
from crdtdb_server import serve, serve_in_thread
from crdtdb_server.tracing import Tracing
from livecluster import LiveWire, eventually, live_cluster
from processes import DEADLINE_S, until

_KEY = "secret-key"
_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class _Spans:
    """What each replica exported, by its name."""

    def __init__(self) -> None:
        self._exporters: dict[str, InMemorySpanExporter] = {}

    def tracing(self, database: Database) -> Tracing:
        exporter = self._exporters[database.replica] = InMemorySpanExporter()
        return Tracing(database, SimpleSpanProcessor(exporter))

    def of(self, replica: str, name: str) -> list[ReadableSpan]:
        spans = self._exporters[replica].get_finished_spans()
        return [span for span in spans if span.name == name]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> _Spans:
    kept = _Spans()
    monkeypatch.setattr(Tracing, "from_environment", kept.tracing)
    return kept


def _linked(span: ReadableSpan) -> set[tuple[int, int]]:
    return {(link.context.trace_id, link.context.span_id) for link in span.links}


def _identity(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def _commit_of(spans: _Spans, replica: LiveWire, request: ReadableSpan) -> ReadableSpan:
    """The one commit that a request links to."""
    commits = spans.of(replica.service.database.replica, "crdtdb commit")
    (commit,) = [commit for commit in commits if _identity(commit) in _linked(request)]
    return commit


_POST = "POST /v1/buckets/{bucket}/{type}/{key}"


async def _increment(replica: LiveWire, *more: tuple[str, str]) -> None:
    path = f"/v1/buckets/shop/counter/{_KEY}"
    headers = [("traceparent", _PARENT), ("X-Request-Id", "mine"), *more]
    answer = await replica.request("POST", path, {"op": "increment"}, headers=headers)
    assert answer.status == 200


@pytest.mark.parametrize("ack", ["local", "all"])
async def test_a_push_links_a_write_to_its_merge(spans: _Spans, ack: str) -> None:
    async with live_cluster("eu-1", "us-1", tracing=True) as (eu, us):
        await _increment(eu, ("Crdtdb-Ack", ack))
        await eventually("level", lambda: us.service.seen == eu.service.seen)
        (request,) = spans.of("eu-1", _POST)
        commit = _commit_of(spans, eu, request)
        own = eu.network.replication.incarnation
        assert commit.attributes is not None
        assert commit.attributes["crdtdb.origin"] == format_incarnation(own)
        await eventually(
            "a linked merge",
            lambda: any(_identity(commit) in _linked(m) for m in spans.of("us-1", "crdtdb merge")),
        )


async def test_a_pull_links_to_the_last_commit_of_each_origin(spans: _Spans) -> None:
    async with live_cluster("eu-1", "us-1", tracing=True) as (eu, us):
        eu.cut(us)
        us.cut(eu)
        await _increment(eu)
        await _increment(eu)
        eu.mend(us)
        us.mend(eu)
        await eventually("level", lambda: us.service.seen == eu.service.seen)
        last = _commit_of(spans, eu, spans.of("eu-1", _POST)[-1])
        await eventually(  # a span ends when what it did shows already
            "a linked merge",
            lambda: any(_identity(last) in _linked(m) for m in spans.of("us-1", "crdtdb merge")),
        )


async def test_what_spans_say(spans: _Spans) -> None:
    async with live_cluster("eu-1", tracing=True) as (eu,):
        await _increment(eu)
        await eu.request("GET", f"/v1/buckets/shop/counter/{_KEY}")
        await eu.request("GET", "/metrics")
        (request,) = spans.of("eu-1", _POST)
        assert request.parent is not None
        assert f"{request.parent.trace_id:032x}" == _PARENT.split("-")[1]
        assert request.attributes is not None
        assert request.attributes["crdtdb.request_id"] == "mine"
        assert request.attributes["http.response.status_code"] == 200
        (read,) = spans.of("eu-1", "GET /v1/buckets/{bucket}/{type}/{key}")
        assert not read.links
        everything = spans._exporters["eu-1"].get_finished_spans()
        assert not [span for span in everything if _KEY in span.to_json()]
        assert not [span for span in everything if "/metrics" in span.name]


async def test_a_write_in_vain_has_no_commit(spans: _Spans) -> None:
    async with live_cluster("eu-1", tracing=True) as (eu,):
        await _increment(eu, ("Idempotency-Key", "k"))
        await _increment(eu, ("Idempotency-Key", "k"))
        first, again = spans.of("eu-1", _POST)
        assert first.links
        assert not again.links


def _shows(database: Database, total: int) -> bool:
    return bool(database.counter("shop", _KEY).get().value == total)


def test_what_a_program_writes_that_embeds_a_replica_is_traced_too(spans: _Spans) -> None:
    with (
        Database.in_memory(replica="eu-1") as eu,
        serve_in_thread(eu, listen="127.0.0.1:0", tracing=True) as server,
        Database.in_memory(replica="us-1") as us,
        serve_in_thread(us, listen="127.0.0.1:0", peers=[server.url], tracing=True),
    ):
        for total in (1, 2):  # the first may come as part of the first copy, which is no merge
            eu.counter("shop", _KEY).increment()
            until("it has come", partial(_shows, us, total))
    commits = spans.of("eu-1", "crdtdb commit")
    assert commits, "as those of clients are"
    # Of several commits that come together the last is linked to.
    merges = spans.of("us-1", "crdtdb merge")
    assert set(map(_identity, commits)) & set().union(*map(_linked, merges))


async def test_spans_go_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = Thread(target=collector.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{collector.server_address[1]}"
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
            async with live_cluster("eu-1", tracing=True) as (eu,):
                await _increment(eu)
        finally:
            collector.shutdown()
            thread.join()
    assert {path for path, _ in received} == {"/v1/traces"}
    everything = b"".join(body for _, body in received)
    for word in (b"crdtdb commit", _POST.encode(), b"eu-1"):
        assert word in everything


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crdtdb_server.tracing", None)
    with Database.in_memory() as database, pytest.raises(StartError, match=r"crdtdb\[otel\]"):
        serve._tracing(database)


def test_off_it_is_not_even_imported() -> None:
    program = (
        "import sys, crdtdb_server.serve, crdtdb_server.shell\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=DEADLINE_S)
