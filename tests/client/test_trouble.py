"""Connections that fail: what moves on to the next replica, and what must not."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread

import pytest

from crdtdb.errors import Behind, CallerError, Overloaded, Problem, Unavailable
from crdtdb_client import Client, OutcomeUnknown, UnexpectedAnswer, Unreachable
from crdtdb_client.errors import problem_from
from cutting import whole_request
from liveserver import live_server

HANG_UP = b""


class Scripted:
    """A server that answers each request, on a connection of its own, with the next bytes."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self._answers = list(answers)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests: list[bytes] = []

    def run(self) -> None:
        for answer in self._answers:
            connection, _ = self._socket.accept()
            with connection:
                self.requests.append(whole_request(connection))
                connection.sendall(answer)
        self._socket.close()


@contextmanager
def scripted(*answers: bytes) -> Iterator[Scripted]:
    """The block has to use up all answers."""
    server = Scripted(answers)
    thread = Thread(target=server.run)
    thread.start()
    yield server
    thread.join()


def answer(document: object, *headers: str, status: str = "200 OK", media: str = "json") -> bytes:
    body = json.dumps(document).encode()
    fields = [
        f"Content-Type: application/{media}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    head = "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""])
    return head.encode() + body


FIVE = answer({"value": 5, "exists": True, "changed": True}, "Crdtdb-Replica: us-1")


@contextmanager
def nobody() -> Iterator[str]:
    """A URL where nothing listens, nor can anybody else begin to."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize("urls", [[], "eu:7460", ["http://eu", "nonsense"]])
def test_what_is_no_url_is_refused_at_once(urls: str | list[str]) -> None:
    with pytest.raises(ValueError, match="URL of"):
        Client(urls)


def test_nobody_there() -> None:
    with nobody() as first, nobody() as second, Client([first, second]) as db:
        with pytest.raises(Unreachable, match="Connection refused") as caught:
            db.counter("shop", "views").get()
        assert [url for url, _ in caught.value.attempts] == [first, second]
        with pytest.raises(Unreachable):
            db.counter("shop", "views").increment()


def test_reads_and_writes_pass_over_a_replica_that_does_not_listen() -> None:
    with live_server("us-1") as url, nobody() as other, Client([other, url]) as db:
        assert db.counter("shop", "views").increment(5).value == 5
        assert db.counter("shop", "views").get().replica == "us-1"


def test_a_write_that_was_sent_is_sent_again_to_the_same_replica_under_its_key() -> None:
    with scripted(HANG_UP, FIVE) as server, Client([server.url, "http://127.0.0.1:1"]) as db:
        assert db.counter("shop", "views").increment().value == 5
    first, second = (re.findall(rb"Idempotency-Key: (\S+)", sent) for sent in server.requests)
    assert first == second != []


def test_a_write_of_which_nobody_says_what_became_is_unknown() -> None:
    expected = pytest.raises(OutcomeUnknown)
    with (
        scripted(HANG_UP, HANG_UP) as server,
        Client(server.url, patience_s=0) as db,
        expected as caught,
    ):
        db.counter("shop", "views").increment()
    assert caught.value.url == server.url


def test_a_read_goes_on_to_the_next_replica_and_the_session_stays_there() -> None:
    with scripted(HANG_UP) as eu, scripted(FIVE, FIVE) as us, Client([eu.url, us.url]) as db:
        assert db.counter("shop", "views").get().value == 5
        assert db.counter("shop", "views").get().replica == "us-1"
    assert (len(eu.requests), len(us.requests)) == (1, 2)


def test_the_session_token_travels_along() -> None:
    first = answer({"value": 5, "changed": True}, "Crdtdb-Replica: us-1", "Crdtdb-Context: abc")
    with scripted(first, FIVE) as server, Client(server.url) as db:
        db.counter("shop", "views").increment()
        db.counter("shop", "views").get()
    assert b"Crdtdb-Context" not in server.requests[0]
    assert b"Crdtdb-Context: abc\r\n" in server.requests[1]


def test_a_replica_that_has_not_seen_the_session_says_so() -> None:
    with live_server("us-1") as us:
        with live_server("eu-1") as eu:
            db = Client([eu, us])
            db.counter("shop", "views").increment()
            seen = db.token
        with db, pytest.raises(Behind):
            db.counter("shop", "views").get()
        with Client([eu, us], token=seen, on_behind="continue") as follower:
            assert follower.counter("shop", "views").get().replica == "us-1"
            assert follower.token != seen


@pytest.mark.parametrize(
    "foreign",
    [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope",
        b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        answer({"hello": "world"}),
        answer({}, "Crdtdb-Replica: eu-1", media="xml"),
    ],
)
def test_another_program_is_recognised(foreign: bytes) -> None:
    expected = pytest.raises(UnexpectedAnswer, match="is not answering as a crdtdb server does")
    with scripted(foreign) as server, Client(server.url) as db, expected:
        db.about()


def test_problems_become_their_classes() -> None:
    document = {
        "code": "overloaded",
        "status": 429,
        "detail": "slow down",
        "errors": [{"field": "a", "message": "b", "limit": 3}, {"field": "c", "message": "d"}],
    }
    refusal = answer(
        document,
        "Crdtdb-Replica: eu-1",
        "Retry-After: 7",
        status="429 Too Many Requests",
        media="problem+json",
    )
    expected = pytest.raises(Overloaded)
    with scripted(refusal) as server, Client(server.url) as db, expected as caught:
        db.counter("shop", "views").increment()
    problem = caught.value
    assert (problem.detail, problem.retry_after_s) == ("slow down", 7)
    assert problem.fields == (("a", "b", 3), ("c", "d", None))


@pytest.mark.parametrize(
    ("status", "family"),
    [(400, CallerError), (409, CallerError), (429, Unavailable), (503, Unavailable)],
)
def test_a_problem_of_a_newer_server_lands_in_its_family(
    status: int, family: type[Problem]
) -> None:
    problem = problem_from({"code": "brand-new", "status": status, "detail": "…"}, None)
    assert type(problem) is family
