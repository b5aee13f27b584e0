"""What cannot be is refused, for each type at each door: nothing has changed, the same problem is
told, and it says what is possible instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, TypeAlias

import pytest
from msgspec import NODEFAULT
from msgspec.structs import fields

from crdtdb import Database
from crdtdb.address import ObjectName
from crdtdb.errors import CallerError, NoRights
from crdtdb.limits import LIMITS
from crdtdb.operations import operation_names, operation_structs
from crdtdb.store.memory import MemoryStore
from crdtdb.types import CATALOGUE
from crdtdb_client import Client
from operations import Plain, creation
from replicas import Replica, acquaint, exchange

Door = Database | Client
Opened = Callable[[MemoryStore], AbstractContextManager[Door]]
#: An operation; and the slug, field and words of its refusal (a regular expression).
_Refused: TypeAlias = tuple[Any, str, str, str]

_LEAVES: Final = [name for name, kind in CATALOGUE.items() if kind.deletable and name != "map"]
_GONE: Final = "deleted, or has not arrived"
#: No element of any list here.
_NO_ID: Final = "0000000100000001:9"


class Bad(NamedTuple):
    """An operation that is refused, and how."""

    type: str
    operation: Any
    slug: str
    field: str
    instead: str


def _of_any(type_name: str) -> Iterator[_Refused]:
    """What an object of whatever type cannot."""
    names, first = ", ".join(operation_names(type_name)), creation(type_name)
    for op in ("explode", "Delete", ""):
        yield {"op": op}, "invalid-operation", "op", re.escape(names)
    for no_operation in ({"by": 1}, {"op": 1}, {"op": None}, {}):
        yield no_operation, "bad-request", "op", re.escape(f"`op` is one of {names}")
    for no_object in ("increment", None, 5):
        yield no_object, "bad-request", "", re.escape('such as {"op": "…"}')
    yield {**first, "colour": 1}, "bad-request", "colour", "unknown field `colour`; known: "
    for op, struct in operation_structs(type_name).items():
        for one in fields(struct):
            if one.default is one.default_factory is NODEFAULT:
                yield {"op": op}, "bad-request", one.encode_name, "missing required field"
                break
    if not CATALOGUE[type_name].deletable:
        for op in ("delete", "expire", "persist"):
            yield {"op": op}, "invalid-operation", "op", re.escape(names)
        return
    past = {"op": "expire", "at_ms": 1_000}
    yield past, "invalid-operation", "at_ms", "give a later one, or `delete` the object"
    for neither in ({}, {"in_ms": 5, "at_ms": 2**47}):
        yield {"op": "expire", **neither}, "bad-request", "", "`in_ms` or `at_ms`, one of them"
    yield {"op": "expire", "in_ms": 0}, "bad-request", "in_ms", ">= 1"
    if CATALOGUE[type_name].removable:
        made_up = {"op": "delete", "seen": "made up"}
        yield made_up, "bad-token", "seen", _NO_TOKEN


def _below(do: Any, field: Any = ("a",)) -> Plain:
    return {"op": "update", "field": field if isinstance(field, str) else list(field), "do": do}


def _of_leaves() -> Iterator[_Refused]:
    """What a field of a map cannot."""
    for name in _LEAVES:
        names = re.escape(", ".join(operation_names(name)))
        yield _below({"type": name, "op": "explode"}), "invalid-operation", "do.op", names
        yield _below({"type": name}), "bad-request", "do.op", names
        unknown = {"type": name, **creation(name), "colour": 1}
        yield _below(unknown), "bad-request", "do.colour", "known: "
        for op in ({"op": "expire", "in_ms": 5}, {"op": "persist"}):
            deadline = _below({"type": name, **op})
            yield deadline, "invalid-operation", "do.op", "give the whole map one"
        # The leaf at `counted` is a counter.
        below = _below({"type": name, **creation(name)}, ("counted", "x"))
        yield below, "invalid-operation", "field", "name that field, or remove it before"
    known = "leaves are .*" + ", ".join(_LEAVES)
    for name in ("bcounter", "map"):
        for plain in (creation(name), {"op": "explode"}):
            yield _below({"type": name, **plain}), "invalid-operation", "do.type", known
    yield _below({"type": "nonsense", "op": "set"}), "unknown-type", "do.type", ", ".join(CATALOGUE)
    unnamed: tuple[Any, ...] = (
        "increment",
        None,
        {},
        {"op": "increment"},
        {"type": 1, "op": "set"},
    )
    for do in unnamed:
        yield _below(do), "bad-request", "do.type", re.escape('{"type": "counter"')
    good = {"type": "counter", "op": "increment"}
    for field in ([], "a", ["a"] * (LIMITS.map_depth + 1)):
        yield _below(good, field), "bad-request", "field", "array|>= 1|<= 16"
    yield _below(good, [1]), "bad-request", "field[0]", "`str`"


_BY: Final[list[_Refused]] = [
    ({"op": "increment", "by": by}, "bad-request", "by", "int|>= 1|<= 9007199254740991")
    for by in (0, -1, 2**53, True, 1.0, "1", None)
]
_NO_TOKEN: Final = "send it as it was given"

_MEMBERS: Final[list[_Refused]] = [
    ({"op": "add"}, "bad-request", "value", "one `value`, or a list of `values`"),
    ({"op": "add", "value": 1, "values": [2]}, "bad-request", "value", "or a list of `values`"),
    ({"op": "add", "value": "x" * 5_000}, "too-large", "value", str(LIMITS.member_bytes)),
    ({"op": "add", "values": []}, "bad-request", "values", ">= 1"),
]
_SETTING: Final[list[_Refused]] = [
    ({"op": "set", "value": "x" * LIMITS.value_bytes}, "too-large", "value", ""),
]

#: What each type cannot by itself. What is done to the objects before: `_BEFORE`.
_OF_TYPES: Final[dict[str, list[_Refused]]] = {
    "counter": _BY,
    "gcounter": _BY,
    "opcounter": _BY,
    "bcounter": [
        *_BY,
        ({"op": "decrement"}, "out-of-bounds", "by", "0"),
        ({"op": "increment", "by": 6}, "out-of-bounds", "by", "5"),
        ({"op": "transfer", "to": "nobody", "amount": 1}, "invalid-operation", "to", "/v1/cluster"),
        ({"op": "create", "max": 9}, "conflicting-bounds", "max", "`max` 5; its bounds stay"),
        ({"op": "create", "min": 5, "max": 1}, "bad-request", "max", "below `min`, 5"),
    ],
    "register": _SETTING,
    "mvregister": [
        *_SETTING,
        ({"op": "set", "value": 1, "seen": "x"}, "bad-token", "seen", _NO_TOKEN),
    ],
    "max": _SETTING,
    "min": _SETTING,
    "flag": [({"op": "disable", "seen": "x"}, "bad-token", "seen", _NO_TOKEN)],
    "dwflag": [({"op": "disable", "seen": "x"}, "bad-token", "seen", _NO_TOKEN)],
    "set": _MEMBERS,
    "gset": [*_MEMBERS, ({"op": "remove", "value": 1}, "invalid-operation", "op", "it has add")],
    "rwset": _MEMBERS,
    "hll": [({"op": "merge", "sketch": "AAAA"}, "bad-request", "sketch", "export")],
    "zset": [
        *(
            ({"op": op, "member": "a", field: score}, "bad-request", field, "")
            for op, field in (("add", "score"), ("increment", "by"))
            for score in (float("inf"), float("nan"), float("-inf"), "1", None, True)
        ),
        (
            {"op": "increment", "member": "huge", "by": 1.7e308},
            "invalid-operation",
            "by",
            "finite|double|range",
        ),
    ],
    "list": [
        ({"op": "insert", "value": 1, "after": _NO_ID}, "gone", "after", _GONE),
        ({"op": "insert", "value": 1, "before": _NO_ID}, "gone", "before", _GONE),
        ({"op": "delete", "ids": [_NO_ID]}, "gone", "ids[0]", _GONE),
        ({"op": "insert", "value": 1, "after": "?"}, "bad-request", "after", ""),
        ({"op": "insert", "value": 1, "index": 3}, "invalid-operation", "index", "2 elements"),
        ({"op": "delete", "index": 2}, "invalid-operation", "index", "2 elements"),
        ({"op": "delete", "index": 0, "count": 3}, "invalid-operation", "count", "2 elements"),
        ({"op": "insert", "value": 1, "index": 0, "after": _NO_ID}, "bad-request", "index", ""),
    ],
    "text": [
        ({"op": "insert", "text": "x", "index": 4}, "invalid-operation", "index", "at 0 to 3"),
        ({"op": "delete", "index": 3, "length": 1}, "invalid-operation", "index", "3 characters"),
        ({"op": "delete", "index": 1, "length": 3}, "invalid-operation", "length", "3 char"),
        ({"op": "delete", "index": 1}, "bad-request", "length", "by `length` how much"),
        ({"op": "insert", "text": ""}, "bad-request", "text", ">= 1"),
        (
            {"op": "insert", "text": "\ud800"},
            "bad-request",
            "text",
            "whole characters|UTF-8|surrogate",
        ),
        ({"op": "update", "yjs": "!!!!"}, "bad-request", "yjs", "in base64"),
    ],
    "map": [
        *_of_leaves(),
        ({"op": "remove", "field": []}, "bad-request", "field", ">= 1"),
    ],
}
_BEFORE: Final[dict[str, list[Plain]]] = {
    "bcounter": [{"op": "create", "min": 0, "max": 5}],
    "list": [{"op": "insert", "values": ["a", "b"]}],
    "map": [_below({"type": "counter", "op": "increment"}, ("counted",))],
    "text": [{"op": "insert", "text": "abc"}],
    "zset": [{"op": "add", "member": "huge", "score": 1.7e308}],
}


def _bad(type_name: str) -> Iterator[Bad]:
    for refused in (*_of_any(type_name), *_OF_TYPES.get(type_name, ())):
        yield Bad(type_name, *refused)


def _refused(door: Door, name: ObjectName, operation: Any) -> tuple[Any, ...]:
    with pytest.raises(CallerError) as caught:
        door.update(name, [operation])
    problem = caught.value
    first = problem.fields[0] if problem.fields else None
    # What no JSON can hold is refused with its place in the document, before it is sent.
    return problem.slug, first and first.field.removeprefix("$."), problem.detail


def _in_a_transaction(door: Door, name: ObjectName, operation: Any) -> None:
    with door.transaction() as tx:
        tx.flag("shop", "beside").enable()
        getattr(tx, name.type)(name.bucket, name.key)._update(name, [operation])


@pytest.mark.parametrize("type_name", CATALOGUE)
def test_what_cannot_be_changes_nothing_and_says_what_can(door: Door, type_name: str) -> None:
    """Alone, and together with what is good."""
    name = ObjectName("shop", type_name, "k")
    for operation in _BEFORE.get(type_name, [creation(type_name)]):
        door.update(name, [operation])
    before, shown = door.digest(), door.read(name)
    for bad in _bad(type_name):
        slug, field, detail = _refused(door, name, bad.operation)
        assert (slug, field) == (bad.slug, bad.field), bad
        assert re.search(bad.instead, detail), (bad, detail)
        if isinstance(bad.operation, dict):
            with pytest.raises(CallerError) as caught:
                _in_a_transaction(door, name, bad.operation)
            assert caught.value.slug == bad.slug, bad
        after = door.digest()
        assert (after.digest, after.objects) == (before.digest, before.objects), bad
    assert door.read(name).value == shown.value


def test_rights_that_others_hold_are_not_used_and_it_is_told_who_does(opened: Opened) -> None:
    here, there = Replica(1), Replica(2)
    acquaint(here, there)
    there.do("bcounter", "create", max=20)
    there.do("bcounter", "increment", by=7)
    exchange(here, there)
    with opened(here.store) as door:
        stock, before = door.bcounter("shop", "k"), door.digest()
        with pytest.raises(NoRights, match="holds 0 of the rights to decrement") as refused:
            stock.decrement()
        assert "holds 7" in refused.value.detail
        assert [field.limit for field in refused.value.fields] == [0, 7]
        after = door.digest()
        assert (after.digest, stock.get().value) == (before.digest, 7)
