"""Errors are the same classes at all doors, and name the field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crdtdb import Database
from crdtdb.address import ObjectName
from crdtdb.errors import (
    BadRequest,
    BadToken,
    InvalidOperation,
    Problem,
    TooLarge,
    UnknownType,
)
from crdtdb_client import Client

Door = Database | Client


@pytest.mark.parametrize(
    ("type_name", "key", "plain", "problem", "field"),
    [
        ("counter", "k", {"op": "increment", "by": 0}, BadRequest, "by"),
        ("counter", "k", {"op": "increment", "by": True}, BadRequest, "by"),
        ("counter", "k", {"op": "explode"}, InvalidOperation, "op"),
        ("counter", "", {"op": "increment"}, BadRequest, "key"),
        ("counter", "k" * 1_025, {"op": "increment"}, BadRequest, "key"),
        ("nonsense", "k", {"op": "increment"}, UnknownType, None),
        ("..", "k", {"op": "increment"}, UnknownType, None),
    ],
)
def test_a_refused_write(
    door: Door,
    type_name: str,
    key: str,
    plain: dict[str, Any],
    problem: type[Problem],
    field: str | None,
) -> None:
    with pytest.raises(problem) as caught:
        door.update(ObjectName("shop", type_name, key), [plain])
    assert caught.value.detail
    if field is not None:
        assert caught.value.fields[0].field == field


@pytest.mark.parametrize("value", [float("nan"), 2**64, {1: 2}, {1, 2}, b"x", "\ud800", object()])
def test_what_is_not_json(door: Door, value: Any) -> None:
    with pytest.raises(BadRequest):
        door.register("shop", "title").set(value)
    with pytest.raises(BadRequest):
        door.set("shop", "cart").add(value)
    with pytest.raises(BadRequest):
        door.set("shop", "cart").contains(value)
    with pytest.raises(BadRequest):
        door.set("shop", "cart").page(from_=value)
    assert door.digest().objects == 0


Asked = Callable[[Door], object]


@pytest.mark.parametrize(
    ("asked", "problem", "field"),
    [
        (lambda door: door.set("b", "k").page(limit=0), BadRequest, "limit"),
        (lambda door: door.set("b", "k").page(limit=1_001), BadRequest, "limit"),
        (lambda door: door.set("b", "k").page("made up"), BadRequest, "after"),
        (lambda door: door.set("b", "k").page(from_="x" * 5_000), TooLarge, "from"),
        (lambda door: door.set("b", "k").contains("x" * 5_000), TooLarge, "member"),
        (lambda door: door.set("b", "k").explain("x" * 5_000), TooLarge, "member"),
        (lambda door: door.set("b", "k").clear(seen="made up"), BadToken, None),
        (lambda door: door.set("B", "k").get(), BadRequest, "bucket"),
        (lambda door: door.contains(ObjectName("b", "counter", "k"), 1), InvalidOperation, None),
        (lambda door: door.read_together([]), BadRequest, None),
        (lambda door: door.types("B"), BadRequest, "bucket"),
        (lambda door: list(door.objects("b", "nonsense")), UnknownType, None),
        (lambda door: list(door.objects("b", "set", "x\0")), BadRequest, "prefix"),
    ],
)
def test_a_refused_question(
    door: Door, asked: Asked, problem: type[Problem], field: str | None
) -> None:
    with pytest.raises(problem) as caught:
        asked(door)
    assert caught.value.detail
    if field is not None:
        assert caught.value.fields[0].field == field


def test_a_page_is_continued_only_as_it_began(door: Door) -> None:
    cart = door.set("shop", "cart")
    cart.add(1, 2, 3)
    page = cart.page(limit=1)
    with pytest.raises(BadRequest) as caught:
        cart.page(page.next, 1, reverse=True)
    assert caught.value.fields[0].field == "after"
