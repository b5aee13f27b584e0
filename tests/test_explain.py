"""`explain`: which entries of an object are in force, which win, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from crdtdb import hlc
from crdtdb.address import ObjectName
from crdtdb.causal import format_incarnation
from crdtdb.explain import explain
from crdtdb.jsonbytes import encode
from crdtdb.reading import PageQuery
from replicas import START_MS, Replica, exchange


@pytest.fixture
def pair() -> tuple[Replica, Replica]:
    return Replica(1), Replica(2)


def _explained(
    replica: Replica,
    type_name: str,
    names: Mapping[int, str] = {},
    query: PageQuery = PageQuery(),  # noqa: B008 - immutable
) -> dict[str, Any]:
    """The explanation of the object `k` of that type."""
    with replica.reading() as reading:
        return explain(reading, ObjectName("shop", type_name, "k"), names, query)


def _entries(replica: Replica, type_name: str, field: str) -> list[tuple[str, Any]]:
    """(state, field) of the entries of the only record, in no order."""
    (record,) = _explained(replica, type_name)["records"]
    return sorted((entry["state"], entry[field]) for entry in record["entries"])


def test_nothing_was_written() -> None:
    assert _explained(Replica(1), "register") == {
        "replicas": {},
        "context": {},
        "cut": None,
        "records": [],
        "more": False,
    }


def test_the_losers_of_a_register_are_shown_with_their_times(
    pair: tuple[Replica, Replica],
) -> None:
    one, two = pair
    one.do("register", "set", value="early")
    two.now_ms += 7
    two.do("register", "set", value="late")
    exchange(one, two)
    assert _entries(one, "register", "value") == [("loses", "early"), ("wins", "late")]
    assert _entries(one, "register", "at_ms") == [("loses", START_MS), ("wins", START_MS + 7)]
    assert _entries(one, "register", "time")[0] == ("loses", START_MS << hlc.LOGICAL_BITS)
    one.do("register", "set", value="both seen")
    assert _entries(one, "register", "value") == [("wins", "both seen")]


def test_writers_are_named_as_far_as_they_are_known(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    for replica in pair:
        replica.do("register", "set", value=1)
    exchange(one, two)
    own, other = (replica.engine.state.incarnation for replica in pair)
    document = _explained(one, "register", {own: "eu-1"})
    assert document["replicas"] == {
        format_incarnation(own): "eu-1",
        format_incarnation(other): None,
    }
    assert document["context"] == {format_incarnation(i): 1 for i in (own, other)}
    (record,) = document["records"]
    assert {entry["dot"] for entry in record["entries"]} == {
        f"{format_incarnation(i)}:1" for i in (own, other)
    }


def test_concurrent_values_all_win(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    one.do("mvregister", "set", value=1)
    two.do("mvregister", "set", value=2)
    exchange(one, two)
    assert _entries(one, "mvregister", "value") == [("wins", 1), ("wins", 2)]


def test_a_disable_beats_an_enable(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    one.do("dwflag", "enable")
    two.do("dwflag", "disable")
    exchange(one, two)
    assert _entries(one, "dwflag", "value") == [("loses", True), ("wins", False)]


def test_a_counter_shows_its_accumulators_and_what_was_reset(
    pair: tuple[Replica, Replica],
) -> None:
    one, two = pair
    one.do("counter", "increment", by=5)
    two.do("counter", "decrement", by=2)
    exchange(one, two)
    assert sorted(_entries(one, "counter", "added")) == [("wins", 0), ("wins", 5)]
    assert sorted(_entries(one, "counter", "taken")) == [("wins", 0), ("wins", 2)]
    one.do("counter", "reset")
    baselines = [entry for _, entry in _entries(one, "counter", "baselines") if entry]
    assert [[(b["added"], b["taken"]) for b in lines] for lines in baselines] == [[(5, 0), (0, 2)]]


def test_the_log_of_an_opcounter_and_its_base() -> None:
    replica = Replica(1)
    replica.do("opcounter", "increment", by=5)
    replica.reclaim()
    replica.do("opcounter", "decrement", by=2)
    records = _explained(replica, "opcounter")["records"]
    assert [record["kind"] for record in records] == ["base", "operation"]
    assert records[0]["entries"][0]["value"] == 5
    assert records[1]["entries"][0]["by"] == -2


def test_an_op_based_leaf_shows_its_log_and_what_was_cut_of_it() -> None:
    replica = Replica(1)

    def put(op: str, **arguments: Any) -> None:
        do = {"type": "opcounter", "op": op, **arguments}
        replica.do("map", "update", field=["a", "n"], do=do)

    put("increment", by=5)
    replica.do("map", "remove", field=["a"])
    put("increment", by=2)
    records = _explained(replica, "map")["records"]
    assert [(one["kind"], one["field"], one["type"]) for one in records] == [
        ("leaf", ["a", "n"], "opcounter")
    ] * 2
    entries = [one["entries"][0] for one in records]
    assert [(entry["by"], entry["state"]) for entry in entries] == [(5, "cut"), (2, "wins")]
    replica.reclaim()
    (base,) = _explained(replica, "map")["records"]
    assert base["entries"][0]["value"] == 2


def test_what_was_cut_is_said_to_be() -> None:
    replica = Replica(1)
    replica.do("set", "add", values=[1, 2])
    replica.do("set", "clear")
    replica.do("set", "add", value=2)
    document = _explained(replica, "set")
    assert document["cut"] == {format_incarnation(replica.engine.state.incarnation): 1}
    states = {
        record["member"]: [entry["state"] for entry in record["entries"]]
        for record in document["records"]
    }
    assert states == {1: ["cut"], 2: ["wins"]}


def test_a_collection_is_explained_page_by_page() -> None:
    replica = Replica(1)
    replica.do("set", "add", values=list(range(9)))
    replica.do("set", "remove", value=4)

    def members(query: PageQuery) -> tuple[list[Any], bool]:
        document = _explained(replica, "set", query=query)
        return [record["member"] for record in document["records"]], document["more"]

    assert members(PageQuery(limit=3)) == ([0, 1, 2], True)
    assert members(PageQuery(start=encode(3), end=encode(6))) == ([3, 5], False)
    assert members(PageQuery(limit=2, reverse=True)) == ([8, 7], True)
