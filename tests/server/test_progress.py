"""A large pull, as callers and operators see it: partial answers, waiting tokens, progress."""

from __future__ import annotations

from typing import Any

import pytest

from crdtdb.replication import Replication, donor
from livecluster import LiveWire, eventually, live_cluster

MEMBERS = 120


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(donor, "PAGE_RECORDS", 20)
    monkeypatch.setattr("crdtdb.replication.staging.SHORT_PART_RECORDS", 25)
    monkeypatch.setattr("crdtdb.replication.repair.ONE_COMMIT_RECORDS", 50)


def hold_back(replica: LiveWire, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Let a replica join one part, and no more until the list is emptied."""
    stop: list[None] = []
    repair = replica.network.replication._repair
    carry_on = repair.carry_on

    def pausing() -> Any:
        if stop and replica.network.replication.is_partial:
            return []
        sends = carry_on()
        if replica.network.replication.is_partial and not stop:
            stop.append(None)
        return sends

    monkeypatch.setattr(repair, "carry_on", pausing)
    return stop


async def fall_behind(a: LiveWire, b: LiveWire) -> None:
    """Write at `a` what `b` does not hear of, until they meet again."""
    a.cut(b)
    b.cut(a)
    for i in range(0, MEMBERS, 20):
        values = [f"m{i + j}" for j in range(20)]
        answer = await a.request("POST", "/v1/buckets/shop/set/s", {"op": "add", "values": values})
        assert answer.status == 200
    a.mend(b)
    b.mend(a)


async def test_answers_say_that_they_are_partial(monkeypatch: pytest.MonkeyPatch) -> None:
    async with live_cluster("eu-1", "us-1") as (a, b):
        stop = hold_back(b, monkeypatch)
        await fall_behind(a, b)
        replication: Replication = b.network.replication
        await eventually("partial", lambda: replication.is_partial and bool(stop))

        answer = await b.request("GET", "/v1/buckets/shop/set/s")
        assert answer.status == 200
        assert answer.headers["crdtdb-partial"] == "1"
        assert 0 < answer.document["size"] < MEMBERS
        token = [("Crdtdb-Context", answer.token), ("Prefer", "wait=0")]
        behind = await b.request("GET", "/v1/buckets/shop/set/s", headers=token)
        assert behind.status == 503
        assert behind.document["code"] == "behind"
        assert "in parts" in behind.document["detail"]

        ready = await b.request("GET", "/readyz")
        assert ready.status == 200
        assert ready.document["state"] == "catching_up"
        progress = ready.document["progress"]
        assert progress["complete"]
        assert progress["donor"] == "eu-1"
        assert 0 < progress["joined"] < progress["records"]
        assert (await b.request("GET", "/v1/cluster")).document["self"]["progress"] == progress
        metrics = (await b.request("GET", "/metrics")).body.decode()
        assert f"crdtdb_pull_records {float(progress['records'])}" in metrics

        wrote = await b.request("POST", "/v1/buckets/shop/set/s", {"op": "add", "value": "mine"})
        assert wrote.status == 200

        monkeypatch.undo()
        token[1] = ("Prefer", "wait=30")
        whole = await b.request("GET", "/v1/buckets/shop/set/s", headers=token)
        assert whole.status == 200
        assert "crdtdb-partial" not in whole.headers
        assert whole.document["size"] == MEMBERS + 1
        assert "progress" not in (await b.request("GET", "/readyz")).document
        await eventually("level", lambda: a.service.seen == b.service.seen)
        assert (await a.request("GET", "/v1/buckets/shop/set/s")).document["size"] == MEMBERS + 1
