"""A peer of a newer version: what is not known here is refused, said once, and harms nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import structlog
from aiohttp import ClientSession, web

from crdtdb import Database, codec
from crdtdb.address import ObjectName, own
from crdtdb.causal import VersionVector
from crdtdb.record import Record
from crdtdb.replication.messages import (
    Claim,
    Copied,
    Copy,
    Digest,
    Hello,
    Message,
    Page,
    Pull,
    Sender,
    Summary,
    Welcome,
    read_frame,
    write_frame,
)
from crdtdb.store.memory import MemoryStore
from crdtdb_server.config import Settings
from crdtdb_server.peers.envelope import (
    ENCODING_HEADER,
    PATH,
    SENDER_HEADER,
    open_body,
    seal_body,
    seal_sender,
)
from crdtdb_server.ports import free_ports
from crdtdb_server.serve import live
from livecluster import LiveWire, eventually
from newer import newer_record, newer_row, newer_whole

NEWER: Final = 4711
DOT: Final = (NEWER, 1)
SEEN: Final = VersionVector.of([DOT])
SET: Final = "/v1/buckets/shop/set/cart"

Answering = Callable[[Message], list[bytes]]


def record_of(type_name: str, *, is_newer: bool) -> tuple[bytes, bytes]:
    """A record as the peer has it."""
    at = own(ObjectName("shop", type_name, "k"))
    data = codec.encode_record(at, Record({DOT: [7, "something"]}, SEEN))
    return at, newer_record(at, data) if is_newer else data


def row_of(data: bytes, at: bytes) -> bytes:
    """The row in which the peer keeps a record."""
    row = codec.pack_row(1, at, data)
    return row if data[0] == codec.RECORD_VERSION else newer_row(at, row)


def donor(*records: tuple[bytes, bytes]) -> Answering:
    """A peer that speaks this version's messages, and has these records."""

    def answer(message: Message) -> list[bytes]:
        match message:
            case Hello():
                return [write_frame(Welcome(0))]
            case Digest() | Summary():
                return [write_frame(Summary(SEEN.flat(), 0, {}, answer=False))]
            case Copy(session, after):
                rows = [(at, row_of(data, at)) for at, data in records if at > after]
                return [write_frame(Copied(session, after, 5, 9, rows, True, len(rows)))]
            case Pull(session, _, since):
                claim = Claim(SEEN.flat(), 0)
                return [write_frame(Page(session, since, 5, 9, list(records), claim))]
            case _:
                return []

    return answer


def next_wire(message: Message) -> list[bytes]:
    """A peer whose every frame is of the next version."""
    return [newer_whole(write_frame(Welcome(0)))]


class Pair:
    """A replica of this version, on one store over its restarts, and a hand-made peer."""

    def __init__(self, answer: Answering) -> None:
        self.answer = answer
        self.here, self.there = free_ports(2)
        self.url = f"http://127.0.0.1:{self.there}"
        self.store = MemoryStore(b"eu-1")
        self.me = Sender("crdtdb", NEWER, "next-1", "", self.url, False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[LiveWire]:
        """Both, until the end of the block."""
        app = web.Application()
        app.router.add_post(PATH, self._post)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.there).start()
            settings = Settings(
                data_dir=Path("unused"), listen=f"127.0.0.1:{self.here}", peers=(self.url,)
            )
            async with live(Database(self.store, replica="eu-1"), settings) as replica:
                yield LiveWire(replica)
                self.store = self.store.copy()
        finally:
            await runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        frames = open_body(await request.read(), request.headers.get(ENCODING_HEADER))
        answers = [back for frame in frames for back in self.answer(read_frame(frame))]
        body, encoding = seal_body(answers)
        headers = {SENDER_HEADER: seal_sender(self.me)}
        if encoding is not None:
            headers[ENCODING_HEADER] = encoding
        return web.Response(body=body, headers=headers)


async def _says_so(wire: LiveWire, pair: Pair, what: str) -> None:
    await eventually("it is said", lambda: bool(wire.service.newer_peers()))
    document = (await wire.get("/v1/cluster")).document
    why = document["troubles"][pair.url]
    assert what in why
    assert "upgrade this replica" in why
    assert document["refusals"]["newer-version"] >= 1
    assert (await wire.get("/readyz")).document["newer_peers"] == ["next-1"]


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (next_wire, "a frame of a newer crdtdb: version 3; this crdtdb reads 1"),
        (donor(record_of("register", is_newer=True)), "record version 2; this crdtdb reads 1"),
    ],
    ids=["frames", "records"],
)
async def test_what_a_newer_peer_sends_is_refused_and_said(answer: Answering, what: str) -> None:
    pair = Pair(answer)
    for written in (1, 2):
        with structlog.testing.capture_logs() as logged:
            async with pair.running() as wire:
                if answer is next_wire:
                    await eventually("it serves", lambda: wire.service.state() == "serving")
                    assert (await wire.post(SET, {"op": "add", "value": written})).status == 200
                    assert (await wire.get(SET)).document["size"] == written
                await _says_so(wire, pair, what)
                assert not wire.service.seen.covers(DOT), "nothing beyond it is claimed"
        said = [entry for entry in logged if what in str(entry.get("why"))]
        assert [entry["peer"] for entry in said] == ["next-1"], "once"


async def test_a_newer_peer_that_calls_is_told_what_is_known_here() -> None:
    pair = Pair(donor())
    async with pair.running() as wire, ClientSession() as session:
        await eventually("it serves", lambda: wire.service.state() == "serving")
        body, _ = seal_body([newer_whole(write_frame(Hello(1)))])
        headers = {SENDER_HEADER: seal_sender(pair.me)}
        url = f"http://127.0.0.1:{pair.here}{PATH}"
        async with session.post(url, data=body, headers=headers) as response:
            problem: dict[str, Any] = await response.json(content_type=None)
        assert response.status == 400
        assert problem["errors"][0]["message"] == "newer-version"
        assert "version 3; this crdtdb reads 1" in problem["detail"]
        await _says_so(wire, pair, "a frame of a newer crdtdb")


async def test_records_of_a_newer_type_are_kept_and_not_shown() -> None:
    """They are relayed as they came, also after a restart, and this replica is well."""
    entry = record_of("newer", is_newer=False)
    pair = Pair(donor(entry))
    for _ in range(2):
        async with pair.running() as wire:
            await eventually("it has them", lambda: wire.service.seen.covers(DOT))
            await eventually("it serves", lambda: wire.service.state() == "serving")
            ready = await wire.get("/readyz")
            assert (ready.status, "newer_peers" in ready.document) == (200, False)
            listed = await wire.get("/v1/buckets/shop")
            assert "newer" not in str(listed.document)
            unknown = await wire.get("/v1/buckets/shop/newer/k")
            assert (unknown.status, unknown.document["code"]) == (404, "unknown-type")
            assert (await wire.post(SET, {"op": "add", "value": 1})).status == 200
            pulled = msgspec.structs.replace(pair.me, incarnation=99, name="other", endpoint="")
            asked = write_frame(Pull(1, 0, 0, [], []))
            frames = await wire.network.deliver(pulled, [asked])
            pages = [page for frame in frames if isinstance(page := read_frame(frame), Page)]
            assert entry in [record for page in pages for record in page.records]
