"""Session tokens: what state may answer."""

from __future__ import annotations

import asyncio

import pytest

from crdtdb import Database
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.errors import Behind
from crdtdb.token import TokenKind, read_token, write_token
from crdtdb.transaction import Transaction
from crdtdb_server.session import Sessions
from wireclient import Wire

_AT = "/v1/buckets/shop/counter/k"
_STEP = {"op": "increment"}


def _vector(token: str) -> VersionVector:
    return read_token(TokenKind.SESSION, "crdtdb", token)


class _Elsewhere:
    """Another replica, with one write that can be brought here."""

    def __init__(self) -> None:
        self._database = Database.in_memory(replica="us-1")
        update = self._database.parse_update(ObjectName("shop", "counter", "k"), _STEP)
        committed = self._database.engine.commit([Transaction((update,))])
        assert committed.push is not None
        self._push = committed.push
        self.seen = committed.seen
        self.token = write_token(TokenKind.SESSION, "crdtdb", committed.seen)

    def arrive(self, database: Database) -> None:
        """The write reaches a replica."""
        database.engine.merge(self._push.records, self.seen, self._push.time)


@pytest.fixture
def elsewhere() -> _Elsewhere:
    return _Elsewhere()


async def test_an_answer_covers_the_write(wire: Wire) -> None:
    empty = await wire.get(_AT)
    written = await wire.post(_AT, _STEP)
    read = await wire.get(_AT)
    assert _vector(empty.token) == NOTHING
    assert _vector(written.token) == _vector(read.token) == wire.service.seen != NOTHING


async def test_a_covered_token_is_answered_at_once(wire: Wire) -> None:
    token = (await wire.post(_AT, _STEP)).token
    again = await wire.post(_AT, _STEP, Crdtdb_Context=token, Prefer="wait=0")
    assert again.document["value"] == 2
    both = await wire.get(_AT, Crdtdb_Context=f"{token}, {again.token}", Prefer="wait=0")
    assert both.status == 200


async def test_what_this_replica_lacks_is_named(wire: Wire, elsewhere: _Elsewhere) -> None:
    before = wire.state
    for attempt in (
        wire.get(_AT, Crdtdb_Context=elsewhere.token, Prefer="wait=0"),
        wire.post(_AT, _STEP, Crdtdb_Context=elsewhere.token, Prefer="foo, wait=0; x"),
    ):
        behind = await attempt
        assert (behind.status, behind.document["code"]) == (503, "behind")
        assert "1 operations" in behind.document["detail"]
        assert "operations 1 to 1 of " in behind.document["errors"][0]["message"]
        assert behind.headers["retry-after"] == "1"
        assert _vector(behind.token) == elsewhere.seen, "it covers what the request carried"
    assert wire.state == before


async def test_repeated_headers_are_joined(wire: Wire, elsewhere: _Elsewhere) -> None:
    own = (await wire.post(_AT, _STEP)).token
    behind = await wire.send(
        f"GET {_AT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nPrefer: wait=0\r\n"
        f"Crdtdb-Context: {own}\r\ncrdtdb-context: {elsewhere.token}\r\n\r\n".encode()
    )
    assert behind.status == 503
    assert _vector(behind.token) == _vector(own).join(elsewhere.seen)


async def test_a_request_waits_until_the_write_arrives(
    wire: Wire, database: Database, elsewhere: _Elsewhere
) -> None:
    waiting = asyncio.create_task(wire.get(_AT, Crdtdb_Context=elsewhere.token, Prefer="wait=60"))
    await wire.service.writer.call(lambda: elsewhere.arrive(database))
    answer = await waiting
    assert (answer.status, answer.document["value"]) == (200, 1)
    assert _vector(answer.token) == elsewhere.seen


async def test_tokens_of_other_clusters_and_kinds_are_refused(wire: Wire) -> None:
    await wire.post("/v1/buckets/shop/set/k", {"op": "add", "value": 1})
    foreign = write_token(TokenKind.SESSION, "other", NOTHING)
    seen = (await wire.get("/v1/buckets/shop/set/k")).document["seen"]
    for token in (foreign, seen):
        refused = await wire.get(_AT, Crdtdb_Context=token)
        assert (refused.status, refused.document["code"]) == (400, "bad-token")


async def test_about_the_server_there_is_nothing_to_wait_for(
    wire: Wire, elsewhere: _Elsewhere
) -> None:
    answer = await wire.get("/readyz", Crdtdb_Context=elsewhere.token, Prefer="wait=0")
    assert answer.status == 200
    assert _vector(answer.token) == elsewhere.seen


# -- waiting, by hand -----------------------------------------------------------------------------


class _Seen:
    """What a replica has seen, moved by hand."""

    def __init__(self) -> None:
        self.vector = NOTHING
        self.sessions = Sessions("crdtdb", lambda: self.vector, lambda: False)

    def advance(self, counter: int) -> None:
        self.vector = VersionVector({1: counter})
        self.sessions.advanced()


@pytest.fixture
def seen() -> _Seen:
    return _Seen()


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_every_waiter_goes_on_when_it_is_covered_and_not_before(seen: _Seen) -> None:
    waiters = [
        asyncio.create_task(seen.sessions.reach(VersionVector({1: counter}), 60))
        for counter in (1, 2, 3)
    ]
    await _turns()
    seen.advance(2)
    await _turns()
    assert [waiter.done() for waiter in waiters] == [True, True, False]
    seen.advance(3)
    await asyncio.gather(*waiters)


async def test_a_waiter_that_leaves_is_forgotten(seen: _Seen) -> None:
    waiter = asyncio.create_task(seen.sessions.reach(VersionVector({1: 1}), 60))
    await _turns()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    seen.advance(1)


async def test_no_patience(seen: _Seen) -> None:
    with pytest.raises(Behind) as caught:
        await seen.sessions.reach(VersionVector({1: 5, 2: 7}), 0)
    assert [field.message for field in caught.value.fields] == [
        "operations 1 to 5 of 0000000000000001 are missing",
        "operations 1 to 7 of 0000000000000002 are missing",
    ]
