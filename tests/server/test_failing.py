"""A bug in one part of replication: the rest goes on, and everybody can see that there is one."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from crdtdb.errors import Overloaded
from crdtdb.replication.sharing import Sharing
from crdtdb_server.peers import network
from crdtdb_server.peers.network import Network
from livecluster import eventually, live_cluster


def _broken(*_: object) -> None:
    raise ZeroDivisionError("a bug")


async def test_a_bug_in_one_chore_is_shown_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was logged ten times a second, and took with it what the tick wanted sent."""
    async with live_cluster("eu-1", "us-1") as (eu, us):
        assert "failing" not in (await eu.request("GET", "/readyz")).document
        with monkeypatch.context() as patched, capture_logs() as logs:
            patched.setattr(Sharing, "tick", _broken)
            await eventually("it failed", lambda: eu.network.failures["sharing"] > 0)
            ready = await eu.request("GET", "/readyz")
            assert (ready.status, ready.document["failing"]) == (200, ["sharing"])
            assert (await eu.request("GET", "/v1/cluster")).document["self"]["failing"] == [
                "sharing"
            ]
            metrics = (await eu.request("GET", "/metrics")).body.decode()
            assert 'crdtdb_replication_failures_total{chore="sharing"}' in metrics
            # What was cut off is found by digests and pulls, which the same tick begins.
            eu.cut(us)
            path = "/v1/buckets/shop/counter/views"
            assert (await eu.request("POST", path, {"op": "increment"})).status == 200
            eu.mend(us)
            await eventually("it arrived", lambda: us.service.seen.includes(eu.service.seen))
        said = [line for line in logs if line["event"] == "a bug in replication; it is tried again"]
        assert {(line["chore"], line["log_level"]) for line in said} == {("sharing", "error")}
        await eventually("it is over", lambda: not eu.network.failing)


async def test_a_bug_in_the_tick_itself_is_tried_again_ever_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network, "_FAILED_MOST_S", 0.2)
    async with live_cluster("eu-1", "us-1") as (eu, _):
        with monkeypatch.context() as patched:
            patched.setattr(Network, "_note_namesakes", _broken)
            await eventually("it failed", lambda: eu.network.failing == ["tick"])
            assert (await eu.request("GET", "/readyz")).document["failing"] == ["tick"]
        await eventually("it is over", lambda: not eu.network.failing)
        assert eu.network.failures["tick"] > 0


async def test_a_busy_writer_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> None:
        raise Overloaded("too many writes are waiting already; slow down")

    async with live_cluster("eu-1", "us-1") as (eu, _):
        monkeypatch.setattr(Network, "_note_namesakes", busy)
        await eventually("it was refused", lambda: eu.network.refusals["tick-failed"] > 0)
        assert not eu.network.failures
        assert not eu.network.failing
        monkeypatch.undo()
