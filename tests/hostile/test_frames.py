"""Attacks with bytes that are no message, and with floods of those that are."""

from __future__ import annotations

import msgspec
import pytest
import xxhash

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.replication.messages import Digest, Hello, write_frame
from hostile.arena import ATTACKER, Arena, sent
from newer import newer_record

FLAG = ObjectName("shop", "flag", "k")


def framed(body: bytes, version: int = 1) -> bytes:
    """A frame whose checksum holds."""
    return bytes((version,)) + xxhash.xxh3_64_digest(body) + body


DEEP = b"\x91" * 100_000 + b"\xc0"


@pytest.mark.parametrize(
    "body",
    [
        b"\xc0",
        b"\x90",
        b"\x92\x63\x00",
        b"\x92\xff\x00",
        b"\x92\x01\xff",
        b"\x92\x01\xa1x",
        b"\x93\x01\x00\x00",
        b"\x92\x01\xcf" + b"\xff" * 8,
        b"\x92\x01\xdd\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        DEEP,
        codec.pack((7, 1, 0, 1, 1, [(b"", b"")] * 10_000, None, 1, b"x" * 10_000)),
        b"\x92\x01" + DEEP,
        b"\x81\xa0" * 100_000 + b"\xc0",
        codec.pack([5, [], 0, {"x": []}, True]),
        codec.pack([6, 1, 0, -1, [], []]),
        codec.pack([7, 1, 0, 0, 0, [[b"x"]], None]),
        codec.pack([8, ATTACKER, 1, 1 << 63, [], 0, []]),
        codec.pack([8, -1, 1, 1, [], 0, []]),
        codec.pack([99, "a kind of message that is not known"]),
        b"\x92\x0a\xa2\xff\xfe",
    ],
    ids=lambda body: body[:10].hex(),
)
def test_what_is_no_message(arena: Arena, body: bytes) -> None:
    assert arena.attack(framed(body)) == "bad-frame"
    arena.recover()


@pytest.mark.parametrize("frame", [b"", b"\x01", b"\x01" + bytes(8), b"\x01" + bytes(99)])
def test_what_is_no_frame(arena: Arena, frame: bytes) -> None:
    assert arena.attack(frame) == "bad-frame"
    arena.recover()


def test_bits_flipped(arena: Arena) -> None:
    frame = write_frame(arena.push(sent(address.own(FLAG), None, (ATTACKER, 1))))
    for position in range(len(frame)):
        flipped = bytearray(frame)
        flipped[position] ^= 0x08
        assert arena.attack(bytes(flipped)) in ("bad-frame", "newer-version")
    assert arena.a.seen.get(ATTACKER) == 0
    arena.recover()


def test_a_frame_of_another_version(arena: Arena) -> None:
    """Not understood, which is something else than broken; what is understood goes on."""
    assert arena.attack(framed(b"\x92\x01\x00", version=2)) == "newer-version"
    assert arena.attack(Hello(0)) is None
    arena.recover()


def test_a_record_of_another_version(arena: Arena) -> None:
    at, data = sent(address.own(FLAG), None, (ATTACKER, 1))
    assert arena.attack(arena.push((at, newer_record(at, data)))) == "newer-version"
    assert arena.attack(arena.push((at, b"\x02" + data[1:]))) == "bad-record"
    arena.recover()


def test_a_type_of_another_version(arena: Arena) -> None:
    """Kept and relayed, never shown."""
    at = address.own(ObjectName("shop", "newer", "k"))
    assert arena.attack(arena.push(sent(at, {"any": "thing"}, (ATTACKER, 1)))) is None
    arena.recover()
    assert arena.b.replica.record(at) == arena.a.replica.record(at)


@pytest.mark.parametrize("depth", [65, 100, 1_000, 100_000])
def test_a_payload_that_nests_too_deep(arena: Arena, depth: int) -> None:
    at = address.own(ObjectName("shop", "newer", "k"))
    body = b"\x92\x90\x91\x93" + bytes((ATTACKER,)) + b"\x01" + b"\x91" * depth + b"\xc0"
    data = b"\x01" + xxhash.xxh3_64_digest(at + body) + body
    assert arena.attack(arena.push((at, data))) == "bad-record"
    arena.recover()


@pytest.mark.parametrize(
    "at",
    [
        b"",
        b"\x00",
        b"\x10",
        FLAG.prefix,
        FLAG.prefix + b"\x63",
        FLAG.prefix + b"\x03",
        b"\x63" + FLAG.prefix,
        b"\xff" * 100,
        address.cut(b""),
        address.cut(FLAG.prefix + address.OWN),
        address.own(FLAG._replace(key="k" * 100_000)),
    ],
    ids=lambda at: at[:10].hex() or "nothing",
)
def test_records_at_impossible_addresses(arena: Arena, at: bytes) -> None:
    assert arena.attack(arena.push(sent(at, None, (ATTACKER, 1)))) == "bad-record"
    arena.recover()


def test_a_flood_of_small_frames(arena: Arena) -> None:
    """Nothing of them stays, and honest writes get through between them."""
    for number in range(2_000):
        assert arena.attack(Digest(number, number, 0)) is None
        if number % 500 == 0:
            arena.write("set", "add", by_whom="b", value=f"between {number}")
            assert f"between {number}" in arena.a.replica.value("set")
    assert len(arena.a.machine.peers) <= 2
    arena.recover()


def test_a_flood_of_refusals(arena: Arena) -> None:
    """They are counted by reason, and the reasons are few."""
    for number in range(1_000):
        arena.attack(framed(codec.pack([number, number])))
        arena.attack(arena.push(origin=number))
    assert arena.a.refused("bad-frame") > 900
    assert arena.a.refused("forged-origin") > 900
    assert len(arena.a.machine.refusals) <= 3
    arena.recover()


@pytest.mark.parametrize("bad", [msgspec.msgpack.Ext(5, b"x"), float("nan"), 1 << 63])
def test_payloads_that_no_type_writes(arena: Arena, bad: object) -> None:
    assert arena.attack(arena.push(sent(address.own(FLAG), bad, (ATTACKER, 1)))) == "bad-record"
    arena.recover()
