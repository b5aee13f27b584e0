"""What arrives is handed on in order, a little at a time, and not at all once nobody is there."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import pytest

from crdtdb_server.slices import SLICE_BYTES, Sliced
from wireclient import Wire


class Noted(asyncio.Protocol):
    """Notes what it is given."""

    def __init__(self) -> None:
        self.slices: list[bytes] = []
        self.has_ended = False

    def data_received(self, data: bytes) -> None:
        self.slices.append(data)

    def eof_received(self) -> None:
        self.has_ended = True


async def test_others_have_their_turn_between_two_slices() -> None:
    noted = Noted()
    sliced = Sliced(noted)
    data = bytes(range(256)) * 256
    sliced.data_received(data)
    sliced.data_received(b"rest")
    turns = []
    while b"".join(noted.slices) != data + b"rest":
        turns.append(len(noted.slices))
        await asyncio.sleep(0)
    assert turns == [*range(len(turns))]
    assert max(map(len, noted.slices)) == SLICE_BYTES
    sliced.data_received(b"more")
    assert noted.slices[-1] == b"more"


async def test_nothing_is_lost_at_the_end() -> None:
    noted = Noted()
    sliced = Sliced(noted)
    data = bytes(3 * SLICE_BYTES)
    sliced.data_received(data)
    assert sliced.eof_received() is None
    assert (b"".join(noted.slices), noted.has_ended) == (data, True)
    await asyncio.sleep(0)
    assert len(noted.slices) == 3


async def test_who_has_gone_is_given_nothing() -> None:
    noted = Noted()
    sliced = Sliced(noted)
    sliced.data_received(bytes(2 * SLICE_BYTES))
    sliced.connection_lost(None)
    await asyncio.sleep(0)
    assert not noted.slices


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_chunks_of_any_size_make_one_body(wire: Wire, size: int) -> None:
    value = "x" * (20 * size + 40_000)
    body = json.dumps({"op": "set", "value": value}).encode()
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    raw = b"".join([b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks])
    head = (
        "POST /v1/buckets/shop/register/k HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert (await wire.send(head.encode() + raw + b"0\r\n\r\n")).status == 200
    shown = await wire.request("GET", "/v1/buckets/shop/register/k")
    assert cast(str, shown.document["value"]) == value
