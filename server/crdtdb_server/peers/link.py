"""One link: frames for one endpoint, sent in order over a kept-alive connection.

What waits is sent together. An endpoint that does not answer is tried again with exponential
backoff and jitter; meanwhile frames for it are dropped, which is always safe: the first exchange
after it is back compares what both have seen.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Final, Protocol

import aiohttp
import orjson
import structlog

from crdtdb.errors import CrdtdbError, PeerError, shortened
from crdtdb.replication.messages import Sender
from crdtdb_server.peers.clock import now_s
from crdtdb_server.peers.envelope import (
    BODY_BYTES,
    ENCODING_HEADER,
    PATH,
    SENDER_HEADER,
    open_body,
    open_sender,
    seal_body,
    seal_sender,
)
from crdtdb_server.peers.faults import Faults, LinkDown
from crdtdb_server.peers.secret import PROOF_HEADER, Unproven
from crdtdb_server.peers.trust import Trust

__all__ = ["Hub", "Link"]

_log = structlog.get_logger("crdtdb.peers")

#: What may wait for one endpoint; beyond, the oldest is dropped.
_WAITING_FRAMES: Final = 1_024
_WAITING_BYTES: Final = 16 * 1_048_576
#: One exchange.
_EXCHANGE_BYTES: Final = 4 * 1_048_576
_BACKOFF_FIRST_S: Final = 0.1
_BACKOFF_MOST_S: Final = 2.0
#: Of what a refusal says, in the log and in `/v1/cluster`.
_DETAIL_CHARACTERS: Final = 500
#: A connection that the other end has cut.
_CUT: Final = frozenset({errno.ECONNRESET, errno.EPIPE})
#: What keeps an exchange from happening, and is no bug here.
_TROUBLES: Final = (
    TimeoutError,
    aiohttp.ClientError,
    OSError,
    LinkDown,
    Unproven,
    CrdtdbError,
)


class Hub(Protocol):
    """What a link belongs to."""

    @property
    def me(self) -> Sender:
        """Who speaks."""

    def probe(self) -> bytes:
        """The frame to try a silent endpoint with."""

    def lost(self, endpoint: str) -> None:
        """Frames for an endpoint were lost."""

    async def deliver(self, sender: Sender, frames: list[bytes], via: str) -> list[bytes]:
        """Take in frames from the endpoint `via`; returns those that answer them."""

    def is_self(self, endpoint: str) -> None:
        """An endpoint turned out to be this replica."""


class Link:
    """The way to one endpoint."""

    def __init__(
        self,
        endpoint: str,
        hub: Hub,
        session: aiohttp.ClientSession,
        faults: Faults,
        random: Random,
        on_bytes: Callable[[int], None],
        trust: Trust,
    ) -> None:
        self.endpoint = endpoint
        #: The replica that answered there last.
        self.replica: str | None = None
        #: Why it is not reachable; None while it is.
        self.trouble: str | None = None
        #: Why what came from there was refused; None since something was taken in.
        self.refused: str | None = None
        #: What of that the log has.
        self._said: str | None = None
        self._hub = hub
        self._session = session
        self._faults = faults
        self._random = random
        self._on_bytes = on_bytes
        self._trust = trust
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._sign_of_life = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"link {endpoint}")

    def send(self, frame: bytes) -> None:
        """Send a frame as soon as it goes; dropped while the endpoint is silent."""
        if self.trouble is not None:
            self._hub.lost(self.endpoint)
            return
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        while len(self._waiting) > _WAITING_FRAMES or self._waiting_bytes > _WAITING_BYTES:
            self._waiting_bytes -= len(self._waiting.popleft())
        self._wake.set()

    @property
    def is_up(self) -> bool:
        """Has somebody answered there, the last time it was tried?"""
        return self.trouble is None and self.replica is not None

    def retry(self) -> None:
        """There is a sign of life from there: end the wait for the next try."""
        self._sign_of_life.set()

    async def close(self) -> None:
        """Stop; what waits is dropped."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _take(self) -> list[bytes]:
        frames: list[bytes] = []
        size = 0
        while self._waiting and size < _EXCHANGE_BYTES:
            frame = self._waiting.popleft()
            size += len(frame)
            frames.append(frame)
        self._waiting_bytes -= size
        if not self._waiting:
            self._wake.clear()
        return frames

    async def _run(self) -> None:
        backoff_s = _BACKOFF_FIRST_S
        while True:
            if self.trouble is None:
                await self._wake.wait()
                frames = self._take()
            else:
                await self._back_off(backoff_s * self._random.uniform(0.5, 1.0))
                frames = [self._hub.probe()]
            try:
                answer = await self._exchange(frames)
            except _TROUBLES as error:
                backoff_s = min(backoff_s * 2, _BACKOFF_MOST_S)
                self._note_trouble(self._described(error))
                continue
            except Exception:
                backoff_s = _BACKOFF_MOST_S
                _log.exception("a bug on the link to a peer", endpoint=self.endpoint)
                self._note_trouble("a bug of this replica; its log has it")
                continue
            if self.trouble is not None:
                _log.info("peer reachable again", endpoint=self.endpoint, replica=self.replica)
                self.trouble = None
            backoff_s = _BACKOFF_FIRST_S
            for frame in answer:
                self.send(frame)

    async def _back_off(self, most_s: float) -> None:
        self._sign_of_life.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._sign_of_life.wait()

    async def _exchange(self, frames: list[bytes]) -> list[bytes]:
        """Post frames, take in what comes back; returns what that calls for."""
        await self._faults.cross(self.replica, "out")
        body, encoding = seal_body(frames)
        me = seal_sender(self._hub.me)
        headers = {SENDER_HEADER: me}
        if encoding is not None:
            headers[ENCODING_HEADER] = encoding
        trust, proof = self._trust, ""
        if trust.certified is not None:
            trust.certified.check_call(self.endpoint)
        secret = None if trust.secrets is None else trust.secrets.first
        if secret is not None:
            proof = headers[PROOF_HEADER] = secret.prove_request(now_s(), me, encoding, body)
        self._on_bytes(len(body))
        async with self._session.post(
            self.endpoint + PATH,
            data=body,
            headers=headers,
            allow_redirects=False,
            ssl=trust.calling or True,
        ) as response:
            answer = await _bounded(response)
            if response.status != 200:
                if _names_self(answer):
                    self._hub.is_self(self.endpoint)
                raise PeerError("refused", f"answered {response.status}{_detail(response, answer)}")
            sealed_sender = response.headers.get(SENDER_HEADER, "")
            if not sealed_sender:
                raise PeerError("refused", f"answered 200{_stranger(response)}")
            encoding = response.headers.get(ENCODING_HEADER)
            if secret is not None:
                answered = response.headers.get(PROOF_HEADER, "")
                secret.check_answer(answered, proof, sealed_sender, encoding, answer)
            sender = open_sender(sealed_sender)
            self.replica = sender.name
            await self._faults.cross(sender.name, "in")
            returned = open_body(answer, encoding)
        if not returned:
            return []
        try:
            called_for = await self._hub.deliver(sender, returned, self.endpoint)
        except CrdtdbError as error:
            # The link is fine; what came over it is not, or this replica cannot take it in now.
            is_said = isinstance(error, PeerError) and error.reason == "newer-version"
            if self._said != str(error) and not is_said:
                _log.warning("cannot take in what a peer sent", peer=sender.name, why=str(error))
            self._said = self.refused = str(error)
            return []
        self.refused = None
        return called_for

    def _described(self, error: BaseException) -> str:
        was_cut = isinstance(error, aiohttp.ServerDisconnectedError) or (
            isinstance(error, OSError) and error.errno in _CUT
        )
        if was_cut and self._trust.certified is not None:
            # By TLS 1.3 the caller's certificate is looked at after the caller has begun to speak.
            return "it closed the connection; it may not believe this replica's certificate"
        return _described(error)

    def _note_trouble(self, trouble: str) -> None:
        """Said once: when it begins, or when it becomes another."""
        if self.trouble != trouble:
            _log.warning("peer not reachable", endpoint=self.endpoint, why=trouble)
        self.trouble = trouble
        self._hub.lost(self.endpoint)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._wake.clear()


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = await response.content.read(BODY_BYTES + 1)
    chunks = [body]
    size = len(body)
    while chunk := await response.content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > BODY_BYTES:
            raise PeerError("too-large", f"a peer answered with more than {BODY_BYTES} bytes")
    return b"".join(chunks)


def _detail(response: aiohttp.ClientResponse, answer: bytes) -> str:
    """What a refusal says: the detail of its problem, which every replica gives."""
    try:
        detail = str(orjson.loads(answer)["detail"])
        return ": " + " ".join(detail.split())[:_DETAIL_CHARACTERS]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return _stranger(response) if answer else ""


def _stranger(response: aiohttp.ClientResponse) -> str:
    """What to say of an answer that no replica gives. Of the answer itself no more than its type:
    it may be a whole page."""
    kind = shortened(response.content_type)
    return f" with {kind}: no replica is there, but another server, or a proxy that cannot reach it"


def _names_self(answer: bytes) -> bool:
    """Does a refusal say that the peer is this replica itself?"""
    try:
        return bool(orjson.loads(answer)["errors"][0]["message"] == "self")
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return False


def _described(error: BaseException) -> str:
    if isinstance(error, LinkDown):
        return "the link is cut (injected fault)"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.strerror:
        return f"cannot connect: {error.os_error.strerror}"
    if isinstance(error, Unproven):
        return f"not believed: {error}"
    return f"{error}" or type(error).__name__
