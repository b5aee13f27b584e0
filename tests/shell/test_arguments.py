"""Addresses, values and fields as people type them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crdtdb.address import ObjectName
from crdtdb_server.shell.arguments import (
    Where,
    read_address,
    read_field,
    read_value,
    read_where,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("shop/set/cart", ("shop", "set", "cart")),
        ("shop/set/cart/42", ("shop", "set", "cart/42")),
        ("shop/set//", ("shop", "set", "/")),
        ("shop/set/a%2Fb ü", ("shop", "set", "a%2Fb ü")),
    ],
)
def test_an_address_is_split_at_the_first_two_slashes(text: str, name: tuple[str, ...]) -> None:
    assert read_address(text) == ObjectName(*name)


@pytest.mark.parametrize("text", ["", "shop", "shop/set", "shop/set/", "/set/cart", "shop//cart"])
def test_anything_less_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not BUCKET/TYPE/KEY"):
        read_address(text)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("shop", Where("shop")),
        ("shop/", Where("shop")),
        ("shop/set", Where("shop", "set")),
        ("shop/set/", Where("shop", "set")),
        ("shop/set/a/b", Where("shop", "set", "a/b")),
    ],
)
def test_a_listing_begins_anywhere(text: str, where: Where) -> None:
    assert read_where(text) == where


@pytest.mark.parametrize("text", ["", "/", "/set", "shop//a"])
def test_a_listing_has_no_holes(text: str) -> None:
    with pytest.raises(ValueError, match="is not BUCKET"):
        read_where(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("1.0", 1.0),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ('"5"', "5"),
        ('"@x"', "@x"),
        ('{"a": [1]}', {"a": [1]}),
        ("apple", "apple"),
        ("", ""),
        ("Summer sale", "Summer sale"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("{a: 1}", "{a: 1}"),
        ("True", "True"),
        ("05", "05"),
        (" 5 ", 5),
    ],
)
def test_a_value_is_json_or_else_a_string(text: str, value: Any) -> None:
    found = read_value(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text", [str(2**64), '{"a": 1, "a": 2}', '"\\ud800"', "[" * 100 + "]" * 100]
)
def test_json_that_crdtdb_does_not_take_is_no_string_either(text: str) -> None:
    with pytest.raises(ValueError, match="The JSON value is refused"):
        read_value(text)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("by=5", "by", 5),
        ("value=apple", "value", "apple"),
        ("value=a=b", "value", "a=b"),
        ("value=", "value", ""),
        ('value:="5"', "value", "5"),
        ("values:=[1]", "values", [1]),
        ("value=:=5", "value", ":=5"),
    ],
)
def test_fields(text: str, name: str, value: Any) -> None:
    assert read_field(text) == (name, value)


@pytest.mark.parametrize("text", ["", "by", "=5", ":=5", "value:=apple", "value:=", "value:=NaN"])
def test_what_is_no_field(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not NAME=VALUE|refused"):
        read_field(text)


def test_a_value_can_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text("[1, 2]\n")
    assert read_value(f"@{file}") == [1, 2]
    assert read_field(f"values:=@{file}") == ("values", [1, 2])
    file.write_text("apple\n")
    assert read_field(f"value=@{file}") == ("value", "apple\n")
    with pytest.raises(ValueError, match="The JSON value is refused"):
        read_field(f"value:=@{file}")
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_value(f"@{file}")
    with pytest.raises(ValueError, match="No such file"):
        read_value(f"@{file}-nowhere")
    with pytest.raises(ValueError, match="Is a directory"):
        read_value(f"@{tmp_path}")
