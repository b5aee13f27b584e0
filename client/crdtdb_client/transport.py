"""Plans carried out over HTTP: once for threads, once for an event loop, and nothing else twice."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from os import PathLike
from typing import Final, NoReturn

import httpx2

from crdtdb_client.errors import Unreachable
from crdtdb_client.exchange import Answer, Failed, Pause, Plan, Received, Reply, Send

__all__ = ["AsyncTransport", "Transport", "failed", "trust"]

#: A replica that cannot be reached in this time counts as away.
_CONNECT_S: Final = 2.0
#: How the system's errors begin.
_ERRNO: Final = re.compile(r"^\[Errno -?\d+\] ")
#: What happens before the first byte of a request has gone out.
_BEFORE_SENDING: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.LocalProtocolError,
)


def trust(urls: Sequence[str], tls_ca: str | PathLike[str] | None) -> ssl.SSLContext | bool:
    """Whose certificates to believe: those of `tls_ca` (a PEM file), else the usual ones.

    Loading certificates takes longer than a request: only where needed. Raises OSError for a file
    that is not there or holds none.
    """
    if tls_ca is not None:
        return ssl.create_default_context(cafile=tls_ca)
    return any(url.startswith("https:") for url in urls)


class Transport:
    """Kept-alive connections of a synchronous client."""

    def __init__(self, verify: ssl.SSLContext | bool) -> None:
        # A replica is addressed directly; a proxy for the web is no way to it.
        self._http = httpx2.Client(verify=verify, trust_env=False)

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._http.close()

    def run(self, plan: Plan) -> Answer:
        """Carry out a plan. Raises what it raises."""
        reply: Reply = None
        while True:
            try:
                step = plan.send(reply)
            except StopIteration as done:
                answer: Answer = done.value
                return answer
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                reply = None
            else:
                reply = self._send(step)

    def stream(self, send: Send, refuse: Callable[[str, Received], NoReturn]) -> Iterator[bytes]:
        """What one replica answers, part by part, as it comes. Raises Unreachable.

        An answer that is no 200 is handed to `refuse`, which raises what it means.
        """
        url = send.url
        timeout = _timeout(send)
        try:
            with self._http.stream("GET", url, headers=send.headers, timeout=timeout) as response:
                if response.status_code != 200:
                    response.read()
                    refuse(url, Received(response.status_code, response.headers, response.content))
                yield from response.iter_raw()
        except httpx2.RequestError as error:
            raise Unreachable([(url, failed(error).reason)]) from error

    def _send(self, send: Send) -> Received | Failed:
        try:
            response = self._http.request(
                send.method,
                send.url,
                content=send.body,
                headers=send.headers,
                timeout=_timeout(send),
            )
        except httpx2.RequestError as error:
            return failed(error)
        return Received(response.status_code, response.headers, response.content)


class AsyncTransport:
    """Kept-alive connections of an asynchronous client."""

    def __init__(self, verify: ssl.SSLContext | bool) -> None:
        self._http = httpx2.AsyncClient(verify=verify, trust_env=False)

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._http.aclose()

    async def run(self, plan: Plan) -> Answer:
        """Carry out a plan. Raises what it raises."""
        # Whoever gets here has loaded it; to those who never do it would cost more than a request.
        import asyncio

        reply: Reply = None
        while True:
            try:
                step = plan.send(reply)
            except StopIteration as done:
                answer: Answer = done.value
                return answer
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                reply = None
            else:
                reply = await self._send(step)

    async def stream(
        self, send: Send, refuse: Callable[[str, Received], NoReturn]
    ) -> AsyncIterator[bytes]:
        """What one replica answers, part by part, as it comes. Raises Unreachable.

        An answer that is no 200 is handed to `refuse`, which raises what it means.
        """
        url = send.url
        asked = self._http.stream("GET", url, headers=send.headers, timeout=_timeout(send))
        try:
            async with asked as response:
                if response.status_code != 200:
                    await response.aread()
                    refuse(url, Received(response.status_code, response.headers, response.content))
                async for part in response.aiter_raw():
                    yield part
        except httpx2.RequestError as error:
            raise Unreachable([(url, failed(error).reason)]) from error

    async def _send(self, send: Send) -> Received | Failed:
        try:
            response = await self._http.request(
                send.method,
                send.url,
                content=send.body,
                headers=send.headers,
                timeout=_timeout(send),
            )
        except httpx2.RequestError as error:
            return failed(error)
        return Received(response.status_code, response.headers, response.content)


def _timeout(send: Send) -> httpx2.Timeout:
    return httpx2.Timeout(send.timeout_s, connect=_CONNECT_S)


def failed(error: httpx2.RequestError) -> Failed:
    """What an error of the HTTP library means, in words for people."""
    sent = not isinstance(error, _BEFORE_SENDING)
    if isinstance(error, httpx2.TimeoutException):
        return Failed("no answer in time", sent)
    return Failed(_ERRNO.sub("", str(error)) or type(error).__name__, sent)
