"""Idempotency keys: a write that is sent twice is carried out once, over restarts too."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from crdtdb import Database
from crdtdb_server.app import serving
from crdtdb_server.service import Options, Service
from wireclient import Reply, Wire

_COUNTER = "/v1/buckets/shop/counter/k"
_STEP = {"op": "increment", "by": 5}
_UPDATES = {"updates": [{"bucket": "shop", "type": "counter", "key": "k", **_STEP}]}


async def _send(
    wire: Wire, method: str, target: str, document: Any = None, key: str = "k-1"
) -> Reply:
    body = b"" if document is None else json.dumps(document).encode()
    return await wire.request(method, target, body=body, headers=[("Idempotency-Key", key)])


@pytest.mark.parametrize(
    ("method", "target", "document"),
    [
        ("POST", _COUNTER, _STEP),
        ("POST", _COUNTER, [_STEP, _STEP]),
        ("POST", "/v1/buckets/shop/set/k", {"op": "add", "values": [1, 2]}),
        ("PUT", "/v1/buckets/shop/register/k", {"a": [1.5, None, "ü"]}),
        ("DELETE", "/v1/buckets/shop/set/k", None),
        ("POST", "/v1/transactions", _UPDATES),
        ("DELETE", "/v1/buckets/shop", None),
    ],
)
async def test_the_first_answer_comes_again(
    wire: Wire, method: str, target: str, document: Any
) -> None:
    await wire.post("/v1/buckets/shop/set/k", {"op": "add", "value": 0})
    first = await _send(wire, method, target, document)
    assert first.status == 200
    assert "idempotency-replayed" not in first.headers
    await wire.post(_COUNTER, _STEP)
    before = wire.state
    again = await _send(wire, method, target, document)
    assert (again.status, again.body) == (200, first.body)
    assert again.headers["idempotency-replayed"] == "true"
    assert "etag" not in again.headers
    assert again.token == first.token
    assert wire.state == before


async def test_a_replay_is_not_counted_as_an_operation(wire: Wire) -> None:
    for _ in range(3):
        await _send(wire, "POST", _COUNTER, _STEP)
    metrics = (await wire.get("/metrics")).body.decode()
    assert 'crdtdb_operations_total{op="increment",type="counter"} 1.0' in metrics


@pytest.mark.parametrize(
    ("method", "target", "document"),
    [
        ("POST", _COUNTER, {"op": "increment", "by": 6}),
        ("POST", _COUNTER + "2", _STEP),
        ("POST", "/v1/transactions", _UPDATES),
        ("DELETE", _COUNTER, None),
    ],
)
async def test_the_same_key_for_another_request_is_refused(
    wire: Wire, method: str, target: str, document: Any
) -> None:
    await _send(wire, "POST", _COUNTER, _STEP)
    before = wire.state
    refused = await _send(wire, method, target, document)
    assert (refused.status, refused.document["code"]) == (422, "idempotency-mismatch")
    assert wire.state == before


async def test_two_spellings_of_a_target_are_one(wire: Wire) -> None:
    await _send(wire, "POST", "/v1/buckets/shop/counter/a-b", _STEP)
    again = await _send(wire, "POST", "/v1/buckets/shop/counter/%61%2Db", _STEP)
    assert again.headers["idempotency-replayed"] == "true"


async def test_many_at_once_are_carried_out_once(wire: Wire) -> None:
    replies = await asyncio.gather(*(_send(wire, "POST", _COUNTER, _STEP) for _ in range(20)))
    assert {reply.body for reply in replies} == {b'{"value":5,"changed":true}'}
    assert sum("idempotency-replayed" in reply.headers for reply in replies) == 19
    assert (await wire.get(_COUNTER)).document["value"] == 5


async def test_a_refused_write_keeps_no_answer(wire: Wire) -> None:
    refused = await _send(wire, "POST", _COUNTER, {"op": "increment", "by": 0})
    assert refused.status == 400
    done = await _send(wire, "POST", _COUNTER, _STEP)
    assert (done.status, done.document["value"]) == (200, 5)


async def test_a_repetition_is_answered_although_its_condition_no_longer_holds(wire: Wire) -> None:
    tag = (await wire.get(_COUNTER)).headers["etag"]
    headers = [("Idempotency-Key", "k-1"), ("If-Match", tag)]
    first = await wire.request("POST", _COUNTER, _STEP, headers=headers)
    again = await wire.request("POST", _COUNTER, _STEP, headers=headers)
    assert (first.status, again.status, again.body) == (200, 200, first.body)


async def test_reads_are_not_kept_so_a_key_does_not_go_with_them(wire: Wire) -> None:
    reads = [{"bucket": "shop", "type": "counter", "key": "k"}]
    before = wire.state
    refused = await _send(wire, "POST", "/v1/transactions", {"reads": reads, **_UPDATES})
    assert (refused.status, refused.document["errors"][0]["field"]) == (400, "reads")
    assert wire.state == before
    assert (await _send(wire, "POST", "/v1/transactions", {"reads": reads})).status == 200


async def test_a_key_survives_a_restart(tmp_path: Path) -> None:
    answers: list[Reply] = []
    for _ in range(2):
        with Database.open(tmp_path, replica="eu-1") as database:
            service = Service(database, Options(port=0))
            async with serving(service) as url:
                wire = Wire(service, int(url.rpartition(":")[2]))
                answers.append(await _send(wire, "POST", _COUNTER, _STEP))
    first, again = answers
    assert (again.status, again.body) == (200, first.body)
    assert again.headers["idempotency-replayed"] == "true"
