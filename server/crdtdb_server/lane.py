"""The fast lane: plain requests for data, answered without aiohttp's objects in between.

Every connection begins here. Plain requests (`crdtdb_server.plain`) go from the socket to the
dispatcher and back, in order, one at a time; a request and response object, a stream and a task
each would cost more than all the rest of a small answer. At the first request that is anything
else, the connection is handed to aiohttp for good, with every byte from that request on. Routes,
limits and problems are the dispatcher's, so they are the same on both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, cast

import structlog

from crdtdb_server.dispatch import Dispatcher
from crdtdb_server.exchange import Incoming, Response
from crdtdb_server.logins import address_of
from crdtdb_server.pending import Pending
from crdtdb_server.plain import BODY_BYTES, HEAD_BYTES, Head, HeadReader, NotPlain, response_bytes

__all__ = ["FastLane"]

_log = structlog.get_logger("crdtdb.http")

#: A connection that asks nothing is closed; longer than the proxies in front usually wait.
KEEPALIVE_S: Final = 120.0
#: For the rest of a request that has begun. aiohttp waits for what takes longer.
PATIENCE_S: Final = 1.0
#: For a reader to take an answer; a slower one is dropped.
_TAKEN_S: Final = 30.0
#: Who is refused because too much is under way is told so after so long: to refuse somebody who
#: comes back at once, again and again, would leave little time for those who are let in.
_REFUSED_S: Final = 0.1
#: Bytes of later requests that wait while one is answered; then nothing more is read.
_AHEAD_BYTES: Final = HEAD_BYTES + BODY_BYTES


class FastLane:
    """Makes the protocol of each connection, and ends those that are still its own."""

    def __init__(self, dispatcher: Dispatcher, fallback: Callable[[], asyncio.Protocol]) -> None:
        """`fallback` makes the protocol that takes over a connection."""
        self.dispatcher = dispatcher
        self.fallback = fallback
        self.connections: set[_Connection] = set()
        self.closing = False
        self._loop = asyncio.get_running_loop()
        #: Answers that go out together, with their connections; True: the connection's last.
        self._outbox: list[tuple[_Connection, bytes, bool]] = []

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self, self._loop)

    def send(self, connection: _Connection, data: bytes, *, last: bool) -> None:
        """Send an answer when all that has arrived by now has been looked at.

        Each send wakes its reader, which costs both sides more than the answer is worth, unless it
        is awake; so what the event loop answers in one turn goes out in one go.
        """
        if not self._outbox:
            self._loop.call_soon(self.flush)
        self._outbox.append((connection, data, last))

    def flush(self) -> None:
        """Send what waits."""
        outbox, self._outbox = self._outbox, []
        for connection, data, last in outbox:
            connection.write(data, last=last)

    async def close(self, patience_s: float) -> None:
        """Answer what is under way, for so long at most; close every connection."""
        self.closing = True
        self.flush()
        tasks = [task for connection in self.connections if (task := connection.last_task())]
        for connection in self.connections:
            if connection.task is None:
                connection.end()
        if tasks:
            await asyncio.wait(tasks, timeout=patience_s)
        self.flush()
        for connection in list(self.connections):
            connection.abort()


class _Connection(asyncio.Protocol):
    """One client."""

    _transport: asyncio.Transport

    def __init__(self, lane: FastLane, loop: asyncio.AbstractEventLoop) -> None:
        self._lane = lane
        self._loop = loop
        self._address: str | None = None
        self._reader = HeadReader()
        #: What has arrived and is not part of an answered request.
        self._data = b""
        #: The head that `_data` begins with, once it is whole.
        self._head: Head | None = None
        #: The answer that waits for a commit, and the head it is for.
        self._pending: tuple[Head, Pending[Response]] | None = None
        #: Answers what waits for something else, or behind other requests.
        self.task: asyncio.Task[None] | None = None
        self._used_at = loop.time()
        self._unused: asyncio.TimerHandle | None = None
        #: Runs while a request is incomplete.
        self._incomplete: asyncio.TimerHandle | None = None
        self._reading = True
        #: Done when the reader has taken what was written; None while it keeps up.
        self._taken: asyncio.Future[None] | None = None

    @property
    def address(self) -> str:
        """Where the client is."""
        if self._address is None:
            self._address = address_of(self._transport)
        return self._address

    # -- the socket -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._lane.connections.add(self)
        self._unused = self._loop.call_later(KEEPALIVE_S, self._end_if_unused)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)
        # A client that has gone away must not be waited for.
        if self._pending is not None:
            self._pending[1].give_up()
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        if self.task is None and self._pending is None:
            if self._data:
                self._data += data
                data = b""  # it is no request by itself
            elif self._answered_again(data):
                return
            else:
                self._data = data
            request = self._next()
            if request is not None:
                self._take(*request, b"" if self._data else data)
            return
        self._data += data
        if len(self._data) >= _AHEAD_BYTES and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _answered_again(self, request: bytes) -> bool:
        """Answer a request as it was answered before, if that still holds."""
        lane = self._lane
        if self._taken is not None or lane.closing:
            return False
        response = lane.dispatcher.again(request)
        if response is None:
            return False
        self._send_bytes(response_bytes("GET", response, last=False), last=False)
        return True

    def pause_writing(self) -> None:
        self._taken = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)
        self._taken = None

    def write(self, data: bytes, *, last: bool) -> None:
        """Give bytes to the socket, unless it is gone."""
        if not self._transport.is_closing():
            self._transport.write(data)
            if last:
                self.end()

    def end(self) -> None:
        """Close the connection once everything has been sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connection now."""
        self._transport.abort()

    def _leave(self) -> None:
        """This connection is no longer the lane's."""
        self._lane.connections.discard(self)
        for timer in (self._unused, self._incomplete):
            if timer is not None:
                timer.cancel()

    def _end_if_unused(self) -> None:
        is_used = self.task is not None or self._pending is not None
        unused_s = 0.0 if is_used else self._loop.time() - self._used_at
        if unused_s >= KEEPALIVE_S:
            self.end()
        else:
            self._unused = self._loop.call_later(KEEPALIVE_S - unused_s, self._end_if_unused)

    # -- requests -------------------------------------------------------------------------------

    def _next(self) -> tuple[Head, bytes] | None:
        """The next request and its body; None if it has not arrived, or is not for the lane."""
        data = self._data
        head = self._head
        if head is None:
            if not data:
                return None
            is_plain = True
            try:
                head = self._head = self._reader.read(data)
            except NotPlain:
                is_plain = False
            if not is_plain:  # not in the clause above: aiohttp's errors are not about ours
                self._hand_over()
                return None
        if head is None or len(data) < head.request_bytes:
            if self._incomplete is None:
                self._incomplete = self._loop.call_later(PATIENCE_S, self._hand_over)
            return None
        if self._incomplete is not None:
            self._incomplete.cancel()
            self._incomplete = None
        body = data[head.head_bytes : head.request_bytes]
        if body:
            self._reader.skip(body)
        self._data = data[head.request_bytes :]
        self._head = None
        return head, body

    def _hand_over(self) -> None:
        """Let aiohttp go on from the request that is next."""
        self._lane.flush()
        self._leave()
        self._resume_reading()
        protocol = self._lane.fallback()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._data)

    def _resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def _take(self, head: Head, body: bytes, request: bytes) -> None:
        """Answer a request: at once, or without a task if it waits for a commit alone.

        `request` is all of its bytes, if they arrived together and alone.
        """
        incoming = Incoming(head.method, head.target, head.headers, body, self)
        response = self._begin(incoming)
        if isinstance(response, Response) and not self._data and self._taken is None:
            self._send(head, response)
            if request and head.keep_alive:
                self._lane.dispatcher.keep(request, incoming, response)
        elif isinstance(response, Pending) and not self._data:
            self._pending = head, response
            response.tell(self._committed)
        else:
            self.task = self._loop.create_task(self._answer(head, response))

    def _begin(
        self, incoming: Incoming
    ) -> Response | Pending[Response] | Coroutine[Any, Any, Response]:
        """The response, or what waits for it; a refusal is kept back for a moment."""
        response = self._lane.dispatcher.begin(incoming)
        if isinstance(response, Pending):
            return response
        if not isinstance(response, Response):
            return self._unless_refused(response)
        if response.status != HTTPStatus.TOO_MANY_REQUESTS:
            return response
        later: Pending[Response] = Pending()
        self._loop.call_later(_REFUSED_S, later.succeed, response)
        return later

    async def _unless_refused(self, awaited: Awaitable[Response]) -> Response:
        response = await awaited
        if response.status == HTTPStatus.TOO_MANY_REQUESTS:
            await asyncio.sleep(_REFUSED_S)
        return response

    def _committed(self, response: Response | None, _: Exception | None) -> None:
        """The response that waited for a commit is there."""
        assert self._pending is not None
        assert response is not None, "the dispatcher answers, whatever goes wrong"
        head, self._pending = self._pending[0], None
        if self._data or self._taken is not None or not self._reading:
            self.task = self._loop.create_task(self._answer(head, response))
            return
        try:
            self._send(head, response)
        except Exception:
            self._break_off()

    def last_task(self) -> asyncio.Task[None] | None:
        """The task of what is under way, if something is: a new one, for what has none."""
        if self._pending is not None:
            head, pending = self._pending
            self._pending = None
            self.task = self._loop.create_task(self._answer(head, pending))
        return self.task

    async def _answer(self, head: Head, response: Response | Awaitable[Response]) -> None:
        """Answer a request, and those that have come meanwhile."""
        try:
            while True:
                if not isinstance(response, Response):
                    response = await response
                if not self._send(head, response):
                    return
                if self._taken is not None:
                    async with asyncio.timeout(_TAKEN_S):
                        await self._taken
                self._resume_reading()
                request = self._next()
                if request is None:
                    return
                await asyncio.sleep(0)  # others have a turn between the requests of a burst
                head, body = request
                incoming = Incoming(head.method, head.target, head.headers, body, self)
                response = self._begin(incoming)
        except TimeoutError:  # nobody takes the answer
            self.abort()
        except Exception:
            self._break_off()
        finally:
            self.task = None

    def _break_off(self) -> None:
        """Something is wrong with an answer, which is a bug."""
        _log.exception("an answer broke off")
        self.abort()

    def _send(self, head: Head, response: Response) -> bool:
        """Send a response; False: the connection ends with it."""
        assert response.stream is None, "a data route answers in one piece"
        last = self._lane.closing or not head.keep_alive
        self._send_bytes(response_bytes(head.method, response, last=last), last=last)
        return not last

    def _send_bytes(self, data: bytes, *, last: bool) -> None:
        self._lane.send(self, data, last=last)
        self._used_at = self._loop.time()
