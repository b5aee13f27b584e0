"""What a newer version would write: its checksums cover the version, too (see `crdtdb.codec`)."""

from __future__ import annotations

import xxhash

__all__ = ["newer_record", "newer_row", "newer_whole"]

_RECORD = b"\x02"
_WHOLE = b"\x03"


def newer_record(at: bytes, data: bytes) -> bytes:
    """A record, as it travels."""
    return _RECORD + xxhash.xxh3_64_digest(_RECORD + at + data[9:]) + data[9:]


def newer_row(at: bytes, row: bytes) -> bytes:
    """The row of a record."""
    place, body = int.from_bytes(row[:8], "big"), row[17:]
    return row[:8] + _RECORD + xxhash.xxh3_64_digest(_RECORD + at + body, place) + body


def newer_whole(data: bytes) -> bytes:
    """A local row, or a message."""
    return _WHOLE + xxhash.xxh3_64_digest(_WHOLE + data[9:]) + data[9:]
