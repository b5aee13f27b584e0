"""What every type of the catalogue keeps, whatever it means."""

from __future__ import annotations

from pathlib import Path

import pytest

from crdtdb import address
from crdtdb.datatype import CollectionType, NestedType, Operation, OperationType, ScalarType
from crdtdb.operations import operation_names
from crdtdb.types import CATALOGUE
from operations import OPERATIONS
from replicas import Replica

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_type_is_named_like_its_file_and_has_stories(name: str) -> None:
    kind = CATALOGUE[name]
    assert kind.name == name
    assert type(kind).__module__ == f"crdtdb.types.{name}"
    assert FOLDER.joinpath(f"test_{name}.py").exists()
    assert kind.summary.endswith(".")


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_suites_try_every_operation_of_a_type(name: str) -> None:
    # Deadlines have suites of their own (test_expiry.py), with clocks that move.
    assert {op for op, _ in OPERATIONS[name]} == {*operation_names(name)} - {"expire", "persist"}
    assert all(issubclass(struct, Operation) for struct in CATALOGUE[name].operations)
    assert all(struct.__doc__ for struct in CATALOGUE[name].operations)


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_object_that_nobody_wrote_reads_as_bottom(name: str) -> None:
    a = Replica(1)
    match CATALOGUE[name]:
        case ScalarType() as kind:
            assert a.value(name) == kind.value({})
        case CollectionType():
            assert a.value(name) == []
        case NestedType():
            assert a.value(name) == []
        case OperationType() as kind:
            assert a.value(name) == kind.value(kind.empty())
    assert not a.exists(name)
    if CATALOGUE[name].deletable:
        assert not a.do(name, "delete").changed


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_type_has_records_at_the_tails_of_its_family_only(name: str) -> None:
    kind = CATALOGUE[name]
    member, operation = address.MEMBER + b"\x10", address.OPERATION + bytes(16)
    leaf = address.leaf(["a"], "flag", address.OWN)
    match kind:
        case ScalarType():
            own = [address.OWN]
        case CollectionType():
            own = [member]
        case NestedType():
            own = [leaf]
        case OperationType():
            own = [address.BASE, operation]
    every = [address.OWN, address.BASE, operation, member, leaf]
    assert [tail for tail in every if kind.places(tail)] == own
