"""One session with the replicas of a cluster: which to ask, when to ask again, and what it saw.

Replicas are asked nearest first; one that failed comes last for a while. What happens after a
failure depends on what can have become of the request:

1. It certainly was not accepted (no connection; 429, 503 or 507): the next replica is asked, and
   when all have refused, all again after a pause, for as long as the patience lasts.
2. It may have been, and may be repeated (a read, an operation that is `repeatable`): likewise.
3. It may have been, and must not count twice: it is sent *to the same replica* again, under the
   Idempotency-Key that it had from the start, until that replica says what came of it. If it does
   not while the patience lasts: OutcomeUnknown.

The session token travels along: a replica waits until it has seen what the session saw, or says
that it is behind. Then the others are asked, and `on_behind` says what follows if all are.

No I/O here: `ask` makes a plan, `transport` runs it.
"""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from typing import Final, Literal, NamedTuple, NoReturn, TypeAlias

from crdtdb.errors import Behind, Forbidden, Internal, Problem, Unauthorized
from crdtdb.token import join_tokens
from crdtdb_client.errors import OutcomeUnknown, UnexpectedAnswer, Unreachable, problem_from
from crdtdb_client.exchange import Answer, Failed, Pause, Plan, Received, Reply, Request, Send
from crdtdb_client.targets import replica_url

__all__ = ["NO_TERMS", "Ack", "OnBehind", "Session", "Terms"]

OnBehind: TypeAlias = Literal["raise", "continue"]
#: "local", a number of replicas, "all", or "regions=N".
Ack: TypeAlias = int | str

_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_CONTEXT: Final = "Crdtdb-Context"
_REPLICA: Final = "Crdtdb-Replica"

#: Answers that say: not accepted; later or elsewhere it may be.
_REFUSALS: Final = frozenset({429, 503, 507})
#: How long a replica that failed is asked last.
_AWAY_S: Final = 10.0
#: The first pause between attempts, and the longest; jittered by half.
_PAUSE_S: Final = 0.1
_PAUSE_MOST_S: Final = 2.0


class Terms(NamedTuple):
    """What a caller demands beyond what is asked."""

    #: How many must hold a write on disk before it is answered.
    ack: Ack | None = None
    #: How long a replica may wait for that, and to see what the session saw: whole seconds.
    wait_s: int | None = None


NO_TERMS: Final = Terms()


class _Refused(NamedTuple):
    """A replica did not accept the request."""

    problem: Problem

    @property
    def is_behind(self) -> bool:
        return isinstance(self.problem, Behind)


_Outcome: TypeAlias = Answer | Failed | _Refused


class Session:
    """What this session has seen of a cluster, and how it asks."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        timeout_s: float = 30.0,
        patience_s: float = 5.0,
        on_behind: OnBehind = "raise",
        token: str | None = None,
        bearer: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        new_key: Callable[[], str] = secrets.token_urlsafe,
    ) -> None:
        """`urls` are nearest first. Raises ValueError for what is not the URL of a replica."""
        if not urls:
            raise ValueError("give the URL of one replica or more")
        if on_behind not in ("raise", "continue"):
            raise ValueError(f'on_behind is "raise" or "continue", not {on_behind!r}')
        if bearer is not None and not (bearer.isascii() and bearer.isprintable()):
            raise ValueError("a bearer token is printable ASCII")
        self.urls = tuple(map(replica_url, urls))
        #: The session token: what every answer must have seen.
        self.token = token
        self._bearer = bearer
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._on_behind = on_behind
        self._clock = clock
        self._jitter = jitter
        self._new_key = new_key
        #: Replicas that failed, and until when they are asked last.
        self._away_until: dict[str, float] = {}

    def ask(self, request: Request, terms: Terms = NO_TERMS) -> Plan:
        """The plan that gets an answer to a request.

        It raises the problem that the cluster reports, else Unreachable, OutcomeUnknown or
        UnexpectedAnswer.
        """
        key = request.key or (None if request.repeatable else self._new_key())
        patience = _Patience(self._patience_s, self._clock, self._jitter)
        while True:
            refusals: list[_Refused] = []
            attempts: list[tuple[str, str]] = []
            was_sent = False
            behind: str | None = None
            for url in self.urls[:1] if request.key else self._in_order():
                outcome = yield from self._attempt(url, request, terms, key)
                match outcome:
                    case Answer():
                        return outcome
                    case _Refused():
                        refusals.append(outcome)
                        if outcome.is_behind and behind is None:
                            behind = url
                    case Failed(reason, sent):
                        patience.begin()
                        if sent and key is not None:
                            return (yield from self._settle(url, request, terms, key, patience))
                        attempts.append((url, reason))
                        was_sent = was_sent or sent
            if behind is not None and self._on_behind == "continue" and self.token is not None:
                self.token = None
                self._away_until.pop(behind, None)
                continue
            pause = None
            waits = [refused.problem.retry_after_s for refused in refusals if not refused.is_behind]
            hints = [seconds for seconds in waits if seconds is not None]
            if hints or was_sent:
                pause = patience.next_pause(min(hints, default=0))
            if pause is None:
                raise refusals[0].problem if refusals else Unreachable(attempts)
            yield pause

    def stream(self, target: str) -> Send:
        """How to ask the nearest replica, and no other, for what comes part by part."""
        request = Request("GET", target)
        headers = self._headers(request, NO_TERMS, None, self.token)
        return Send("GET", self.urls[0] + target, headers, None, self._timeout_s)

    def refuse(self, url: str, received: Received) -> NoReturn:
        """Raise what an answer that is no success means."""
        match self._open(url, received, self.token):
            case _Refused(problem):
                raise problem
            case Failed(reason):
                raise Unreachable([(url, reason)])
        raise UnexpectedAnswer(url, received.status, received.content.decode(errors="replace"))

    def _settle(
        self, url: str, request: Request, terms: Terms, key: str, patience: _Patience
    ) -> Plan:
        """Find out what became of a write by sending it again, to where it was sent."""
        reason = ""
        pause: Pause | None = Pause(0.0)
        while pause is not None:
            yield pause
            try:
                outcome = yield from self._attempt(url, request, terms, key)
            except (Unauthorized, Forbidden, Internal, UnexpectedAnswer) as error:
                # They end this repetition, and say nothing about the first time.
                raise OutcomeUnknown(url, str(error)) from error
            match outcome:
                case Answer():
                    return outcome
                case _Refused(problem):
                    # The same: it says nothing about the first time.
                    reason = problem.detail
                    pause = patience.next_pause(problem.retry_after_s or 0)
                case Failed():
                    reason = outcome.reason
                    pause = patience.next_pause()
        raise OutcomeUnknown(url, reason)

    def _in_order(self) -> list[str]:
        now = self._clock()
        return sorted(self.urls, key=lambda url: self._away_until.get(url, now) > now)

    def _attempt(
        self, url: str, request: Request, terms: Terms, key: str | None
    ) -> Generator[Send, Reply, _Outcome]:
        """Ask one replica once. Raises what asking again would not change."""
        carried = self.token if request.in_session else None
        headers = self._headers(request, terms, key, carried)
        wait_s = request.wait_s + (terms.wait_s or 0)
        timeout_s = self._timeout_s + wait_s
        reply = yield Send(request.method, url + request.target, headers, request.body, timeout_s)
        assert reply is not None
        outcome = reply if isinstance(reply, Failed) else self._open(url, reply, carried)
        if isinstance(outcome, Answer):
            self._away_until.pop(url, None)
        else:
            self._away_until[url] = self._clock() + _AWAY_S
        return outcome

    def _headers(
        self, request: Request, terms: Terms, key: str | None, carried: str | None
    ) -> dict[str, str]:
        given = {
            "Content-Type": None if request.body is None else request.media_type,
            "Authorization": None if self._bearer is None else f"Bearer {self._bearer}",
            _CONTEXT: carried,
            "Idempotency-Key": key,
            "Prefer": None if terms.wait_s is None else f"wait={terms.wait_s}",
            "Crdtdb-Ack": str(terms.ack) if request.writes and terms.ack is not None else None,
        }
        return {name: value for name, value in given.items() if value is not None}

    def _open(self, url: str, received: Received, carried: str | None) -> _Outcome:
        """Take a response apart. Raises the caller's mistakes, bugs, and UnexpectedAnswer."""
        status, headers, content = received
        media_type = headers.get("Content-Type", "")
        if _REPLICA not in headers or media_type not in (_JSON, _PROBLEM):
            if status >= 500:
                # A proxy in between: the replica may have got it.
                return Failed(f"{status} from something that is no crdtdb server", sent=True)
            raise UnexpectedAnswer(url, status, content.decode(errors="replace"))
        # Not orjson: it reads an integer beyond 64 bits, which a counter may be, as a float.
        document = json.loads(content)
        if media_type == _PROBLEM:
            # Its token is not taken over: it need not cover what the request carried.
            problem = problem_from(document, headers.get("Retry-After"))
            if status in _REFUSALS:
                return _Refused(problem)
            raise problem
        self._learn(headers.get(_CONTEXT), carried)
        acked = headers.get("Crdtdb-Acked")
        return Answer(document, headers[_REPLICA], None if acked is None else int(acked))

    def _learn(self, token: str | None, carried: str | None) -> None:
        """Take over an answer's token, which covers the one that the request carried.

        When other requests were answered meanwhile, this session has seen more than either says.
        """
        if token is None:
            return
        if self.token not in (None, carried, token):
            assert self.token is not None
            token = join_tokens(self.token, token)
        self.token = token


class _Patience:
    """The pauses between attempts: longer and longer, and bounded in all."""

    def __init__(
        self, seconds: float, clock: Callable[[], float], jitter: Callable[[], float]
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._jitter = jitter
        self._next_s = _PAUSE_S
        self._ends: float | None = None

    def begin(self) -> None:
        """The time counts from the first failure on."""
        if self._ends is None:
            self._ends = self._clock() + self._seconds

    def next_pause(self, least_s: float = 0.0) -> Pause | None:
        """The next pause; None when the patience does not last so long."""
        self.begin()
        assert self._ends is not None
        seconds = max(least_s, self._next_s * (1 - self._jitter() / 2))
        self._next_s = min(2 * self._next_s, _PAUSE_MOST_S)
        return None if self._clock() + seconds > self._ends else Pause(seconds)
