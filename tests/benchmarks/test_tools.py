"""The load generator, the comparator, and the sets of constant size."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from bare import bare_servers
from crdtdb import Database
from generator import Generator, Load, generator
from machine import cpu_seconds
from raw_http import Answer, Line, answer_end, first_answer, request
from set_size import Pool

_ANSWER = Answer(200, (("Content-Type", "application/json"), ("X-Color", "red")), b'{"value":1}')
_GET = request("GET", "/")


@pytest.fixture(scope="module")
def load_generator() -> Iterator[Generator]:
    with generator() as started:
        yield started


@pytest.fixture
def port() -> Iterator[int]:
    with bare_servers([_ANSWER]) as bare:
        yield bare.ports[0]


def test_the_comparator_sends_the_bytes_it_was_given(port: int) -> None:
    with Line(port) as line:
        for _ in range(2):
            answer = line.ask(_GET)
            assert (answer.status, answer.body) == (200, _ANSWER.body)
            assert [answer.header(name) for name, _ in _ANSWER.headers] == [
                value for _, value in _ANSWER.headers
            ]


def test_a_server_that_does_not_serve_yet_leaves_no_connection_open() -> None:
    """A benchmark of starts once kept the connection that had been told 503 (a ResourceWarning)."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

        def refuse_once() -> bytes:
            refused, _ = listener.accept()
            with refused:
                refused.recv(4096)
                refused.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
                left_open = refused.recv(1)  # b"": the other side has closed
            served, _ = listener.accept()
            with served:
                for _ in range(2):
                    served.recv(4096)
                    served.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return left_open

        server = pool.submit(refuse_once)
        with first_answer(listener.getsockname()[1], _GET, 30) as line:
            assert line.ask(_GET).status == 200
            assert server.result(30) == b""


def test_a_load_of_a_number_of_requests(port: int, load_generator: Generator) -> None:
    sample = load_generator.run(Load(port, 4, [_GET] * 100, None))
    assert sample.answers == 100
    assert 0 < sample.p50_ms <= sample.p99_ms


def test_a_load_for_a_time(port: int, load_generator: Generator) -> None:
    sample = load_generator.run(Load(port, 4, [_GET], 0.2))
    assert sample.answers >= 4, "the requests are sent over and over"
    assert 0 < sample.busy <= 1.1


def test_a_load_for_no_time_is_one_request_of_each_connection(
    port: int, load_generator: Generator
) -> None:
    """A machine that was busy for as long as the load should last once ended the generator."""
    assert load_generator.run(Load(port, 4, [_GET], 0.0)).answers == 4


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_an_answer_that_is_not_there_whole(cut: int) -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert answer_end(data[:cut]) is None
    assert answer_end(data) == answer_end(data + b"HTTP/1.1 200 OK\r\n") == len(data)


def test_a_pool_keeps_its_set_at_its_size() -> None:
    with Database.in_memory() as database:
        pool = Pool(10, Random(1))
        pool.fill(database)
        members = database.set("bench", pool.key)
        before = set(members)
        for step in pool.steps(25):
            assert (step.member in members) == (step.verb == "remove")
            (members.add if step.verb == "add" else members.remove)(step.member)
            assert members.size() in (10, 11)
        assert members.size() == 10
        assert set(members) != before


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_processor_time_of_a_process() -> None:
    before = cpu_seconds(os.getpid())
    while cpu_seconds(os.getpid()) == before:
        sum(range(100_000))
