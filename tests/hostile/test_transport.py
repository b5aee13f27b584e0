"""Attacks on a live server: bodies that are bombs, floods, lies about sizes, or slow.

Each is answered with a problem, counted in `/v1/cluster`, and afterwards the cluster replicates.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import zstandard

from crdtdb import Database
from crdtdb.errors import PeerError
from crdtdb.reading import Digest as Shown
from crdtdb.reading import Reading
from crdtdb.replication.messages import Digest, Hello, Pull, Push, Sender, write_frame
from crdtdb.store.memory import MemoryStore
from crdtdb_server.config import Settings
from crdtdb_server.peers import network
from crdtdb_server.peers.envelope import (
    BODY_BYTES,
    BODY_FRAMES,
    ENCODING_HEADER,
    PATH,
    SENDER_HEADER,
    open_body,
    seal_body,
    seal_sender,
)
from crdtdb_server.ports import free_ports
from crdtdb_server.serve import live
from livecluster import LiveWire, eventually, live_cluster
from wireclient import Reply

ATTACKER = Sender("crdtdb", 77, "x", "", "", False)


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[list[LiveWire]]:
    async with live_cluster("eu-1", "us-1") as wires:
        yield wires


async def _post(
    wire: LiveWire, body: bytes, encoding: str = "", sender: str | None = None
) -> Reply:
    headers = [(SENDER_HEADER, seal_sender(ATTACKER) if sender is None else sender)]
    if encoding:
        headers.append((ENCODING_HEADER, encoding))
    headers.append(("Content-Type", "application/octet-stream"))
    return await wire.request("POST", PATH, body=body, headers=headers)


async def _refusals(wire: LiveWire) -> dict[str, int]:
    refusals: dict[str, int] = (await wire.request("GET", "/v1/cluster")).document["refusals"]
    return refusals


async def _goes_on(pair: Iterable[LiveWire]) -> None:
    """The honest replicas serve, and take what the other writes."""
    wires = list(pair)
    for number, wire in enumerate(wires):
        added = await wire.post("/v1/buckets/shop/set/k", {"op": "add", "value": number})
        assert added.status == 200

    def shown(wire: LiveWire) -> Shown:
        with wire.service.database.engine.store.snapshot() as snapshot:
            return Reading(snapshot).digest()

    await eventually("equal", lambda: len({shown(wire) for wire in wires}) == 1)
    for wire in wires:
        assert (await wire.request("HEAD", "/v1/buckets/shop/set/k")).status == 200


BOMB = zstandard.ZstdCompressor(level=19).compress(bytes(BODY_BYTES + 1))


def _lying_bomb() -> bytes:
    """It does not say how much is in it."""
    compressor = zstandard.ZstdCompressor(level=19, write_content_size=False)
    packer = compressor.compressobj()
    return packer.compress(bytes(4 * BODY_BYTES)) + packer.flush()


@pytest.mark.parametrize("bomb", [BOMB, _lying_bomb()], ids=["declared", "undeclared"])
async def test_a_bomb(pair: list[LiveWire], bomb: bytes) -> None:
    """Some kilobytes that become more than an exchange may hold."""
    assert len(bomb) < 100_000
    answer = await _post(pair[0], bomb, "zstd")
    assert answer.status == 400
    assert "too-large" in answer.document["detail"]
    assert (await _refusals(pair[0]))["too-large"] == 1
    await _goes_on(pair)


def test_a_bomb_is_not_unpacked() -> None:
    """Only as much of it as may be there at most."""
    bomb = _lying_bomb()
    tracemalloc.start()
    try:
        with pytest.raises(PeerError, match="more than"):
            open_body(bomb, "zstd")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 * BODY_BYTES


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"\x00\x00\x00\xff" + b"short", ""),
        (b"\xff\xff\xff\xff", ""),
        (b"\x00", ""),
        (b"no zstd", "zstd"),
        (BOMB[: len(BOMB) // 2], "zstd"),
        (b"\x00\x00\x00\x00", "gzip"),
        (b"\x00\x00\x00\x00", ""),
    ],
)
async def test_a_body_that_is_none(pair: list[LiveWire], body: bytes, encoding: str) -> None:
    answer = await _post(pair[0], body, encoding)
    assert answer.status == 400
    assert sum((await _refusals(pair[0])).values()) == 1
    await _goes_on(pair)


@pytest.mark.parametrize("sender", ["", "!", "AAAA", "x" * 5_000])
async def test_a_sender_that_is_none(pair: list[LiveWire], sender: str) -> None:
    answer = await _post(pair[0], b"", sender=sender)
    assert answer.status == 400
    await _goes_on(pair)


async def test_an_oversized_body(pair: list[LiveWire]) -> None:
    """Refused by its head, before any of it is read."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {BODY_BYTES + 1}\r\n\r\n"
    assert (await pair[0].send(head.encode())).status == 413
    await _goes_on(pair)


async def test_a_flood_of_frames_in_one_body(pair: list[LiveWire]) -> None:
    """Each is work: more than any link sends at once are refused before the first is read."""
    body, encoding = seal_body([write_frame(Digest(0, 0, 0))] * (BODY_FRAMES + 1))
    answer = await _post(pair[0], body, encoding or "")
    assert answer.status == 400
    assert (await _refusals(pair[0]))["too-large"] == 1
    await _goes_on(pair)


async def test_a_flood_of_pulls_in_one_body(
    pair: list[LiveWire], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some bytes must not call for an answer of gigabytes."""
    value = "x" * 10_000
    await pair[0].put("/v1/buckets/shop/register/k", {"value": value})
    monkeypatch.setattr(network, "BODY_BYTES", 100_000)
    pulls = [write_frame(Pull(1, 0, 0, [], []))] * 1_000
    answer = await _post(pair[0], *_sealed(pulls))
    assert answer.status == 400
    assert (await _refusals(pair[0]))["too-large"] == 1
    monkeypatch.undo()
    await _goes_on(pair)


async def test_a_good_body_is_answered(pair: list[LiveWire]) -> None:
    """Else the attacks would prove nothing."""
    answer = await _post(pair[0], *_sealed([write_frame(Hello(0))]))
    assert answer.status == 200
    assert open_body(answer.body, answer.headers.get(ENCODING_HEADER.lower()))
    assert await _refusals(pair[0]) == {}


async def test_the_wrong_cluster(pair: list[LiveWire]) -> None:
    stranger = seal_sender(msgspec.structs.replace(ATTACKER, cluster="another"))
    body, encoding = _sealed([write_frame(Hello(0))])
    answer = await _post(pair[0], body, encoding, stranger)
    assert answer.status == 409
    assert (await _refusals(pair[0]))["wrong-cluster"] == 1
    await _goes_on(pair)


async def test_a_forged_origin(pair: list[LiveWire]) -> None:
    forged = Push(pair[1].network.replication.incarnation, 1_000, 1_000, [], 0, [])
    answer = await _post(pair[0], *_sealed([write_frame(forged)]))
    assert answer.status == 400
    assert (await _refusals(pair[0]))["forged-origin"] == 1
    await _goes_on(pair)


async def test_many_who_are_slow(pair: list[LiveWire]) -> None:
    """Bodies that come byte by byte, or never, keep nobody else waiting."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n{SENDER_HEADER}: {seal_sender(ATTACKER)}\r\n"
        "Content-Length: 1000000\r\n\r\n"
    )
    writers = []
    try:
        for _ in range(50):
            _, writer = await asyncio.open_connection(pair[0].address, pair[0].port)
            writers.append(writer)
            writer.write(head.encode() + b"\x00")
            await writer.drain()
        await _goes_on(pair)
    finally:
        for writer in writers:
            writer.close()
            await writer.wait_closed()


async def test_who_does_not_know_the_secret(tmp_path: Path) -> None:
    """Not one frame is taken, and the tries are counted."""
    secret = tmp_path / "secret"
    secret.write_text("a secret of this cluster")
    port = free_ports(1)[0]
    settings = Settings(
        data_dir=Path("unused"), listen=f"127.0.0.1:{port}", cluster_secret_file=secret
    )
    async with live(Database(MemoryStore(), replica="eu-1"), settings) as replica:
        wire = LiveWire(replica)
        for proof in ("", "0.0", f"1000.{'0' * 64}"):
            headers: list[tuple[str, Any]] = [(SENDER_HEADER, seal_sender(ATTACKER))]
            if proof:
                headers.append(("Crdtdb-Proof", proof))
            body = _sealed([write_frame(Pull(1, 0, 0, [], []))])[0]
            assert (await wire.request("POST", PATH, body=body, headers=headers)).status == 403
        assert (await _refusals(wire))["unproven"] == 3
        assert ATTACKER.incarnation not in replica.network.replication.peers


def _sealed(frames: list[bytes]) -> tuple[bytes, str]:
    body, encoding = seal_body(frames)
    return body, encoding or ""
