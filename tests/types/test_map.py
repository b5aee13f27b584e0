"""`map`, told with two replicas."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.cuts import cut_payload
from crdtdb.errors import BadRequest, InvalidOperation, PeerError, TooLarge
from crdtdb.fields import read_leaves
from crdtdb.limits import LIMITS
from crdtdb.reading import PageQuery
from crdtdb.record import Record
from crdtdb.transaction import Erase
from oracle.checks import check_books
from replicas import Replica, exchange

NAME = ObjectName("shop", "map", "k")


def _put(replica: Replica, path: str, type_name: str, op: str, **arguments: Any) -> None:
    replica.do(
        "map", "update", field=path.split("."), do={"type": type_name, "op": op, **arguments}
    )


def _values(replica: Replica) -> dict[str, Any]:
    """The leaves that are shown, by their path."""
    return {".".join(leaf["field"]): leaf["value"] for leaf in replica.value("map")}


def test_every_leaf_is_of_its_own_type() -> None:
    a = Replica(1)
    _put(a, "views", "counter", "increment", by=5)
    _put(a, "tags.long", "set", "add", values=["x", 1])
    _put(a, "title", "register", "set", value="Sale")
    _put(a, "best", "zset", "add", member="ann", score=3)
    assert _values(a) == {
        "best": [{"member": "ann", "score": 3}],
        "tags.long": [1, "x"],
        "title": "Sale",
        "views": 5,
    }
    check_books(a.store)


def test_a_delete_of_the_whole_map_is_as_exact() -> None:
    a, b = Replica(1), Replica(2)
    _put(a, "n.sold", "zset", "increment", member="x", by=5)
    _put(a, "n.seen", "max", "set", value=3)
    exchange(a, b)
    a.do("map", "delete")
    _put(b, "n.sold", "zset", "increment", member="x", by=0.5)
    exchange(a, b)
    assert _values(b) == {"n.sold": [{"member": "x", "score": 0.5}]}


def test_a_read_context_spares_what_it_did_not_show() -> None:
    a = Replica(1)
    _put(a, "x.old", "register", "set", value=1)
    _put(a, "x.done", "counter", "increment", by=3)
    _put(a, "x.n", "counter", "increment", by=3)
    shown = a.seen
    _put(a, "x.new", "register", "set", value=2)
    _put(a, "x.n", "counter", "increment")
    a.do("map", "remove", field=["x"], seen=shown)
    assert _values(a) == {"x.new": 2, "x.n": 4}
    check_books(a.store)


def test_a_leaf_of_a_type_that_only_a_newer_version_knows_is_kept_and_relayed() -> None:
    a, b = Replica(1), Replica(2)
    _put(a, "x.known", "flag", "enable")
    at = NAME.prefix + address.leaf(["x"], "tensor", address.OWN)
    unknown = Record({(77, 1): [1, {"b": 2}]}, VersionVector({77: 1}))
    a.merge([(at, codec.encode_record(at, unknown))], VersionVector({77: 1}), 0)
    b.pull(a)
    for replica in (a, b):
        assert replica.record(at) == unknown
        assert _values(replica) == {"x.known": True}
        assert replica.show(NAME).size == 1
    b.do("map", "remove", field=["x"])
    assert not b.exists("map")
    assert b.record(at) == unknown
    check_books(b.store)


@pytest.mark.parametrize(
    "tail",
    [
        address.LEAF,
        address.leaves_at(["x"]),
        address.leaves_at([]) + b"flag\0" + address.OWN,
        address.leaf(["x"] * 17, "flag", address.OWN),
        address.LEAF + b"\x40\x10\0flag\0" + address.OWN,
        address.leaf(["x"], "flag"),
        address.leaf(["x"], "flag", address.MEMBER + b"\x10"),
        address.leaf(["x"], "set", address.OWN),
        address.leaf(["x"], "map", address.OWN),
        address.leaf(["x"], "bcounter", address.OWN),
        address.leaf(["x"], "Flag", address.OWN),
        address.leaf(["x"], "flag", address.OPERATION + bytes(16)),
        address.leaf(["x"], "flag", address.BASE),
        address.leaf(["x"], "opcounter", address.OWN),
        address.leaf(["x"], "opcounter", address.OPERATION + bytes(16)),
        address.leaf(["x"], "opcounter", address.OPERATION + bytes(15)),
        address.leaf(["x"], "opcounter", address.operation_in(b"", (77, 2))),
    ],
    ids=bytes.hex,
)
def test_a_leaf_that_no_map_has_is_refused(tail: bytes) -> None:
    a = Replica(1)
    at = NAME.prefix + tail
    record = Record({(77, 1): None}, VersionVector({77: 1}))
    with pytest.raises(PeerError):
        a.merge([(at, codec.encode_record(at, record))], VersionVector({77: 1}), 0)


def test_what_its_leaf_never_writes_is_refused() -> None:
    a = Replica(1)
    at = NAME.prefix + address.leaf(["x"], "counter", address.OWN)
    record = Record({(77, 1): [77, 1, -1, 0, []]}, VersionVector({77: 1}))
    with pytest.raises(PeerError):
        a.merge([(at, codec.encode_record(at, record))], VersionVector({77: 1}), 0)


@pytest.mark.parametrize(
    ("prefix", "guard"),
    [
        (NAME.prefix + address.leaf(["x"], "flag"), None),
        (NAME.prefix + address.leaf(["x"], "flag", address.OWN), None),
        (NAME.prefix + address.leaf(["x"], "opcounter", address.BASE), None),
        (NAME.prefix + address.leaf(["x"], "opcounter"), 5),
        (NAME.prefix + address.LEAF, None),
        (NAME.prefix + address.leaves_at(["x"]), None),
    ],
    ids=repr,
)
def test_a_cut_that_no_map_has_is_refused(prefix: bytes, guard: int | None) -> None:
    a = Replica(1)
    at = address.cut(prefix)
    record = Record({(77, 1): cut_payload(VersionVector({77: 1}), guard)}, VersionVector({77: 1}))
    with pytest.raises(PeerError):
        a.merge([(at, codec.encode_record(at, record))], VersionVector({77: 1}), 0)


def test_a_cut_of_a_leaf_says_no_more_than_its_sender_has_seen() -> None:
    a = Replica(1)
    at = address.cut(NAME.prefix + address.leaf(["x"], "opcounter"))
    record = Record({(77, 1): cut_payload(VersionVector({77: 1, 78: 1}))}, VersionVector({77: 1}))
    with pytest.raises(PeerError, match="more than its sender"):
        a.merge([(at, codec.encode_record(at, record))], VersionVector({77: 1}), 0)


def test_an_erased_bucket_has_no_fields_left() -> None:
    a, b = Replica(1), Replica(2)
    _put(a, "x.n", "counter", "increment", by=3)
    _put(a, "x.s", "rwset", "remove", value=1)
    b.pull(a)
    b.commit(Erase(address.bucket_prefix("shop")))
    _put(a, "x.n", "counter", "increment")
    exchange(a, b)
    assert _values(a) == {"x.n": 1}


def test_an_erase_takes_out_marks_that_nobody_sees() -> None:
    """Of a map that does not exist for users: else an unseen add would lose to a mark."""
    a, b = Replica(1), Replica(2)
    _put(a, "s", "rwset", "remove", value=1)
    assert not a.exists("map")
    a.commit(Erase(address.bucket_prefix("shop")))
    _put(b, "s", "rwset", "add", value=1)
    exchange(a, b)
    assert _values(a) == {"s": [1]}


def test_a_field_with_several_types_shows_the_first_and_the_others_beside_it() -> None:
    a = Replica(1)
    _put(a, "f", "register", "set", value="x")
    _put(a, "f", "counter", "increment")
    _put(a, "f", "set", "add", value=1)
    assert a.value("map") == [
        {"field": ["f"], "type": "counter", "value": 1, "others": {"register": "x", "set": [1]}}
    ]


def test_fields_are_in_order_and_what_is_below_follows() -> None:
    a = Replica(1)
    for path in (["b"], ["a", "b"], ["a\0"], ["ab"], ["a", ""], ["a"], ["ü"], ["a\1"]):
        a.do("map", "update", field=path, do={"type": "flag", "op": "enable"})
    assert [leaf["field"] for leaf in a.value("map")] == [
        ["a"], ["a", ""], ["a", "b"], ["a\0"], ["a\1"], ["ab"], ["b"], ["ü"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("problem", "field", "plain"),
    [
        (BadRequest, "field", {"field": [], "do": {"type": "flag", "op": "enable"}}),
        (BadRequest, "field", {"field": ["x"] * 17, "do": {"type": "flag", "op": "enable"}}),
        (BadRequest, "field", {"field": ["\ud800"], "do": {"type": "flag", "op": "enable"}}),
        (TooLarge, "field", {"field": ["x" * 2_048], "do": {"type": "flag", "op": "enable"}}),
        (BadRequest, "do.type", {"field": ["x"], "do": 5}),
        (BadRequest, "do.op", {"field": ["x"], "do": {"type": "flag"}}),
        (BadRequest, "do.by", {"field": ["x"], "do": {"type": "counter", "op": "reset", "by": 1}}),
        (InvalidOperation, "do.op", {"field": ["x"], "do": {"type": "flag", "op": "increment"}}),
        (InvalidOperation, "do.type", {"field": ["x"], "do": {"type": "map", "op": "delete"}}),
        (
            InvalidOperation,
            "do.type",
            {"field": ["x"], "do": {"type": "bcounter", "op": "increment"}},
        ),
    ],
)
def test_what_no_leaf_can_do_is_refused(
    problem: type[Exception], field: str, plain: dict[str, Any]
) -> None:
    a = Replica(1)
    with pytest.raises(problem) as refused:
        a.do("map", "update", **plain)
    assert refused.value.fields[0].field == field  # type: ignore[attr-defined]
    assert not a.exists("map")


def test_a_page_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    a = Replica(1)
    for path in ("a", "b", "c"):
        _put(a, path, "register", "set", value="x" * 100)
    monkeypatch.setattr("crdtdb.fields.LIMITS", replace(LIMITS, body_bytes=150))
    with a.reading() as reading:
        page = read_leaves(reading, NAME, PageQuery())
        assert [leaf.path for leaf in page.leaves] == [("a",), ("b",)]
        page = read_leaves(reading, NAME, PageQuery(after=page.position))
        assert ([leaf.path for leaf in page.leaves], page.position) == ([("c",)], None)


def test_a_removal_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    a = Replica(1)
    _put(a, "x.y", "set", "add", values=[1, 2, 3])
    _put(a, "z", "counter", "increment")
    monkeypatch.setattr("crdtdb.types.map.LIMITS", replace(LIMITS, delete_objects=2))
    for plain in ({"op": "remove", "field": ["x"]}, {"op": "delete"}):
        with pytest.raises(TooLarge):
            a.do("map", **plain)
    a.do("map", "remove", field=["z"])
    assert _values(a) == {"x.y": [1, 2, 3]}
