"""Bytes on disk and on the wire: versioned, checksummed, frozen.

A record is the same bytes in a store, in a push and in a page, so what arrives can be stored as
it came. Layout (msgpack inside, `tests/wire/*.jsonl` freezes it):

```
version 1 | xxh3-64 of address + body, 8 bytes | body = [extra context, live]
    extra context   [incarnation, counter, …] sorted: what the live dots do not say
    live            [[incarnation, counter, payload], …] sorted by dot
```

A record row in a store has the local sequence number in front (8 bytes, big-endian), and its
checksum is seeded with it: a row is whole only together with its place in the sequence.

**Versions.** The checksum of version 1 does not cover the version, so a flipped bit of that byte
would look like a newer format. Therefore the checksum of every later version covers the version,
too, in front of all else: whoever does not know a version can tell it from damage, and has to,
since what is damaged is mended and what is newer is left alone. (Of local rows and messages, this
begins with version 3.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import add, itemgetter
from typing import Any, Final, TypeAlias

import msgspec
import xxhash

from crdtdb.causal import VersionVector
from crdtdb.record import EMPTY, Live, Record

__all__ = [
    "RECORD_VERSION",
    "FormatError",
    "NewerVersion",
    "Settled",
    "are_settled",
    "check_whole",
    "decode_lives",
    "decode_record",
    "decode_row",
    "encode_record",
    "fingerprint",
    "is_settled",
    "live_digest",
    "pack",
    "pack_row",
    "pack_rows",
    "pack_whole",
    "row_record",
    "settled",
    "settled_digests",
    "sound_bodies",
    "sound_record",
    "unpack_whole",
]

RECORD_VERSION: Final = 1
_HEADER: Final = 9
#: The last version of local rows and messages whose checksum does not cover it.
_LAST_UNCOVERED: Final = 2

pack = msgspec.msgpack.Encoder().encode
_Body = tuple[list[int], list[tuple[int, int, Any]]]
_decode_body = msgspec.msgpack.Decoder(_Body).decode
_decode_bodies = msgspec.msgpack.Decoder(list[_Body]).decode
#: How a row begins: sequence number, version, checksum and, at `_BODY`, what its body begins with.
#: Of these the numbers and checksums are read.
_START: Final = "Qx8s3x"
_START_BYTES: Final = 20
_BODY: Final = 8 + _HEADER
_start_of: Final = itemgetter(slice(_START_BYTES))
_body_of: Final = itemgetter(slice(_BODY, None))
#: A body that begins so says nothing besides one live dot.
_SETTLED: Final = b"\x92\x90\x91"


class FormatError(ValueError):
    """The bytes are not what this format says they are. Whose fault that is, the caller knows."""


class NewerVersion(FormatError):
    """The bytes were written by a newer crdtdb."""


def encode_record(address: bytes, record: Record) -> bytes:
    """The bytes of a record at its address. Equal records give equal bytes."""
    live, context = record
    body = pack((context.beyond(live), _rows(live)))
    return b"\x01" + xxhash.xxh3_64_digest(address + body) + body


def _rows(live: Live) -> list[tuple[int, int, Any]]:
    if len(live) > 1:
        return [(inc, counter, live[inc, counter]) for inc, counter in sorted(live)]
    return [(inc, counter, payload) for (inc, counter), payload in live.items()]


def decode_record(address: bytes, data: bytes) -> Record:
    """The inverse of `encode_record`. Raises FormatError when anything is off."""
    return _decode(address, data, seed=0)


def _decode(address: bytes, data: bytes, *, seed: int) -> Record:
    if len(data) <= _HEADER:
        raise FormatError("a record is cut short")
    body = data[_HEADER:]
    if data[0] != RECORD_VERSION:
        raise _of_another_version(data[0], address + body, data[1:_HEADER], seed)
    if xxhash.xxh3_64_digest(address + body, seed) != data[1:_HEADER]:
        raise FormatError("a record fails its checksum")
    try:
        extra, rows = _decode_body(body)
        if len(rows) == 1 and not extra:  # most are settled
            ((inc, counter, payload),) = rows
            if 0 <= inc < 1 << 64 and 1 <= counter < 1 << 63:
                return Record({(inc, counter): payload}, VersionVector.up_to(inc, counter))
        live = {(inc, counter): payload for inc, counter, payload in rows}
        context = VersionVector.of(live)
        if extra:
            context = context.join(VersionVector.from_flat(extra))
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"a record cannot be read: {error}") from error
    if len(live) != len(rows):
        raise FormatError("a record has a dot twice")
    for inc, counter in live:
        if not (0 <= inc < 1 << 64 and 1 <= counter < 1 << 63):
            raise FormatError("a record has a dot out of range")
    return Record(live, context) if rows or extra else EMPTY


def _of_another_version(version: int, keyed: bytes, checksum: bytes, seed: int) -> FormatError:
    """What is wrong with a record of a version that is not known here: that, or damage."""
    if version and xxhash.xxh3_64_digest(bytes((version,)) + keyed, seed) == checksum:
        return NewerVersion(f"record version {version}; this crdtdb reads {RECORD_VERSION}")
    return FormatError("a record fails its checksum")


def pack_row(sequence: int, address: bytes, record: bytes) -> bytes:
    """A record row: the local sequence number of its latest change, then the record."""
    checksum = xxhash.xxh3_64_digest(address + record[_HEADER:], sequence)
    return sequence.to_bytes(8, "big") + record[:1] + checksum + record[_HEADER:]


def decode_row(address: bytes, row: bytes) -> tuple[Record, int]:
    """The record of a row, and its sequence number. Raises FormatError when anything is off."""
    sequence = int.from_bytes(row[:8], "big")
    return _decode(address, row[8:], seed=sequence), sequence


def sound_record(address: bytes, row: bytes) -> tuple[bytes, int]:
    """The record of a row, as it travels, and its sequence number; checked, but not decoded.

    Raises FormatError.
    """
    sequence = int.from_bytes(row[:8], "big")
    keyed = address + row[8 + _HEADER :]
    if row[8:9] != b"\x01" or row[9 : 8 + _HEADER] != xxhash.xxh3_64_digest(keyed, sequence):
        raise FormatError("a record fails its checksum, or is of another version")
    return row[8:9] + xxhash.xxh3_64_digest(keyed) + row[8 + _HEADER :], sequence


def are_settled(addresses: Sequence[bytes], rows: Sequence[bytes]) -> bool:
    """Is in each of these records one dot in force and nothing else?

    Most are so. All are checked at once, but not decoded; False means that one must be to know.
    Raises FormatError if one is not sound, `decode_row` tells which.
    """
    starts = b"".join(map(_start_of, rows))
    try:
        read = _reader_of_starts(len(rows))(starts)
    except struct.error:
        raise FormatError("a record is cut short") from None
    # The bytes that stand at one place of every start are what a stride of all of them picks out.
    if starts[8::_START_BYTES].count(RECORD_VERSION) < len(rows):
        raise FormatError("a record is of another version, or damaged")
    keyed = map(add, addresses, map(_body_of, rows))
    if read[1::2] != tuple(map(xxhash.xxh3_64_digest, keyed, read[::2])):
        raise FormatError("a record fails its checksum")
    begin = (starts[_BODY + place :: _START_BYTES] for place in range(len(_SETTLED)))
    return all(found.count(byte) == len(rows) for found, byte in zip(begin, _SETTLED, strict=True))


@lru_cache(maxsize=64)
def _reader_of_starts(rows: int) -> Callable[[bytes], tuple[Any, ...]]:
    """Reads sequence numbers and checksums from the starts of so many rows, all at once."""
    return struct.Struct(">" + _START * rows).unpack


#: Incarnation, counter and payload of the one operation in force in a record that has no more.
Settled: TypeAlias = tuple[int, int, Any]


def sound_bodies(rows: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """The bodies of records, address and row, which are checked, but not decoded.

    Raises FormatError or NewerVersion.
    """
    bodies = [row[_BODY:] for _, row in rows]
    if not all(bodies):
        raise FormatError("a record is cut short")
    keyed = [at + body for (at, _), body in zip(rows, bodies, strict=True)]
    places = [int.from_bytes(row[:8], "big") for _, row in rows]
    for (_, row), whole, place in zip(rows, keyed, places, strict=True):
        if row[8] != RECORD_VERSION:
            raise _of_another_version(row[8], whole, row[9:_BODY], place)
    if [row[9:_BODY] for _, row in rows] != list(map(xxhash.xxh3_64_digest, keyed, places)):
        raise FormatError("a record fails its checksum")
    return bodies


def settled(bodies: Sequence[bytes]) -> list[Settled | None]:
    """What is in force in each of these records; None: one dot and nothing more is not all of it.

    Only what this codec would write in just that way counts. Raises FormatError.
    """
    found: list[Settled | None] = []
    for body in bodies:
        one = None
        if body.startswith(_SETTLED):
            try:
                decoded = _decode_body(body)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise FormatError(f"a record cannot be read: {error}") from error
            if pack(decoded) == body:
                ((incarnation, counter, _),) = decoded[1]
                if 0 <= incarnation < 1 << 64 and 1 <= counter < 1 << 63:
                    one = decoded[1][0]
        found.append(one)
    return found


def settled_digests(addresses: Sequence[bytes], bodies: Sequence[bytes]) -> list[int]:
    """The `live_digest` of each of some settled records."""
    skip = len(_SETTLED) - 1
    keyed = [at + body[skip:] for at, body in zip(addresses, bodies, strict=True)]
    return list(map(xxhash.xxh3_128_intdigest, keyed))


def pack_rows(
    sequence: int, addresses: Sequence[bytes], bodies: Sequence[bytes]
) -> tuple[list[bytes], list[bytes]]:
    """The places of records, from one on, as keys of the sequence; and their rows there."""
    places = range(sequence, sequence + len(addresses))
    keyed = [at + body for at, body in zip(addresses, bodies, strict=True)]
    keys = [place.to_bytes(8, "big") for place in places]
    sums = map(xxhash.xxh3_64_digest, keyed, places)
    rows = [
        key + b"\x01" + checksum + body
        for key, checksum, body in zip(keys, sums, bodies, strict=True)
    ]
    return keys, rows


def is_settled(address: bytes, row: bytes) -> bool:
    """The same of one record. False if its row is not sound, too: `decode_row` tells."""
    keyed = address + row[_BODY:]
    return row[8:9] == b"\x01" and (
        row[_BODY : _BODY + len(_SETTLED)] == _SETTLED
        and row[9:_BODY] == xxhash.xxh3_64_digest(keyed, int.from_bytes(row[:8], "big"))
    )


def decode_lives(rows: Sequence[tuple[bytes, bytes]]) -> list[Live]:
    """What is in force in each of these records, address and row, which are sound.

    They are decoded all at once; there are at most 65,535.
    """
    whole = b"\xdc" + len(rows).to_bytes(2, "big") + b"".join([row[_BODY:] for _, row in rows])
    return [{(i, n): payload for i, n, payload in live} for _, live in _decode_bodies(whole)]


def row_record(address: bytes, row: bytes) -> bytes:
    """The record of a sound row, as it travels."""
    body = row[8 + _HEADER :]
    return row[8:9] + xxhash.xxh3_64_digest(address + body) + body


def live_digest(address: bytes, live: Mapping[Any, Any]) -> int:
    """128 bits that stand for what users see at an address; 0 if nothing. XOR adds them up."""
    if not live:
        return 0
    return xxhash.xxh3_128_intdigest(address + pack(_rows(live)))


def digest_until(digest: int, deadline_ms: int) -> int:
    """128 bits that stand for an object with this digest, and its deadline."""
    return xxhash.xxh3_128_intdigest(digest.to_bytes(16, "big") + pack(deadline_ms))


def fingerprint(value: Any) -> int:
    """64 bits that stand for plain values, so that equal replicas can say so in a few bytes."""
    return xxhash.xxh3_64_intdigest(pack(value))


def pack_whole(version: int, value: Any) -> bytes:
    """A local row or a message: version, xxh3-64 of the body, body."""
    body = pack(value)
    number = bytes((version,))
    covered = body if version <= _LAST_UNCOVERED else number + body
    return number + xxhash.xxh3_64_digest(covered) + body


def check_whole(version: int, data: bytes) -> None:
    """Is this row as it was written, whatever it says? Raises NewerVersion or FormatError."""
    if len(data) <= _HEADER:
        raise FormatError("cut short")
    written, body = data[0], data[_HEADER:]
    covered = body if written <= _LAST_UNCOVERED else data[:1] + body
    if not written or xxhash.xxh3_64_digest(covered) != data[1:_HEADER]:
        raise FormatError("fails its checksum")
    if written != version:
        raise NewerVersion(f"version {written}; this crdtdb reads {version}")


def unpack_whole(version: int, data: bytes, decoder: msgspec.msgpack.Decoder[Any]) -> Any:
    """The inverse of `pack_whole`. Raises NewerVersion or FormatError."""
    check_whole(version, data)
    try:
        return decoder.decode(data[_HEADER:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"cannot be read: {error}") from error
