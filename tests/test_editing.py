"""What one transaction does to a document, an object or a leaf of a map, is one operation."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtdb.address import ObjectName
from crdtdb.errors import CallerError, InvalidOperation, OutOfBounds
from crdtdb.transaction import Result, Update
from operations import Plain
from oracle.checks import check_books
from replicas import Replica, update

TEXT: Final = ObjectName("shop", "text", "k")
MAP: Final = ObjectName("shop", "map", "k")
COUNT: Final = update(ObjectName("shop", "counter", "k"), {"op": "increment"})


def on_object(edit: Plain) -> Update:
    return update(TEXT, edit)


def on_leaf(edit: Plain, *field: str) -> Update:
    do = {"type": "text", **edit}
    return update(MAP, {"op": "update", "field": list(field or ("a", "b")), "do": do})


def insert(text: str, **where: int) -> Plain:
    return {"op": "insert", "text": text, **where}


def leaf(replica: Replica) -> Any:
    """What the map shows, as values by field."""
    return {"/".join(entry["field"]): entry["value"] for entry in replica.value("map")}


@pytest.mark.parametrize("on", [on_object, on_leaf])
@pytest.mark.parametrize("count", [2, 60])
def test_edits_are_written_and_sent_as_one_operation_whatever_comes_between(
    on: Any, count: int
) -> None:
    """A leaf's were one each: 500 edits in a transaction took ten times as long as an object's."""
    a, b = Replica(1), Replica(2)
    alone, beside = Replica(3), Replica(4)
    for replica in (alone, beside):
        replica.commit(COUNT, *(() if replica is alone else (on(insert("x")),)))
    rows_of_one_edit = len(beside.rows()) - len(alone.rows())
    edits = [each for number in range(count) for each in (on(insert("x", index=number)), COUNT)]
    committed = a.commit(*edits)
    stamps = [result.stamp for result in committed.outcomes[0].results]
    assert [stamp is not None for stamp in stamps] == [True] * len(edits)
    assert len({stamp.dot for stamp in stamps if stamp}) == len(edits)
    assert a.seen.get(a.engine.state.incarnation) == len(edits)
    assert committed.push is not None
    assert len(committed.push.records) == 2  # the edits, and the counter
    assert len(a.rows()) == len(alone.rows()) + rows_of_one_edit
    assert b.receive(committed.push)
    for replica in (a, b):
        shown = replica.value("text") if on is on_object else leaf(replica)["a/b"]
        assert shown == "x" * count
        check_books(replica.store)
    assert a.digest() == b.digest()


def test_edits_of_several_documents_in_turns_are_one_operation_of_each() -> None:
    a = Replica(1)
    others = [ObjectName("shop", "text", key) for key in "xyz"]
    edits = [update(name, insert("x", index=n)) for n in range(20) for name in others]
    push = a.commit(*edits).push
    assert push is not None
    assert len(push.records) == len(others)


def test_what_else_is_done_to_the_map_is_done_in_its_place() -> None:
    a = Replica(1)
    removal = update(MAP, {"op": "remove", "field": ["a"]})
    results = a.commit(
        on_leaf(insert("gone")),
        on_leaf(insert("!")),
        removal,
        on_leaf(insert("new")),
        on_leaf(insert("er")),
        on_leaf(insert("other"), "c"),
        on_leaf({"op": "delete"}),
    )
    sizes = [result.size for result in results.outcomes[0].results]
    assert leaf(a) == {"c": "other"}
    assert sizes == [1, 1, 0, 1, 1, 2, 1]


def test_a_leaf_may_not_come_to_be_below_another_among_other_edits_either() -> None:
    a = Replica(1)
    a.commit(on_leaf(insert("above"), "a"))
    rows = a.rows()
    with pytest.raises(InvalidOperation, match="which has no fields of its own"):
        a.commit(COUNT, on_leaf({"op": "delete"}), on_leaf(insert("x")), on_leaf(insert("y")))
    assert a.rows() == rows


def test_the_first_that_is_wrong_is_told_although_a_later_one_is_carried_out_before() -> None:
    a = Replica(1)
    stock = ObjectName("shop", "bcounter", "k")
    a.commit(update(stock, {"op": "create", "min": 0, "max": 5}))
    rows = a.rows()
    with pytest.raises(OutOfBounds):
        a.commit(
            on_object(insert("a")),
            update(stock, {"op": "decrement"}),
            on_object(insert("b", index=9)),
        )
    with pytest.raises(InvalidOperation):
        a.commit(
            on_object(insert("a")),
            on_object(insert("b", index=9)),
            update(stock, {"op": "decrement"}),
        )
    assert a.rows() == rows


_INDEX: Final = st.integers(0, 6)
_EDITS: Final = st.lists(
    st.one_of(
        st.builds(lambda text: insert(text), st.sampled_from(("a", "b€", "𝄞"))),
        st.builds(lambda text, index: insert(text, index=index), st.sampled_from("cdé"), _INDEX),
        st.builds(
            lambda index, length: {"op": "delete", "index": index, "length": length},
            _INDEX,
            st.integers(1, 3),
        ),
        st.just({"op": "delete"}),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("on", [on_object, on_leaf])
@settings(deadline=None)
@given(edits=_EDITS)
def test_together_edits_come_to_what_they_come_to_one_by_one(on: Any, edits: list[Plain]) -> None:
    together, apart = Replica(1), Replica(2)
    possible: list[Update] = []
    expected: list[Result] = []
    for edit in edits:
        try:
            (result,) = apart.commit(on(edit)).outcomes[0].results
        except CallerError:
            continue
        possible.append(on(edit))
        expected.append(result)
    if not possible:
        return
    results = together.commit(*possible).outcomes[0].results
    assert [(r.changed, r.size) for r in results] == [(r.changed, r.size) for r in expected]
    assert together.value("text") == apart.value("text")
    assert together.value("map") == apart.value("map")
    assert together.digest() == apart.digest()
    check_books(together.store)
