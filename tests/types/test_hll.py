"""`hll`, told with two replicas, and what its sketches promise."""

from __future__ import annotations

from statistics import mean, pstdev

import pytest
import xxhash

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.errors import BadRequest
from crdtdb.jsonvalue import JsonValue
from crdtdb.record import Live
from crdtdb.types import _sketch
from crdtdb.types._sketch import Registers
from replicas import Replica, exchange

DENSE_BYTES = 4_097


def sketch(*values: JsonValue) -> Registers:
    registers = _sketch.empty()
    for value in values:
        _sketch.add(registers, value)
    return registers


def live(replica: Replica) -> Live:
    return replica.record(address.own(ObjectName("shop", "hll", "k"))).live


def test_different_values_are_counted_and_equal_ones_once() -> None:
    a = Replica(1)
    assert a.value("hll") == 0
    assert a.do("hll", "add", values=["x", 1, True, 1.0, None]).value == 4
    assert a.do("hll", "add", value={"b": 1, "a": 2}).value == 5
    assert a.do("hll", "add", value={"a": 2, "b": 1.0}).value == 5


def test_what_is_known_already_leaves_nothing() -> None:
    a = Replica(1)
    a.do("hll", "add", values=["x", "y"])
    seen = a.seen
    assert not a.do("hll", "add", value="x").changed
    assert a.seen == seen


def test_concurrent_adds_are_united_and_the_next_one_leaves_one_sketch() -> None:
    a, b = Replica(1), Replica(2)
    a.do("hll", "add", values=["x", "y"])
    b.do("hll", "add", values=["y", "z"])
    exchange(a, b)
    assert (a.value("hll"), len(live(a))) == (3, 2)
    assert a.do("hll", "add", value="w").value == 4
    assert list(live(a).values()) == [_sketch.write(sketch("w", "x", "y", "z"))]


def test_deleting_removes_what_nobody_asserted_again() -> None:
    a, b = Replica(1), Replica(2)
    a.do("hll", "add", value="x")
    exchange(a, b)
    b.do("hll", "add", value="y")
    a.do("hll", "delete")
    exchange(a, b)
    assert a.value("hll") == 2
    b.do("hll", "add", value="x")
    a.do("hll", "delete")
    exchange(a, b)
    assert a.value("hll") == 0
    assert not a.exists("hll")


def test_a_sketch_can_be_merged() -> None:
    a, b = Replica(1), Replica(2)
    a.do("hll", "add", values=list(range(5)))
    with a.reading() as reading:
        name = ObjectName("shop", "hll", "k")
        exported = reading.exported(name, reading.head(name.prefix))
    assert isinstance(exported, dict)
    text = exported["sketch"]
    b.do("hll", "add", values=list(range(3, 8)))
    assert b.do("hll", "merge", sketch=text).value == 8
    assert not b.do("hll", "merge", sketch=text).changed


@pytest.mark.parametrize(
    "text", ["", "?", "AQ", "Ag==", "Aw==", "AQykAA==", "AQykNg==", "AQykAQykAQ==", "AQykAQE="]
)
def test_what_is_no_sketch_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Replica(1).do("hll", "merge", sketch=text)
    assert caught.value.fields[0].field == "sketch"


def test_a_sketch_depends_on_the_set_of_values_alone() -> None:
    numbers: list[JsonValue] = [*range(3_000)]
    halves = [sketch(*numbers[:2_000]), sketch(*numbers[1_000:])]
    whole = sketch(*numbers)
    assert sketch(*reversed(numbers), *numbers) == whole
    assert _sketch.union(halves) == _sketch.union(reversed(halves)) == whole
    assert _sketch.union([whole, whole]) == whole
    assert _sketch.union([]) == _sketch.empty()


@pytest.mark.parametrize("count", [0, 1, 100, 1_500, 1_800, 20_000])
def test_bytes_are_read_back_and_bounded(count: int) -> None:
    registers = sketch(*range(count))
    data = _sketch.write(registers)
    assert _sketch.read(data) == registers
    assert len(data) == min(1 + 3 * (4_096 - registers.count(0)), DENSE_BYTES)


def test_the_hash_never_changes() -> None:
    assert _sketch.write(sketch("crdtdb", 1, None)).hex() == "01033d030ea3010eaa01"


def test_the_dense_form_never_changes() -> None:
    data = _sketch.write(sketch(*range(20_000)))
    assert (data[:9].hex(), xxhash.xxh3_64_hexdigest(data)) == (
        "020202010206020205",
        "c7bb15db823ee5c7",
    )


@pytest.mark.parametrize("count", [10, 50, 1_000, 10_000])
def test_the_error_is_the_one_promised(count: int) -> None:
    """1.6 % is the standard error: of 30 sketches, the mean and the spread are near it."""
    errors = [
        _sketch.estimate(sketch(*(f"{number}/{i}" for i in range(count)))) / count - 1
        for number in range(30)
    ]
    assert abs(mean(errors)) < 0.01
    assert pstdev(errors) < 0.025


@pytest.mark.parametrize("rest", [53, 52, 0])
def test_a_forged_sketch_is_an_estimate_like_any_other(rest: int) -> None:
    forged = bytearray([53] * 4_095 + [rest])
    assert _sketch.estimate(_sketch.read(_sketch.write(forged))) <= 2**64 - 1
