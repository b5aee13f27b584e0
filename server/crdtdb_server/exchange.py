"""One HTTP exchange, whatever front carries it: what arrives, what handlers see, what goes back.

A *front* speaks HTTP on a socket. It hands over an `Incoming` as it was on the wire and writes
the `Response`; everything between is front-agnostic, so that two fronts serve the very same routes.

Targets are decoded here, once and strictly, from their raw form: two URLs that differ only in a
careless escape must never name one key, and one URL must never name two.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from ssl import SSLObject
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

from crdtdb.causal import VersionVector
from crdtdb.errors import BadRequest, Field, TooLarge, shortened
from crdtdb_server.access import Principal

__all__ = [
    "JSON",
    "NDJSON",
    "PROBLEM_JSON",
    "TEXT",
    "UNREAD",
    "Answer",
    "Content",
    "FixedHeaders",
    "Headers",
    "Incoming",
    "ObjectState",
    "Origin",
    "Request",
    "Response",
    "add_header",
    "decode_query",
    "decode_segment",
    "header_text",
    "join_headers",
    "split_target",
    "too_large",
]

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
PROBLEM_JSON: Final = "application/problem+json"
TEXT: Final = "text/plain; charset=utf-8"

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)

#: Header fields in order, as they go out.
Headers = tuple[tuple[str, str], ...]


class Content(Protocol):
    """A body that may still be on its way. It is taken in one of two ways, once."""

    async def read(self, limit: int) -> bytes:
        """All of it, of at most so many bytes. Raises TooLarge, or BadRequest if it breaks off."""

    def stream(self) -> AsyncGenerator[bytes, None]:
        """Part by part, of any length. Raises BadRequest if it does not arrive whole."""

    @property
    def connection(self) -> SSLObject | None:
        """The TLS connection it comes by; None: it comes in the clear."""


class Origin(Protocol):
    """Where a request comes from."""

    @property
    def address(self) -> str:
        """Whose failures to log in count together (`crdtdb_server.logins`)."""


class _Here:
    """This process."""

    address: Final = ""


class Incoming(NamedTuple):
    """A request as it was on the wire."""

    method: str
    #: The request target, undecoded.
    target: str
    #: Names in lower case; repeated fields joined with ", " (RFC 9110, section 5.2).
    headers: Mapping[str, str]
    #: The body; as bytes if it is here already.
    content: bytes | Content
    origin: Origin = _Here()


#: A document that nobody has read.
UNREAD: Final = object()


@dataclass(slots=True)
class Request:
    """A request as handlers see it: decoded, and known to be one that its route takes.

    The body comes last; all else is known before it is read.
    """

    method: str
    #: The path of its route, with the names of its parameters in braces.
    path: str
    #: The values of the route's path parameters, in order.
    names: tuple[str, ...]
    #: The parameters of the query, read (`crdtdb_server.parameters`).
    query: Mapping[str, Any]
    headers: Mapping[str, str]
    #: When it arrived, as `time.perf_counter` counts.
    began: float
    #: Who sent it.
    principal: Principal
    body: bytes = b""
    #: What the body says, if it has been read ahead.
    document: object = UNREAD
    #: The body of a route that takes one of any length.
    parts: AsyncIterator[bytes] | None = None
    #: The TLS connection it came by, and from where, if that says who asks (`Access.PEER`).
    connection: SSLObject | None = None
    address: str = ""


class ObjectState(NamedTuple):
    """An object as its last change left it."""

    prefix: bytes
    #: The place of that change in the replica's sequence.
    sequence: int


class Answer(NamedTuple):
    """What a handler gives back."""

    body: bytes
    #: What the answer covers: the state it was read from, or the state after its write.
    seen: VersionVector
    status: int = 200
    media_type: str = JSON
    headers: Headers = ()
    #: What follows the body, for as long as the caller listens.
    stream: AsyncGenerator[bytes, None] | None = None
    #: It says nothing but what follows from this state; None: it says more.
    holds_while: ObjectState | None = None


class FixedHeaders:
    """Header fields that every response of a server has, as fields and as text."""

    __slots__ = ("fields", "text")

    def __init__(self, fields: Headers) -> None:
        self.fields = fields
        self.text = header_text(fields)


class Response(NamedTuple):
    """What a front writes. It adds the length, and leaves the body out for HEAD."""

    status: int
    #: Its own; the fixed ones come besides.
    headers: Headers
    body: bytes
    fixed: FixedHeaders
    #: Parts that follow; to be closed when nobody takes them any more.
    stream: AsyncGenerator[bytes, None] | None = None
    #: It says nothing of an object but what follows from this state; None: it says more.
    holds_while: ObjectState | None = None


def header_text(headers: Headers) -> str:
    """Header fields as they go over the wire."""
    text = "".join([f"{name}: {value}\r\n" for name, value in headers])
    assert text.count("\n") == text.count("\r\n") == len(headers), "a value breaks its line"
    return text


def join_headers(fields: Collection[tuple[str, str]]) -> dict[str, str]:
    """Header fields by lower-case name, repeated ones joined."""
    joined: dict[str, str] = {}
    for name, value in fields:
        add_header(joined, name, value)
    return joined


def add_header(joined: dict[str, str], name: str, value: str) -> None:
    """One more field, to those read before."""
    name = name.lower()
    joined[name] = f"{joined[name]}, {value}" if name in joined else value


def too_large(limit: int) -> TooLarge:
    """The problem of a body with more bytes than its route takes."""
    return TooLarge(
        f"a body here has at most {limit} bytes; send the work in parts",
        Field("", "body too large", limit),
    )


def split_target(target: str) -> tuple[str | None, str, str]:
    """Authority (of an absolute target), raw path and raw query. Raises BadRequest."""
    authority = None
    if not target.startswith("/"):
        match = _ABSOLUTE.match(target)
        if match is None:
            raise _unreadable("path", "the request target must start with /")
        authority, target = match[1], target[match.end() :] or "/"
    if "#" in target:
        raise _unreadable("path", "a fragment does not belong into a request")
    path, _, query = target.partition("?")
    return authority, path, query


def decode_segment(raw: str, field: str) -> str:
    """Decode one segment of a path. Raises BadRequest naming the field."""
    if raw.isascii() and "%" not in raw:
        return raw
    return _decode(raw, field)


def decode_query(raw: str, allowed: Collection[str]) -> dict[str, str]:
    """Decode a query, in which "+" means a space. Raises BadRequest naming the parameter."""
    parameters: dict[str, str] = {}
    if not raw:
        return parameters
    for part in raw.split("&"):
        raw_name, _, raw_value = part.partition("=")
        name = _decode(raw_name.replace("+", " "), "query")
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise BadRequest(
                f"there is no query parameter {shortened(name)!r} here; known: {known}",
                Field(shortened(name), "unknown query parameter", known),
            )
        if name in parameters:
            raise _unreadable(name, "given more than once")
        parameters[name] = _decode(raw_value.replace("+", " "), name)
    return parameters


def _decode(raw: str, field: str) -> str:
    if not raw.isascii():
        raise _unreadable(field, "characters beyond ASCII must be percent-encoded UTF-8")
    if _BAD_ESCAPE.search(raw):
        raise _unreadable(field, "a % must be followed by two hexadecimal digits (% itself is %25)")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise _unreadable(field, "the escapes are not UTF-8") from None


def _unreadable(field: str, message: str) -> BadRequest:
    return BadRequest(f"The {field} cannot be read: {message}.", Field(field, message))
