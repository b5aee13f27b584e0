"""Values out of an export and into an import: every type writes again what a read showed."""

from __future__ import annotations

from typing import Any

import pytest

from crdtdb.address import ObjectName
from crdtdb.datatype import NestedType
from crdtdb.errors import BadRequest
from crdtdb.fields import read_leaves
from crdtdb.jsonvalue import JsonValue
from crdtdb.limits import LIMITS
from crdtdb.operations import read_operation, type_named
from crdtdb.reading import PageQuery
from crdtdb.transaction import Transaction, Update
from crdtdb.types import CATALOGUE
from operations import EXPORTS, NO_EXPORTS
from replicas import Replica


def _restore(replica: Replica, type_name: str, value: JsonValue) -> int:
    """Write a value as an import would; how many operations that took."""
    kind = type_named(type_name)
    name = ObjectName("shop", type_name, "k")
    operations = 0
    for portion in kind.portions(value):
        updates = tuple(
            Update(name, read_operation(type_name, plain).restoring(), seen)
            for plain, seen in kind.restore(portion)
        )
        assert len(updates) <= LIMITS.transaction_operations
        (outcome,) = replica.engine.commit([Transaction(updates)]).outcomes
        assert outcome.error is None
        operations += len(updates)
    return operations


def _value(replica: Replica, type_name: str) -> Any:
    name = ObjectName("shop", type_name, "k")
    with replica.reading() as reading:
        head = reading.head(name.prefix)
        if isinstance(type_named(type_name), NestedType):
            leaves = read_leaves(reading, name, PageQuery(10_000), exported=True).leaves
            return [{"field": [*path], "type": t, "value": value} for path, t, value in leaves]
        if type_named(type_name).collection:
            items = reading.page(name, head, PageQuery(10_000)).items
            return type_named(type_name).exported_items(items)
        return reading.exported(name, head)


def test_no_type_is_forgotten() -> None:
    assert EXPORTS.keys() == NO_EXPORTS.keys() == CATALOGUE.keys()


@pytest.mark.parametrize("type_name", EXPORTS)
def test_what_a_read_showed_is_written_again(type_name: str) -> None:
    for value in EXPORTS[type_name]:
        replica = Replica(1)
        _restore(replica, type_name, value)
        shown = _value(replica, type_name)
        assert (
            sorted(map(repr, shown)) == sorted(map(repr, value))
            if isinstance(value, list)
            else shown == value
        )


@pytest.mark.parametrize("type_name", NO_EXPORTS)
def test_what_is_no_value_is_refused(type_name: str) -> None:
    for value in NO_EXPORTS[type_name]:
        with pytest.raises(BadRequest) as refused:
            list(type_named(type_name).restore(value))
        assert refused.value.fields[0].field == "value"


def test_counters_and_sets_add_to_what_is_there() -> None:
    replica = Replica(1)
    for _ in range(2):
        assert _restore(replica, "counter", -(LIMITS.step + 1)) == 2
        _restore(replica, "set", [1, 2])
    assert _value(replica, "counter") == -2 * (LIMITS.step + 1)
    assert _value(replica, "set") == [1, 2]


def test_a_register_with_several_values_is_written_whole_each_time() -> None:
    replica = Replica(1)
    for _ in range(2):
        _restore(replica, "mvregister", [1, 2, 3])
        assert _value(replica, "mvregister") == [1, 2, 3]
