"""Plain HTTP/1.1: the requests that the fast lane takes, and responses as bytes.

A request is *plain* when its head is short, names a data route, and announces its body by nothing
but a length. llhttp (httptools) reads the head, strictly; the body is then so many bytes, so there
is no framing left about which two parsers could disagree. Whatever is not plain, be it legal,
malicious or no HTTP at all, is not judged here: it is left to aiohttp, from its first byte on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Final, NamedTuple

import httptools

from crdtdb_server.exchange import Response, add_header, header_text

__all__ = ["Head", "HeadReader", "NotPlain", "response_bytes"]

#: Of a head; a longer one is not plain.
HEAD_BYTES: Final = 8 * 1024
#: Of a body.
BODY_BYTES: Final = 64 * 1024

_ROUTES: Final = ("/v1/buckets/", "/v1/transactions")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
#: Fields that say more of the body, or of the connection, than its length and its end.
_SPECIAL: Final = frozenset(
    {"transfer-encoding", "content-encoding", "expect", "upgrade", "te", "trailer"}
)
_END: Final = b"\r\n\r\n"
#: A request line about which no parser could be of another mind.
_LINE: Final = re.compile(
    rb"(GET|HEAD|POST|PUT|DELETE) (/v1/(?:buckets/|transactions)[\w%./?=&:,~+-]*) HTTP/1\.1"
)

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}
_NO_BODY: Final = frozenset({204, 304})


class NotPlain(Exception):
    """This request is for aiohttp to answer."""


class Head(NamedTuple):
    """A request line and its fields."""

    method: str
    target: str
    #: Names in lower case; repeated fields joined.
    headers: Mapping[str, str]
    #: May the connection be used again?
    keep_alive: bool
    head_bytes: int
    #: Of the whole request, body included.
    request_bytes: int


class HeadReader:
    """Reads the heads of one connection's requests.

    Clients say the same fields again and again. Fields that are those of the request before, byte
    for byte, are not read again: only the request line is, if it is as simple as they mostly are.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        #: The fields of the latest head that was plain, as bytes, and what was read there.
        self._fields: bytes | None = None
        self._read: Head | None = None
        #: Did the parser see the latest head?
        self._is_parsed = False
        self._target = b""
        self._headers: dict[str, str] = {}
        self._is_whole = False
        self._keep_alive = False

    def read(self, data: bytes) -> Head | None:
        """The head that `data` begins with; None while it is incomplete. Raises NotPlain."""
        end = data.find(_END, 0, HEAD_BYTES)
        if end < 0:
            if len(data) >= HEAD_BYTES:
                raise NotPlain
            return None
        end += len(_END)
        line_end = data.find(b"\r\n")
        fields = data[line_end:end]
        if fields == self._fields and (line := _LINE.fullmatch(data, 0, line_end)):
            assert self._read is not None
            _, _, headers, keep_alive, head_bytes, request_bytes = self._read
            self._is_parsed = False
            method, target = line[1].decode(), line[2].decode()
            return Head(method, target, headers, keep_alive, end, end + request_bytes - head_bytes)
        self._is_parsed = True
        self._fields = None
        self._headers, self._target, self._is_whole = {}, b"", False
        parser = self._parser
        try:
            parser.feed_data(data[:end])
            method = parser.get_method().decode("ascii")
            target = self._target.decode("ascii")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UnicodeDecodeError):
            raise NotPlain from None
        headers = self._headers
        if (
            not self._is_whole
            or method not in _METHODS
            or not target.startswith(_ROUTES)
            or not _SPECIAL.isdisjoint(headers)
            or parser.get_http_version() != "1.1"
        ):
            raise NotPlain
        body_bytes = int(headers.get("content-length", 0))
        if body_bytes > BODY_BYTES:
            raise NotPlain
        head = Head(method, target, headers, self._keep_alive, end, end + body_bytes)
        self._fields, self._read = fields, head
        return head

    def skip(self, body: bytes) -> None:
        """Let the parser see the body of the head it saw, so that it expects the next one."""
        if self._is_parsed:
            self._parser.feed_data(body)

    # -- what the parser calls ------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        add_header(self._headers, name.decode("ascii"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        self._is_whole = True
        # Asked later, the parser would speak of the next request.
        self._keep_alive = self._parser.should_keep_alive()


def response_bytes(method: str, response: Response, *, last: bool) -> bytes:
    """A response that comes in one piece; `last`: the connection ends with it."""
    status, headers, body, fixed, _, _ = response
    end = "Connection: close\r\n" if last else ""
    if method == "HEAD":
        body = b""
    elif status not in _NO_BODY:
        end = f"Content-Length: {len(body)}\r\n{end}"
    date = _date(int(time()))
    head = f"{_STATUS_LINES[status]}{header_text(headers)}{fixed.text}{date}{end}\r\n"
    return head.encode("utf-8", "surrogateescape") + body


@lru_cache(maxsize=1)
def _date(now_s: int) -> str:
    return f"Date: {formatdate(now_s, usegmt=True)}\r\n"
