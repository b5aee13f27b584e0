"""`Crdtdb-Staleness`: for how long this replica may have missed something."""

from __future__ import annotations

import asyncio
import re
from random import Random

import pytest

from crdtdb import Database
from crdtdb.replication import Replication
from crdtdb.replication.members import Member
from crdtdb.replication.messages import Sender
from crdtdb.replication.peers import Peer
from crdtdb_server.peers.staleness import Staleness
from livecluster import eventually, live_cluster
from processes import DEADLINE_S
from wireclient import Reply, Wire

_AT = "/v1/buckets/shop/counter/k"
_FORM = re.compile(r'(\d+\.\d);replica="([^"]*)"(;at-least)?')


def _stale(reply: Reply) -> tuple[float, str, bool]:
    match = _FORM.fullmatch(reply.headers["crdtdb-staleness"])
    assert match is not None, reply.headers["crdtdb-staleness"]
    return float(match[1]), match[2], match[3] is not None


async def test_alone_nobody_is_ahead(wire: Wire) -> None:
    for reply in (await wire.get(_AT), await wire.post(_AT, {"op": "increment"})):
        assert "crdtdb-staleness" not in reply.headers


async def test_a_silent_member_is_named_and_time_passes() -> None:
    async with live_cluster("eu-1", "us-1", "ap-1") as (eu, us, _):
        await eventually(
            "level with all", lambda: "at-least" not in (eu.service.staleness() or "at-least")
        )
        seconds, _, _ = _stale(await eu.get(_AT))
        assert seconds < DEADLINE_S
        eu.cut(us)
        await eventually(
            "us-1 is the worst",
            lambda: 'replica="us-1"' in str(eu.service.staleness()),
        )
        before, name, at_least = _stale(await eu.get("/v1/nothing"))
        assert (name, at_least) == ("us-1", False)
        await asyncio.sleep(0.5)
        after, _, _ = _stale(await eu.get("/v1/nothing"))
        assert after >= before + 0.2
        eu.mend(us)
        await eventually(
            "level again", lambda: float(str(eu.service.staleness()).partition(";")[0]) < after
        )


class _Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_ms = 50_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr("crdtdb_server.peers.staleness.monotonic_ms", clock)
    return clock


def _replication(database: Database, *levels_ms: int | None) -> Replication:
    """A replica that has been level with its members at these times."""
    replication = Replication(database.engine, name="eu-1", random=Random(1))
    for number, level_ms in enumerate(levels_ms, start=1):
        name = f"us-{number}"
        sender = Sender("crdtdb", number, name, "us", "", False)
        replication._cluster.members[number] = Member(number, name, "us", "")
        replication._cluster.peers[number] = Peer(sender, level_ms=level_ms)
    return replication


def test_the_worst_member_counts(database: Database, clock: _Clock) -> None:
    staleness = Staleness(_replication(database, 49_900, 47_600, 49_000))
    assert staleness.text() == '2.4;replica="us-2"'


def test_an_answer_may_repeat_what_was_said_a_moment_ago(database: Database, clock: _Clock) -> None:
    staleness = Staleness(_replication(database, 49_600))
    assert staleness.text() == '0.4;replica="us-1"'
    clock.now_ms += 99
    assert staleness.text() == '0.4;replica="us-1"'
    clock.now_ms += 1
    assert staleness.text() == '0.5;replica="us-1"'


def test_who_has_not_been_level_since_the_start_has_a_lower_bound(
    database: Database, clock: _Clock
) -> None:
    staleness = Staleness(_replication(database, None))
    clock.now_ms += 3_000
    assert staleness.text() == '3.0;replica="us-1";at-least'


def test_a_name_cannot_break_the_header(database: Database, clock: _Clock) -> None:
    replication = _replication(database, 49_000)
    member = replication._cluster.members[1]
    replication._cluster.members[1] = member._replace(name='a"\\\r\né')
    assert Staleness(replication).text() == '1.0;replica="a\\"\\\\???"'
