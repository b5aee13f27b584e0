"""The op-based family: each operation once, after all it follows, in any order of the others."""

from __future__ import annotations

from contextlib import suppress
from itertools import permutations
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, Dot, VersionVector
from crdtdb.datatype import (
    Cut,
    Delete,
    DocumentType,
    NestedType,
    Operation,
    OperationType,
)
from crdtdb.errors import InvalidOperation
from crdtdb.materialised import reread_materialised
from crdtdb.operations import read_operation
from crdtdb.transaction import Result
from crdtdb.types import CATALOGUE
from laws.states import OPERATION_BASED, reached
from operations import all_operations
from oracle.checks import check_books
from replicas import Replica, Staged, missing
from witness import WITNESS, in_catalogue

#: Types whose leaves may be op-based.
NESTED: Final = [name for name, kind in CATALOGUE.items() if isinstance(kind, NestedType)]

every_type = pytest.mark.parametrize("type_name", OPERATION_BASED)


def _kind(type_name: str) -> OperationType:
    kind = CATALOGUE[type_name]
    assert isinstance(kind, OperationType)
    return kind


def _folded(replica: Replica, type_name: str) -> Any:
    """The materialised value of the object."""
    kind = _kind(type_name)
    with replica.store.snapshot() as snapshot:
        return reread_materialised(snapshot, ObjectName("shop", type_name, "k").prefix, kind).value


@every_type
@given(st.data())
def test_concurrent_operations_commute(type_name: str, data: st.DataObject) -> None:
    kind = _kind(type_name)
    a, b, witness = data.draw(reached(type_name)).replicas
    prepared: list[tuple[Dot, Any]] = []
    for number, writer in enumerate((a, b), start=90):
        operation = read_operation(type_name, data.draw(st.sampled_from(all_operations(type_name))))
        payload: Any = Cut()
        if type(operation) is not Delete:
            with suppress(InvalidOperation):
                payload = _prepared(kind, operation, _folded(writer, type_name), number)
        if payload is not None and not isinstance(payload, Cut):
            prepared.append(((number, 1), payload))
        witness.pull(writer)
    values = set()
    for order in permutations(prepared):
        folded = _folded(witness, type_name)
        for dot, payload in order:
            folded = kind.apply(folded, dot, payload)
        is_document = isinstance(kind, DocumentType)
        values.add(repr(kind.shown(folded) if is_document else kind.dump(folded)))
    assert len(values) == 1


def _prepared(kind: OperationType, operation: Operation, folded: Any, writer: int) -> Any:
    if isinstance(kind, DocumentType):
        return kind.edit(folded, [operation], writer).payload
    return kind.prepare(operation, folded)


@pytest.mark.parametrize("type_name", [*OPERATION_BASED, *NESTED])
@given(st.data())
def test_folding_what_everybody_has_changes_nothing(type_name: str, data: st.DataObject) -> None:
    replicas = data.draw(reached(type_name)).replicas
    _exchange(replicas)
    before = replicas[0].digest()
    for replica in replicas[:2]:
        replica.reclaim()
        check_books(replica.store)
    newcomer = Replica(9)
    newcomer.pull(replicas[0])
    replicas[2].pull(replicas[0])
    assert {replica.digest() for replica in [*replicas, newcomer]} == {before}


def _exchange(replicas: list[Replica]) -> None:
    for _ in range(2):
        for replica, donor in permutations(replicas, 2):
            replica.pull(donor)


# Delivery -----------------------------------------------------------------------------------------


class _Delivery:
    """Three replicas of the witness, what they wrote, and what a reader may expect of them."""

    STEPS: Final = ("note", "note", "delete", "pull", "stage", "claim", "again", "settle")

    def __init__(self, field: list[str] | None) -> None:
        """The witness is an object, or the leaf of a map at a field."""
        self._field = field
        self.replicas = [Replica(number) for number in (1, 2, 3)]
        self._staged: dict[int, Staged] = {}
        #: Each operation, and what its writer had seen.
        self._notes: dict[Dot, VersionVector] = {}
        #: Each delete, and what it had seen.
        self._deletes: dict[Dot, VersionVector] = {}

    def carry_out(self, step: str, number: int, other: int) -> None:
        replica, donor = self.replicas[number], self.replicas[other]
        before = replica.seen
        match step:
            case "note":
                self._note(replica)
                self._notes[self._last_dot(replica)] = before
            case "delete" if self._delete(replica).changed:
                self._deletes[self._last_dot(replica)] = before
            case "pull":
                replica.pull(donor)
            case "stage":
                self._staged[number] = replica.stage(donor)
            case "claim" if number in self._staged:
                replica.claim(self._staged[number])
            case "again":
                replica.merge(missing(donor.store, NOTHING), donor.seen, 0)
            case "settle":
                _exchange(self.replicas)
                replica.reclaim()

    def _note(self, replica: Replica) -> Result:
        if self._field is None:
            return replica.do(WITNESS, "note")
        do = {"type": WITNESS, "op": "note"}
        return replica.do("map", "update", field=self._field, do=do)

    def _delete(self, replica: Replica) -> Result:
        """Of a leaf: together with the field above it."""
        if self._field is None:
            return replica.do(WITNESS, "delete")
        return replica.do("map", "remove", field=self._field[:-1])

    def _applied(self, replica: Replica) -> list[list[int]]:
        """The operations in the order in which they were applied."""
        if self._field is None:
            dots = replica.value(WITNESS)
        else:
            leaves = replica.value("map")
            dots = leaves[0]["value"] if leaves else []
        assert isinstance(dots, list)
        return dots

    def _last_dot(self, replica: Replica) -> Dot:
        own = replica.engine.state.incarnation
        return own, replica.seen.get(own)

    def check(self) -> None:
        for replica in self.replicas:
            applied = [(incarnation, n) for incarnation, n in self._applied(replica)]
            deletes = [seen for dot, seen in self._deletes.items() if replica.seen.covers(dot)]
            assert sorted(applied) == sorted(
                dot
                for dot in self._notes
                if replica.seen.covers(dot) and not any(seen.covers(dot) for seen in deletes)
            )
            for position, dot in enumerate(applied):
                assert not any(self._notes[dot].covers(later) for later in applied[position:])


@pytest.mark.parametrize("field", [None, ["a", "b", "c"]], ids=["an object", "a leaf"])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(_Delivery.STEPS), st.integers(0, 2), st.integers(0, 2)),
        min_size=6,
        max_size=25,
    )
)
def test_each_operation_is_applied_once_and_after_all_it_follows(
    steps: list[tuple[str, int, int]], field: list[str] | None
) -> None:
    with in_catalogue():
        delivery = _Delivery(field)
        for step in steps:
            delivery.carry_out(*step)
            delivery.check()
        for replica in delivery.replicas:
            check_books(replica.store)


# Merging ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_name", CATALOGUE)
@given(st.data())
def test_taking_in_the_same_again_changes_nothing(type_name: str, data: st.DataObject) -> None:
    """Of both families, whatever came in between."""
    a, b, c = data.draw(reached(type_name)).replicas
    staged = a.stage(b)
    everything = Staged(missing(c.store, NOTHING), c.seen, 0)
    for pages in (staged, everything):
        a.claim(pages)
        rows = a.rows()
        a.claim(pages)
        assert a.rows() == rows
