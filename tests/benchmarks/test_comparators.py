"""What crdtdb is compared with does what it is said to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cluster import replicas
from floor import BareLmdb
from generator import Generator, Load, generator
from machine import BOTH
from raw_http import Line, request
from redis_server import ABSENT, RESP, answer_end, call, is_installed, redis_server
from variants import VARIANTS, program

_PATH = "/v1/buckets/bench/counter/k"
_INCREMENT = request("POST", _PATH, {"op": "increment", "by": 5})
_READ = request("GET", _PATH)


@pytest.fixture(scope="module")
def load_generator() -> Iterator[Generator]:
    with generator() as started:
        yield started


def _value(line: Line, message: bytes) -> Any:
    return json.loads(line.ask(message).body)["value"]


@pytest.mark.parametrize(
    ("variant", "kept"),
    [("no-storage", 0), ("in-memory", 5), ("ungrouped", 5), ("short-memory", 5)],
)
def test_a_variant_is_the_same_server_but_for_one_thing(
    variant: str, kept: int, tmp_path: Path, load_generator: Generator
) -> None:
    with replicas([tmp_path / "subject"], BOTH, program=program(variant)) as (subject,):
        with Line(subject.port) as line:
            written = line.ask(_INCREMENT)
            assert json.loads(written.body)["changed"] is True
            assert written.header("Crdtdb-Context")
            assert _value(line, _READ) == kept
        sample = load_generator.run(Load(subject.port, 4, [_INCREMENT] * 40, None))
        assert sample.answers == 40
    is_on_disk = (tmp_path / "subject").exists()
    assert is_on_disk is (variant in {"ungrouped", "short-memory"})


def test_every_variant_is_tried() -> None:
    assert set(VARIANTS) == {"no-storage", "in-memory", "ungrouped", "short-memory"}


@pytest.mark.skipif(not is_installed(), reason=ABSENT)
def test_redis_syncs_each_append_and_speaks_to_the_generator(
    tmp_path: Path, load_generator: Generator
) -> None:
    directory = tmp_path / "redis"
    with redis_server(directory) as server:
        writes = [call("INCRBY", "k", "5")] * 20
        assert load_generator.run(Load(server.port, 4, writes, None, speech=RESP)).answers == 20
        reads = [call("GET", "k"), call("GET", "absent")]
        assert load_generator.run(Load(server.port, 1, reads, None, speech=RESP)).answers == 2
        asked = [call("CONFIG", "SET", "appendfsync", "always")]
        assert load_generator.run(Load(server.port, 1, asked, None, speech=RESP)).answers == 1
    log = b"".join(file.read_bytes() for file in directory.glob("appendonlydir/*.incr.aof"))
    assert log.count(b"INCRBY") == 20


@pytest.mark.parametrize(
    "answer",
    [b"+OK\r\n", b":12\r\n", b"-ERR no\r\n", b"$5\r\n12\r\n5\r\n", b"$-1\r\n", b"$0\r\n\r\n"],
)
def test_where_an_answer_of_redis_ends(answer: bytes) -> None:
    assert answer_end(answer + b"+OK\r\n") == len(answer)
    assert all(answer_end(answer[:cut]) is None for cut in range(len(answer)))


def test_a_command_of_redis() -> None:
    assert call("SET", "k", "é") == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\xc3\xa9\r\n"


def test_a_load_until_it_is_told_to_stop(tmp_path: Path, load_generator: Generator) -> None:
    with replicas([tmp_path / "subject"], BOTH) as (subject,), Line(subject.port) as line:
        load = Load(subject.port, 2, [_INCREMENT], None, every_s=0.001)
        for _ in range(2):  # the second time everything still works
            before = _counted(line)
            load_generator.begin(load)
            while _counted(line) < before + 10:
                pass
            sample = load_generator.stop()
            assert sample.answers == _counted(line) - before


def _counted(line: Line) -> int:
    return int(_value(line, _READ)) // 5


def test_bare_lmdb_keeps_what_it_is_given(tmp_path: Path) -> None:
    bare = BareLmdb(tmp_path / "bare")
    assert bare.commit(Random(1), 10) > 0
    assert bare.put([(b"k", b"v")]) > 0
    assert bare.get(b"k") > 0
    bare.close()
