"""What an operator may set for one server: each bound holds, is named, and hinders nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from crdtdb import Database
from crdtdb.errors import Overloaded
from crdtdb_server.access import Access, Principal
from crdtdb_server.app import serving
from crdtdb_server.bounds import Bounds, Rate
from crdtdb_server.config import Settings
from crdtdb_server.service import Options, Service
from wireclient import Reply, Wire, WireAgain

_SET, _REGISTER = "/v1/buckets/shop/set/k", "/v1/buckets/shop/register/k"
#: A request with this field is answered by the other front.
_FRONTS = pytest.mark.parametrize("always", [{}, {"TE": "trailers"}], ids=["lane", "aiohttp"])


@asynccontextmanager
async def _serving(bounds: Bounds, always: dict[str, str] | None = None) -> AsyncIterator[Wire]:
    with Database.in_memory(replica="eu-1") as database:
        service = Service(database, Options(port=0, bounds=bounds))
        async with serving(service) as url:
            yield Wire(service, int(url.rpartition(":")[2]), always=always)


def _limit(reply: Reply) -> Any:
    return reply.document["errors"][0]["limit"]


@_FRONTS
@pytest.mark.parametrize(
    ("bounds", "taken", "refused", "status", "limit"),
    [
        (Bounds(body_bytes=1_024), "x" * 900, "x" * 1_100, 413, 1_024),
        (Bounds(body_elements=100), [0] * 90, [0] * 110, 413, 100),
        (Bounds(body_elements=100), ",[{" * 900, [[]] * 60, 413, 100),
        (Bounds(body_depth=8), [[[[[[1]]]]]], [[[[[[[[1]]]]]]]], 400, 8),
        (Bounds(body_depth=8), "[[[[[[[[[[[[", {"a": [{"b": [{"c": [{"d": [1]}]}]}]}, 400, 8),
        (Bounds(), [0] * 49_000, [0] * 51_000, 413, 50_000),
    ],
    ids=["bytes", "elements", "elements in strings", "depth", "depth of objects", "by default"],
)
async def test_bodies(
    always: dict[str, str], bounds: Bounds, taken: Any, refused: Any, status: int, limit: int
) -> None:
    async with _serving(bounds, always) as wire:
        assert (await wire.post(_REGISTER, {"op": "set", "value": taken})).status == 200
        before = wire.state
        for path in (_REGISTER, "/v1/transactions"):
            reply = await wire.post(path, {"op": "set", "value": refused})
            assert (reply.status, _limit(reply)) == (status, limit)
        assert wire.state == before
        assert (await wire.request("GET", _REGISTER)).document["value"] == taken
        limits = (await wire.request("GET", "/v1")).document["limits"]
        assert bounds.as_dict().items() <= limits.items()


@_FRONTS
async def test_operations(always: dict[str, str]) -> None:
    async with _serving(Bounds(transaction_operations=3), always) as wire:
        add = {"op": "add", "value": 1}
        update = {"bucket": "shop", "type": "set", "key": "k", **add}
        assert (await wire.post(_SET, [add] * 3)).status == 200
        assert (await wire.post("/v1/transactions", {"updates": [update] * 3})).status == 200
        for path, document in ((_SET, [add] * 4), ("/v1/transactions", {"updates": [update] * 4})):
            reply = await wire.post(path, document)
            assert (reply.status, _limit(reply)) == (400, 3)


@_FRONTS
async def test_pages(always: dict[str, str]) -> None:
    """Who asks for more gets less at a time, and all of it in the end."""
    async with _serving(Bounds(page_items=100), always) as wire:
        await wire.post(_SET, {"op": "add", "values": [*range(150)]})
        first = (await wire.request("GET", f"{_SET}?limit=1000")).document
        rest = (await wire.request("GET", f"{_SET}?limit=1000&after={first['next']}")).document
        assert (len(first["value"]), len(rest["value"])) == (100, 50)
        assert len((await wire.request("GET", f"{_SET}?limit=7")).document["value"]) == 7
        read = {"bucket": "shop", "type": "set", "key": "k", "limit": 1_000}
        (shown,) = (await wire.post("/v1/transactions", {"reads": [read]})).document["reads"]
        assert len(shown["value"]) == 100
        assert (await wire.request("GET", f"{_SET}?limit=1001")).status == 400


async def test_lines_of_an_import_have_any_number_of_elements() -> None:
    """What was exported can be imported, whatever the bounds of requests."""
    async with _serving(Bounds(body_elements=100)) as wire:
        value: list[list[int]] = [[]] * 30_000
        line = {"bucket": "shop", "type": "register", "key": "k", "value": value}
        reply = await wire.request(
            "POST",
            "/v1/import",
            body=json.dumps(line).encode(),
            headers=[("Content-Type", "application/x-ndjson")],
        )
        assert reply.document["written"] == {"register": 1}
        assert (await wire.request("GET", _REGISTER)).document["value"] == value


async def test_connections() -> None:
    async with _serving(Bounds(connections=2)) as wire:
        kept = [await asyncio.open_connection("127.0.0.1", wire.port) for _ in range(2)]
        for _, writer in kept:  # on one, aiohttp goes on
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert [(await reader.readline())[:12] for reader, _ in kept] == [b"HTTP/1.1 200"] * 2
        turned = await wire.send(b"")
        assert (turned.status, turned.document["code"], _limit(turned)) == (429, "overloaded", 2)
        assert turned.headers["retry-after"]
        kept[0][1].close()
        await kept[0][1].wait_closed()

        async def is_open() -> bool:
            return (await wire.request("GET", "/healthz")).status == 200

        while not await is_open():
            pass
        kept[1][1].close()


async def test_streams() -> None:
    async with _serving(Bounds(streams=1)) as wire:
        target = "/v1/changes?feed=sse"
        head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        assert (await wire.request("HEAD", target)).status == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(head)
        await reader.readuntil(b"\r\n\r\n")
        await reader.readline()  # it has begun
        for refused in (target, "/v1/export"):
            reply = await wire.request("GET", refused)
            assert (reply.status, reply.document["code"], _limit(reply)) == (429, "overloaded", 1)
        assert (await wire.request("GET", "/v1/changes")).status == 200
        writer.close()
        await writer.wait_closed()
        while (await wire.request("GET", "/v1/export")).status == 429:
            pass


async def test_rates() -> None:
    async with _serving(Bounds(requests_per_s=1)) as wire:
        replies = await asyncio.gather(*[wire.request("GET", _SET) for _ in range(30)])
        refused = [reply for reply in replies if reply.status == 429]
        assert refused
        assert (refused[0].headers["retry-after"], _limit(refused[0])) == ("1", 1)
        assert (await wire.request("GET", "/healthz")).status == 200


@_FRONTS
async def test_what_is_read_again_counts_too(
    always: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was kept was given out at any rate; and to keep it broke off the connection."""
    monkeypatch.setattr("crdtdb_server.dispatch.perf_counter", lambda: 1_000.0)
    async with _serving(Bounds(requests_per_s=5)) as plain:
        assert (await plain.post(_SET, {"op": "add", "value": 1})).status == 200
        wire = WireAgain(plain.service, plain.port, always=always)
        assert (await wire.request("GET", _SET)).status == 200  # of three
        assert (await plain.request("GET", _SET, headers=always.items())).status == 200
        assert (await plain.request("GET", _SET, headers=always.items())).status == 429


def test_each_caller_has_a_rate_of_its_own() -> None:
    rate = Rate(2)
    one, other = Principal("one", Access.READ), Principal("other", Access.READ)
    for caller in (one, other):
        rate.take(caller, 10.0)
        rate.take(caller, 10.0)
        with pytest.raises(Overloaded) as caught:
            rate.take(caller, 10.0)
        assert caught.value.retry_after_s == 1
    rate.take(one, 10.5)
    with pytest.raises(Overloaded):
        rate.take(one, 10.5)
    rate.take(one, 1_000.0)  # what was not used in all that time does not add up
    rate.take(one, 1_000.0)
    with pytest.raises(Overloaded):
        rate.take(one, 1_000.0)


def test_settings_give_bounds() -> None:
    settings = Settings(data_dir=Path(), max_streams=0, max_body_bytes=2_048)
    settings.check()
    assert settings.bounds == Bounds(streams=0, body_bytes=2_048)


@pytest.mark.parametrize(
    ("name", "value"),
    [("body_bytes", 9 * 2**20), ("page_items", 99), ("connections", 0), ("body_depth", 73)],
)
def test_what_the_contract_does_not_allow_is_refused(name: str, value: int) -> None:
    flag = f"--max-{name.replace('_', '-')}"
    settings: dict[str, Any] = {f"max_{name}": value}
    with pytest.raises(ValueError, match=f"{flag} is {value}; it can be"):
        Settings(data_dir=Path(), **settings).check()


async def test_a_reader_that_takes_nothing_is_no_stream_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is dropped, and others have its place."""
    monkeypatch.setattr("crdtdb_server.front._TAKEN_S", 0.05)
    async with _serving(Bounds(streams=1)) as wire:
        for number in range(8):
            path = f"/v1/buckets/shop/register/{number}"
            await wire.post(path, {"op": "set", "value": "x" * 1_000_000})
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port, limit=1_024)
        writer.write(b"GET /v1/export HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readline()
        while (await wire.request("GET", "/v1/export")).status == 429:
            pass
        writer.close()
