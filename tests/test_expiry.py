"""Expiry, told as stories of replicas that have clocks of their own."""

from __future__ import annotations

from typing import Any, Final

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.errors import BadRequest, InvalidOperation
from crdtdb.store.base import Table
from crdtdb.types import CATALOGUE
from operations import creation
from oracle.checks import check_books
from replicas import START_MS, Replica, exchange

#: A write to an object of each type that can have a deadline.
WRITES: Final = {name: creation(name) for name, kind in CATALOGUE.items() if kind.deletable}
ALL: Final = sorted(WRITES)
#: Of these, what is read once the former life is back beside a new one, where it is more.
BOTH_LIVES: Final[dict[str, Any]] = {
    "counter": 2,
    "gcounter": 2,
    "map": [{"field": ["a"], "type": "counter", "value": 2}],
    "opcounter": 2,
    "text": "aa",
}


def _write(replica: Replica, kind: str) -> None:
    plain = dict(WRITES[kind])
    replica.do(kind, plain.pop("op"), **plain)


def _expires_at_ms(replica: Replica, kind: str) -> int | None:
    with replica.reading() as reading:
        return reading.head(ObjectName("shop", kind, "k").prefix).expires_at_ms


def _two() -> tuple[Replica, Replica]:
    return Replica(1), Replica(2)


@pytest.mark.parametrize("kind", ALL)
def test_an_object_is_hidden_from_its_deadline_on(kind: str) -> None:
    one, other = _two()
    bottom = one.value(kind)
    _write(one, kind)
    assert one.do(kind, "expire", in_ms=1_000).changed
    exchange(one, other)
    shown = one.value(kind)
    for replica in (one, other):
        replica.now_ms = START_MS + 999
        assert (replica.value(kind), replica.exists(kind)) == (shown, True)
        assert _expires_at_ms(replica, kind) == START_MS + 1_000
        replica.now_ms = START_MS + 1_000
        assert (replica.value(kind), replica.exists(kind)) == (bottom, False)
        assert _expires_at_ms(replica, kind) is None


@pytest.mark.parametrize("kind", ALL)
def test_a_write_after_the_deadline_starts_from_bottom(kind: str) -> None:
    one, other = _two()
    _write(one, kind)
    alone = one.value(kind)
    _write(one, kind)
    one.do(kind, "expire", in_ms=1_000)
    exchange(one, other)
    one.now_ms = other.now_ms = START_MS + 1_000
    _write(other, kind)
    assert _shape(other.value(kind)) == _shape(alone)
    assert _expires_at_ms(other, kind) is None
    exchange(one, other)
    assert one.value(kind) == other.value(kind)
    assert one.digest() == other.digest()
    one.now_ms = other.now_ms = START_MS + 1_000_000
    assert one.exists(kind)


def _shape(value: Any) -> Any:
    """Without the ids of elements, which differ."""
    if not isinstance(value, list):
        return value
    return [{**one, "id": None} if isinstance(one, dict) else one for one in value]


@pytest.mark.parametrize("kind", ALL)
def test_an_extension_made_elsewhere_brings_it_back(kind: str) -> None:
    one, other = _two()
    _write(one, kind)
    one.do(kind, "expire", in_ms=1_000)
    exchange(one, other)
    other.do(kind, "expire", in_ms=60_000)
    one.now_ms = START_MS + 2_000
    shown = other.value(kind)
    assert not one.exists(kind)
    exchange(one, other)
    assert one.value(kind) == other.value(kind) == shown


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("rescue", [{"op": "expire", "in_ms": 60_000}, {"op": "persist"}])
def test_also_below_what_was_written_after_the_deadline(kind: str, rescue: dict[str, Any]) -> None:
    one, other = _two()
    _write(one, kind)
    one.do(kind, "expire", in_ms=1_000)
    exchange(one, other)
    other.do(kind, rescue["op"], **{k: v for k, v in rescue.items() if k != "op"})
    one.now_ms = START_MS + 2_000
    alone = other.value(kind)
    _write(one, kind)
    one.do(kind, "expire", in_ms=10_000)
    exchange(one, other)
    assert one.value(kind) == other.value(kind)
    assert one.digest() == other.digest()
    _check_both_lives(one, kind, alone)
    wanted = None if rescue["op"] == "persist" else START_MS + 60_000
    assert _expires_at_ms(one, kind) == _expires_at_ms(other, kind) == wanted


def _check_both_lives(replica: Replica, kind: str, alone: Any) -> None:
    value = replica.value(kind)
    if kind == "list":
        assert [element["value"] for element in value] == ["a", "a"]
    else:
        assert value == BOTH_LIVES.get(kind, alone)


def test_what_is_written_anew_takes_nothing_that_may_come_back() -> None:
    one, other = _two()
    for kind in ("mvregister", "register", "max"):
        one.do(kind, "set", value="old")
        one.do(kind, "expire", in_ms=1_000)
    one.do("set", "add", values=["both", "old"])
    one.do("set", "expire", in_ms=1_000)
    exchange(one, other)
    for kind in ("mvregister", "register", "max", "set"):
        other.do(kind, "persist")
    one.now_ms = START_MS + 1_000
    for kind in ("mvregister", "register", "max"):
        one.do(kind, "set", value="new")
    one.do("set", "add", value="both")
    one.do("set", "remove", value="both")
    assert one.value("set") == []
    exchange(one, other)
    for kind, last in (("mvregister", ["new", "old"]), ("register", "new"), ("max", "old")):
        assert one.value(kind) == other.value(kind) == last, kind
    assert one.value("set") == other.value("set") == ["both", "old"]


def test_a_newcomer_that_takes_over_what_was_folded_gets_the_deadline_too() -> None:
    """It comes before the last operation of the base, and is no part of it."""
    a, newcomer = Replica(1), Replica(2)
    a.do("opcounter", "increment")
    a.do("opcounter", "expire", in_ms=1_000)
    a.do("opcounter", "increment")
    a.reclaim()
    newcomer.pull(a)
    assert newcomer.digest() == a.digest()
    name = ObjectName("shop", "opcounter", "k")
    with newcomer.reading() as reading:
        assert reading.head(name.prefix).expires_at_ms == START_MS + 1_000


def test_the_later_of_concurrent_deadlines_wins() -> None:
    one, other = _two()
    _write(one, "set")
    exchange(one, other)
    one.do("set", "expire", in_ms=1_000)
    other.do("set", "expire", in_ms=2_000)
    exchange(one, other)
    assert _expires_at_ms(one, "set") == _expires_at_ms(other, "set") == START_MS + 2_000
    one.do("set", "expire", in_ms=500)
    exchange(one, other)
    assert _expires_at_ms(other, "set") == START_MS + 500


def test_persist_wins_over_any_concurrent_deadline() -> None:
    one, other = _two()
    _write(one, "set")
    exchange(one, other)
    assert not one.do("set", "persist").changed
    other.do("set", "expire", in_ms=2_000)
    exchange(one, other)
    assert _expires_at_ms(one, "set") is _expires_at_ms(other, "set") is None


def test_a_deadline_after_a_guarded_cut_brings_nothing_back() -> None:
    one, other = _two()
    one.do("set", "add", value="old")
    one.do("set", "expire", in_ms=1_000)
    one.now_ms = START_MS + 1_000
    one.do("set", "add", value="new")
    one.do("set", "expire", in_ms=60_000)
    exchange(one, other)
    assert one.value("set") == other.value("set") == ["new"]
    one.do("set", "persist")
    exchange(one, other)
    assert one.value("set") == other.value("set") == ["new"]


def test_what_was_brought_back_stays_when_its_deadline_is_moved_again() -> None:
    one, other = _two()
    one.do("set", "add", value="old")
    one.do("set", "expire", in_ms=1_000)
    exchange(one, other)
    other.do("set", "expire", in_ms=60_000)
    one.now_ms = other.now_ms = START_MS + 2_000
    one.do("set", "add", value="new")
    exchange(one, other)
    for op in ({"op": "expire", "in_ms": 90_000}, {"op": "persist"}, {"op": "expire", "in_ms": 7}):
        one.do("set", **op)
        exchange(one, other)
        assert one.value("set") == other.value("set") == ["new", "old"]


def test_a_deleted_object_has_no_deadline() -> None:
    for kind in ALL:
        one, other = _two()
        _write(one, kind)
        one.do(kind, "expire", in_ms=1_000)
        one.do(kind, "delete")
        _write(one, kind)
        exchange(one, other)
        assert _expires_at_ms(one, kind) is _expires_at_ms(other, kind) is None, kind


def test_what_is_not_there_gets_no_deadline() -> None:
    one = Replica(1)
    assert not one.do("set", "expire", in_ms=1_000).changed
    assert not one.do("set", "persist").changed
    one.do("set", "add", value="x")
    one.do("set", "expire", in_ms=1_000)
    one.now_ms += 1_000
    before = one.seen
    assert not one.do("set", "expire", in_ms=1_000).changed
    assert not one.do("set", "delete").changed or one.seen != before


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"at_ms": START_MS}, InvalidOperation),
        ({"at_ms": START_MS - 1}, InvalidOperation),
        ({"in_ms": 0}, BadRequest),
        ({"in_ms": -5}, BadRequest),
        ({"at_ms": -5}, BadRequest),
        ({"in_ms": 1 << 48}, BadRequest),
        ({"in_ms": 1.5}, BadRequest),
        ({"in_ms": True}, BadRequest),
        ({}, BadRequest),
        ({"in_ms": 5, "at_ms": START_MS + 5}, BadRequest),
    ],
)
def test_a_deadline_that_cannot_be(arguments: dict[str, Any], problem: type[Exception]) -> None:
    one = Replica(1)
    _write(one, "set")
    before = one.seen
    with pytest.raises(problem):
        one.do("set", "expire", **arguments)
    assert one.seen == before
    assert _expires_at_ms(one, "set") is None


def test_a_bcounter_and_a_field_have_no_deadline() -> None:
    one = Replica(1)
    with pytest.raises(InvalidOperation, match="no operation 'expire'"):
        one.do("bcounter", "expire", in_ms=5)
    with pytest.raises(InvalidOperation, match="whole map"):
        one.do("map", "update", field=["a"], do={"type": "set", "op": "expire", "in_ms": 5})


# -- for good -------------------------------------------------------------------------------------


def _records_of(replica: Replica, kind: str) -> list[bytes]:
    """The addresses of its records, a cut of it among them."""
    prefix = ObjectName("shop", kind, "k").prefix
    found = replica.rows()[Table.RECORDS]
    return [at for at in found if at.removeprefix(address.CUTS).startswith(prefix)]


@pytest.mark.parametrize("kind", ALL)
def test_it_goes_for_good_when_every_clock_is_past_the_deadline(kind: str) -> None:
    one, other = _two()
    _write(one, kind)
    one.do(kind, "expire", in_ms=1_000)
    exchange(one, other)
    deadline_ms = START_MS + 1_000
    one.now_ms = other.now_ms = START_MS + 2_000
    assert one.clean_up(passed_ms=deadline_ms - 1) == 0
    assert one.clean_up(passed_ms=deadline_ms) >= 1
    exchange(one, other)
    for _ in range(4):
        for replica in (one, other):
            replica.clean_up(passed_ms=deadline_ms)
            replica.reclaim()
        exchange(one, other)
    for replica in (one, other):
        assert not replica.exists(kind)
        if kind != "text":  # of which nothing goes
            assert _records_of(replica, kind) == []


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("is_moved", [False, True])
def test_what_was_written_anew_stays_when_the_rest_goes(kind: str, is_moved: bool) -> None:
    one, other = _two()
    _write(one, kind)
    one.do(kind, "expire", in_ms=1_000)
    exchange(one, other)
    if is_moved:
        other.do(kind, "expire", in_ms=60_000)
    one.now_ms = START_MS + 1_000
    _write(one, kind)
    exchange(one, other)
    shown = one.value(kind)
    for replica in (one, other, one):
        replica.now_ms = START_MS + 2_000
        replica.clean_up(passed_ms=START_MS + 1_000)
        replica.reclaim()
        exchange(one, other)
        assert one.value(kind) == other.value(kind) == shown
    assert not any(address.is_cut(at) for at in _records_of(one, kind))


def test_what_nobody_has_moved_is_kept_until_every_clock_is_past_it() -> None:
    one, other = _two()
    for kind in ALL:
        _write(one, kind)
        one.do(kind, "expire", in_ms=1_000)
    exchange(one, other)
    one.now_ms = START_MS + 2_000
    for kind in ALL:
        _write(one, kind)
    one.clean_up(passed_ms=START_MS + 999)
    one.reclaim()
    shown = {kind: other.value(kind) for kind in ALL}
    for kind in ALL:
        other.do(kind, "persist")
    exchange(one, other)
    for kind in ALL:
        assert other.value(kind) == one.value(kind)
        _check_both_lives(one, kind, shown[kind])


# -- op-based leaves ------------------------------------------------------------------------------

LEAVES: Final[dict[str, tuple[dict[str, Any], Any, Any]]] = {
    "list": ({"op": "insert", "value": "x"}, ["x"], ["x", "x"]),
    "opcounter": ({"op": "increment"}, 1, 2),
    "text": ({"op": "insert", "text": "x"}, "x", "xx"),
}


def _write_leaf(replica: Replica, kind: str) -> None:
    replica.do("map", "update", field=["a"], do={"type": kind, **LEAVES[kind][0]})


def _leaf(replica: Replica) -> Any:
    found = [leaf["value"] for leaf in replica.value("map")]
    value = found[0] if found else None
    return [element["value"] for element in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", LEAVES)
@pytest.mark.parametrize("is_moved", [False, True])
def test_a_log_in_a_map_has_lives_like_all_of_it(kind: str, is_moved: bool) -> None:
    one, other = _two()
    _, alone, both = LEAVES[kind]
    _write_leaf(one, kind)
    one.do("map", "expire", in_ms=1_000)
    exchange(one, other)
    if is_moved:
        other.do("map", "expire", in_ms=60_000)
    one.now_ms = START_MS + 2_000
    _write_leaf(one, kind)
    assert _leaf(one) == alone
    exchange(one, other)
    assert _leaf(one) == _leaf(other) == (both if is_moved else alone)
    for replica in (one, other, one):
        replica.now_ms = START_MS + 2_000
        check_books(replica.store)
        replica.clean_up(passed_ms=START_MS + 1_000)
        replica.reclaim()
        exchange(one, other)
        assert _leaf(one) == _leaf(other) == (both if is_moved else alone)
    assert not any(address.is_cut(at) for at in _records_of(one, "map"))


@pytest.mark.parametrize("kind", LEAVES)
def test_deleting_a_map_deletes_what_was_hidden_of_a_log(kind: str) -> None:
    one, other = _two()
    _write_leaf(one, kind)
    one.do("map", "expire", in_ms=1_000)
    exchange(one, other)
    other.do("map", "persist")
    one.now_ms = START_MS + 2_000
    one.do("map", "update", field=["b"], do={"type": "counter", "op": "increment"})
    one.do("map", "delete")
    exchange(one, other)
    assert not one.exists("map")
    assert not other.exists("map")
    for replica in (one, other):
        check_books(replica.store)


@pytest.mark.parametrize(("kind", "left"), [("list", None), ("opcounter", None), ("text", "x")])
@pytest.mark.parametrize("is_there", [True, False])
def test_removing_a_log_from_a_map_removes_what_was_hidden_of_it(
    kind: str, left: Any, is_there: bool
) -> None:
    """As long as there is something to remove. A text is not cut: what was hidden can come back."""
    one, other = _two()
    _write_leaf(one, kind)
    one.do("map", "expire", in_ms=1_000)
    exchange(one, other)
    other.do("map", "persist")
    one.now_ms = START_MS + 2_000
    one.do("map", "update", field=["b"], do={"type": "counter", "op": "increment"})
    if is_there:
        _write_leaf(one, kind)
    one.do("map", "remove", field=["a"])
    exchange(one, other)
    for replica in (one, other):
        assert [leaf["field"] for leaf in replica.value("map")][-1] == ["b"]
        found = _leaf(replica) if len(replica.value("map")) > 1 else None
        assert found == (left if is_there else LEAVES[kind][1])
        check_books(replica.store)


def test_a_moved_deadline_brings_back_only_the_life_that_it_belongs_to() -> None:
    one, other = _two()
    one.do("set", "add", value="first")
    one.do("set", "expire", in_ms=1_000)
    exchange(one, other)
    one.now_ms = other.now_ms = START_MS + 1_500
    one.do("set", "add", value="second")
    one.do("set", "expire", in_ms=1_000)
    exchange(one, other)
    other.do("set", "expire", in_ms=50_000)
    one.now_ms = START_MS + 3_000
    one.do("set", "add", value="third")
    exchange(one, other)
    assert one.value("set") == other.value("set") == ["second", "third"]


def test_what_was_counted_on_elsewhere_counts_from_the_cut_on() -> None:
    """Whoever counts on without knowing of the new life adds to that, and to no more."""
    one, other = _two()
    one.do("counter", "increment", by=1)
    other.do("counter", "increment", by=10)
    exchange(one, other)
    one.do("counter", "expire", in_ms=1_000)
    one.now_ms = START_MS + 1_000
    one.do("counter", "increment", by=100)
    other.do("counter", "increment", by=1_000)
    assert one.value("counter") == 100
    exchange(one, other)
    assert one.value("counter") == other.value("counter") == 1_100
    other.do("counter", "increment", by=10_000)
    exchange(one, other)
    assert one.value("counter") == 11_100
    for replica in (one, other):
        replica.clean_up(passed_ms=START_MS + 1_000)
        replica.reclaim()
        exchange(one, other)
        assert one.value("counter") == other.value("counter") == 11_100


def test_what_takes_the_last_steps_of_a_run_takes_all_of_it() -> None:
    one, other = _two()
    other.do("zset", "increment", member="a", by=1)
    other.do("zset", "increment", member="b", by=1)
    exchange(one, other)
    one.do("zset", "expire", in_ms=1_000)
    exchange(one, other)
    one.now_ms = START_MS + 1_000
    one.do("zset", "add", member="new", score=0)
    other.do("zset", "increment", member="a", by=10)
    moved = Replica(3)
    moved.pull(other)
    moved.do("zset", "persist")
    exchange(one, other)
    assert one.value("zset") == [
        {"member": "a", "score": 10},
        {"member": "new", "score": 0},
    ]
    one.do("zset", "remove", member="a")
    exchange(one, other, moved)
    # Of `a` there is one total, of which the last was seen; `b` was not touched.
    assert one.value("zset") == [{"member": "b", "score": 1}, {"member": "new", "score": 0}]
