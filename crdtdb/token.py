"""Session tokens and read contexts: a version vector that travels through a caller's hands.

The two do different jobs and cannot be mistaken for each other: a *session token* says what state
may answer; a *read context* says what a read showed, so what an operation may remove. Both name
their cluster. Opaque base64url without padding; inside (frozen by `tests/wire/token.jsonl`):

    version 1 | kind | xxh3-64 of the cluster's name, 8 bytes | msgpack flat vector | xxh32, 4 bytes

Neither grows with the incarnations that have ended (`crdtdb.floors`). A read context rests on a
floor. Of a session token, what the floor says is left out: whoever has seen the rest has seen the
record of that floor, which comes after all of it. So clients can join such tokens as they are.

The checksum finds damage, not forgery: whoever makes up a token can only ask for more, and the
server clamps a read context to what it has seen before that enters any state.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import msgspec
import xxhash

from crdtdb import codec
from crdtdb.causal import VersionVector
from crdtdb.errors import BadToken, Field
from crdtdb.floors import Floors, UnknownFloor, read_floored, write_floored
from crdtdb.limits import LIMITS
from crdtdb.opaque import from_opaque, to_opaque

__all__ = ["TokenKind", "join_tokens", "read_token", "write_token"]

_VERSION: Final = 1
#: Version, kind and cluster: what tokens must share to be joined.
_HEAD_BYTES: Final = 10
_NO_FLOORS: Final[Floors] = MappingProxyType({})
_decode_flat = msgspec.msgpack.Decoder(list[int]).decode


class TokenKind(Enum):
    """What a token is for."""

    SESSION = b"s"
    READ = b"r"


@lru_cache(maxsize=16)
def _cluster_mark(cluster: str) -> bytes:
    return xxhash.xxh3_64_digest(cluster.encode())


def write_token(kind: TokenKind, cluster: str, vector: VersionVector) -> str:
    """The token for a vector. O(entries above its floor)."""
    flat = vector.flat_above() if kind is TokenKind.SESSION else write_floored(vector)
    return _write(bytes((_VERSION,)) + kind.value + _cluster_mark(cluster), flat)


def read_token(
    kind: TokenKind, cluster: str, text: str, floors: Floors = _NO_FLOORS
) -> VersionVector:
    """The vector of a token: of a session token, as much as has to be compared.

    Raises BadToken, which says what is wrong with it.
    """
    inner = _open(text)
    if inner[1:2] != kind.value:
        raise BadToken(
            "this is a session token, not the `seen` of a read"
            if kind is TokenKind.READ
            else "this is the `seen` of a read, not a session token"
        )
    if inner[2:_HEAD_BYTES] != _cluster_mark(cluster):
        raise BadToken(f"the token is of another cluster than {cluster!r}")
    return _vector(inner, floors)


def join_tokens(first: str, second: str) -> str:
    """The token that covers what two tokens of one kind cover. Raises BadToken.

    For who holds tokens without knowing the name of their cluster.
    """
    one, other = _open(first), _open(second)
    head = one[:_HEAD_BYTES]
    if other[:_HEAD_BYTES] != head:
        raise BadToken("the tokens are of different clusters; ask one cluster in one session")
    return _write(head, _vector(one).join(_vector(other)).flat())


def _write(head: bytes, flat: list[int]) -> str:
    inner = head + codec.pack(flat)
    return to_opaque(inner + xxhash.xxh32_digest(inner))


def _open(text: str) -> bytes:
    """What is inside a token that is undamaged and of a version that this code reads."""
    if len(text) > LIMITS.token_bytes:
        raise BadToken(
            f"a token has at most {LIMITS.token_bytes} bytes; this has {len(text)}",
            Field("", "too long", LIMITS.token_bytes),
        )
    try:
        whole = from_opaque(text)
    except ValueError as error:
        raise BadToken("the token is not base64url; send it as it was given") from error
    inner, checksum = whole[:-4], whole[-4:]
    if len(inner) <= _HEAD_BYTES or xxhash.xxh32_digest(inner) != checksum:
        raise BadToken("the token is damaged; send it as it was given, or start without one")
    if inner[0] != _VERSION:
        raise BadToken(f"the token has version {inner[0]}; this replica reads {_VERSION}")
    return inner


def _vector(inner: bytes, floors: Floors = _NO_FLOORS) -> VersionVector:
    try:
        return read_floored(_decode_flat(inner[_HEAD_BYTES:]), floors)
    except UnknownFloor as error:
        raise BadToken("the token is of a state that this replica has yet to see") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadToken("the token is damaged; start without one") from error
