"""Which operations may be carried out again elsewhere when nobody knows whether they were."""

from __future__ import annotations

from typing import Any

import pytest

from crdtdb.operations import is_repeatable
from crdtdb.types import CATALOGUE


@pytest.mark.parametrize(
    ("type_name", "plain"),
    [
        # They win over what is concurrent with them, by the rule of their type.
        ("set", {"op": "add", "value": 1}),
        ("gset", {"op": "add", "values": [1, 2]}),
        ("flag", {"op": "enable"}),
        ("dwflag", {"op": "disable"}),
        ("rwset", {"op": "remove", "values": [1, 2]}),
        # They change nothing once they have been.
        ("max", {"op": "set", "value": 1}),
        ("min", {"op": "set", "value": 1}),
        ("hll", {"op": "add", "value": 1}),
        ("hll", {"op": "merge", "sketch": "AQykAQ=="}),
        # They remove what one read showed, and nothing that came after it.
        ("set", {"op": "remove", "value": 1, "seen": "x"}),
        ("set", {"op": "clear", "seen": "x"}),
        ("zset", {"op": "remove", "member": 1, "seen": "x"}),
        ("flag", {"op": "disable", "seen": "x"}),
        ("register", {"op": "delete", "seen": "x"}),
        ("map", {"op": "remove", "field": ["a"], "seen": "x"}),
        # What a leaf can do twice, its map can.
        ("map", {"op": "update", "field": ["a"], "do": {"type": "set", "op": "add", "value": 1}}),
    ],
)
def test_what_a_repetition_does_not_spoil(type_name: str, plain: dict[str, Any]) -> None:
    assert is_repeatable(type_name, plain)


@pytest.mark.parametrize(
    ("type_name", "plain"),
    [
        ("counter", {"op": "increment"}),
        ("opcounter", {"op": "decrement"}),
        ("zset", {"op": "increment", "member": 1, "by": 0.5}),
        # The second time they would take out what was done after the first.
        ("counter", {"op": "reset"}),
        ("set", {"op": "remove", "value": 1}),
        ("set", {"op": "clear"}),
        ("rwset", {"op": "clear"}),
        ("flag", {"op": "disable"}),
        ("map", {"op": "remove", "field": ["a"]}),
        ("map", {"op": "update", "field": ["a"], "do": {"type": "counter", "op": "increment"}}),
        ("set", {"op": "delete"}),
        # They would overrule a value that was set after the first time, by who had seen it.
        ("register", {"op": "set", "value": 1}),
        ("zset", {"op": "add", "member": 1, "score": 1}),
        ("mvregister", {"op": "set", "value": 1, "seen": "x"}),
        # They lose against what is concurrent with them.
        ("dwflag", {"op": "enable"}),
        ("rwset", {"op": "add", "value": 1}),
        # What this version does not know.
        ("set", {"op": "shuffle"}),
        ("tensor", {"op": "add", "value": 1}),
        ("set", {"op": "add", "value": 1, "until": "tomorrow"}),
    ],
)
def test_what_counts_again(type_name: str, plain: dict[str, Any]) -> None:
    assert not is_repeatable(type_name, plain)


@pytest.mark.parametrize("type_name", CATALOGUE)
def test_a_delete_without_a_read_context_is_never_repeated(type_name: str) -> None:
    assert not is_repeatable(type_name, {"op": "delete"})
