"""`zset`, told with two or three replicas: scores that are set, and what was counted since."""

from __future__ import annotations

import sys
from itertools import permutations
from typing import Any

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.datatype import StateType
from crdtdb.errors import BadRequest, InvalidOperation, TooLarge
from crdtdb.limits import LIMITS
from crdtdb.record import Live
from crdtdb.types import CATALOGUE
from replicas import Replica, exchange

MOST = sys.float_info.max


def add(replica: Replica, member: Any, score: Any) -> None:
    replica.do("zset", "add", member=member, score=score)


def increment(replica: Replica, member: Any, by: Any) -> None:
    replica.do("zset", "increment", member=member, by=by)


def scores(replica: Replica) -> dict[Any, Any]:
    return {entry["member"]: entry["score"] for entry in replica.value("zset")}


def in_force(replica: Replica, member: str = "x") -> Live:
    return replica.record(address.member(ObjectName("shop", "zset", "k"), member)).live


def test_members_have_scores_and_are_read_in_their_own_order() -> None:
    a = Replica(1)
    add(a, "b", 1)
    assert a.do("zset", "add", member=1, score=2.5).size == 2
    assert a.do("zset", "add", member=1.0, score=3).size == 2
    assert a.value("zset") == [{"member": 1, "score": 3}, {"member": "b", "score": 1}]
    assert not a.do("zset", "add", member=1, score=3.0).changed
    assert a.do("zset", "increment", member=1).changed
    assert a.do("zset", "increment", member="c", by=-0.5).size == 3
    assert scores(a) == {1: 4, "b": 1, "c": -0.5}
    assert not a.do("zset", "remove", member="not there").changed
    assert a.do("zset", "remove", member="b").size == 2


def test_of_concurrent_scores_the_latest_wins_and_all_increments_count() -> None:
    a, b, c = Replica(1), Replica(2), Replica(3)
    add(a, "x", 1)
    exchange(a, b, c)
    b.now_ms += 1
    add(a, "x", 100)
    add(b, "x", 10)
    increment(c, "x", 5)
    increment(b, "x", 2)
    exchange(a, b, c)
    assert scores(a) == {"x": 17}


def test_setting_a_score_takes_the_place_of_the_increments_it_saw() -> None:
    a, b = Replica(1), Replica(2)
    increment(a, "x", 5)
    increment(b, "x", 7)
    b.pull(a)
    add(b, "x", 1)
    increment(a, "x", 3)
    exchange(a, b)
    assert scores(a) == {"x": 4}
    increment(a, "x", 1)
    increment(b, "x", 1)
    exchange(a, b)
    assert scores(b) == {"x": 6}


def test_a_concurrent_increment_survives_a_remove_as_that_increment_and_nothing_more() -> None:
    a, b = Replica(1), Replica(2)
    add(a, "x", 100)
    increment(b, "x", 20)
    exchange(a, b)
    a.do("zset", "remove", member="x")
    assert not a.exists("zset")
    increment(b, "x", 0.5)
    exchange(a, b)
    assert scores(a) == {"x": 0.5}


def test_a_concurrent_increment_survives_a_remove_and_an_add_again() -> None:
    a, b = Replica(1), Replica(2)
    increment(b, "x", 20)
    exchange(a, b)
    a.do("zset", "remove", member="x")
    add(a, "x", 3)
    increment(b, "x", 4)
    exchange(a, b)
    assert scores(a) == {"x": 7}
    a.do("zset", "remove", member="x")
    exchange(a, b)
    assert scores(b) == {}
    increment(b, "x", 1)
    assert scores(b) == {"x": 1}


def test_two_removes_take_one_increment_out_once() -> None:
    a, b, c = Replica(1), Replica(2), Replica(3)
    increment(a, "x", 5)
    exchange(a, b, c)
    b.do("zset", "remove", member="x")
    c.do("zset", "remove", member="x")
    increment(a, "x", 2)
    exchange(a, b, c)
    assert scores(a) == {"x": 2}


def test_a_member_is_there_as_long_as_something_is_in_force() -> None:
    """Whatever it adds up to."""
    a = Replica(1)
    increment(a, "x", 2)
    increment(a, "x", -2)
    assert scores(a) == {"x": 0}
    add(a, "x", 0)
    assert scores(a) == {"x": 0}
    a.do("zset", "remove", member="x")
    assert scores(a) == {}


@pytest.mark.parametrize("op", ["clear", "delete"])
def test_emptying_leaves_what_is_concurrent(op: str) -> None:
    a, b = Replica(1), Replica(2)
    for number in range(5):
        add(a, number, number)
    increment(b, 1, 10)
    exchange(a, b)
    increment(b, 1, 2)
    add(b, 2, 7)
    assert a.do("zset", op).size == 0
    exchange(a, b)
    assert scores(a) == {1: 2, 2: 7}


def test_emptying_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    a = Replica(1)
    for number in range(3):
        add(a, number, 1)
    limits = type(LIMITS)(delete_objects=2)
    monkeypatch.setattr("crdtdb.types.zset.LIMITS", limits)
    with pytest.raises(TooLarge) as refused:
        a.do("zset", "delete")
    assert refused.value.fields[0].limit == 2
    a.do("zset", "remove", member=0)
    assert a.do("zset", "delete").size == 0


# Read contexts ------------------------------------------------------------------------------------


def test_a_remove_takes_out_the_scores_that_the_read_showed() -> None:
    a = Replica(1)
    add(a, "x", 1)
    add(a, "y", 1)
    shown = a.seen
    add(a, "x", 2)
    assert a.do("zset", "remove", member="x", seen=shown).size == 2
    assert a.do("zset", "clear", seen=shown).size == 1
    assert scores(a) == {"x": 2}


def test_a_remove_never_takes_out_an_increment_that_the_read_did_not_show() -> None:
    """A total cannot be split: a replica's increments go when the last of them was shown."""
    a, b = Replica(1), Replica(2)
    increment(a, "x", 1)
    increment(b, "x", 10)
    exchange(a, b)
    shown = a.seen
    increment(a, "x", 2)
    a.do("zset", "remove", member="x", seen=shown)
    assert scores(a) == {"x": 3}
    a.do("zset", "remove", member="x", seen=a.seen)
    assert scores(a) == {}


# Numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "sum_of_them"),
    [
        ([0.1] * 10, 1),  # added up as doubles: 0.9999999999999999
        ([1e100, 1, -1e100], 1),  # as doubles: 0
        ([2**53, 1, 1, 0.5], 2**53 + 2),
        ([2**63, 2**63 - 1], 2**64 - 1),
        ([5e-324, 5e-324], 1e-323),
        ([2**64 - 1, 1], 2.0**64),
    ],
)
def test_sums_are_exact_and_rounded_once(steps: list[Any], sum_of_them: Any) -> None:
    a, b = Replica(1), Replica(2)
    for number, step in enumerate(steps):
        increment((a, b)[number % 2], "x", step)
    exchange(a, b)
    shown = scores(a)["x"]
    assert (shown, type(shown)) == (sum_of_them, type(sum_of_them))


def test_the_order_of_increments_does_not_matter() -> None:
    shown = set()
    for steps in permutations((1e16, 0.1, -1e16, 0.7)):
        a = Replica(1)
        for step in steps:
            increment(a, "x", step)
        shown.add(scores(a)["x"])
    assert len(shown) == 1


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 2**64, "1", None, True, [1]])
@pytest.mark.parametrize(("op", "field"), [("add", "score"), ("increment", "by")])
def test_what_is_no_finite_number_is_refused(op: str, field: str, score: Any) -> None:
    a = Replica(1)
    with pytest.raises(BadRequest) as refused:
        a.do("zset", op, member="x", **{field: score})
    assert refused.value.fields[0].field == field
    assert not len(a.seen)


def test_an_increment_beyond_the_greatest_double_is_refused() -> None:
    a = Replica(1)
    add(a, "x", MOST)
    with pytest.raises(InvalidOperation) as refused:
        increment(a, "x", MOST)
    assert refused.value.fields[0].field == "by"
    increment(a, "x", -MOST)
    assert scores(a) == {"x": 0}


def test_concurrent_increments_may_go_beyond_and_come_back() -> None:
    replicas = [Replica(number) for number in (1, 2, 3)]
    for replica in replicas:
        increment(replica, "x", MOST)
    exchange(*replicas)
    a = replicas[0]
    assert scores(a) == {"x": MOST}
    with pytest.raises(InvalidOperation):
        increment(a, "x", 1)
    for step in (-MOST, -MOST, -MOST, 1):
        increment(a, "x", step)
    assert scores(a) == {"x": 1}


# What is kept -------------------------------------------------------------------------------------


def test_a_score_takes_one_dot() -> None:
    a, b = Replica(1), Replica(2)
    add(a, "x", 1)
    add(b, "x", 1)
    exchange(a, b)
    add(a, "x", 2)
    assert len(in_force(a)) == 1
    a.do("zset", "remove", member="x")
    assert in_force(a) == {}


def test_what_is_kept_of_a_member_does_not_grow_with_what_happens_to_it() -> None:
    a, b = Replica(1), Replica(2)
    for number in range(20):
        for replica in (a, b):
            increment(replica, "x", number)
            add(replica, "x", number)
            replica.do("zset", "remove", member="x")
            add(replica, "x", number)
        exchange(a, b)
    live = in_force(a)
    assert len(live) <= 4
    assert all(len(baselines) <= 2 for _, _, baselines in live.values())


def test_it_tells_why_a_score_is_what_it_is() -> None:
    kind = CATALOGUE["zset"]
    assert isinstance(kind, StateType)
    a, b = Replica(1), Replica(2)
    increment(a, "x", 0.5)
    increment(a, "x", 1)
    add(a, "x", 2)
    told = [kind.describe(payload) for _, payload in sorted(in_force(a).items())]
    taken_out = {key: told[0][key] for key in ("accumulator", "increments", "sum")}
    assert (taken_out["increments"], taken_out["sum"]) == (2, 1.5)
    assert (told[1]["score"], told[1]["baselines"]) == (2, [taken_out])
    assert len(kind.decisive(in_force(a))) == 1
    increment(a, "x", 4)
    assert len(kind.decisive(in_force(a))) == 2
    add(b, "x", 9)
    exchange(a, b)
    assert (len(in_force(a)), len(kind.decisive(in_force(a)))) == (3, 2)
