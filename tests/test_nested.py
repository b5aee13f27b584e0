"""What nesting must not spoil: stories of maps that planted bugs break."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import pytest

from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING
from crdtdb.errors import InvalidOperation
from crdtdb.fields import read_leaves
from crdtdb.jsonvalue import JsonValue
from crdtdb.reading import PageQuery
from oracle.checks import check_books
from replicas import Replica, exchange, missing


def _put(replica: Replica, path: str, type_name: str, op: str, **arguments: Any) -> None:
    do = {"type": type_name, "op": op, **arguments}
    replica.do("map", "update", field=path.split("."), do=do)


def _values(replica: Replica) -> dict[str, Any]:
    """The leaves that are shown, by their path."""
    return {".".join(leaf["field"]): leaf["value"] for leaf in replica.value("map")}


def test_a_remove_takes_out_what_it_saw_and_a_concurrent_increment_survives_as_that() -> None:
    a, b = Replica(1), Replica(2)
    _put(a, "cart.sold", "counter", "increment", by=5)
    _put(b, "cart.sold", "counter", "increment", by=2)
    _put(a, "cart.items", "set", "add", value="apple")
    exchange(a, b)
    a.do("map", "remove", field=["cart"])
    _put(b, "cart.sold", "counter", "increment", by=10)
    _put(b, "cart.items", "set", "add", value="pear")
    assert _values(a) == {}
    exchange(a, b)
    assert _values(a) == {"cart.items": ["pear"], "cart.sold": 10}


def test_a_remove_that_comes_before_what_it_removed_takes_effect_later() -> None:
    """Deep in a map: the reader of c saw what b, which removes, has, but c has not got it yet."""
    a, b, c = Replica(1), Replica(2), Replica(3)
    _put(a, "x.y.z", "set", "add", value="apple")
    _put(a, "x.y.n", "counter", "increment")
    late = c.stage(a)
    b.pull(a)
    b.do("map", "remove", field=["x"])
    c.pull(b)
    _put(c, "x.y.z", "set", "add", value="pear")
    c.claim(late)
    assert _values(c) == {"x.y.z": ["pear"]}
    exchange(a, b, c)
    assert _values(a) == {"x.y.z": ["pear"]}


def test_a_remove_spares_fields_whose_names_begin_alike() -> None:
    a = Replica(1)
    for path in ("a.b", "a", "ab", "a\0"):
        _put(a, path, "flag", "enable")
    a.do("map", "remove", field=["a"])
    assert [leaf["field"] for leaf in a.value("map")] == [["a\0"], ["ab"]]


def test_a_counter_that_is_taken_out_in_part_goes_on_exactly() -> None:
    """What a removal leaves of the remover's own steps can be removed by name of the last."""
    a, b = Replica(1), Replica(2)
    _put(b, "n", "counter", "increment", by=5)
    a.pull(b)
    older = a.seen
    _put(a, "n", "counter", "increment", by=2)
    shown = a.seen
    a.do("map", "remove", field=["n"], seen=older)
    assert _values(a) == {"n": 2}
    b.pull(a)
    b.do("map", "remove", field=["n"], seen=shown)
    _put(a, "n", "counter", "increment", by=7)
    exchange(a, b)
    assert _values(a) == {"n": 7}


# Op-based leaves ----------------------------------------------------------------------------------


class _Logged(NamedTuple):
    """What is written to an op-based leaf, first and then by somebody else, and what that shows."""

    type: str
    first: dict[str, Any]
    later: dict[str, Any]
    both: JsonValue
    later_alone: JsonValue

    def values(self, value: Any) -> JsonValue:
        """What is shown, without the ids of elements."""
        return [one["value"] for one in value] if isinstance(value, list) else value


LOGGED: Final = (
    _Logged("opcounter", {"op": "increment", "by": 5}, {"op": "increment", "by": 10}, 15, 10),
    _Logged(
        "list",
        {"op": "insert", "values": ["a", "b"]},
        {"op": "insert", "index": 1, "value": "x"},
        ["a", "x", "b"],
        ["x"],
    ),
    _Logged(
        "text",
        {"op": "insert", "text": "ab"},
        {"op": "insert", "index": 1, "text": "x€"},
        "ax€b",
        "x€",
    ),
)
every_logged = pytest.mark.parametrize("leaf", LOGGED, ids=lambda leaf: leaf.type)


def _shown(replica: Replica, leaf: _Logged) -> dict[str, Any]:
    check_books(replica.store)
    return {path: leaf.values(value) for path, value in _values(replica).items()}


def _write(replica: Replica, leaf: _Logged, operation: dict[str, Any], path: str = "x.y.z") -> None:
    _put(replica, path, leaf.type, **operation)


@every_logged
def test_an_op_based_leaf_that_is_removed_keeps_what_was_written_at_the_same_time(
    leaf: _Logged,
) -> None:
    """And nothing more, however much of it has become part of a base by then."""
    for folds in (False, True):
        a, b = Replica(1), Replica(2)
        _write(a, leaf, leaf.first)
        exchange(a, b)
        if folds:
            a.reclaim()
        a.do("map", "remove", field=["x"])
        assert _shown(a, leaf) == {}
        _write(b, leaf, leaf.later)
        assert _shown(b, leaf) == {"x.y.z": leaf.both}
        exchange(a, b)
        assert _shown(a, leaf) == {"x.y.z": leaf.later_alone}
        a.reclaim()
        b.reclaim()
        exchange(a, b)
        newcomer = Replica(3)
        newcomer.pull(a)
        for replica in (a, b, newcomer):
            assert _shown(replica, leaf) == {"x.y.z": leaf.later_alone}


@every_logged
def test_a_remove_of_an_op_based_leaf_that_comes_before_what_it_removed(leaf: _Logged) -> None:
    a, b, c = Replica(1), Replica(2), Replica(3)
    _write(a, leaf, leaf.first)
    late = c.stage(a)
    b.pull(a)
    b.do("map", "remove", field=["x", "y"])
    c.pull(b)
    _write(c, leaf, leaf.first)
    c.claim(late)
    shown = _shown(c, leaf)
    exchange(a, b, c)
    assert shown == _shown(a, leaf) != {}


@every_logged
def test_an_op_based_leaf_that_is_gone_leaves_nothing_behind(leaf: _Logged) -> None:
    a, b = Replica(1), Replica(2)
    for path in ("x.y", "x.z"):
        _write(a, leaf, leaf.first, path)
    exchange(a, b)
    _put(a, "x.y", leaf.type, "delete")
    assert _shown(a, leaf).keys() == {"x.z"}
    a.do("map", "delete")
    exchange(a, b)
    for replica in (a, b):
        for _ in range(3):
            replica.reclaim()
        assert _shown(replica, leaf) == {}
        # The deleted characters of a text stay.
        assert bool(missing(replica.store, NOTHING)) == (leaf.type == "text")
    _write(b, leaf, leaf.first)
    exchange(a, b)
    assert _shown(a, leaf) == {"x.y.z": leaf.values(b.value("map")[0]["value"])}


@every_logged
def test_an_op_based_leaf_is_not_split_at_an_earlier_read(leaf: _Logged) -> None:
    a = Replica(1)
    _write(a, leaf, leaf.first)
    _put(a, "x.n", "flag", "enable")
    shown = a.seen
    before = a.rows()
    do = {"type": leaf.type, "op": "delete"}
    for field, plain in (
        ("seen", {"op": "remove", "field": ["x"]}),
        ("seen", {"op": "delete"}),
        ("do.seen", {"op": "update", "field": ["x", "y", "z"], "do": do}),
    ):
        with pytest.raises(InvalidOperation) as refused:
            a.do("map", **plain, seen=shown)
        assert refused.value.fields[0].field == field
    assert a.rows() == before
    a.do("map", "remove", field=["x", "n"], seen=shown)
    a.do("map", "remove", field=["x"])
    assert _shown(a, leaf) == {}


def test_a_removal_is_one_operation_however_many_leaves_there_are() -> None:
    a, b = Replica(1), Replica(2)
    for leaf in LOGGED:
        _write(a, leaf, leaf.first, f"x.{leaf.type}")
    _put(a, "x.n", "counter", "increment", by=2)
    b.pull(a)
    dots = a.seen.get(a.engine.state.incarnation)
    for leaf in LOGGED:
        _write(b, leaf, leaf.later, f"x.{leaf.type}")
    assert a.do("map", "remove", field=["x"]).stamp is not None
    assert a.seen.get(a.engine.state.incarnation) == dots + 1
    exchange(a, b)
    expected = {f"x.{leaf.type}": leaf.later_alone for leaf in LOGGED}
    assert {
        path: next(leaf for leaf in LOGGED if path.endswith(leaf.type)).values(value)
        for path, value in _values(a).items()
    } == expected


def test_pages_of_op_based_leaves_go_on_behind_them() -> None:
    """In one page each, whatever is written to them between two pages, and whole."""
    a = Replica(1)
    name = ObjectName("shop", "map", "k")
    for path in ("a", "b", "c"):
        for leaf in LOGGED:
            _write(a, leaf, leaf.first, path)
        _put(a, path, "set", "add", values=[1, 2, 3])
    assert len(a.value("map")) == 3
    assert a.show(name).size == 3 * (len(LOGGED) + 3)
    pages, after = [], None
    while after != b"":
        with a.reading() as reading:
            page = read_leaves(reading, name, PageQuery(2, after))
        pages += [(leaf.path, leaf.type) for leaf in page.leaves]
        after = page.position or b""
        for leaf in LOGGED:
            _write(a, leaf, leaf.later, "b")
    logged = [one for one in pages if one[1] != "set"]
    assert logged == [((path,), leaf) for path in "abc" for leaf in ("list", "opcounter", "text")]
