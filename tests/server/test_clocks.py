"""A replica whose clock disagrees with most others says so, and serves nevertheless."""

from __future__ import annotations

from typing import Any

import pytest

from crdtdb.limits import LIMITS
from crdtdb_server.peers.clock import off_by_ms
from livecluster import LiveWire, eventually, live_cluster


async def said(wire: LiveWire) -> tuple[Any, Any, int]:
    """What `/readyz` and `/v1/cluster` say of the clock, and whether it may be asked."""
    ready, cluster = await wire.get("/readyz"), await wire.get("/v1/cluster")
    name = "clock_off_by_ms"
    return ready.document.get(name), cluster.document["self"].get(name), ready.status


@pytest.mark.parametrize("by_ms", [3_600_000, -3_600_000])
async def test_a_clock_that_most_disagree_with(by_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async with live_cluster("eu-1", "us-1", "ap-1") as (eu, _, _):
        assert await said(eu) == (None, None, 200)
        engine = eu.service.database.engine
        right = engine.now_ms
        monkeypatch.setattr(engine, "now_ms", lambda: right() + by_ms)
        network = eu.network
        await eventually("noticed", lambda: off_by_ms(network.replication) is not None)
        ready, cluster, status = await said(eu)
        assert status == 200
        for off in (ready, cluster):  # they may be a greeting apart
            assert abs(off + by_ms) < LIMITS.max_drift_ms, "how far the others are off"
        monkeypatch.setattr(engine, "now_ms", right)
        await eventually("it is over", lambda: off_by_ms(network.replication) is None)


async def test_one_wrong_clock_of_three_is_not_most_of_them() -> None:
    async with live_cluster("eu-1", "us-1", "ap-1") as (eu, _, _):
        replication = eu.network.replication
        for peer in replication.peers.values():
            peer.clock_offset_ms = 0
        first, second = replication.peers.values()
        first.clock_offset_ms = LIMITS.max_drift_ms + 1
        assert off_by_ms(replication) is None
        second.clock_offset_ms = LIMITS.max_drift_ms
        assert off_by_ms(replication) is None
        second.clock_offset_ms = LIMITS.max_drift_ms + 7
        assert off_by_ms(replication) == LIMITS.max_drift_ms + 1
