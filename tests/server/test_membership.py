"""Who belongs to the cluster, as an operator says it: adding, evicting, rejoining."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import structlog

from crdtdb import Database
from crdtdb.store.memory import MemoryStore
from crdtdb_server.config import Settings
from crdtdb_server.ports import free_ports
from crdtdb_server.serve import live
from livecluster import LiveWire, eventually, live_cluster

MEMBERS = "/v1/cluster/members"
SET = "/v1/buckets/shop/set/cart"


@pytest.fixture
async def cluster() -> AsyncIterator[list[LiveWire]]:
    async with live_cluster("eu-1", "us-1", "asia-1") as wires:
        yield wires


async def _values(wire: LiveWire) -> list[object]:
    value = (await wire.get(SET)).document["value"]
    assert isinstance(value, list)
    return value


def _names(wire: LiveWire) -> list[str]:
    return sorted(member.name for member in wire.network.replication.members.values())


async def test_evicted_while_away_and_back(cluster: list[LiveWire]) -> None:
    """Nothing waits for it, nobody hears it, it says so; and it comes back with what it has."""
    eu, us, asia = cluster
    await eu.post(SET, {"op": "add", "values": ["old", "stays"]})
    await eventually(
        "all have it",
        lambda: all(wire.service.seen.includes(eu.service.seen) for wire in (us, asia)),
    )
    asia.cut(eu, us)
    assert (await asia.post(SET, {"op": "add", "value": "only here"})).status == 200
    assert (await us.post(SET, {"op": "remove", "value": "old"})).status == 200
    replication = eu.network.replication

    def only_asia_is_waited_for() -> bool:
        # Before the remove has come, something else is waited for; then us has to report it.
        stake = replication.stake("asia-1")
        has_come = eu.service.seen.includes(us.service.seen)
        return has_come and stake.unblocked > 0 and not stake.still_blocking

    await eventually("only asia is waited for", only_asia_is_waited_for)
    stable = replication.stable()

    dry = await eu.delete(f"{MEMBERS}/asia-1?dry_run=true")
    assert dry.status == 200
    assert dry.document["dry_run"] is True
    assert dry.document["unblocks"]["events"] > 0
    assert dry.document["unblocks"]["still_blocked_by"] == []
    assert dry.document["at_stake"]["events"] == 0, "it has said nothing since"
    assert dry.document["at_stake"]["last_contact_ms"] >= 0
    assert "asia-1" in _names(eu)

    with structlog.testing.capture_logs() as logged:
        done = await eu.delete(f"{MEMBERS}/asia-1")
        assert (done.status, done.document["dry_run"]) == (200, False)
        assert done.document["incarnations"] == dry.document["incarnations"]
        await eventually("us has heard", lambda: _names(us) == ["eu-1", "us-1"])
        await eventually(
            "more is stable",
            lambda: stable.missing(replication.stable()) > 0,
        )
        assert (await asia.get("/readyz")).status == 200, "it does not know yet"
        asia.mend(eu, us)
        await eventually("asia knows", lambda: asia.network.replication.is_evicted)
        ready = await asia.get("/readyz")
        assert (ready.status, ready.document["state"]) == (503, "evicted")
        refused = await asia.post(SET, {"op": "add", "value": "late"})
        assert (refused.status, refused.document["code"]) == (503, "evicted")
        assert "crdtdb cluster rejoin" in refused.document["detail"]
        assert set(await _values(asia)) == {"old", "stays", "only here"}, "reads go on"
        assert (await asia.get("/v1/cluster")).document["self"]["state"] == "evicted"
        await eventually(
            "it is counted",
            lambda: sum(w.network.replication.refusals["evicted"] for w in (eu, us)) >= 2,
        )
    said = [entry for entry in logged if entry["event"].startswith("evicted")]
    assert [entry["replica"] for entry in said] == ["asia-1"]
    assert set(await _values(eu)) == {"stays"}
    gone = (await eu.get("/v1/cluster")).document["evicted"]
    assert [(one["replica"], one["by"]) for one in gone] == [("asia-1", "eu-1")]

    before = asia.network.replication.incarnation
    back = await asia.request("POST", "/v1/cluster/rejoin")
    assert (back.status, back.document["replica"]) == (200, "asia-1")
    assert asia.network.replication.incarnation != before
    assert (await asia.get("/readyz")).status == 200
    await eventually(
        "one cluster again",
        lambda: (
            all(_names(w) == ["asia-1", "eu-1", "us-1"] for w in cluster)
            and len({w.service.seen for w in cluster}) == 1
        ),
    )
    for wire in cluster:
        assert set(await _values(wire)) == {"stays", "only here"}
    assert (await asia.post(SET, {"op": "add", "value": "again"})).status == 200


async def test_evicting_a_member_that_is_well_says_so(cluster: list[LiveWire]) -> None:
    answer = await cluster[0].delete(f"{MEMBERS}/us-1")
    assert (answer.status, answer.document["reachable"]) == (200, True)
    await eventually("us knows", lambda: cluster[1].network.replication.is_evicted)
    assert (await cluster[1].delete(f"{MEMBERS}/eu-1")).document["code"] == "evicted"
    assert (await cluster[1].post(MEMBERS, {"url": "http://h:1"})).document["code"] == "evicted"


async def test_who_cannot_be_evicted(cluster: list[LiveWire]) -> None:
    eu, us, _ = cluster
    unknown = await eu.delete(f"{MEMBERS}/mars-1")
    assert (unknown.status, unknown.document["code"]) == (404, "unknown-replica")
    itself = await eu.delete(f"{MEMBERS}/eu-1?dry_run=true")
    assert (itself.status, itself.document["code"]) == (422, "invalid-operation")
    well = await us.request("POST", "/v1/cluster/rejoin")
    assert (well.status, well.document["code"]) == (422, "invalid-operation")


async def test_a_member_is_added_by_its_url() -> None:
    """It needs to know nobody: it is asked, and copies the data."""
    here, there = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    async with AsyncExitStack() as stack:

        async def start(name: str, url: str) -> LiveWire:
            database = Database(MemoryStore(name.encode()), replica=name)
            listen = url.removeprefix("http://")
            settings = Settings(data_dir=Path("unused"), listen=listen)
            return LiveWire(await stack.enter_async_context(live(database, settings)))

        eu = await start("eu-1", here)
        await eventually("eu serves", lambda: eu.is_whole)
        assert (await eu.post(SET, {"op": "add", "value": 1})).status == 200
        asked = await eu.post(MEMBERS, {"url": f"{there}/"})
        assert (asked.status, asked.document) == (200, {"url": there, "replica": None})
        us = await start("us-1", there)
        await eventually("two", lambda: _names(eu) == _names(us) == ["eu-1", "us-1"])
        await eventually("us has it", lambda: us.service.seen.includes(eu.service.seen))
        assert await _values(us) == [1]
        again = await eu.post(MEMBERS, {"url": there})
        assert again.document["replica"] == "us-1"
        for url, status in ((here, 422), ("ftp://x", 400), ("http://h/path", 400), ("", 400)):
            assert (await eu.post(MEMBERS, {"url": url})).status == status, url


async def test_a_peer_that_is_this_replica_itself_is_said_once() -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    settings = Settings(data_dir=Path("unused"), listen=f"127.0.0.1:{port}", peers=(url,))
    with structlog.testing.capture_logs() as logged:
        async with live(Database.in_memory(replica="eu-1"), settings) as replica:
            await eventually("it serves", lambda: replica.service.state() == "serving")
    said = [log["endpoint"] for log in logged if "is this replica itself" in log["event"]]
    assert said == [url]


async def test_a_replica_that_moved_says_where_it_is_now() -> None:
    """It once kept its first URL as a member for ever, and others went on knocking there."""
    store = MemoryStore(b"eu-1")
    for port in free_ports(2):
        settings = Settings(data_dir=Path("unused"), listen=f"127.0.0.1:{port}")
        async with live(Database(store, replica="eu-1"), settings) as replica:
            wire = LiveWire(replica)

            def says_so(url: str = f"http://127.0.0.1:{port}", wire: LiveWire = wire) -> bool:
                members = wire.network.replication.members.values()
                return [member.endpoint for member in members] == [url]

            await eventually("it says where it is", says_so)
            store = store.copy()
