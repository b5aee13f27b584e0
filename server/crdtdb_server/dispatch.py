"""From an incoming request to its response: the one way every request takes."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Hashable, Iterable, Mapping
from contextlib import aclosing
from itertools import count
from time import perf_counter
from typing import Final

import structlog

from crdtdb.causal import NOTHING, VersionVector
from crdtdb.errors import (
    BadRequest,
    Bootstrapping,
    Field,
    Internal,
    Overloaded,
    Problem,
    Unauthorized,
)
from crdtdb.rows import head_of
from crdtdb_server.access import EVERYBODY, Access, Principal
from crdtdb_server.authorisation import authorise
from crdtdb_server.bounds import Bounds, Rate
from crdtdb_server.credentials import CHALLENGE, Keyring
from crdtdb_server.documents import read_large_json
from crdtdb_server.exchange import (
    Answer,
    Content,
    FixedHeaders,
    Headers,
    Incoming,
    Request,
    Response,
    split_target,
    too_large,
)
from crdtdb_server.hosts import Hosts
from crdtdb_server.kept import Kept, KeptAnswers
from crdtdb_server.logins import A_REPLICA, Caller
from crdtdb_server.parameters import LIMIT, read_query
from crdtdb_server.pending import Pending
from crdtdb_server.problems import problem_answer
from crdtdb_server.routing import Route, Router, WrongMethod
from crdtdb_server.service import Service
from crdtdb_server.session import CONTEXT, wait_of

__all__ = ["Dispatcher"]

_log = structlog.get_logger("crdtdb.http")

#: Bodies held at once; read and parsed, they take several times as much memory.
BODY_BYTES: Final = 128 * 1_048_576

_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
#: Ids of one process count up from a random number, so that no two processes share one.
_ids: Final = count(secrets.randbits(64))
_ID_MASK: Final = (1 << 64) - 1
#: The label of requests for which no route was found.
_NO_ROUTE: Final = "none"
_OTHER_METHOD: Final = "other"
#: For anybody, or for callers that prove themselves otherwise.
_WITHOUT_TOKEN: Final = frozenset({Access.OPEN, Access.PEER})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})

_REQUEST_ID: Final = "X-Request-Id"
_STALENESS: Final = "Crdtdb-Staleness"
_PARTIAL: Final = "Crdtdb-Partial"
#: The fields of an answer that speak of the moment.
_SAID_NOW: Final = frozenset({CONTEXT, _REQUEST_ID, _STALENESS, _PARTIAL})
#: Longer answers are not kept: they cost more to send than to make, and take the room of many.
_KEPT_BODY_BYTES: Final = 65_536


class _Exchange:
    """What is known of a request from its beginning to its response."""

    __slots__ = ("began", "carried", "incoming", "label", "request_id")

    def __init__(self, incoming: Incoming) -> None:
        self.began = perf_counter()
        self.incoming = incoming
        self.request_id = _request_id(incoming.headers)
        #: The route's, once it is known.
        self.label = _NO_ROUTE
        #: What the tokens of the request name.
        self.carried = NOTHING


class Dispatcher:
    """Checks a request, hands it to its handler, and completes the answer."""

    def __init__(self, service: Service, routes: Iterable[Route]) -> None:
        options = service.options
        self._service = service
        self._bounds = bounds = options.bounds
        self._unchecked_bytes = bounds.unchecked_bytes
        self._rate = Rate(bounds.requests_per_s) if bounds.requests_per_s else None
        #: Streams under way.
        self._streams = 0
        self._router = Router(_bounded(route, bounds) for route in routes)
        self._keyring = options.keyring
        self._logins = service.logins
        self._hosts = Hosts(options.host, options.advertise, options.allow_hosts)
        #: Of the bodies of all requests under way.
        self._body_bytes = 0
        self._kept = KeptAnswers()
        self._fixed = FixedHeaders(
            (
                ("Crdtdb-Replica", service.database.replica),
                ("Server", "crdtdb"),
                ("X-Content-Type-Options", "nosniff"),
                ("Cache-Control", "no-store"),
            )
        )

    async def answer(self, incoming: Incoming) -> Response:
        """The response to a request, whatever is wrong with it. Does not raise."""
        response = self.begin(incoming)
        return response if isinstance(response, Response) else await response

    def begin(self, incoming: Incoming) -> Response | Pending[Response] | Awaitable[Response]:
        """The response, or what waits for it: for the body, a commit, or what a token names.

        Neither raises, whatever is wrong with the request.
        """
        exchange = _Exchange(incoming)
        try:
            route, request = self._find(incoming, exchange.began)
            exchange.label = route.path
            exchange.carried = carried = self._service.sessions.carried(incoming.headers)
            if route.access.is_of_data and not self._admits(carried, incoming.headers):
                return self._finish(exchange, self._handle_behind(exchange, route, request))
            answer = self._handle(route, request, incoming)
            if isinstance(answer, Pending):
                return answer.then(
                    lambda answer: self._completed(answer, exchange),
                    lambda error: self._completed(self._failure(error, exchange), exchange),
                )
            if not isinstance(answer, Answer):
                return self._finish(exchange, answer)
        except Exception as error:
            answer = self._failure(error, exchange)
        return self._completed(answer, exchange)

    def keep(self, key: Hashable, incoming: Incoming, response: Response) -> None:
        """Keep the answer that a request just got, if the same was asked of that state before.

        `key` stands for all that the request consists of.
        """
        state = response.holds_while
        if state is None or len(response.body) > _KEPT_BODY_BYTES or incoming.method != "GET":
            return
        if not self._kept.meet(key, state.sequence):
            return
        row = self._service.readings.newest().head_row(state.prefix)
        if row is None or head_of(state.prefix, row).sequence != state.sequence:
            return  # the object has changed since
        try:
            route, request = self._find(incoming, perf_counter(), counted=False)
        except Problem:
            return  # its token has just been revoked
        own = [field for field in response.headers if field[0] not in _SAID_NOW]
        named = incoming.headers.items()
        self._kept.keep(
            key,
            Kept(
                len(incoming.target) + sum(len(name) + len(value) for name, value in named),
                incoming.headers,
                route.path,
                request.principal,
                self._service.sessions.carried(incoming.headers),
                state.prefix,
                row,
                response.status,
                FixedHeaders((*own, *self._fixed.fields)),
                response.body,
            ),
        )

    def again(self, key: Hashable) -> Response | None:
        """The response to a request that comes again; None: it is to be answered anew."""
        kept = self._kept.find(key)
        if kept is None:
            return None
        began = perf_counter()
        keyring, carried = self._keyring, kept.carried
        try:
            if keyring is not None and keyring.principal(kept.headers) is not kept.principal:
                return None
            if not self._admits(carried, kept.headers):
                return None
            reading = self._service.readings.newest()
            if reading.head_row(kept.prefix) != kept.head_row:
                return None
            if self._rate is not None:
                self._rate.take(kept.principal, began)
        except Problem:
            return None
        headers = self._said_now(reading.seen, carried, _request_id(kept.headers))
        took_s = perf_counter() - began
        self._service.metrics.answered(kept.route, "GET", kept.status, took_s)
        return Response(kept.status, headers, kept.body, kept.fixed)

    async def _finish(self, exchange: _Exchange, awaited: Awaitable[Answer]) -> Response:
        try:
            answer = await awaited
        except Exception as error:
            answer = self._failure(error, exchange)
        return self._completed(answer, exchange)

    def _find(
        self, incoming: Incoming, began: float, *, counted: bool = True
    ) -> tuple[Route, Request]:
        """The route, and the request as it is before its body has been read."""
        authority, raw_path, raw_query = split_target(incoming.target)
        self._hosts.check(authority, incoming.headers)
        route, names = self._router.find(incoming.method, raw_path)
        keyring = self._keyring
        principal = EVERYBODY
        if keyring is not None and route.access not in _WITHOUT_TOKEN:
            principal = self._login(keyring, incoming, began)
        if self._rate is not None and counted and route.access not in _WITHOUT_TOKEN:
            self._rate.take(principal, began)
        query = read_query(raw_query, route.query) if raw_query else {}
        if query.get(LIMIT.name, 0) > self._bounds.page_items:
            query = {**query, LIMIT.name: self._bounds.page_items}
        if principal is not EVERYBODY:
            authorise(principal, route, names, query)
        request = Request(
            incoming.method, route.path, names, query, incoming.headers, began, principal
        )
        if route.access is Access.PEER:
            request.address = incoming.origin.address
            self._logins.check(Caller(request.address, A_REPLICA), began)
        return route, request

    def _login(self, keyring: Keyring, incoming: Incoming, now_s: float) -> Principal:
        """Who asks. Raises Unauthorized, or Overloaded if too many from there did not know."""
        address = incoming.origin.address
        try:
            principal = keyring.principal(incoming.headers)
        except Unauthorized:
            if "authorization" in incoming.headers:
                self._logins.fail(address, "token", now_s)
            raise
        self._logins.admit(Caller(address, principal.name), now_s)
        return principal

    def _admits(self, carried: VersionVector, headers: Mapping[str, str]) -> bool:
        """Can this replica answer now? Raises Bootstrapping, or BadHeader for a bad `Prefer`."""
        service = self._service
        state = service.state()
        served = service.database.engine.state.served
        if state == "bootstrapping" or (state == "evicted" and not served):
            raise Bootstrapping("this replica is taking its first copy; ask another one")
        if "prefer" in headers:
            wait_of(headers)
        if carried is NOTHING:
            return True
        return service.seen.includes(carried) and not (len(carried) and service.is_partial())

    async def _handle_behind(self, exchange: _Exchange, route: Route, request: Request) -> Answer:
        """Let the handler answer once this replica has seen what the request names."""
        await self._service.sessions.reach(exchange.carried, wait_of(request.headers))
        answer = self._handle(route, request, exchange.incoming)
        return answer if isinstance(answer, Answer) else await answer

    def _handle(
        self, route: Route, request: Request, incoming: Incoming
    ) -> Answer | Awaitable[Answer]:
        content = incoming.content
        if route.access is Access.WRITE and not route.streamed:
            self._service.writer.check_room()  # before its body costs anything
        if not route.body_bytes:
            _refuse_body(incoming.headers)
        elif not isinstance(content, bytes):
            return self._handle_body(route, request, content)
        elif route.streamed:
            request.parts = _in_one_part(content)
        elif len(content) > route.body_bytes:
            raise too_large(route.body_bytes)
        else:
            if len(content) > self._unchecked_bytes:
                self._bounds.check_body(content)
            request.body = content
        return route.handler(self._service, request)

    async def _handle_body(self, route: Route, request: Request, content: Content) -> Answer:
        """Read the body and let the handler answer. Raises Overloaded."""
        announced = request.headers.get("content-length")
        room = route.body_bytes if announced is None else min(int(announced), route.body_bytes)
        if self._body_bytes + room > BODY_BYTES:
            raise Overloaded("too many large requests are under way; try again soon")
        self._body_bytes += room
        try:
            if route.streamed:
                request.parts = self._while_good(content.stream(), request.headers)
            else:
                if route.access is Access.PEER:
                    request.connection = content.connection
                request.body = await content.read(route.body_bytes)
                await read_large_json(request, self._bounds)
            answer = route.handler(self._service, request)
            return answer if isinstance(answer, Answer) else await answer
        finally:
            self._body_bytes -= room

    def _failure(self, error: Exception, exchange: _Exchange) -> Answer:
        if isinstance(error, Problem):
            return self._refusal(error)
        request_id = exchange.request_id
        _log.error("request failed", request_id=request_id, route=exchange.label, exc_info=error)
        return self._refusal(
            Internal(f"this is a bug; the server's log has it under request {request_id}")
        )

    def _refusal(self, error: Problem) -> Answer:
        headers: Headers = ()
        if isinstance(error, WrongMethod):
            headers = (("Allow", error.allow),)
        elif isinstance(error, Unauthorized):
            headers = (CHALLENGE,)
        return problem_answer(error, self._service.seen, headers)

    def _completed(self, answer: Answer, exchange: _Exchange) -> Response:
        """The answer with the headers that every answer has."""
        if answer.stream is not None:
            stream = self._while_good(answer.stream, exchange.incoming.headers)
            answer = self._admitted(answer, stream)
        method = exchange.incoming.method
        self._service.metrics.answered(
            exchange.label,
            method if method in _METHODS else _OTHER_METHOD,
            answer.status,
            perf_counter() - exchange.began,
        )
        headers = (
            ("Content-Type", answer.media_type),
            *self._said_now(answer.seen, exchange.carried, exchange.request_id),
            *answer.headers,
        )
        fixed = self._fixed
        return Response(
            answer.status, headers, answer.body, fixed, answer.stream, answer.holds_while
        )

    def _admitted(self, answer: Answer, stream: AsyncGenerator[bytes, None]) -> Answer:
        """An answer that goes on, unless so many are under way that this one may not begin."""
        if self._streams < self._bounds.streams:
            return answer._replace(stream=self._counted(stream))
        return self._refusal(
            Overloaded(
                f"{self._bounds.streams} streams are under way here; ask another replica, or later",
                Field("", "too many streams", self._bounds.streams),
            )
        )

    async def _while_good(
        self, parts: AsyncGenerator[bytes, None], headers: Mapping[str, str]
    ) -> AsyncGenerator[bytes, None]:
        """What goes on for long, while the caller's token is what it was.

        Raises Unauthorized when it was revoked, or stands for others now.
        """
        keyring = self._keyring
        caller = None if keyring is None else keyring.principal(headers)
        async with aclosing(parts):
            async for part in parts:
                if keyring is not None and keyring.principal(headers) != caller:
                    raise Unauthorized("the token that this began with is for something else now")
                yield part

    async def _counted(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        self._streams += 1
        try:
            async with aclosing(stream):
                async for part in stream:
                    yield part
        finally:
            self._streams -= 1

    def _said_now(self, seen: VersionVector, carried: VersionVector, request_id: str) -> Headers:
        """What an answer says of the moment; `seen` is what it covers, `carried` what was named."""
        if carried is not NOTHING and not seen.includes(carried):
            seen = seen.join(carried)
        token = self._service.sessions.token(seen)
        staleness = self._service.staleness()
        if staleness is None:
            return ((CONTEXT, token), (_REQUEST_ID, request_id))
        if not self._service.is_partial():
            return ((CONTEXT, token), (_REQUEST_ID, request_id), (_STALENESS, staleness))
        return (
            (CONTEXT, token),
            (_REQUEST_ID, request_id),
            (_STALENESS, staleness),
            (_PARTIAL, "1"),
        )


def _bounded(route: Route, bounds: Bounds) -> Route:
    """A route that takes no longer bodies than the operator wants; those of replicas are theirs."""
    if route.access is Access.PEER or route.streamed:
        return route
    return route._replace(body_bytes=min(route.body_bytes, bounds.body_bytes))


async def _in_one_part(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _refuse_body(headers: Mapping[str, str]) -> None:
    """A body that would be overlooked may say what the caller takes for granted."""
    if int(headers.get("content-length", 0)) or "transfer-encoding" in headers:
        raise BadRequest("this request takes no body", Field("", "has a body"))


def _request_id(headers: Mapping[str, str]) -> str:
    """The caller's name for the request if it is a sane one, else one of ours."""
    given = headers.get("x-request-id")
    if given is not None and _SANE_ID.fullmatch(given):
        return given
    return f"{next(_ids) & _ID_MASK:016x}"
