"""`export` and `import_`, the same at every door."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from io import BytesIO, StringIO
from typing import Any

import pytest

from crdtdb import Database
from crdtdb.answers import Imported
from crdtdb.errors import BadRequest
from doors.conftest import Door


def _line(type_name: str, key: str, value: Any, bucket: str = "shop") -> bytes:
    text = json.dumps({"bucket": bucket, "type": type_name, "key": key, "value": value})
    return text.encode() + b"\n"


EVERYTHING = [
    _line("counter", "down", -5),
    _line("counter", "ключ/{a}", 2**53 - 1),
    _line("dwflag", "on", True),
    _line("flag", "on", True),
    _line("gcounter", "up", 3),
    _line("gset", "all", [1, "a"]),
    _line("mvregister", "both", [1, 2]),
    _line("register", "deep", {"deep": [None, 1.5, 2**64 - 1]}),
    _line("set", "tags", [None, "x", {"a": 1}]),
]


def _documents(lines: Iterator[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_what_is_exported_can_be_imported_elsewhere(door: Door) -> None:
    done = door.import_(EVERYTHING)
    assert (done.lines, done.failed, sum(done.written.values())) == (9, 0, 9)
    lines = list(door.export())
    assert _documents(iter(lines)) == list(map(json.loads, EVERYTHING))
    with Database.in_memory(replica="copy") as copy:
        assert copy.import_(lines).written == done.written
        assert list(copy.export()) == lines
        # A file is lines, in either of its forms.
        assert copy.import_(BytesIO(b"".join(lines))).written == done.written
        assert copy.import_(StringIO(b"".join(lines).decode())).written == done.written
        assert copy.counter("shop", "down").get().value == -15


def test_bucket_and_prefix(door: Door) -> None:
    door.import_(_line("flag", key, True, bucket) for bucket in ("a", "b") for key in ("x1", "y1"))

    def found(bucket: str | None = None, prefix: str = "") -> list[str]:
        return [one["bucket"] + one["key"] for one in _documents(door.export(bucket, prefix))]

    assert found() == ["ax1", "ay1", "bx1", "by1"]
    assert found("b") == ["bx1", "by1"]
    assert found(prefix="x") == ["ax1", "bx1"]
    assert found("a", "y") == ["ay1"]
    assert found("c") == []
    with pytest.raises(BadRequest):
        found("_system")


def test_bad_lines_are_reported_by_number_and_the_rest_go_on(door: Door) -> None:
    good = _line("counter", "good", 1)
    lines = [good] * 1_500
    lines[3] = b"{"
    lines[999] = b""
    lines[1_000] = b"\n"
    lines[1_200] = _line("nope", "k", 1)
    lines[1_300] = b"\xff\n"
    done = door.import_(lines)
    assert [(wrong.line, wrong.code, wrong.field) for wrong in done.errors] == [
        (4, "bad-request", "$"),
        (1_201, "unknown-type", "type"),
        (1_301, "bad-request", "$"),
    ]
    assert (done.lines, done.failed, done.written) == (1_500, 3, {"counter": 1_495})
    assert door.counter("shop", "good").get().value == 1_495


def test_only_the_first_wrong_lines_are_told_of(door: Door) -> None:
    done = door.import_("x\n" for _ in range(1_050))
    assert (done.failed, len(done.errors), done.errors[-1].line) == (1_050, 100, 100)


def test_stopped_half_way_it_can_be_run_again(door: Door) -> None:
    lines = [_line("counter", f"k{number % 7}", 1) for number in range(2_500)]

    def broken() -> Iterator[bytes]:
        yield from lines[:2_200]
        raise OSError("the disk with the lines is gone")

    with pytest.raises(OSError, match="gone"):
        door.import_(broken(), key="i-1")
    done = door.import_(lines, key="i-1")
    assert (done.repeated, done.written) == (2_000, {"counter": 500})
    assert sum(door.counter("shop", f"k{k}").get().value for k in range(7)) == 2_500
    changed = [_line("counter", "other", 1), *lines[1:]]
    again = door.import_(changed, key="i-1")
    assert [(wrong.line, wrong.code) for wrong in again.errors] == [(1, "idempotency-mismatch")]


def test_progress_is_told_after_every_commit(door: Door) -> None:
    told: list[Imported] = []
    done = door.import_((_line("counter", "k", 1) for _ in range(2_300)), progress=told.append)
    assert [so_far.lines for so_far in told] == [1_000, 2_000, 2_300]
    assert told[-1] == done


@pytest.mark.parametrize("key", ["", "a b", "x" * 129, "ключ"])
def test_what_is_no_key_is_refused_and_nothing_written(door: Door, key: str) -> None:
    with pytest.raises(BadRequest) as caught:
        door.import_([_line("counter", "k", 1)], key=key)
    assert caught.value.fields[0].field == "key"
    assert not door.counter("shop", "k").get().exists


def test_several_lines_are_not_one(door: Door) -> None:
    with pytest.raises(BadRequest, match="one line at a time"):
        door.import_([_line("counter", "k", 1) * 2])


def test_long_collections_and_many_objects_come_whole(door: Door) -> None:
    for start in range(0, 2_500, 500):
        door.set("shop", "big").add(*range(start, start + 500))
    door.import_(_line("flag", f"{number:04}", True) for number in range(1_200))
    documents = _documents(door.export())
    members = [member for one in documents if one["type"] == "set" for member in one["value"]]
    assert members == list(range(2_500))
    keys = [one["key"] for one in documents if one["type"] == "flag"]
    assert keys == [f"{number:04}" for number in range(1_200)]


def _peak_bytes(work: Callable[[], object]) -> int:
    """The most memory that this process, server included, took for some work."""
    tracemalloc.start(1)
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _registers(count: int, keys: int) -> Iterator[bytes]:
    for number in range(count):
        yield _line("register", f"{number % keys}", "x" * 3_000)


def test_an_import_holds_a_portion_however_long_it_is(door: Door) -> None:
    # The same register again and again: the data itself stays small.
    short = _peak_bytes(lambda: door.import_(_registers(2_000, 1)))
    long = _peak_bytes(lambda: door.import_(_registers(7_000, 1)))
    assert long < 1.5 * short


def test_an_export_holds_a_part_however_long_it_is(door: Door) -> None:
    def through() -> int:
        return sum(map(len, door.export()))

    door.import_(_registers(300, 300))
    short = _peak_bytes(through)
    door.import_(_registers(4_000, 4_000))
    long = _peak_bytes(through)
    assert long < 2 * short
