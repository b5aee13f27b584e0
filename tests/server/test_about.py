"""What the server says about itself, and what every answer carries."""

from __future__ import annotations

import re
from typing import Any

import pytest

from crdtdb import Database, __version__
from crdtdb.errors import PROBLEMS, Unavailable
from crdtdb.limits import LIMITS
from crdtdb.types import CATALOGUE
from crdtdb_server.bounds import Bounds
from crdtdb_server.routes import ROUTES
from wireclient import Wire


async def test_v1_describes_types_operations_and_limits(wire: Wire) -> None:
    about = (await wire.get("/v1")).document
    assert (about["version"], about["replica"], about["cluster"]) == (__version__, "eu-1", "crdtdb")
    assert about["limits"] == LIMITS.as_dict() | Bounds().as_dict()
    assert LIMITS.as_dict().items() <= about["limits"].items()
    assert list(about["types"]) == list(CATALOGUE)
    for name, kind in about["types"].items():
        assert kind["summary"]
        assert ("delete" in kind["operations"]) == CATALOGUE[name].deletable
        for operation in kind["operations"].values():
            assert operation["summary"]
            assert set(operation["required"]) <= set(operation["fields"])
    increment = about["types"]["counter"]["operations"]["increment"]
    assert increment["fields"]["by"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": LIMITS.step,
        "default": 1,
    }
    assert about["types"]["register"]["operations"]["set"]["required"] == ["value"]


async def test_the_digest_moves_with_what_users_see(wire: Wire) -> None:
    empty = (await wire.get("/v1/digest")).document
    await wire.put("/v1/buckets/shop/register/k", 1)
    one = await wire.get("/v1/digest")
    assert (empty["objects"], one.document["objects"]) == (0, 1)
    assert re.fullmatch("[0-9a-f]{32}", one.document["digest"])
    assert one.document["digest"] != empty["digest"]
    assert one.document["context"] == one.token
    await wire.delete("/v1/buckets/shop/register/k")
    assert (await wire.get("/v1/digest")).document["digest"] == empty["digest"]


async def test_health_and_readiness(wire: Wire) -> None:
    assert (await wire.get("/healthz")).document == {"status": "ok"}
    ready = await wire.get("/readyz")
    assert (ready.status, ready.document) == (200, {"state": "serving"})


async def test_a_replica_that_only_reads_is_ready_for_that(wire: Wire) -> None:
    assert (await wire.get("/readyz?for=write")).status == 200
    wire.service.state = lambda: "read_only"
    ready = await wire.get("/readyz")
    assert (ready.status, ready.document) == (200, {"state": "read_only"})
    for_writes = await wire.get("/readyz?for=write")
    assert (for_writes.status, for_writes.document) == (503, {"state": "read_only"})


async def test_a_replica_without_a_full_state_serves_no_data(wire: Wire) -> None:
    wire.service.state = lambda: "bootstrapping"
    ready = await wire.get("/readyz")
    assert (ready.status, ready.document) == (503, {"state": "bootstrapping"})
    before = wire.state
    for attempt in (
        wire.get("/v1/buckets"),
        wire.post("/v1/buckets/shop/counter/k", {"op": "increment"}),
    ):
        refused = await attempt
        assert (refused.status, refused.document["code"]) == (503, "bootstrapping")
        assert refused.headers["retry-after"]
    assert wire.state == before
    assert (await wire.get("/healthz")).status == 200


async def test_metrics_count_without_naming_keys(wire: Wire) -> None:
    await wire.post("/v1/buckets/shop/counter/secret-key", {"op": "increment"})
    await wire.get("/v1/buckets/shop/counter/secret-key")
    await wire.get("/no-such-route")
    await wire.request("PROPFIND", "/v1")
    metrics = await wire.get("/metrics")
    text = metrics.body.decode()
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'crdtdb_operations_total{op="increment",type="counter"} 1.0' in text
    assert 'method="GET",route="/v1/buckets/{bucket}/{type}/{key}"' in text
    assert 'code="404",method="GET",route="none"' in text
    assert 'method="other"' in text
    assert "crdtdb_commit_transactions_count 1.0" in text
    assert "crdtdb_commit_duration_seconds_count 1.0" in text
    assert "crdtdb_store_used_bytes" in text
    assert "secret" not in text
    assert "PROPFIND" not in text


async def test_every_answer_has_these_headers(wire: Wire) -> None:
    for reply in (await wire.get("/v1"), await wire.get("/nowhere")):
        assert reply.headers["crdtdb-replica"] == "eu-1"
        assert reply.headers["server"] == "crdtdb"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert re.fullmatch("[0-9a-f]{16}", reply.headers["x-request-id"])
        assert "access-control-allow-origin" not in reply.headers


async def test_a_sane_request_id_is_kept(wire: Wire) -> None:
    assert (await wire.get("/v1", X_Request_Id="a-1.B_2")).headers["x-request-id"] == "a-1.B_2"
    for odd in ("a b", "x" * 129, "<script>"):
        assert (await wire.get("/v1", X_Request_Id=odd)).headers["x-request-id"] != odd


async def test_every_problem_has_a_page(wire: Wire) -> None:
    for slug, problem in PROBLEMS.items():
        page = await wire.get(f"/problems/{slug}")
        assert page.headers["content-type"].startswith("text/plain")
        text = page.body.decode()
        assert text.startswith(f"{problem.title}\n\ncode: {slug}\nstatus: {problem.status}\n")
        meaning, fault, advice = text.split("\n\n")[2:]
        assert len(meaning) > 20
        assert fault.startswith("Whose fault: ")
        assert fault.count("not yours") == issubclass(problem, Unavailable) - (slug == "internal")
        assert len(advice) > len("What to do: ") + 20
    assert (await wire.get("/problems/nonsense")).status == 404


async def test_a_bug_reveals_nothing_but_the_request_id(
    wire: Wire, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(database, "answer", broken)
    reply = await wire.get("/v1/buckets/shop/counter/k", X_Request_Id="r-1")
    assert (reply.status, reply.document["code"]) == (500, "internal")
    assert "r-1" in reply.document["detail"]
    assert b"secret" not in reply.body
    assert b"Traceback" not in reply.body


def test_every_route_is_described_and_only_once() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    for route in ROUTES:
        assert route.summary
        assert route.handler.__doc__
