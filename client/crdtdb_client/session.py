"""One session with the replicas of a cluster: connections, fail-over and the session token.

Replicas are tried nearest first, and the one that answered last is asked first. A *read* moves on
to the next replica after any trouble with the connection; a *write* only when it was certainly not
sent. The session token travels along, so the next replica waits until it has seen what the session
saw, or says that it is behind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import httpx2

from crdtdb import jsonvalue
from crdtdb_client.errors import OutcomeUnknown, UnexpectedAnswer, Unreachable, problem_from
from crdtdb_client.targets import replica_url

__all__ = ["Answer", "Session"]

_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_CONTEXT: Final = "Crdtdb-Context"
_REPLICA: Final = "Crdtdb-Replica"
#: How the system's errors begin.
_ERRNO: Final = re.compile(r"^\[Errno -?\d+\] ")
#: A replica that cannot be reached in this time counts as away.
_CONNECT_S: Final = 2.0


class Answer(NamedTuple):
    """What a replica answered."""

    document: Any
    replica: str


class Session:
    """Kept-alive connections to replicas, and what this session has seen of them."""

    def __init__(self, urls: Sequence[str], *, timeout_s: float) -> None:
        """`urls` are nearest first. Raises ValueError for what is not the URL of a replica."""
        if not urls:
            raise ValueError("give the URL of one replica or more")
        self._urls = tuple(map(replica_url, urls))
        self._asked_last = self._urls[0]
        self._token: str | None = None
        self._http = httpx2.Client(
            # Loading the system's certificates takes longer than a request: only where needed.
            verify=any(url.startswith("https:") for url in self._urls),
            # A replica is addressed directly; a proxy for the web is no way to it.
            trust_env=False,
            timeout=httpx2.Timeout(timeout_s, connect=_CONNECT_S),
        )

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._http.close()

    def read(self, target: str, document: object = None) -> Answer:
        """Ask for something, with a document (POST) or without (GET).

        Nothing changes by it, so it may be asked again elsewhere. Raises BadRequest for a document
        that is not JSON.
        """
        method = "GET" if document is None else "POST"
        body = _body(document)
        attempts: list[tuple[str, str]] = []
        for url in self._in_order():
            try:
                return self._exchange(method, url, target, body)
            except httpx2.RequestError as error:
                attempts.append((url, _reason(error)))
        raise Unreachable(attempts)

    def write(self, method: str, target: str, document: object = None) -> Answer:
        """Change something, at most once. Raises BadRequest for a document that is not JSON."""
        body = _body(document)
        attempts: list[tuple[str, str]] = []
        for url in self._in_order():
            try:
                return self._exchange(method, url, target, body)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                attempts.append((url, _reason(error)))
            except httpx2.RequestError as error:
                raise OutcomeUnknown(url, _reason(error)) from error
        raise Unreachable(attempts)

    def _in_order(self) -> Iterator[str]:
        first = self._asked_last
        yield first
        yield from (url for url in self._urls if url != first)

    def _exchange(self, method: str, url: str, target: str, body: bytes | None) -> Answer:
        headers = {} if body is None else {"Content-Type": _JSON}
        if self._token is not None:
            headers[_CONTEXT] = self._token
        response = self._http.request(method, url + target, content=body, headers=headers)
        self._asked_last = url
        return self._open(url, response)

    def _open(self, url: str, response: httpx2.Response) -> Answer:
        """Take the answer apart. Raises the problem that it reports, or UnexpectedAnswer."""
        headers = response.headers
        media_type = headers.get("Content-Type", "")
        if _REPLICA not in headers or media_type not in (_JSON, _PROBLEM):
            raise UnexpectedAnswer(url, response.status_code, response.text)
        self._token = headers.get(_CONTEXT, self._token)
        # Not orjson: it reads an integer beyond 64 bits, which a counter may be, as a float.
        document = json.loads(response.content)
        if media_type == _PROBLEM:
            raise problem_from(document, headers.get("Retry-After"))
        return Answer(document, headers[_REPLICA])


def _body(document: object) -> bytes | None:
    return None if document is None else jsonvalue.dump(jsonvalue.normalise(document))


def _reason(error: httpx2.RequestError) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    return _ERRNO.sub("", str(error)) or type(error).__name__
