"""The state-based family: records form a join-semilattice, and deltas are its steps."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtdb import record
from crdtdb.causal import NOTHING
from crdtdb.record import EMPTY
from laws.states import STATE_BASED, Held, held, joined, reached, textbook

every_type = pytest.mark.parametrize("type_name", STATE_BASED)


@every_type
@given(st.data())
def test_join_is_commutative(type_name: str, data: st.DataObject) -> None:
    for a, b, _ in held(data.draw(reached(type_name))):
        assert joined(a, b) == joined(b, a)


@every_type
@given(st.data())
def test_join_is_associative(type_name: str, data: st.DataObject) -> None:
    for states in held(data.draw(reached(type_name))):
        for a, b, c in permutations(states):
            assert joined(a, joined(b, c)) == joined(joined(a, b), c)


@every_type
@given(st.data())
def test_join_is_idempotent(type_name: str, data: st.DataObject) -> None:
    for a, b, _ in held(data.draw(reached(type_name))):
        assert joined(a, a) == a
        assert joined(joined(a, b), b) == joined(a, b)


@every_type
@given(st.data())
def test_join_agrees_with_the_textbook(type_name: str, data: st.DataObject) -> None:
    for states in held(data.draw(reached(type_name))):
        for a, b in permutations(states, 2):
            assert textbook(joined(a, b)) == record.join(textbook(a), textbook(b))
@every_type
@given(st.data())
def test_filter(type_name: str, data: st.DataObject) -> None:
    for states in held(data.draw(reached(type_name))):
        for a, b in permutations(states, 2):
            if a.seen.includes(b.record.context):
                assert joined(a, b).record.live == a.record.live
                assert joined(a, b).record == a.record
