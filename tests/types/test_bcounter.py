"""`bcounter`, told with replicas that use rights of their own."""

from __future__ import annotations

from typing import Any

import pytest

from crdtdb.address import ObjectName
from crdtdb.causal import format_incarnation
from crdtdb.database import Database
from crdtdb.errors import (
    BadRequest,
    ConflictingBounds,
    InvalidOperation,
    NoRights,
    OutOfBounds,
)
from replicas import Replica, acquaint, exchange, update

NAME = ObjectName("shop", "bcounter", "k")


def do(replica: Replica, op: str, **arguments: Any) -> Any:
    return replica.do("bcounter", op, **arguments).value


def value(replica: Replica) -> Any:
    return replica.value("bcounter")


def two(**bounds: Any) -> tuple[Replica, Replica]:
    """Two replicas that know each other, and a counter that the first has created."""
    a, b = Replica(0), Replica(1)
    acquaint(a, b)
    do(a, "create", **bounds)
    b.do("flag", "enable")
    exchange(a, b)
    return a, b


def test_it_starts_at_its_minimum() -> None:
    a, b = two(min=-3, max=10)
    assert (value(a), value(b), b.exists("bcounter")) == (-3, -3, True)


def test_both_bounds_hold_at_one_replica() -> None:
    a, _ = two(min=2, max=5)
    with pytest.raises(OutOfBounds, match="at least 2"):
        do(a, "decrement")
    assert do(a, "increment", by=3) == 5
    with pytest.raises(OutOfBounds, match="at most 5") as refused:
        do(a, "increment")
    assert refused.value.fields[0] == ("by", "beyond `max`", 0)
    assert do(a, "decrement", by=3) == 2


def test_in_a_partition_each_replica_uses_what_it_holds() -> None:
    a, b = two()
    do(a, "increment", by=10)
    do(a, "transfer", to="b", amount=4)
    exchange(a, b)
    assert do(a, "decrement", by=6) == 4
    assert do(b, "decrement", by=4) == 6
    for replica in (a, b):
        with pytest.raises(NoRights):
            do(replica, "decrement")
    exchange(a, b)
    assert (value(a), value(b)) == (0, 0)


def test_a_refusal_says_what_is_held_where() -> None:
    a, b = two(max=10)
    do(a, "increment", by=8)
    do(a, "transfer", to="b", amount=3)
    exchange(a, b)
    with pytest.raises(NoRights, match=r"holds 3 of the rights to decrement.*a holds 5") as refused:
        do(b, "decrement", by=4)
    assert refused.value.fields == (
        ("by", "more than is held here", 3),
        ("by", "held by a", 5),
    )
    with pytest.raises(NoRights, match=r"holds 0 of the rights to increment.*a holds 2"):
        do(b, "increment")
    assert value(b) == 8


def test_what_is_added_may_be_taken_where_it_was_added_and_the_other_way_round() -> None:
    a, b = two(max=10)
    do(a, "transfer", to="b", amount=4, rights="increment")
    exchange(a, b)
    assert do(b, "increment", by=4) == 4
    assert do(b, "decrement", by=1) == 3
    assert do(b, "increment", by=1) == 4
    with pytest.raises(NoRights):
        do(b, "increment")
    assert do(a, "increment", by=6) == 6
    exchange(a, b)
    assert value(a) == 10


def test_rights_are_given_once() -> None:
    """Who gave them cannot use them, even before the other one has heard of it."""
    a, _ = two()
    do(a, "increment", by=5)
    do(a, "transfer", to="b", amount=5)
    with pytest.raises(NoRights):
        do(a, "decrement")
    with pytest.raises(NoRights):
        do(a, "transfer", to="b", amount=1)


@pytest.mark.parametrize("to", ["nobody", "a", "0" * 16, ""])
def test_rights_go_to_a_member(to: str) -> None:
    a, _ = two()
    do(a, "increment", by=5)
    with pytest.raises(InvalidOperation) as refused:
        do(a, "transfer", to=to, amount=1)
    assert refused.value.fields[0].field == "to"


def test_one_of_several_members_of_a_name_is_named_by_its_incarnation() -> None:
    a, b = two()
    twin = Replica(27)
    assert twin.name == b.name
    twin.do("flag", "enable")
    acquaint(a, b, twin)
    do(a, "increment", by=5)
    with pytest.raises(InvalidOperation, match="several members are named 'b'"):
        do(a, "transfer", to="b", amount=1)
    do(a, "transfer", to=format_incarnation(b.engine.state.incarnation), amount=1)
    exchange(a, b)
    assert do(b, "decrement") == 4


def test_without_a_maximum_increments_need_no_rights() -> None:
    a, b = two()
    assert do(b, "increment", by=5) == 5
    with pytest.raises(InvalidOperation, match="needs no rights"):
        do(a, "transfer", to="b", amount=1, rights="increment")


def test_what_nobody_has_created_does_not_count() -> None:
    a = Replica(1)
    for op, arguments in (("increment", {}), ("transfer", {"to": "b", "amount": 1})):
        with pytest.raises(InvalidOperation, match="create it"):
            do(a, op, **arguments)
    assert not a.exists("bcounter")


def test_creating_it_again_changes_nothing_or_is_refused() -> None:
    a, b = two(max=5)
    assert not a.do("bcounter", "create", max=5).changed
    assert not b.do("bcounter", "create", max=5).changed
    with pytest.raises(ConflictingBounds, match="`min` 0 and `max` 5"):
        do(b, "create", max=6)
    with pytest.raises(BadRequest):
        do(Replica(7), "create", min=3, max=2)


def conflicting() -> tuple[Replica, Replica]:
    """Two replicas created it, added what they could, and have met since."""
    a, b = Replica(0), Replica(1)
    acquaint(a, b)
    do(a, "create", max=10)
    do(b, "create", min=5, max=8)
    do(a, "increment", by=10)
    do(b, "increment", by=3)
    exchange(a, b)
    return a, b


def test_conflicting_bounds_are_found_and_refuse_increments() -> None:
    a, b = conflicting()
    assert value(a) == 5 + 10 + 3
    for replica, other in ((a, b), (b, a)):
        with pytest.raises(ConflictingBounds, match="`min` 5"):
            do(replica, "increment")
        assert do(replica, "decrement") < 18
        with pytest.raises(ConflictingBounds):
            do(replica, "transfer", to=other.name, amount=1, rights="increment")


def test_an_operator_chooses_between_bounds_that_conflict() -> None:
    a, b = conflicting()
    with pytest.raises(OutOfBounds, match="lower bound is 5"):
        do(a, "create", min=0, max=30)
    with pytest.raises(OutOfBounds, match="value is 18"):
        do(a, "create", min=5, max=17)
    do(a, "create", min=5, max=20)
    do(a, "transfer", to="b", amount=1, rights="increment")
    exchange(a, b)
    assert do(a, "increment") == do(b, "increment") == 19
    exchange(a, b)
    for replica in (a, b):
        with pytest.raises(OutOfBounds, match="at most 20"):
            do(replica, "increment")


def test_two_choices_at_once_conflict_again() -> None:
    a, b = conflicting()
    do(a, "create", min=5, max=20)
    do(b, "create", min=5, max=30)
    assert do(b, "increment") == 19
    exchange(a, b)
    with pytest.raises(ConflictingBounds):
        do(a, "increment")
    do(b, "create", min=5, max=30)
    exchange(a, b)
    assert do(b, "increment") == 20


def test_equal_bounds_conflict_too_for_both_gave_out_rights() -> None:
    a, b = Replica(0), Replica(1)
    for replica in (a, b):
        do(replica, "create", max=10)
        do(replica, "increment", by=7)
    exchange(a, b)
    assert value(a) == 14
    with pytest.raises(ConflictingBounds):
        do(a, "increment")


def test_lower_bounds_alone_do_not_conflict_and_the_greatest_counts() -> None:
    a, b = Replica(0), Replica(1)
    do(a, "create", min=1)
    do(b, "create", min=4)
    do(a, "increment", by=2)
    exchange(a, b)
    assert value(a) == 6
    assert do(a, "decrement", by=2) == 4
    with pytest.raises(OutOfBounds, match="at least 4"):
        do(a, "decrement")


def test_a_new_incarnation_holds_nothing_of_what_the_old_one_held() -> None:
    """The old one may still act: its directory may have been copied, not moved."""
    a, b = two()
    do(a, "increment", by=5)
    copy = Replica(0)
    copy.store = a.store
    copy.reopen(b"elsewhere")
    with pytest.raises(NoRights, match="holds 0 of the rights"):
        do(copy, "decrement")
    assert do(copy, "increment") == 6
    assert do(copy, "decrement") == 5
    assert do(a, "decrement", by=5) == 0
    exchange(a, b, copy)
    assert value(b) == 0


def test_rights_go_to_the_incarnation_that_is_a_member_now() -> None:
    a, b = two()
    do(a, "increment", by=5)
    b.reopen(b"elsewhere")
    b.do("flag", "disable")
    do(a, "transfer", to="b", amount=2)
    exchange(a, b)
    assert do(b, "decrement", by=2) == 3


def test_it_cannot_be_deleted_nor_can_what_holds_it() -> None:
    db = Database.in_memory()
    db.counter("shop", "views").increment()
    db.bcounter("shop", "stock").create(max=5)
    with pytest.raises(InvalidOperation, match="no operation 'delete'"):
        db.update(NAME, [{"op": "delete"}])
    for prefix in (NAME.prefix[:6], ObjectName("shop", "bcounter", "stock").prefix):
        with pytest.raises(InvalidOperation, match="cannot be deleted"):
            db.erase(prefix)
    assert db.counter("shop", "views").get().value == 1


def test_an_erase_that_did_not_know_of_it_spares_it() -> None:
    a, b = Replica(0), Replica(1)
    a.do("set", "add", value=1)
    do(b, "create")
    do(b, "increment", by=3)
    db = Database(a.store)
    db.erase(NAME.prefix[:6])
    a.reopen()
    exchange(a, b)
    assert (value(a), a.value("set")) == (3, [])


# What is said of it -------------------------------------------------------------------------------


def test_totals_of_any_size_are_kept_exactly() -> None:
    a, b = two()
    step = 2**53 - 1
    for _ in range(3):
        a.commit(*[update(NAME, {"op": "increment", "by": step})] * 1_000)
    exchange(a, b)
    assert value(b) == 3_000 * step > 2**64


def test_explain_says_who_holds_what() -> None:
    db = Database.in_memory(replica="eu-1")
    stock = db.bcounter("shop", "stock")
    stock.create(max=10)
    stock.increment(4)
    (record,) = stock.explain()["records"]
    own = format_incarnation(db.engine.state.incarnation)
    assert (record["min"], record["max"], record["conflicting"]) == (0, 10, False)
    assert record["rights"] == {own: {"decrement": 4, "increment": 6}}
    assert record["entries"][0]["created"] == {"min": 0, "max": 10, "room": 10}


def test_an_import_creates_it_where_it_is_not_and_adds_what_it_was_above_its_minimum() -> None:
    here, there = Database.in_memory(), Database.in_memory()
    stock = here.bcounter("shop", "stock")
    stock.create(min=2, max=10)
    stock.increment(4)
    lines = list(here.export())
    assert there.import_(lines).written == {"bcounter": 1}
    assert list(there.export()) == lines
    assert there.import_(lines).written == {"bcounter": 1}
    assert there.bcounter("shop", "stock").get().value == 10
    again = there.import_(lines)
    assert (again.failed, again.errors[0].code) == (1, "out-of-bounds")


def test_an_export_of_conflicting_bounds_can_be_imported() -> None:
    a, _ = conflicting()
    db = Database.in_memory()
    assert db.import_(Database(a.store).export("shop")).failed == 0
    assert db.bcounter("shop", "k").get().value == 18
    with pytest.raises(OutOfBounds):
        db.bcounter("shop", "k").increment()


def test_nothing_is_left_of_what_is_refused() -> None:
    a, sold = Replica(1), ObjectName("shop", "counter", "sold")
    asked = [update(sold, {"op": "increment"}), update(NAME, {"op": "create", "max": 1})]
    with pytest.raises(OutOfBounds):
        a.commit(*asked, update(NAME, {"op": "decrement"}))
    assert not a.exists("counter", "sold")
    assert not a.exists("bcounter")
