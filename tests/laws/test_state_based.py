"""The state-based family: records form a join-semilattice, and deltas are the steps in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import pytest
from hypothesis import Phase, event, find, given, settings
from hypothesis import strategies as st

from crdtdb import address, record
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, Dot, VersionVector
from crdtdb.datatype import NO_PAYLOAD, Change, Delete, OperationType, Stamp, StateType
from crdtdb.errors import CallerError
from crdtdb.expiry import guards
from crdtdb.materialised import read_shown
from crdtdb.operations import read_operation
from crdtdb.record import EMPTY, Live, Record, after, visible
from crdtdb.store.base import Table
from crdtdb.types import CATALOGUE
from laws.states import (
    STATE_BASED,
    Held,
    Reached,
    carried_out,
    held_together,
    joined,
    reached,
    second_life,
    textbook,
)
from operations import all_operations
from replicas import START_MS, Replica

every_type = pytest.mark.parametrize("type_name", STATE_BASED)
BOTTOM = Held(EMPTY, NOTHING)


@every_type
@given(st.data())
def test_join_is_commutative(type_name: str, data: st.DataObject) -> None:
    for a, b in held_together(data.draw(reached(type_name)), 2):
        assert joined(a, b) == joined(b, a)


@every_type
@given(st.data())
def test_join_is_associative(type_name: str, data: st.DataObject) -> None:
    for a, b, c in held_together(data.draw(reached(type_name)), 3):
        assert joined(a, joined(b, c)) == joined(joined(a, b), c)


@every_type
@given(st.data())
def test_join_is_idempotent_and_has_a_unit(type_name: str, data: st.DataObject) -> None:
    for (a,) in held_together(data.draw(reached(type_name)), 1):
        assert joined(a, a) == joined(a, BOTTOM) == joined(BOTTOM, a) == a


@every_type
@given(st.data())
def test_join_goes_up(type_name: str, data: st.DataObject) -> None:
    """x ≤ x ⊔ y, where x ≤ y means x ⊔ y = y."""
    for a, b in held_together(data.draw(reached(type_name)), 2):
        assert joined(a, joined(a, b)) == joined(a, b)


@every_type
@given(st.data())
def test_join_without_what_is_seen_anyway_is_the_textbook_join(
    type_name: str, data: st.DataObject
) -> None:
    """Strip and fill (Gonçalves et al. 2015): contexts need not be stored whole."""
    for a, b in held_together(data.draw(reached(type_name)), 2):
        assert textbook(joined(a, b)) == record.join(textbook(a), textbook(b))


@every_type
@given(st.data())
def test_what_the_filter_of_a_pull_skips_would_change_nothing(
    type_name: str, data: st.DataObject
) -> None:
    for puller, donor in held_together(data.draw(reached(type_name)), 2):
        if puller.seen.includes(donor.record.context):
            assert joined(puller, donor).record == puller.record


@every_type
@given(st.data())
def test_a_cut_may_be_made_before_a_join_or_after_it(type_name: str, data: st.DataObject) -> None:
    execution = data.draw(reached(type_name))
    cut = data.draw(st.sampled_from(execution.replicas)).seen
    for a, b in held_together(execution, 2):
        before = joined(_cut(a, cut), _cut(b, cut)).record.live
        assert before == visible(joined(a, b).record.live, cut)


def _cut(state: Held, cut: VersionVector) -> Held:
    return Held(Record(visible(state.record.live, cut), state.record.context), state.seen)


#: As many as the laws have in CI, without looking for the simplest.
_GENERATED: Final = settings(phases=[Phase.generate], max_examples=200)


def test_states_are_nested_to_a_depth_of_three() -> None:
    """Among the examples of each law on maps: a field below a field below a field, contended."""
    find(reached("map"), _is_contended_at_depth_three, settings=_GENERATED)


def _is_contended_at_depth_three(execution: Reached) -> bool:
    prefix = ObjectName("shop", "map", "k").prefix + address.LEAF
    return any(
        at.startswith(prefix)
        and len(address.leaf_of(at[len(prefix) - 1 :]).path) == 3
        and any(len(held.record.live) > 1 for held in states)
        for at, states in execution.states.items()
    )


@pytest.mark.parametrize("type_name", [n for n, kind in CATALOGUE.items() if kind.deletable])
def test_a_third_of_the_states_have_had_a_life_before(type_name: str) -> None:
    """With a cut that depends on a deadline."""
    states = carried_out(second_life(type_name)).states
    cuts = [states[at][-1].record.live for at in states if address.is_cut(at)]
    assert any(any(guards(cut)) for cut in cuts)


def test_every_law_has_so_many_examples(pytestconfig: pytest.Config) -> None:
    """200, if nothing else is asked for; `make laws` asks for 2,000."""
    examples = pytestconfig.getoption("--examples")
    assert settings().max_examples == examples


# Deltas -------------------------------------------------------------------------------------------


class _Look:
    """What a type sees of an object that a replica holds, of which no cut may lapse."""

    def __init__(self, replica: Replica, prefix: bytes) -> None:
        self._replica = replica
        self._prefix = prefix

    def live(self, tail: bytes) -> Live:
        with self._replica.reading() as reading:
            cut = reading.head(self._prefix).cut
        return visible(self._replica.record(self._prefix + tail).live, cut)

    def stored(self, tail: bytes) -> Live:
        return self.live(tail)

    def whole(self) -> _Look:
        return self

    def size(self) -> int:
        with self._replica.reading() as reading:
            return reading.head(self._prefix).size

    def members(self, stem: bytes = address.MEMBER) -> Iterator[tuple[bytes, Live]]:
        members = self._prefix + stem
        for at in self._replica.rows()[Table.RECORDS]:
            tail = at[len(self._prefix) :]
            if at.startswith(members) and (live := self.live(tail)):
                yield tail, live

    def observed(self, live: Live) -> Collection[Dot]:
        return list(live)

    def replicas(self) -> Mapping[int, str]:
        return self._replica.engine.replicas()

    def folded(self, stem: bytes, kind: OperationType) -> Any:
        with self._replica.store.snapshot() as snapshot:
            return read_shown(snapshot, self._prefix + stem, kind)

    has_context = False


@every_type
@given(st.data())
def test_joining_its_delta_carries_out_an_operation(type_name: str, data: st.DataObject) -> None:
    """For any state x: x ⊔ delta is x without what the operation replaces, with what it leaves;
    and the delta alone tells others as much as that whole state."""
    replicas = data.draw(reached(type_name)).replicas
    plain = data.draw(st.sampled_from(all_operations(type_name)))
    writer = replicas[0]
    kind = CATALOGUE[type_name]
    assert isinstance(kind, StateType)
    operation = read_operation(type_name, plain)
    prefix = ObjectName("shop", type_name, "k").prefix
    incarnation = writer.engine.state.incarnation or 99
    dot = (incarnation, writer.seen.get(incarnation) + 1)
    look, stamp = _Look(writer, prefix), Stamp(dot, START_MS << 17)
    with writer.reading() as reading:
        if reading.head(prefix).timed:
            event("has a deadline")
            return
    deleting = isinstance(operation, Delete)
    try:
        changing = kind.delete(look, stamp) if deleting else kind.mutate(operation, look, stamp)
        changes = list(changing)
    except CallerError:
        event("refused")
        return
    for change in changes:
        if isinstance(change, Change):
            _check_delta(change, dot, look, replicas, prefix)


def _check_delta(
    change: Change, dot: Dot, look: _Look, replicas: list[Replica], prefix: bytes
) -> None:
    tail, replaces, payload = change
    standing = look.live(tail)
    rest = {d: p for d, p in standing.items() if d not in replaces}
    if payload is NO_PAYLOAD:
        delta, expected = after(Record(standing, NOTHING), dot, replaces), rest
    else:
        delta = after(Record(standing, NOTHING), dot, replaces, payload)
        expected = {**rest, dot: payload}
    at = prefix + tail
    states = [Held(replica.record(at), replica.seen) for replica in replicas]
    travelling = Held(delta, states[0].seen.with_dot(dot))
    whole = joined(states[0], travelling)
    assert whole.record.live == expected
    assert whole.record.context.covers(dot)
    for theirs in states:
        assert joined(theirs, travelling) == joined(theirs, whole)
