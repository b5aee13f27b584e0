"""What a peer sends is checked whole before any of it is merged, and refused whole."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest
import xxhash

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.errors import PeerError
from crdtdb.hlc import MOST
from crdtdb.limits import LIMITS
from crdtdb.record import Record
from crdtdb.store.base import KEY_BYTES
from crdtdb.types import CATALOGUE
from operations import creation
from replicas import Replica, missing, update

#: The peer that sends, and what it has seen.
PEER: Final = 77
SEEN: Final = VersionVector({PEER: 9})
DOT: Final = (PEER, 9)

FLAG: Final = ObjectName("shop", "flag", "k")
GOOD: Final = (address.own(FLAG), codec.encode_record(address.own(FLAG), Record({DOT: None}, SEEN)))


def sent(at: bytes, record: Record) -> tuple[bytes, bytes]:
    """A record as it travels."""
    return at, codec.encode_record(at, record)


def payload_at(at: bytes, payload: Any, dot: tuple[int, int] = DOT) -> tuple[bytes, bytes]:
    """A record with one payload."""
    return sent(at, Record({dot: payload}, VersionVector.of([dot])))


def raw(at: bytes, body: bytes) -> tuple[bytes, bytes]:
    """A record whose bytes no codec wrote, with a checksum that holds."""
    return at, b"\x01" + xxhash.xxh3_64_digest(at + body) + body


def reason(entry: tuple[bytes, bytes], seen: VersionVector = SEEN) -> str:
    """Why a replica refuses a batch with that record among good ones. Nothing changes."""
    a = Replica(1)
    a.do("flag", "enable")
    state, rows = a.engine.state, a.rows()
    with pytest.raises(PeerError) as caught:
        a.merge([GOOD, entry, GOOD], seen, 1 << 60)
    assert (a.engine.state, a.rows()) == (state, rows)
    assert str(caught.value)
    return caught.value.reason


def test_a_good_batch_is_taken() -> None:
    a = Replica(1)
    a.merge([GOOD, GOOD], SEEN, 0)
    assert a.value("flag") is True


# Bytes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", range(len(GOOD[1])))
def test_a_damaged_record_is_refused(position: int) -> None:
    at, data = GOOD
    damaged = bytearray(data)
    damaged[position] ^= 0x10
    assert reason((at, bytes(damaged))) == "bad-record"


@pytest.mark.parametrize("length", range(len(GOOD[1])))
def test_a_record_that_is_cut_short_is_refused(length: int) -> None:
    at, data = GOOD
    assert reason((at, data[:length])) == "bad-record"


def test_a_record_at_another_address_is_refused() -> None:
    other = address.own(FLAG._replace(key="other"))
    assert reason((other, GOOD[1])) == "bad-record"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc0",
        b"\x92\x90\xc0",
        codec.pack(([], [])) + b"\x00",
        codec.pack(([], [(PEER, 9, None), (PEER, 9, None)])),
        codec.pack(([], [(PEER, 0, None)])),
        codec.pack(([], [(-1, 9, None)])),
        codec.pack(([PEER], [])),
        codec.pack(([PEER, 9, 5, 1], [])),
        codec.pack(([PEER, 1 << 63], [])),
        b"\x92\x90\x91\x93\x4d\x09\xa2\xff\xfe",  # text that is not UTF-8
        b"\x92\x90\xdd\xff\xff\xff\xff",  # four thousand million rows
        b"\x92\x90\x91\x93\x4d\x09" + b"\x91" * 100_000 + b"\xc0",
        b"\x92\x90\x91\x93\x4d\x09" + b"\x81\xa0" * 100_000 + b"\xc0",
    ],
    ids=lambda body: body[:12].hex() or "nothing",
)
def test_a_body_that_no_replica_writes_is_refused(body: bytes) -> None:
    assert reason(raw(address.own(FLAG), body)) == "bad-record"


# Addresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "at",
    [
        b"",
        b"\x10",
        b"\x11shop\0flag\0k\0\x02",
        FLAG.prefix,
        FLAG.prefix + b"\x03",
        address.cut(b"\x11"),
        address.cut(b""),
        address.member(ObjectName("shop", "set", "k"), "x" * KEY_BYTES),
    ],
    ids=lambda at: at[:12].hex() or "nothing",
)
def test_an_unknown_address_is_refused(at: bytes) -> None:
    assert reason(payload_at(at, None)) == "bad-record"


@pytest.mark.parametrize("type_name", CATALOGUE)
def test_a_record_where_its_type_has_none_is_refused(type_name: str) -> None:
    name = ObjectName("shop", type_name, "k")
    places = [
        address.own(name),
        address.base(name),
        address.operation(name, DOT),
        address.member(name, 1),
    ]
    kind = CATALOGUE[type_name]
    for at in places:
        _, tail = address.split_object(at)
        if not kind.places(tail):
            assert reason(payload_at(at, None)) == "bad-record"


@pytest.mark.parametrize("tail", [address.OWN, address.OPERATION, address.MEMBER + b"\x10"])
def test_a_cut_within_an_object_is_refused(tail: bytes) -> None:
    at = address.cut(ObjectName("shop", "set", "k").prefix + tail)
    assert reason(payload_at(at, ([PEER, 3], None))) == "bad-record"


# Dots ---------------------------------------------------------------------------------------------


def test_a_dot_beyond_the_claim_is_refused() -> None:
    at = address.own(FLAG)
    assert reason(payload_at(at, None, (PEER, 10))) == "beyond-claim"
    assert reason(payload_at(at, None, (PEER + 1, 1))) == "beyond-claim"
    assert reason(sent(at, Record({}, VersionVector({PEER: 10})))) == "beyond-claim"


@pytest.mark.parametrize("prefix", [address.bucket_prefix("shop"), FLAG.prefix])
def test_a_cut_beyond_the_claim_is_refused(prefix: bytes) -> None:
    """Else it would remove what nobody has written yet."""
    at = address.cut(prefix)
    assert reason(payload_at(at, ([PEER, 10], None))) == "beyond-claim"
    assert reason(payload_at(at, ([PEER, 9, PEER + 1, 1], None))) == "beyond-claim"


def test_a_peer_that_knows_operations_of_mine_that_i_do_not_is_refused() -> None:
    a = Replica(1)
    a.do("flag", "enable")
    mine = VersionVector({a.engine.state.incarnation: 2})
    assert reason(GOOD, SEEN.join(mine)) == "own-dots"


@pytest.mark.parametrize(
    "record",
    [
        Record({}, VersionVector({PEER: 8})),
        Record({(PEER, 8): 1}, VersionVector({PEER: 8})),
        Record({DOT: 1, (PEER, 8): 1}, SEEN),
        Record({DOT: 1}, SEEN.join(VersionVector({PEER + 1: 1}))),
    ],
)
def test_an_operation_is_a_record_of_its_own(record: Record) -> None:
    at = address.operation(ObjectName("shop", "opcounter", "k"), DOT)
    seen = SEEN.join(VersionVector({PEER + 1: 1}))
    assert reason(sent(at, record), seen) == "bad-record"


def test_an_operation_that_a_cut_took_out() -> None:
    """Its record stays until the cut is stable, as that of a removed member does."""
    at = address.operation(ObjectName("shop", "opcounter", "k"), DOT)
    a = Replica(1)
    a.merge([sent(at, Record({}, SEEN))], SEEN, 0)
    assert a.engine.state.seen == SEEN


# Payloads -----------------------------------------------------------------------------------------


#: Some of every kind that the format can hold.
def _told(payload: Any) -> str:
    """A name that is the same in every process."""
    return type(payload).__name__ if isinstance(payload, msgspec.msgpack.Ext) else repr(payload)


_ANYTHING: Final[list[Any]] = [
    None,
    True,
    -1,
    MOST,
    0.5,
    "text",
    b"\xff\xfe",
    [],
    {},
    [1],
    [[1, 2]],
    {"a": 1},
    {1: 1},
    msgspec.msgpack.Ext(5, b"x"),
]


def _payloads(type_name: str) -> list[tuple[bytes, Any]]:
    """Addresses and payloads of an object as an honest replica leaves them, base included."""
    peer = Replica(PEER)
    for _ in range(2):
        peer.commit(update(ObjectName("shop", type_name, "k"), creation(type_name)))
    stored = missing(peer.store, NOTHING)
    peer.reclaim()
    stored += missing(peer.store, NOTHING)
    return [
        (at, payload)
        for at, data in stored
        for payload in codec.decode_record(at, data).live.values()
    ]


def _near_misses(payload: Any) -> list[Any]:
    """What a payload becomes when one part of it is something else, is missing, or is added."""
    if not isinstance(payload, list):
        return []
    parts = [
        [*payload[:i], wrong, *payload[i + 1 :]]
        for i, part in enumerate(payload)
        for wrong in _ANYTHING
        if type(wrong) is not type(part)
    ]
    return [*parts, payload[:-1], [*payload, None]]


@pytest.mark.parametrize("type_name", CATALOGUE)
def test_a_payload_of_another_shape_is_refused(type_name: str) -> None:
    for at, payload in _payloads(type_name):
        others = [wrong for wrong in _ANYTHING if type(wrong) is not type(payload)]
        for wrong in others + _near_misses(payload):
            assert reason(payload_at(at, wrong)) == "bad-record", (at, wrong)


_TEXT: Final = b'{"a": 1'
_TOO_DEEP: Final = b"[" * (LIMITS.json_depth + 1) + b"]" * (LIMITS.json_depth + 1)


@pytest.mark.parametrize(
    ("type_name", "payload"),
    [
        ("counter", (PEER, 9, -1, 0, [])),
        ("counter", (PEER, 9, 0, 0, [(PEER, 9, 0, -1)])),
        ("counter", (PEER, 0, 1, 0, [])),
        ("counter", (PEER, 10, 1, 0, [])),
        ("counter", (PEER + 1, 1, 1, 0, [])),
        ("gcounter", (PEER, 9, b"\xff" * 3_000, 0, [])),
        ("counter", (PEER, 9, 0, 0, [(PEER, 9, 0, b"\xff" * 3_000)])),
        ("register", (-1, b"1")),
        ("register", (0, b"")),
        ("register", (0, _TEXT)),
        ("register", (0, _TOO_DEEP)),
        ("register", (0, b"1e999")),
        ("mvregister", "true"),
        ("register", (0, "true")),
        ("max", "true"),
        ("max", b"\xff"),
        ("min", b"1 2"),
        ("max", True),
        ("hll", b""),
        ("hll", b"\x01\x00\x01"),
        ("hll", b"\x01\x00\x01\x36"),
        ("hll", b"\x01\x10\x00\x01"),
        ("hll", b"\x01\x00\x02\x01\x00\x01\x01"),
        ("hll", b"\x02" + b"\x01" * 4_095),
        ("hll", b"\x02" + bytes(4_096)),
        ("hll", b"\x03"),
        ("mvregister", b"\xff"),
        ("mvregister", b"1 2"),
        ("mvregister", b'"' + b"x" * LIMITS.value_bytes + b'"'),
    ],
)
def test_a_payload_that_its_type_never_writes_is_refused(type_name: str, payload: Any) -> None:
    assert reason(payload_at(address.own(ObjectName("shop", type_name, "k")), payload)) == (
        "bad-record"
    )


@pytest.mark.parametrize("mark", [None, 1, "removed"])
def test_a_mark_that_its_type_never_writes_is_refused(mark: Any) -> None:
    at = address.member(ObjectName("shop", "rwset", "k"), 1)
    assert reason(payload_at(at, mark)) == "bad-record"


@pytest.mark.parametrize(
    "payload",
    [
        [None, None, []],
        [[1, "1"], None, []],
        [[1, True], None, []],
        [[1, 1.0], None, []],
        [[1, float("nan")], None, []],
        [[1, float("inf")], None, []],
        [[-1, 1], None, []],
        [[1, 1], [*DOT, 1, [1, 0]], []],
        [None, [*DOT, 1, [1, 0]], [[*DOT, 1, [1, 0]]]],
        [None, [DOT[0] + 1, 1, 1, [1, 0]], []],
        [None, [DOT[0], DOT[1] + 1, 1, [1, 0]], []],
        [None, [*DOT, 0, [1, 0]], []],
        [None, [*DOT, DOT[1] + 1, [1, 0]], []],
        [None, [*DOT, 1, [2, 1]], []],
        [None, [*DOT, 1, [1, 1_075]], []],
        [None, [*DOT, 1, [1, -1]], []],
        [None, [*DOT, 1, [b"\x01", 0]], []],
        [None, [*DOT, 1, [b"\x00" * 9, 0]], []],
        [None, [*DOT, 1, [b"\x01" * 281, 0]], []],
        [None, None, [[2, 1, 1, [1, 0]], [1, 1, 1, [1, 0]]]],
        [None, None, [[1, 1, 1, [1, 0]], [1, 1, 2, [1, 0]]]],
        [None, None, [[1, 0, 1, [1, 0]]]],
    ],
)
def test_a_score_that_its_type_never_writes_is_refused(payload: Any) -> None:
    at = address.member(ObjectName("game", "zset", "k"), 1)
    assert reason(payload_at(at, payload)) == "bad-record"


@pytest.mark.parametrize("by", [LIMITS.step + 1, -LIMITS.step - 1])
def test_an_operation_that_its_type_never_writes_is_refused(by: int) -> None:
    at = address.operation(ObjectName("shop", "opcounter", "k"), DOT)
    assert reason(payload_at(at, by)) == "bad-record"


@pytest.mark.parametrize("folded", ["", "-0", "01", "1 ", "1\n", "1.5", "x", "9" * 5_000])
def test_a_base_that_its_type_never_writes_is_refused(folded: str) -> None:
    at = address.base(ObjectName("shop", "opcounter", "k"))
    assert reason(payload_at(at, folded)) == "bad-record"


def test_a_base_is_one_value() -> None:
    at = address.base(ObjectName("shop", "opcounter", "k"))
    assert reason(sent(at, Record({DOT: "1", (PEER, 8): "2"}, SEEN))) == "bad-record"


@pytest.mark.parametrize(
    "payload",
    [*(a for a in _ANYTHING if a != []), ([PEER], None), ([PEER, 1], 0), ([PEER, 0], None)],
    ids=_told,
)
def test_a_cut_of_another_shape_is_refused(payload: Any) -> None:
    assert reason(payload_at(address.cut(FLAG.prefix), payload)) == "bad-record"


def test_a_cut_of_several_objects_depends_on_no_deadline() -> None:
    at = address.cut(address.bucket_prefix("shop"))
    assert reason(payload_at(at, ([PEER, 1], 5))) == "bad-record"


@pytest.mark.parametrize(
    "payload",
    [*_ANYTHING, (5,), (5, 5, 5), (0, 5), (-1, 5), (1 << 48, 5), (5, -1), (5, None), ("5", 5)],
    ids=_told,
)
def test_a_deadline_of_another_shape_is_refused(payload: Any) -> None:
    assert reason(payload_at(FLAG.prefix + address.EXPIRY, payload)) == "bad-record"


def test_a_bounded_counter_has_no_deadline() -> None:
    at = ObjectName("shop", "bcounter", "k").prefix + address.EXPIRY
    assert reason(payload_at(at, (5, 5))) == "bad-record"


# What a newer version knows -----------------------------------------------------------------------

NEWER: Final = ObjectName("shop", "newer", "k")


@pytest.mark.parametrize("payload", _ANYTHING, ids=_told)
def test_what_a_type_of_a_newer_version_stores_is_kept_and_relayed(payload: Any) -> None:
    a, b = Replica(1), Replica(2)
    entry = payload_at(address.own(NEWER), payload)
    a.merge([entry], SEEN, 0)
    b.pull(a)
    assert missing(b.store, NOTHING) == [entry]
    assert b.digest() == a.digest()


@pytest.mark.parametrize("depth", [*range(20, 120, 20), *range(200, 1_200, 50), 100_000])
def test_what_is_kept_unknown_is_never_too_deep_to_be_read_again(depth: int) -> None:
    """Read from deeper down the stack than it was taken in."""
    at = address.own(NEWER)
    entry = raw(at, b"\x92\x90\x91\x93\x4d\x09" + b"\x91" * depth + b"\xc0")
    a, b = Replica(1), Replica(2)
    try:
        a.merge([entry], SEEN, 0)
    except PeerError:
        assert reason(entry) == "bad-record"
    else:
        _deeper(lambda: b.pull(a), 300)
        assert missing(b.store, NOTHING) == [entry]


def _deeper(call: Any, frames: int) -> None:
    if frames:
        _deeper(call, frames - 1)
    else:
        call()


def test_every_type_was_tried() -> None:
    assert all(_payloads(type_name) for type_name in CATALOGUE)
