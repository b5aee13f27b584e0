"""Logins that fail: so many a minute from each address, and nobody else is kept out by them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from crdtdb import Database
from crdtdb.errors import Overloaded
from crdtdb_server import logins
from crdtdb_server.access import Access, Principal
from crdtdb_server.config import Settings
from crdtdb_server.logins import A_REPLICA, Caller, Logins, together
from crdtdb_server.peers.envelope import PATH
from crdtdb_server.ports import free_ports
from crdtdb_server.serve import live
from crdtdb_server.token_file import add_token
from livecluster import LiveWire

_SET = "/v1/buckets/shop/set/k"
#: A request with this field is answered by the other front.
_FRONTS = pytest.mark.parametrize("always", [{}, {"TE": "trailers"}], ids=["lane", "aiohttp"])


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("crdtdb_server.dispatch.perf_counter", clock)
    return clock


class Guarded(LiveWire):
    """A replica with two tokens and a cluster secret."""

    good: str
    other: str

    async def ask_with(self, token: str, from_address: str = "127.0.0.1", **more: str) -> int:
        """The status of a read with a token; loopback has many addresses to ask from."""
        self.source = from_address
        headers = {"Authorization": f"Bearer {token}", **more}
        return (await self.request("GET", _SET, headers=headers.items())).status


@asynccontextmanager
async def _guarded(tmp_path: Path, failures_per_min: int) -> AsyncIterator[Guarded]:
    tokens, secret = tmp_path / "tokens", tmp_path / "secret"
    good = add_token(tokens, Principal("good", Access.READ))
    other = add_token(tokens, Principal("other", Access.READ))
    secret.write_text("correct horse battery staple")
    settings = Settings(
        data_dir=Path("unused"),
        listen=f"127.0.0.1:{free_ports(1)[0]}",
        token_file=tokens,
        cluster_secret_file=secret,
        max_failed_logins_per_min=failures_per_min,
    )
    with Database.in_memory(replica="eu-1") as database:
        async with live(database, settings) as replica:
            wire = Guarded(replica)
            wire.good, wire.other = good, other
            yield wire


@_FRONTS
async def test_who_guesses_has_to_wait(
    always: dict[str, str], clock: Clock, tmp_path: Path
) -> None:
    async with _guarded(tmp_path, 3) as wire:
        assert await wire.ask_with(wire.good, **always) == 200
        assert [await wire.ask_with("guess", **always) for _ in range(5)] == [401] * 3 + [429] * 2
        limited = await wire.get(_SET, Authorization="Bearer guess", **always)
        assert limited.headers["retry-after"] == "20"
        assert limited.document["code"] == "overloaded"
        assert limited.document["errors"][0]["limit"] == 3
        # A good one does not tell itself from a bad one; who was here before goes on.
        assert await wire.ask_with(wire.other, **always) == 429
        assert await wire.ask_with(wire.good, **always) == 200
        # Nor does another address hear of it.
        assert await wire.ask_with(wire.other, "127.0.0.2", **always) == 200
        assert await wire.ask_with("guess", "127.0.0.2", **always) == 401
        clock.now_s += 20
        assert await wire.ask_with(wire.other, **always) == 200
        assert [await wire.ask_with("guess", **always) for _ in range(2)] == [401, 429]
        metrics = wire.service.metrics.text().decode()
        assert 'crdtdb_failed_logins_total{reason="token"} 5.0' in metrics
        assert 'crdtdb_failed_logins_total{reason="limited"} 5.0' in metrics


async def test_who_sends_no_token_has_not_guessed(clock: Clock, tmp_path: Path) -> None:
    async with _guarded(tmp_path, 1) as wire:
        assert [(await wire.get(_SET)).status for _ in range(3)] == [401] * 3
        assert await wire.ask_with(wire.good) == 200


async def test_any_number_may_fail(clock: Clock, tmp_path: Path) -> None:
    async with _guarded(tmp_path, 0) as wire:
        assert [await wire.ask_with("guess") for _ in range(9)] == [401] * 9
        assert wire.service.logins.refused == {"token": 9}


async def test_who_is_no_replica_has_to_wait(clock: Clock, tmp_path: Path) -> None:
    """A proof is an HMAC of the whole body: to look at many costs more than to send them."""
    async with _guarded(tmp_path, 2) as wire:
        status = [(await wire.request("POST", PATH, body=b"x" * 100)).status for _ in range(4)]
        assert status == [403, 403, 429, 429]
        assert wire.network.refusals["unproven"] == 2, "the others were not looked at"
        assert wire.service.logins.refused == {"peer": 2, "limited": 2}


# -- by themselves --------------------------------------------------------------------------------


def _is_refused(logins: Logins, caller: Caller, now_s: float) -> bool:
    try:
        logins.check(caller, now_s)
    except Overloaded:
        return True
    return False


def test_a_replica_that_was_believed_goes_on_beside_one_that_is_not() -> None:
    limits = Logins(1)
    limits.admit(Caller("10.0.0.1", A_REPLICA), 0)
    limits.fail("10.0.0.1", "peer", 0)
    assert not _is_refused(limits, Caller("10.0.0.1", A_REPLICA), 0)
    assert _is_refused(limits, Caller("10.0.0.1", "a token"), 0)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "REMEMBERED", 10)
    limits = Logins(1)
    for number in range(1_000):
        limits.fail(f"a{number}", "token", 0)
        limits.admit(Caller(f"b{number}", "token"), 0)
    assert len(limits._left) == len(limits._known) == 10
    assert _is_refused(limits, Caller("a999", "token"), 0), "the last are the ones remembered"


def test_whoever_goes_on_failing_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "REMEMBERED", 10)
    limits = Logins(100)
    for number in range(60):
        limits.fail("one", "token", 0)
        limits.fail(f"other {number}", "token", 0)
    assert limits._left["one"] == (40, 0)


@pytest.mark.parametrize(
    ("host", "known_as"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("no address", "no address"),
    ],
)
def test_whose_failures_count_together(host: str, known_as: str) -> None:
    assert together(host) == known_as
