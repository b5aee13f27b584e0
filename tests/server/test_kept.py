"""Answers that are kept: while they hold, and everything that ends them.

That a kept answer says what a fresh one says is shown by the suites of the data routes, which run
over kept answers, too (`wireclient.WireAgain`).
"""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

import orjson
import pytest

from crdtdb import Database
from crdtdb.causal import NOTHING
from crdtdb_server.access import EVERYBODY, Access, Principal
from crdtdb_server.app import serving
from crdtdb_server.credentials import Keyring
from crdtdb_server.dispatch import Dispatcher
from crdtdb_server.exchange import FixedHeaders, Response
from crdtdb_server.kept import Kept, KeptAnswers
from crdtdb_server.service import Options, Service
from crdtdb_server.token_file import add_token, revoke_tokens
from wireclient import WireAgain

_BUCKET = "/v1/buckets/shop"
_AT = f"{_BUCKET}/counter/k"
_STEP = {"op": "increment"}


class _Counted(Dispatcher):
    """Counts what it answered again."""

    repeated = 0

    def again(self, key: Hashable) -> Response | None:
        answer = super().again(key)
        self.repeated += answer is not None
        return answer


class _Asking(WireAgain):
    """Knows how many answers were kept ones."""

    dispatcher: _Counted

    async def repeated(self, target: str, **headers: str) -> int:
        """How many of three answers to a read were kept ones."""
        before = self.dispatcher.repeated
        await self.get(target, **headers)
        return self.dispatcher.repeated - before


@asynccontextmanager
async def _asking(database: Database, options: Options) -> AsyncIterator[_Asking]:
    service = Service(database, options)
    made: list[_Counted] = []

    def make(*arguments: object) -> Dispatcher:
        made.append(_Counted(*arguments))  # type: ignore[arg-type]
        return made[0]

    async with serving(service, make_dispatcher=make) as url:
        asking = _Asking(service, int(url.rpartition(":")[2]))
        asking.dispatcher = made[0]
        yield asking


@pytest.fixture
async def asking(database: Database) -> AsyncIterator[_Asking]:
    async with _asking(database, Options(port=0)) as asking:
        yield asking


async def test_what_was_asked_twice_is_answered_from_what_was_kept(asking: _Asking) -> None:
    await asking.post(_AT, _STEP)
    assert await asking.repeated(_AT) == 1
    assert await asking.repeated(_AT) == 3


async def test_aiohttp_answers_from_what_was_kept_too(asking: _Asking) -> None:
    await asking.post(_AT, _STEP)
    await asking.get(_AT, TE="trailers")
    assert await asking.repeated(_AT, TE="trailers") == 3
    assert (await asking.get(_AT, TE="trailers")).document["value"] == 1


async def test_a_write_ends_it_and_only_for_its_object(asking: _Asking) -> None:
    other = f"{_BUCKET}/counter/other"
    for at in (_AT, other):
        await asking.post(at, _STEP)
        await asking.get(at)
    await asking.post(_AT, _STEP)
    assert (await asking.get(_AT)).document["value"] == 2
    assert await asking.repeated(other) == 3


async def test_the_token_is_that_of_now(asking: _Asking) -> None:
    await asking.post(_AT, _STEP)
    await asking.get(_AT)
    elsewhere = await asking.post(f"{_BUCKET}/counter/other", _STEP)
    assert await asking.repeated(_AT) == 3
    assert (await asking.get(_AT)).token == elsewhere.token


async def test_each_has_an_id_of_its_own(asking: _Asking) -> None:
    await asking.post(_AT, _STEP)
    await asking.get(_AT)
    first, second = [(await asking.get(_AT)).headers["x-request-id"] for _ in range(2)]
    assert first != second
    assert (await asking.get(_AT, X_Request_Id="mine")).headers["x-request-id"] == "mine"


@pytest.mark.parametrize("gone", [_AT, f"{_BUCKET}/counter?prefix=k"])
async def test_a_delete_of_whatever_width_ends_it(asking: _Asking, gone: str) -> None:
    await asking.post(_AT, _STEP)
    await asking.get(_AT)
    assert (await asking.delete(gone)).status == 200
    assert (await asking.get(_AT)).document["exists"] is False


async def test_what_may_change_by_itself_is_not_kept(asking: _Asking) -> None:
    await asking.post(_AT, _STEP)
    assert await asking.repeated(f"{_AT}?explain=1") == 0
    assert await asking.repeated(f"{_BUCKET}/counter/nothing") == 0
    await asking.post(_AT, {"op": "expire", "in_ms": 3_600_000})
    assert await asking.repeated(_AT) == 0


async def test_a_replica_that_must_not_answer_does_not(asking: _Asking) -> None:
    await asking.post(_AT, _STEP)
    await asking.get(_AT)
    with patch.object(asking.service, "state", lambda: "bootstrapping"):
        assert (await asking.get(_AT)).status == 503


async def test_whose_token_is_revoked_gets_nothing(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    stays, goes = [add_token(file, Principal(name, Access.ADMIN)) for name in ("stays", "goes")]
    keyring = Keyring.read(file)
    async with _asking(database, Options(port=0, keyring=keyring)) as asking:
        await asking.post(_AT, _STEP, Authorization=f"Bearer {stays}")
        for token in (stays, goes):
            await asking.get(_AT, Authorization=f"Bearer {token}")
            assert await asking.repeated(_AT, Authorization=f"Bearer {token}") == 3
        revoke_tokens(file, "goes")
        keyring.reread(file)
        assert (await asking.get(_AT, Authorization=f"Bearer {goes}")).status == 401
        assert (await asking.get(_AT, Authorization=f"Bearer {stays}")).status == 200


def _kept(body: bytes) -> Kept:
    fixed = FixedHeaders(())
    return Kept(0, {}, "/v1", EVERYBODY, NOTHING, b"prefix", b"row", 200, fixed, body)


def _requests(answers: KeptAnswers, numbers: range) -> Iterator[bytes]:
    for number in numbers:
        request = b"%d" % number
        answers.keep(request, _kept(bytes(1_000)))
        yield request


def test_room_is_bounded_and_what_is_used_stays() -> None:
    answers = KeptAnswers(kept_bytes=100_000)
    used = next(_requests(answers, range(1)))
    for request in _requests(answers, range(1, 1_000)):
        assert answers.find(request) is not None
        assert answers.find(used) is not None
    found = sum(answers.find(b"%d" % number) is not None for number in range(1, 1_000))
    assert 25 <= found <= 50


def test_room_is_what_is_taken() -> None:
    """Answers come from orjson, whose bytes hold on to 4 KiB each: a quarter was counted."""
    tracemalloc.start()
    try:
        answers = KeptAnswers()
        for number in range(1_000):
            answers.keep(number, _kept(orjson.dumps(number)))
        taken_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken_bytes < 1_000_000


def test_a_meeting_is_of_a_request_and_a_state() -> None:
    answers = KeptAnswers()
    assert not answers.meet(b"r", 1)
    assert answers.meet(b"r", 1)
    assert not answers.meet(b"r", 2)
