"""What only the client has: exact URLs, the replica's own affairs, and how little it imports."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from crdtdb import __version__
from crdtdb.errors import BadRequest, UnknownReplica
from crdtdb_client import AsyncClient, Client, transport
from processes import DEADLINE_S

#: Keys that a careless URL would mix up.
KEYS = ["a/b", "a%2Fb", "a?b", "a#b", "a+b", "a b", "ü", "u\u0308", "..%2F", "{a}", "a\nb", "'\""]


def test_keys_are_exact(db: Client) -> None:
    for number, key in enumerate(KEYS, start=1):
        db.counter("shop", key).increment(number)
    for number, key in enumerate(KEYS, start=1):
        assert db.counter("shop", key).get().value == number
    shown = {name.key: read.value for name, read in db.objects("shop", "counter")}
    assert shown == {key: number for number, key in enumerate(KEYS, start=1)}


def test_members_are_exact(db: Client) -> None:
    members = db.set("shop", "members")
    members.add("a+b", "a b", "a&b", "%41", "ü")
    assert "a+b" in members
    assert "a%2Bb" not in members
    assert "A" not in members


def test_a_replica_tells_about_itself(db: Client) -> None:
    about = db.about()
    assert (about["version"], about["replica"]) == (__version__, "eu-1")
    assert db.readiness() == "serving"
    assert db.cluster()["self"]["replica"] == "eu-1"


def test_a_link_that_is_not_there_cannot_be_broken(db: Client) -> None:
    with pytest.raises(UnknownReplica):
        db.put_fault("us-1", drop=True, latency_ms=1.5)
    with pytest.raises(BadRequest):
        db.put_fault("eu-1", drop=True)


async def test_tasks_share_an_asynchronous_client(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A hundred connections at once can take a busy machine longer than one may.
    monkeypatch.setattr(transport, "_CONNECT_S", DEADLINE_S)
    async with AsyncClient(url) as db:
        views = db.counter("shop", "views")
        async with asyncio.TaskGroup() as group:
            writing = [group.create_task(views.increment()) for _ in range(200)]
        assert len({one.result().value for one in writing}) == 200
        assert (await views.get()).value == 200


def test_the_client_needs_no_server_code() -> None:
    code = (
        "import sys, crdtdb_client; "
        "print([m for m in sys.modules if m.split('.')[0] in ('crdtdb_server', 'aiohttp', 'lmdb')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


async def test_both_clients_take_the_same_backup(url: str) -> None:
    async with AsyncClient(url) as db:
        await db.counter("shop", "views").increment()
        parts = [part async for part in db.backup()]
    with Client(url) as same:
        assert b"".join(same.backup()) == b"".join(parts)
