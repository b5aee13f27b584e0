"""Page cursors: where the next page of one query begins.

A cursor works for the query that gave it and no other, at any replica; it names the last entry
shown, so it survives writes. Opaque base64url; inside: version 1 | xxh3-64 of query and position |
position.
"""

from __future__ import annotations

from typing import Final

import xxhash

from crdtdb.errors import BadRequest, Field
from crdtdb.opaque import from_opaque, to_opaque

__all__ = ["read_cursor", "write_cursor"]

_VERSION: Final = b"\x01"


def _mark(query: str, position: bytes) -> bytes:
    return xxhash.xxh3_64_digest(query.encode() + b"\0" + position)


def write_cursor(query: str, position: bytes) -> str:
    """The cursor after the entry at `position` of a query (any text that identifies it)."""
    whole = _VERSION + _mark(query, position) + position
    return to_opaque(whole)


def read_cursor(query: str, text: str) -> bytes:
    """The position in a cursor. Raises BadRequest unless it came from this query."""
    try:
        whole = from_opaque(text)
    except ValueError:
        whole = b""
    position = whole[9:]
    if whole[:1] != _VERSION or whole[1:9] != _mark(query, position):
        raise BadRequest(
            "`after` takes only the `next` of the same query",
            Field("after", "not a cursor of this query"),
        )
    return position
