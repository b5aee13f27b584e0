"""The plain loop: what it says of each type, and the stories it refuses to judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from crdtdb_server.demo.loop import Acknowledged, Chapter, Undecided, expected

BEFORE, CUT, AFTER = Chapter

#: One operation: chapter, region, what.
Told = tuple[Chapter, str, dict[str, Any]]


def history(type_name: str, *told: Told) -> list[Acknowledged]:
    """Operations on one object, each a moment after the one before."""
    return [
        Acknowledged(chapter, region, (type_name, "k"), plain, 10 * number, 10 * number + 5)
        for number, (chapter, region, plain) in enumerate(told)
    ]


def value(type_name: str, *told: Told) -> Any:
    """What the loop says, with `ap` alone during the cut, where it did something else meanwhile."""
    entries = history(type_name, *told)
    for number, entry in enumerate(entries):
        if entry.chapter is CUT:
            time_ms = entry.began_ms - 1
            other = Acknowledged(CUT, "ap", ("flag", "other"), ON, time_ms, time_ms)
            entries.insert(number, other)
            break
    return expected(entries, isolated="ap")[type_name, "k"]


def add(*values: Any) -> dict[str, Any]:
    return {"op": "add", "values": list(values)}


def remove(*values: Any) -> dict[str, Any]:
    return {"op": "remove", "values": list(values)}


def write(value: Any) -> dict[str, Any]:
    return {"op": "set", "value": value}


def plus(by: Any) -> dict[str, Any]:
    return {"op": "increment", "by": by}


MINUS_2 = {"op": "decrement", "by": 2}
RESET = {"op": "reset"}
ON = {"op": "enable"}
OFF = {"op": "disable"}


@pytest.mark.parametrize("type_name", ["counter", "opcounter"])
def test_every_step_counts_except_those_a_reset_saw(type_name: str) -> None:
    steps: Sequence[Told] = (
        (BEFORE, "eu", plus(10)),
        (BEFORE, "us", plus(20)),
        (CUT, "ap", plus(5)),
        (CUT, "us", MINUS_2),
    )
    assert value(type_name, *steps) == 33
    assert value(type_name, *steps, (CUT, "us", RESET)) == 5
    assert value(type_name, *steps, (CUT, "us", RESET), (CUT, "us", plus(1))) == 6
    assert value(type_name, *steps, (CUT, "ap", RESET)) == -2
    assert value(type_name, *steps, (AFTER, "eu", RESET)) == 0


def test_a_growing_counter_only_grows() -> None:
    assert value("gcounter", (BEFORE, "eu", plus(3)), (CUT, "ap", plus(2**60))) == 3 + 2**60


def test_of_two_writes_the_one_that_saw_the_other_wins_else_the_later() -> None:
    first: Told = (BEFORE, "eu", write("a"))
    assert value("register", first, (CUT, "ap", write("b"))) == "b"
    assert value("register", first, (CUT, "ap", write("b")), (CUT, "eu", write("c"))) == "c"
    assert value("register", first, (CUT, "eu", write("c")), (CUT, "ap", write("b"))) == "b"
    both: Sequence[Told] = (
        (CUT, "ap", write("b")),
        (CUT, "eu", write("c")),
        (CUT, "ap", write("d")),
        (CUT, "eu", write("e")),
    )
    assert value("register", *both) == "e"
    assert value("register", *both, (AFTER, "us", write(None))) is None


def test_writes_that_saw_nothing_of_each_other_are_all_kept() -> None:
    both: Sequence[Told] = ((BEFORE, "eu", write("z")), (CUT, "ap", write("b")))
    assert value("mvregister", *both) == ["b"]
    assert value("mvregister", *both, (CUT, "eu", write("a"))) == ["a", "b"]
    assert value("mvregister", *both, (CUT, "eu", write("b"))) == ["b"]
    assert value("mvregister", *both, (CUT, "eu", write("a")), (AFTER, "us", write("c"))) == ["c"]


@pytest.mark.parametrize(("type_name", "winner"), [("flag", True), ("dwflag", False)])
def test_one_side_wins_a_disagreement_and_only_a_disagreement(type_name: str, winner: bool) -> None:
    on: Told = (BEFORE, "eu", ON)
    assert value(type_name, on) is True
    assert value(type_name, on, (CUT, "us", OFF)) is False
    assert value(type_name, on, (CUT, "us", OFF), (CUT, "us", ON)) is True
    assert value(type_name, on, (CUT, "us", OFF), (CUT, "ap", ON)) is winner
    assert value(type_name, on, (CUT, "us", OFF), (CUT, "ap", OFF)) is False
    assert value(type_name, on, (CUT, "ap", ON), (CUT, "us", OFF), (AFTER, "us", ON)) is True
    assert value(type_name, on, (CUT, "ap", ON), (CUT, "us", OFF), (AFTER, "us", OFF)) is False


def test_an_add_beats_the_remove_that_did_not_see_it() -> None:
    cart: Told = (BEFORE, "eu", add("apple", "pear"))
    assert value("set", cart, (CUT, "us", remove("apple"))) == ["pear"]
    assert value("set", cart, (CUT, "us", remove("apple")), (CUT, "ap", add("apple"))) == [
        "apple",
        "pear",
    ]
    assert value("set", cart, (CUT, "us", remove("apple", "pear", "plum"))) == []
    assert value("set", cart, (CUT, "us", remove("pear")), (CUT, "us", add("pear"))) == [
        "apple",
        "pear",
    ]
    assert value("gset", cart, (CUT, "ap", add("apple", "plum"))) == ["apple", "pear", "plum"]


def test_objects_are_judged_each_by_itself() -> None:
    mixed = history("counter", (BEFORE, "eu", plus(1))) + history("gset", (BEFORE, "us", add("a")))
    assert expected(mixed, isolated="ap") == {("counter", "k"): 1, ("gset", "k"): ["a"]}
    assert expected([], isolated="ap") == {}


@pytest.mark.parametrize(
    ("type_name", "told"),
    [
        # nobody knows which of two regions on one side saw the other
        ("register", [(BEFORE, "eu", write("a")), (BEFORE, "us", write("b"))]),
        ("mvregister", [(AFTER, "eu", write("a")), (AFTER, "ap", write("b"))]),
        ("flag", [(CUT, "eu", ON), (CUT, "us", OFF), (CUT, "ap", ON)]),
        ("dwflag", [(BEFORE, "eu", OFF), (BEFORE, "us", ON)]),
        ("set", [(BEFORE, "eu", add("a")), (BEFORE, "us", remove("a"))]),
        ("counter", [(BEFORE, "eu", plus(1)), (BEFORE, "us", RESET)]),
        # not a type, an operation, a field, a value that the loop knows
        ("list", [(BEFORE, "eu", add("a"))]),
        ("counter", [(BEFORE, "eu", {"op": "explode"})]),
        ("gcounter", [(BEFORE, "eu", MINUS_2)]),
        ("gset", [(BEFORE, "eu", remove("a"))]),
        ("counter", [(BEFORE, "eu", {"op": "increment"})]),
        ("counter", [(BEFORE, "eu", plus(0))]),
        ("counter", [(BEFORE, "eu", plus(True))]),
        ("counter", [(BEFORE, "eu", plus("5"))]),
        ("register", [(BEFORE, "eu", {"op": "set"})]),
        ("mvregister", [(BEFORE, "eu", write(5))]),
        ("set", [(BEFORE, "eu", add(5))]),
        ("set", [(BEFORE, "eu", add(["a"]))]),
        ("flag", [(BEFORE, "eu", {})]),
        # no possible order
        ("counter", [(CUT, "ap", plus(1)), (BEFORE, "eu", plus(1))]),
    ],
)
def test_a_story_without_one_outcome_is_refused(type_name: str, told: list[Told]) -> None:
    with pytest.raises(Undecided):
        value(type_name, *told)


def test_an_isolated_region_that_did_nothing_is_refused() -> None:
    entries = history("counter", (CUT, "eu", plus(1)), (CUT, "ap", plus(1)))
    assert expected(entries, isolated="ap") == {("counter", "k"): 2}
    with pytest.raises(Undecided, match="nothing happened at pa during the cut"):
        expected(entries, isolated="pa")


def test_regions_of_one_side_may_change_what_order_does_not_matter_to() -> None:
    assert value("counter", (BEFORE, "eu", plus(1)), (BEFORE, "us", plus(1))) == 2
    assert value("set", (BEFORE, "eu", add("a")), (BEFORE, "us", remove("b"))) == ["a"]


Change = Callable[[list[Acknowledged]], None]


def overlap(entries: list[Acknowledged]) -> None:
    entries[1] = entries[1]._replace(began_ms=entries[0].ended_ms)


def backwards(entries: list[Acknowledged]) -> None:
    entries[1] = entries[1]._replace(ended_ms=entries[1].began_ms - 1)


def overtake(entries: list[Acknowledged]) -> None:
    entries[1] = entries[1]._replace(region="ap", began_ms=entries[0].began_ms)


@pytest.mark.parametrize("change", [overlap, backwards, overtake])
def test_a_clock_that_does_not_decide_is_no_basis(change: Change) -> None:
    entries = history("register", (CUT, "ap", write("a")), (CUT, "eu", write("b")))
    assert expected(entries, isolated="ap") == {("register", "k"): "b"}
    change(entries)
    with pytest.raises(Undecided):
        expected(entries, isolated="ap")
