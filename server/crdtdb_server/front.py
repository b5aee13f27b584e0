"""The aiohttp front: HTTP on a socket, and nothing else.

Only what is on the wire comes from aiohttp: method, raw target, header fields, body bytes. Its own
decoding of paths and queries is not used, for that would let two URLs name one key.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from ssl import SSLObject
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from crdtdb.errors import BadRequest, Field, Unauthorized, UnsupportedMediaType
from crdtdb_server.dispatch import Dispatcher
from crdtdb_server.exchange import Incoming, Response, join_headers, too_large
from crdtdb_server.logins import address_of
from crdtdb_server.slices import Sliced

__all__ = ["make_front"]

#: The request line, and each header field.
_LINE_BYTES: Final = 16 * 1024
#: A connection that asks nothing is closed; longer than the proxies in front usually wait.
_KEEPALIVE_S: Final = 120
#: For a body to arrive whole.
_BODY_S: Final = 30
#: For the next part of a body of any length.
_PART_S: Final = 30
#: For a reader of a stream to take one part; a slower one is dropped, and may come back.
_TAKEN_S: Final = 30


def make_front(dispatcher: Dispatcher) -> web.Server:
    """A protocol factory that answers every request with the dispatcher."""
    return web.Server(
        partial(_answer, dispatcher),
        access_log=None,
        max_line_size=_LINE_BYTES,
        max_field_size=_LINE_BYTES,
        keepalive_timeout=_KEEPALIVE_S,
        auto_decompress=False,
        # A reader that has gone away must not be waited for.
        handler_cancellation=True,
    )


async def _answer(dispatcher: Dispatcher, request: web.BaseRequest) -> web.StreamResponse:
    if request.transport is not None and isinstance(
        sliced := request.transport.get_protocol(), Sliced
    ):
        sliced.begin()
    # What the client said, which is all that an answer without a body can depend on.
    key = None if request.body_exists else (request.raw_path, request.raw_headers)
    if key is not None and request.method == "GET":
        again = dispatcher.again(key)
        if again is not None:
            return web.Response(status=again.status, headers=_headers(again), body=again.body)
    content = _Content(request)
    incoming = Incoming(
        request.method,
        request.raw_path,
        join_headers(request.headers.items()),
        content,
        content,
    )
    response = await dispatcher.answer(incoming)
    if response.stream is not None:
        return await _stream(request, response, response.stream)
    if key is not None:
        dispatcher.keep(key, incoming, response)
    return web.Response(status=response.status, headers=_headers(response), body=response.body)


def _headers(response: Response) -> CIMultiDict[str]:
    return CIMultiDict((*response.headers, *response.fixed.fields))


async def _stream(
    request: web.BaseRequest, response: Response, parts: AsyncGenerator[bytes, None]
) -> web.StreamResponse:
    """Send parts as they come, for as long as somebody takes them."""
    streaming = web.StreamResponse(status=response.status, headers=_headers(response))
    async with aclosing(parts):
        await streaming.prepare(request)
        if request.method == "HEAD":
            return streaming
        await streaming.write(response.body)
        try:
            async for part in parts:
                async with asyncio.timeout(_TAKEN_S):
                    await streaming.write(part)
        except (TimeoutError, Unauthorized):
            # Nobody takes it, or whoever does may not any more. An orderly end would say that this
            # was all; closing would keep what is in the buffer until somebody takes it.
            if request.transport is not None:
                request.transport.abort()
            return streaming
        await streaming.write_eof()
    return streaming


class _Content:
    """The body of a request, as aiohttp receives it, and where it comes from."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request

    async def read(self, limit: int) -> bytes:
        return await _read(self._request, limit)

    def stream(self) -> AsyncGenerator[bytes, None]:
        return _stream_body(self._request)

    @property
    def connection(self) -> SSLObject | None:
        transport = self._request.transport
        return None if transport is None else transport.get_extra_info("ssl_object")

    @property
    def address(self) -> str:
        transport = self._request.transport
        return "" if transport is None else address_of(transport)


async def _read(request: web.BaseRequest, limit: int) -> bytes:
    """The body of a request, read no further than the limit."""
    _check_encoding(request)
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    await _invite(request)
    content = request.content
    if content.is_eof():  # it came in one piece with the head
        return content.read_nowait()
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_S):
            while part := await content.readany():
                size += len(part)
                if size > limit:
                    raise too_large(limit)
                parts.append(part)
    except TimeoutError:
        raise BadRequest(f"the body did not arrive within {_BODY_S} seconds") from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise BadRequest(f"the body did not arrive whole: {error}") from error
    return b"".join(parts)


async def _stream_body(request: web.BaseRequest) -> AsyncGenerator[bytes, None]:
    """The body of a request, part by part, as fast as they are taken."""
    _check_encoding(request)
    await _invite(request)
    try:
        while True:
            async with asyncio.timeout(_PART_S):
                part = await request.content.readany()
            if not part:
                break
            yield part
    except TimeoutError:
        raise BadRequest(f"nothing more of the body arrived for {_PART_S} seconds") from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise BadRequest(f"the body did not arrive whole: {error}") from error


def _check_encoding(request: web.BaseRequest) -> None:
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaType(
            "send the body as it is, without Content-Encoding",
            Field("Content-Encoding", "not identity", "identity"),
        )


async def _invite(request: web.BaseRequest) -> None:
    """Tell a caller who waits for that to send the body."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
