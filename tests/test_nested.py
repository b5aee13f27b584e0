"""What nesting must not spoil: stories of maps that planted bugs break."""

from __future__ import annotations

from typing import Any

from replicas import Replica, exchange


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
    for path in ("a", "a.b", "ab", "a\0"):
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
