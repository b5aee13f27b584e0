"""When a session asks whom again: plans, run against replicas that answer by the book.

No socket and no clock: `Replicas` plays the wire, and time passes only in pauses.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from itertools import count
from typing import Any, Final

import pytest

from crdtdb.causal import VersionVector
from crdtdb.errors import BadRequest, Behind, Internal, Overloaded, ReadOnly, Unauthorized
from crdtdb.token import TokenKind, read_token, write_token
from crdtdb_client import OutcomeUnknown, UnexpectedAnswer, Unreachable
from crdtdb_client.exchange import Answer, Failed, Pause, Plan, Received, Reply, Request, Send
from crdtdb_client.session import NO_TERMS, Session, Terms

EU, US, AP = "http://eu:7460", "http://us:7460", "http://ap:7460"
READ: Final = Request("GET", "/v1/digest")
ADD: Final = Request("POST", "/v1/x", b"{}", writes=True)
INCREMENT: Final = Request("POST", "/v1/x", b"{}", writes=True, repeatable=False)

DOWN: Final = Failed("connection refused", sent=False)
LOST: Final = Failed("connection reset", sent=True)


def ok(value: object = 1, **headers: str) -> Received:
    fields = {"Content-Type": "application/json", "Crdtdb-Replica": "eu-1"}
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    return Received(200, fields | given, json.dumps(value).encode())


def problem(status: int, code: str, retry_after: str | None = "1") -> Received:
    headers = {"Content-Type": "application/problem+json", "Crdtdb-Replica": "eu-1"}
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    document = {"code": code, "status": status, "detail": code}
    return Received(status, headers, json.dumps(document).encode())


OK: Final = ok()
BEHIND: Final = problem(503, "behind")
BUSY: Final = problem(429, "overloaded")
READ_ONLY: Final = problem(503, "read-only")
FULL: Final = problem(507, "no-space", None)
WRONG: Final = problem(400, "bad-request", None)
BUG: Final = problem(500, "internal", None)
LOCKED_OUT: Final = problem(401, "unauthorized", None)
GATEWAY: Final = Received(502, {"Content-Type": "text/html"}, b"<h1>Bad gateway")
STRANGER: Final = Received(404, {"Content-Type": "text/html"}, b"nothing here")


class Replicas:
    """Plays the wire: each replica gives its replies in order, the last one for ever."""

    def __init__(self, **replies: list[Received | Failed]) -> None:
        self._replies = {f"http://{name}:7460": deque(given) for name, given in replies.items()}
        self.now_s = 0.0
        self.sent: list[Send] = []
        self.pauses: list[float] = []

    def session(self, *urls: str, **options: Any) -> Session:
        keys = count(1)
        return Session(
            urls or tuple(self._replies),
            clock=lambda: self.now_s,
            jitter=lambda: 0.0,
            new_key=lambda: f"key-{next(keys)}",
            **options,
        )

    def run(self, plan: Plan) -> Answer:
        reply: Reply = None
        try:
            while True:
                reply = self._reply(plan.send(reply))
        except StopIteration as done:
            answer: Answer = done.value
            return answer

    def _reply(self, step: Send | Pause) -> Reply:
        if isinstance(step, Pause):
            self.pauses.append(step.seconds)
            self.now_s += step.seconds
            return None
        self.sent.append(step)
        replies = self._replies[f"http://{step.url.split('/')[2]}"]
        return replies[0] if len(replies) == 1 else replies.popleft()

    @property
    def asked(self) -> list[str]:
        """The replicas that were asked, in order."""
        return [send.url.split("/")[2].split(":")[0] for send in self.sent]

    @property
    def headers(self) -> list[Mapping[str, str]]:
        return [send.headers for send in self.sent]


# -- the next replica -----------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [READ, ADD, INCREMENT])
@pytest.mark.parametrize("reply", [DOWN, BUSY, READ_ONLY, FULL, BEHIND])
def test_what_was_certainly_not_accepted_goes_to_the_next_replica(
    request_: Request, reply: Received | Failed
) -> None:
    replicas = Replicas(eu=[reply], us=[OK])
    assert replicas.run(replicas.session().ask(request_)).document == 1
    assert (replicas.asked, replicas.pauses) == (["eu", "us"], [])


@pytest.mark.parametrize("request_", [READ, ADD])
@pytest.mark.parametrize("reply", [LOST, GATEWAY])
def test_what_may_be_repeated_does_so_too_when_the_answer_is_lost(
    request_: Request, reply: Received | Failed
) -> None:
    replicas = Replicas(eu=[reply], us=[OK])
    assert replicas.run(replicas.session().ask(request_)).document == 1
    assert replicas.asked == ["eu", "us"]
    assert all("Idempotency-Key" not in headers for headers in replicas.headers)


def test_a_replica_that_failed_is_asked_last_for_a_while() -> None:
    replicas = Replicas(eu=[LOST, OK], us=[OK])
    session = replicas.session()
    for _ in range(2):
        replicas.run(session.ask(READ))
    assert replicas.asked == ["eu", "us", "us"]
    replicas.now_s += 60
    replicas.run(session.ask(READ))
    assert replicas.asked[3:] == ["eu"]


def test_when_nobody_can_be_reached_it_says_so_at_once() -> None:
    replicas = Replicas(eu=[DOWN], us=[DOWN])
    for request in (READ, INCREMENT):
        with pytest.raises(Unreachable) as caught:
            replicas.run(replicas.session().ask(request))
        assert [url for url, _ in caught.value.attempts] == [EU, US]
    assert replicas.pauses == []


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (WRONG, BadRequest),
        (LOCKED_OUT, Unauthorized),
        (BUG, Internal),
        (STRANGER, UnexpectedAnswer),
    ],
)
def test_what_asking_again_would_not_change_is_raised(
    reply: Received, error: type[Exception]
) -> None:
    replicas = Replicas(eu=[reply], us=[OK])
    with pytest.raises(error):
        replicas.run(replicas.session().ask(READ))
    assert replicas.asked == ["eu"]


# -- the next time --------------------------------------------------------------------------------


def test_replicas_that_are_busy_are_asked_again_after_the_pause_they_name() -> None:
    replicas = Replicas(eu=[BUSY, OK], us=[problem(429, "overloaded", "3")])
    replicas.run(replicas.session().ask(INCREMENT))
    assert (replicas.asked, replicas.pauses) == (["eu", "us", "eu"], [1.0])


def test_patience_ends_with_the_problem_of_the_first_replica() -> None:
    replicas = Replicas(eu=[BUSY], us=[DOWN])
    with pytest.raises(Overloaded):
        replicas.run(replicas.session(patience_s=3.5).ask(INCREMENT))
    assert replicas.pauses == [1.0, 1.0, 1.0]
    busy_for_long = Replicas(eu=[problem(429, "overloaded", "60")])
    with pytest.raises(Overloaded):
        busy_for_long.run(busy_for_long.session().ask(READ))
    assert busy_for_long.pauses == []


def test_pauses_grow_and_are_bounded_in_all() -> None:
    replicas = Replicas(eu=[LOST])
    with pytest.raises(Unreachable):
        replicas.run(replicas.session(patience_s=10).ask(READ))
    assert replicas.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


def test_pauses_are_jittered_by_half() -> None:
    session = Session([EU], clock=lambda: 0.0, jitter=lambda: 1.0)
    plan = session.ask(READ)
    assert isinstance(next(plan), Send)
    assert plan.send(LOST) == Pause(0.05)


def test_a_lost_read_is_read_again() -> None:
    replicas = Replicas(eu=[LOST, OK])
    assert replicas.run(replicas.session().ask(READ)).document == 1


# -- a write whose outcome is unknown -------------------------------------------------------------


@pytest.mark.parametrize("reply", [LOST, GATEWAY])
def test_it_is_asked_about_at_the_same_replica_and_under_the_same_key(
    reply: Received | Failed,
) -> None:
    replicas = Replicas(eu=[reply, reply, DOWN, BUSY, OK], us=[OK])
    session = replicas.session()
    assert replicas.run(session.ask(INCREMENT)).document == 1
    assert replicas.asked == ["eu"] * 5
    assert {headers["Idempotency-Key"] for headers in replicas.headers} == {"key-1"}
    replicas.run(session.ask(INCREMENT))
    assert replicas.headers[-1]["Idempotency-Key"] == "key-2"


def test_after_a_replica_that_is_down_it_stays_where_it_was_sent() -> None:
    replicas = Replicas(eu=[DOWN], us=[LOST, OK], ap=[OK])
    replicas.run(replicas.session().ask(INCREMENT))
    assert replicas.asked == ["eu", "us", "us"]


@pytest.mark.parametrize("then", [LOST, DOWN, BUSY, BEHIND, READ_ONLY, GATEWAY])
def test_it_stays_unknown_when_the_replica_never_says(then: Received | Failed) -> None:
    replicas = Replicas(eu=[LOST, then], us=[OK])
    with pytest.raises(OutcomeUnknown) as caught:
        replicas.run(replicas.session(patience_s=3).ask(INCREMENT))
    assert caught.value.url == EU
    assert set(replicas.asked) == {"eu"}
    assert len(replicas.asked) > 2


@pytest.mark.parametrize("then", [LOCKED_OUT, BUG, STRANGER])
def test_it_stays_unknown_when_the_repetition_is_turned_away(then: Received) -> None:
    replicas = Replicas(eu=[LOST, then])
    with pytest.raises(OutcomeUnknown):
        replicas.run(replicas.session().ask(INCREMENT))
    assert replicas.asked == ["eu", "eu"]


def test_a_mistake_would_have_been_refused_the_first_time_too() -> None:
    replicas = Replicas(eu=[LOST, WRONG])
    with pytest.raises(BadRequest):
        replicas.run(replicas.session().ask(INCREMENT))


def test_without_patience_it_is_still_asked_about_once() -> None:
    replicas = Replicas(eu=[LOST, OK])
    replicas.run(replicas.session(patience_s=0).ask(INCREMENT))
    assert replicas.asked == ["eu", "eu"]


# -- what the session saw -------------------------------------------------------------------------


def token(**counters: int) -> str:
    vector = VersionVector({int(name[1:]): counter for name, counter in counters.items()})
    return write_token(TokenKind.SESSION, "shop", vector)


def test_the_token_of_each_answer_goes_with_the_next_request() -> None:
    replicas = Replicas(eu=[ok(Crdtdb_Context="one"), ok(Crdtdb_Context="two"), OK])
    session = replicas.session()
    for _ in range(3):
        replicas.run(session.ask(READ))
    carried = [headers.get("Crdtdb-Context") for headers in replicas.headers]
    assert (carried, session.token) == ([None, "one", "two"], "two")


def test_a_session_can_begin_where_another_ended() -> None:
    replicas = Replicas(eu=[OK])
    replicas.run(replicas.session(token="one").ask(READ))
    assert replicas.headers[0]["Crdtdb-Context"] == "one"


def test_answers_to_requests_under_way_at_once_are_joined() -> None:
    replicas = Replicas(eu=[OK])
    session = replicas.session()
    first, second = session.ask(READ), session.ask(READ)
    next(first)
    next(second)
    for plan, seen in ((first, token(i1=5, i2=1)), (second, token(i1=3, i2=4))):
        with pytest.raises(StopIteration):
            plan.send(ok(Crdtdb_Context=seen))
    assert session.token is not None
    joined = read_token(TokenKind.SESSION, "shop", session.token)
    assert dict(joined.items()) == {1: 5, 2: 4}


def test_what_need_not_be_in_the_session_is_asked_without_a_token_and_still_seen() -> None:
    replicas = Replicas(eu=[ok(Crdtdb_Context=token(i2=4))])
    session = replicas.session(token=token(i1=5))
    replicas.run(session.ask(READ._replace(in_session=False)))
    assert "Crdtdb-Context" not in replicas.headers[0]
    assert session.token == token(i1=5, i2=4)


def test_a_problem_does_not_change_what_the_session_saw() -> None:
    wrong = WRONG._replace(headers={**WRONG.headers, "Crdtdb-Context": "less"})
    replicas = Replicas(eu=[wrong])
    session = replicas.session(token="much")
    with pytest.raises(BadRequest):
        replicas.run(session.ask(READ))
    assert session.token == "much"


def test_replicas_that_are_behind_are_passed_over() -> None:
    replicas = Replicas(eu=[BEHIND], us=[DOWN], ap=[OK])
    replicas.run(replicas.session(token="much").ask(INCREMENT))
    assert replicas.asked == ["eu", "us", "ap"]


def test_when_all_are_behind_it_is_raised_and_they_waited_long_enough() -> None:
    replicas = Replicas(eu=[DOWN], us=[BEHIND])
    with pytest.raises(Behind):
        replicas.run(replicas.session(token="much").ask(READ))
    assert (replicas.asked, replicas.pauses) == (["eu", "us"], [])


def test_or_the_session_continues_with_less_at_the_nearest_of_them() -> None:
    replicas = Replicas(eu=[DOWN], us=[BEHIND, ok(Crdtdb_Context="less")], ap=[BEHIND])
    session = replicas.session(token="much", on_behind="continue")
    replicas.run(session.ask(READ))
    assert replicas.asked == ["eu", "us", "ap", "us"]
    carried = [headers.get("Crdtdb-Context") for headers in replicas.headers]
    assert (carried, session.token) == (["much"] * 3 + [None], "less")


def test_a_busy_replica_is_worth_a_pause_though_another_is_behind() -> None:
    replicas = Replicas(eu=[READ_ONLY, OK], us=[BEHIND])
    replicas.run(replicas.session(token="much").ask(READ))
    assert replicas.asked == ["eu", "us", "eu"]
    never = Replicas(eu=[READ_ONLY], us=[BEHIND])
    with pytest.raises(ReadOnly):
        never.run(never.session(token="much").ask(READ))


# -- terms ----------------------------------------------------------------------------------------


def test_terms_become_headers_and_waiting_lengthens_the_timeout() -> None:
    replicas = Replicas(eu=[ok(Crdtdb_Acked="2")])
    session = replicas.session(timeout_s=5, bearer="secret")
    terms = Terms(ack=2, wait_s=20)
    assert replicas.run(session.ask(ADD, terms)).acked == 2
    replicas.run(session.ask(READ, terms))
    replicas.run(session.ask(ADD, NO_TERMS))
    write, read, plain = replicas.sent
    assert (write.headers["Crdtdb-Ack"], write.headers["Prefer"]) == ("2", "wait=20")
    assert write.headers["Authorization"] == "Bearer secret"
    assert (write.timeout_s, plain.timeout_s) == (25, 5)
    assert "Crdtdb-Ack" not in read.headers
    assert not {"Prefer", "Crdtdb-Ack"} & plain.headers.keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_behind": "ignore"}, "on_behind is"),
        ({"bearer": "two\nlines"}, "a bearer token is"),
        ({"bearer": "ü"}, "a bearer token is"),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Session([EU], **options)
