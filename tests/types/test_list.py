"""`list`, told with a few replicas."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.errors import BadRequest, CursorExpired, Gone, InvalidOperation, PeerError, TooLarge
from crdtdb.jsonbytes import encode
from crdtdb.limits import LIMITS, Limits
from crdtdb.reading import PageQuery
from crdtdb.record import Record
from crdtdb.types import list as list_module
from operations import Plain
from oracle.checks import check_books, folded_values
from replicas import Replica, exchange, missing, update
from traces import read_trace, replay

LIST: Final = ObjectName("shop", "list", "k")


def values(replica: Replica) -> list[Any]:
    return [entry["value"] for entry in replica.value("list")]


def ids(replica: Replica) -> list[str]:
    return [entry["id"] for entry in replica.value("list")]


def page(replica: Replica, **query: Any) -> tuple[list[Any], bytes | None]:
    with replica.reading() as reading:
        found = reading.page(LIST, reading.head(LIST.prefix), PageQuery(**query))
    return [entry["value"] for entry in found.items if isinstance(entry, dict)], found.position


# Places -------------------------------------------------------------------------------------------


def test_elements_stand_where_they_were_put() -> None:
    a = Replica(1)
    assert a.do("list", "insert", values=["a", "c"]).size == 2
    first, last = ids(a)
    a.do("list", "insert", after=first, value="b")
    a.do("list", "insert", before=first, values=["x", "y"])
    a.do("list", "insert", after=last, value="d")
    a.do("list", "insert", index=1, value={"n": 1.0})
    assert values(a) == ["x", {"n": 1}, "y", "a", "b", "c", "d"]
    assert a.do("list", "delete", ids=[first, last]).size == 5
    a.do("list", "delete", index=0, count=2)
    assert values(a) == ["y", "b", "d"]
    assert a.do("list", "delete").changed
    assert (values(a), a.exists("list")) == ([], False)


def test_an_id_stays_the_same_for_good() -> None:
    a, b = Replica(1), Replica(2)
    a.do("list", "insert", values=["a", "b"])
    before = a.value("list")
    b.pull(a)
    b.do("list", "insert", index=1, value="between")
    exchange(a, b)
    a.reclaim()
    assert [entry for entry in a.value("list") if entry["value"] != "between"] == before


def test_what_two_type_at_one_place_is_not_mixed() -> None:
    a, b = Replica(1), Replica(2)
    a.do("list", "insert", values=["(", ")"])
    exchange(a, b)
    for number in range(4):
        a.do("list", "insert", index=1 + number, value=f"a{number}")
        b.do("list", "insert", index=1, value=f"b{number}")  # backwards
    exchange(a, b)
    runs = ["a0", "a1", "a2", "a3"], ["b3", "b2", "b1", "b0"]
    assert values(a) in (["(", *runs[0], *runs[1], ")"], ["(", *runs[1], *runs[0], ")"])


def test_a_concurrent_insert_beside_a_deleted_element_stays_in_its_place() -> None:
    a, b, c = Replica(1), Replica(2), Replica(3)
    a.do("list", "insert", values=["a", "b", "c"])
    exchange(a, b, c)
    a.do("list", "delete", index=1)
    b.do("list", "insert", index=2, value="behind b")
    c.pull(a)
    c.do("list", "insert", index=1, value="between a and c")
    exchange(a, b, c)
    assert set(values(a)[1:-1]) == {"behind b", "between a and c"}
    assert (values(a)[0], values(a)[-1]) == ("a", "c")


def test_what_a_delete_did_not_see_stays_together() -> None:
    """Its element has gone with the object: what was put in behind that stands by itself."""
    a, b = Replica(1), Replica(2)
    a.do("list", "insert", values=["a", "b"])
    exchange(a, b)
    b.do("list", "insert", index=1, values=["x", "y"])
    a.do("list", "delete")
    a.do("list", "insert", value="new")
    exchange(a, b)
    assert sorted(values(a)) == ["new", "x", "y"]
    assert [value for value in values(a) if value != "new"] == ["x", "y"]


# What goes ----------------------------------------------------------------------------------------


def test_a_deleted_element_goes_when_everybody_has_seen_it_deleted() -> None:
    a, b = Replica(1), Replica(2)
    a.do("list", "insert", values=["a", "b", "c", "d"])
    exchange(a, b)
    a.do("list", "delete", index=1, count=3)
    gone = missing(a.store, b.seen)
    assert gone
    before = a.digest()
    a.reclaim(b.seen)
    check_books(a.store)
    assert _nodes(a) == 4
    exchange(a, b)
    a.reclaim()
    check_books(a.store)
    assert _nodes(a) == 1
    assert a.digest() == before == b.digest()
    b.reclaim()
    newcomer = Replica(9)
    newcomer.pull(b)
    assert newcomer.digest() == before


def test_a_list_that_is_emptied_is_not_there() -> None:
    a, b = Replica(1), Replica(2)
    a.do("list", "insert", values=["a", "b"])
    a.do("list", "delete", index=0, count=2)
    b.pull(a)
    assert not a.exists("list")
    assert not a.do("list", "delete").changed
    assert a.digest() == b.digest() == Replica(3).digest()
    a.reclaim()
    assert _folded(a) is None


def _folded(replica: Replica) -> Any:
    with replica.store.snapshot() as snapshot:
        return folded_values(snapshot).get(LIST.prefix)


def _nodes(replica: Replica) -> int:
    """The elements that are kept, deleted ones among them."""
    return sum(held if isinstance(held, int) else len(held) for *_, held in _folded(replica))


# Pages --------------------------------------------------------------------------------------------


def test_pages_by_position_from_both_ends() -> None:
    a = Replica(1)
    a.do("list", "insert", values=list(range(10)))
    for start, end in ((None, None), (3, 7), (8, 20), (4, 4), (20, None)):
        bounds = {
            name: None if at is None else encode(at)
            for name, at in (("start", start), ("end", end))
        }
        expected = list(range(10))[start:end]
        for reverse in (False, True):
            found: list[Any] = []
            items, position = page(a, limit=3, reverse=reverse, **bounds)
            found += items
            while position is not None:
                items, position = page(a, limit=3, after=position, reverse=reverse, **bounds)
                found += items
            assert found == (expected[::-1] if reverse else expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_listing_shows_what_stays_exactly_once(reverse: bool) -> None:
    a = Replica(1)
    a.do("list", "insert", values=list(range(6)))
    found, position = page(a, limit=2, reverse=reverse)
    while position is not None:
        a.do("list", "insert", index=0, value="new")
        a.do("list", "insert", value="new")
        a.do("list", "delete", index=values(a).index(found[-1]))  # where the page ended
        items, position = page(a, limit=2, after=position, reverse=reverse)
        found += items
    stayed = [value for value in found if value != "new"]
    assert stayed == (list(range(6))[::-1] if reverse else list(range(6)))


def test_a_page_behind_an_element_that_has_gone_for_good_cannot_be_told() -> None:
    a = Replica(1)
    a.do("list", "insert", values=list(range(6)))
    _, position = page(a, limit=2)
    a.do("list", "delete", index=1)
    a.do("list", "delete", index=1, count=4)
    a.reclaim()
    with pytest.raises(CursorExpired, match="read from the start"):
        page(a, limit=2, after=position)


@pytest.mark.parametrize("bound", [-1, 1.5, True, "a", None])
def test_a_bound_is_a_position(bound: Any) -> None:
    a = Replica(1)
    with pytest.raises(BadRequest) as refused:
        page(a, end=encode(bound))
    assert refused.value.fields[0].field == "to"


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "arguments", "error", "field"),
    [
        ("insert", {}, BadRequest, "value"),
        ("insert", {"value": 1, "values": [1]}, BadRequest, "value"),
        ("insert", {"values": []}, BadRequest, "values"),
        ("insert", {"value": 1, "index": 0, "after": "0000000100000001:1"}, BadRequest, "index"),
        ("insert", {"value": 1, "index": 4}, InvalidOperation, "index"),
        ("insert", {"value": 1, "index": -1}, BadRequest, "index"),
        ("insert", {"value": 1, "index": True}, BadRequest, "index"),
        ("insert", {"value": 1, "after": "0000000100000001:1.4"}, Gone, "after"),
        ("insert", {"value": 1, "before": "0000000100000001:2"}, Gone, "before"),
        ("insert", {"value": 1, "before": "7"}, BadRequest, "before"),
        ("delete", {"ids": []}, BadRequest, "ids"),
        ("delete", {"ids": ["x"]}, BadRequest, "ids[0]"),
        ("delete", {"ids": ["0000000100000001:9"]}, Gone, "ids[0]"),
        ("delete", {"ids": ["0000000100000001:1.1"], "index": 0}, BadRequest, "index"),
        ("delete", {"ids": ["0000000100000001:1.1"], "count": 1}, BadRequest, "count"),
        ("delete", {"count": 1}, BadRequest, "index"),
        ("delete", {"index": 0, "count": 0}, BadRequest, "count"),
        ("delete", {"index": 3}, InvalidOperation, "index"),
        ("delete", {"index": 1, "count": 3}, InvalidOperation, "count"),
        ("delete", {"index": 0, "seen": VersionVector()}, InvalidOperation, "seen"),
    ],
)
def test_what_a_list_cannot_do_changes_nothing(
    op: str, arguments: dict[str, Any], error: type[Exception], field: str
) -> None:
    a = Replica(1)
    a.do("list", "insert", values=["a", "b", "c"])
    rows = a.rows()
    with pytest.raises(error) as refused:
        a.do("list", op, **arguments)
    assert isinstance(refused.value, BadRequest | Gone | InvalidOperation)
    assert refused.value.fields[0].field == field
    assert a.rows() == rows


def test_an_element_that_is_gone_cannot_be_named() -> None:
    a = Replica(1)
    a.do("list", "insert", values=["a", "b"])
    gone, _ = ids(a)
    a.do("list", "delete", ids=[gone])
    for arguments in ({"op": "insert", "after": gone, "value": 1}, {"op": "delete", "ids": [gone]}):
        with pytest.raises(Gone, match="name an element that is there"):
            a.commit(update(LIST, arguments))


def test_a_list_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_module, "LIMITS", Limits(list_elements=3, list_bytes=20))
    a = Replica(1)
    a.do("list", "insert", values=["aaaaa", "bbbbb"])
    with pytest.raises(TooLarge, match="20 at most") as refused:
        a.do("list", "insert", value="ccccc")
    assert refused.value.fields[0].limit == 20
    a.do("list", "insert", value=1)
    with pytest.raises(TooLarge, match="3 at most"):
        a.do("list", "insert", value=1)
    a.do("list", "delete", index=0)
    a.do("list", "insert", value=1)


# What peers send ----------------------------------------------------------------------------------

_TEXT: Final = [b"1"]


@pytest.mark.parametrize(
    "payload",
    [
        [None, True, 0, [], []],
        [None, True, 0, _TEXT, [[[7, 1, 0], 1]]],
        [[77, 5, 0], True, 0, _TEXT, []],
        [[77, 6, 0], True, 0, _TEXT, []],
        [[1, 0, 0], True, 0, _TEXT, []],
        [[1, -1, 0], True, 0, _TEXT, []],
        [None, 1, 0, _TEXT, []],
        [None, True, -1, _TEXT, []],
        [[1, 1, 0], False, 1, _TEXT, []],
        [None, True, 1, [], [[[7, 1, 0], 1]]],
        [None, True, 0, [b"{"], []],
        [None, True, 0, ["1"], []],
        [None, True, 0, _TEXT * 1_001, []],
        [None, True, 0, [], [[[7, 1, 0], 1_001]]],
        [None, True, 0, [], [[[7, 1, 0], 0]]],
    ],
)
def test_an_operation_that_no_list_writes_is_refused(payload: list[Any]) -> None:
    dot = (77, 5)
    record = Record({dot: payload}, VersionVector.of([dot]))
    _refused(address.operation(LIST, dot), record)


@pytest.mark.parametrize(
    "stored",
    [
        [[[77, 1, 0], None, False, 0, [b"1"]]],
        [[[77, 1, 0], [77, 2, 0], True, 0, [b"1"]]],
        [[[77, 1, 0], None, True, 0, [b"1", b"{"]]],
        [[[77, 1, 0], None, True, 0, []]],
        [[[77, 5, 0], None, True, 0, [b"1", b"1"]]],
        [[[78, 1, 0], None, True, 0, [b"1"]]],
        [[[77, 1, 0], None, True, 0, 0]],
        [[[77, 1, 0], None, True, 0, 1 << 60], [[77, 9, 0], None, True, 0, 1]],
        [[[77, 1, 0], [77, 3, 0], True, 0, [b"1"]], [[77, 3, 0], [77, 1, 0], True, 0, [b"1"]]],
    ],
)
def test_a_base_that_no_list_folds_is_refused(stored: Any) -> None:
    dot = (77, 5)
    _refused(address.base(LIST), Record({dot: stored}, VersionVector.of([dot])))


def _refused(at: bytes, record: Record) -> None:
    a = Replica(1)
    a.do("list", "insert", values=["a"])
    rows = a.rows()
    with pytest.raises(PeerError) as refused:
        a.merge([(at, codec.encode_record(at, record))], VersionVector({77: 9}), 0)
    assert refused.value.reason == "bad-record"
    assert a.rows() == rows


# Export -------------------------------------------------------------------------------------------


def test_exported_values_are_written_in_their_order_behind_what_is_there() -> None:
    a = Replica(1)
    a.do("list", "insert", value="first")
    exported: list[Any] = list(range(LIMITS.operation_values + 5))
    for plain, _ in list_module.TYPE.restore(exported):
        a.commit(update(LIST, plain))
    with a.reading() as reading:
        items: Any = reading.value(LIST, reading.head(LIST.prefix))
    assert list_module.TYPE.exported_items(items) == ["first", *exported]


# Real input ---------------------------------------------------------------------------------------


def test_recorded_typing_ends_in_its_text(trace_path: Path) -> None:
    """One element for each character, also where two authors typed at once beside deleted text."""
    trace = read_trace(trace_path)
    texts: list[str] = []
    for author in replay(trace, LIST, _patched):
        with author.reading() as reading:
            entries: Any = reading.value(LIST, reading.head(LIST.prefix))
        texts.append("".join(entry["value"] for entry in entries))
    assert texts == [trace.text] * trace.authors


def _patched(position: int, deleted: int, text: str) -> list[Plain]:
    operations: list[Plain] = []
    while deleted:
        count = min(deleted, LIMITS.operation_values)
        operations.append({"op": "delete", "index": position, "count": count})
        deleted -= count
    for start in range(0, len(text), LIMITS.operation_values):
        typed = list(text[start : start + LIMITS.operation_values])
        operations.append({"op": "insert", "index": position + start, "values": typed})
    return operations
