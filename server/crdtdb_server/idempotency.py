"""The `Idempotency-Key` header: a write that is sent twice is carried out once.

The key is kept by this replica with the write (`crdtdb.idempotency`), together with a fingerprint
of the request: the same key with another request is a mistake of the caller, not a repetition.
"""

from __future__ import annotations

from typing import Final

from crdtdb import codec
from crdtdb.errors import BadHeader, Field
from crdtdb.idempotency import KEY_CHARACTERS, KEY_TEXT
from crdtdb.transaction import IdempotencyKey
from crdtdb_server.exchange import Headers, Request
from crdtdb_server.parameters import Header

__all__ = ["KEY_HEADER", "REPLAYED", "key_of"]

#: Says that an answer is that of an earlier, equal request.
REPLAYED: Final[Headers] = (("Idempotency-Replayed", "true"),)

_HEADER: Final = "Idempotency-Key"

KEY_HEADER: Final = Header(
    _HEADER,
    "A random name of this write: sent again, it is carried out once",
    {"pattern": f"^{KEY_TEXT.pattern}$"},
)


def key_of(request: Request) -> IdempotencyKey | None:
    """The key that a request brings, with what it asks. Raises BadHeader."""
    text = request.headers.get(_HEADER.lower())
    if text is None:
        return None
    if not KEY_TEXT.fullmatch(text):
        raise BadHeader(
            f"{_HEADER} is 1 to {KEY_CHARACTERS} visible ASCII characters; take a random UUID",
            Field(_HEADER, "not a key", KEY_CHARACTERS),
        )
    return IdempotencyKey(text, _fingerprint(request))


def _fingerprint(request: Request) -> int:
    """64 bits for method, target and body. Decoded, so that two spellings of a target are one."""
    query = sorted(request.query.items())
    return codec.fingerprint((request.method, request.path, request.names, query, request.body))
