"""Version vectors form a lattice, and have one canonical form."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdtdb.causal import NOTHING, Dot, VersionVector, format_dot
from crdtdb.floors import UnknownFloor, floor_of, read_floored, write_floored
from laws.vectors import dots
from laws.vectors import floored as vectors


@given(vectors, vectors, vectors)
def test_join_and_meet_make_a_lattice(a: VersionVector, b: VersionVector, c: VersionVector) -> None:
    assert a.join(b) == b.join(a)
    assert a.meet(b) == b.meet(a)
    assert a.join(b.join(c)) == a.join(b).join(c)
    assert a.meet(b.meet(c)) == a.meet(b).meet(c)
    assert a.join(a) == a.meet(a) == a
    assert a.join(a.meet(b)) == a.meet(a.join(b)) == a
    assert a.meet(b.join(c)) == a.meet(b).join(a.meet(c))
    assert a.join(NOTHING) == a
    assert a.meet(NOTHING) == NOTHING


@given(vectors, vectors)
def test_includes_is_the_order_of_the_lattice(a: VersionVector, b: VersionVector) -> None:
    assert a.includes(b) == (a.join(b) == a) == (a.meet(b) == b)
    assert a.join(b).includes(a)
    assert a.includes(a.meet(b))
    if a.includes(b) and b.includes(a):
        assert a == b
        assert hash(a) == hash(b)


@given(vectors, vectors, dots)
def test_a_vector_is_the_set_of_the_dots_it_covers(
    a: VersionVector, b: VersionVector, dot: Dot
) -> None:
    assert a.join(b).covers(dot) == (a.covers(dot) or b.covers(dot))
    assert a.meet(b).covers(dot) == (a.covers(dot) and b.covers(dot))
    assert a.covers(dot) == (a.get(dot[0]) >= dot[1]) == a.includes(VersionVector.of([dot]))
    if a.covers(dot):
        assert dot[1] == 1 or a.covers((dot[0], dot[1] - 1))


@given(vectors, dots)
def test_a_dot_raises_its_own_incarnation_only(a: VersionVector, dot: Dot) -> None:
    raised = a.with_dot(dot)
    assert raised == a.join(VersionVector.of([dot]))
    assert raised.without(dot[0]) == a.without(dot[0])
    assert not raised.without(dot[0]).covers(dot)
    assert a.with_dot(dot) == raised, "vectors never change"


@given(vectors, vectors)
def test_missing_counts_the_operations_in_between(a: VersionVector, b: VersionVector) -> None:
    joined = a.join(b)
    assert a.missing(b) == a.missing(joined)
    assert (a.missing(b) == 0) == a.includes(b)
    assert a.missing(b) == sum(joined.get(i) - a.get(i) for i, _ in joined.items())


@given(vectors, vectors)
def test_a_floor_changes_nothing_that_a_vector_says(a: VersionVector, b: VersionVector) -> None:
    floor = floor_of(a)
    raised = a.join(b).resting_on(floor)
    assert raised == a.join(b)
    assert raised.floor is floor
    assert read_floored(write_floored(raised), {floor.mark: floor}) == raised
    assert len(raised.flat_above()) <= len(raised.flat())
    assert b.resting_on(floor) == b, "also where it does not include the floor"


def test_the_vector_of_what_rests_on_a_floor_is_as_long_as_what_is_above() -> None:
    floor = floor_of(VersionVector(dict.fromkeys(range(100, 300), 7)))
    vector = VersionVector({1: 5, 2: 6}).above(floor).with_dot((1, 6))
    assert vector.flat_above() == [1, 6, 2, 6]
    assert vector.covers((299, 7))
    assert not vector.covers((299, 8))
    assert vector.with_dot((299, 8)).flat_above() == [1, 6, 2, 6, 299, 8]
    assert vector.meet(vector.with_dot((2, 9))).floor is vector.join(vector).floor is floor


def test_a_vector_on_an_unknown_floor_is_refused() -> None:
    vector = VersionVector({1: 5}).above(floor_of(VersionVector({2: 6})))
    with pytest.raises(UnknownFloor):
        read_floored(write_floored(vector), {})


@given(st.lists(dots))
def test_the_vector_of_some_dots_is_the_least_that_covers_them(some: list[Dot]) -> None:
    vector = VersionVector.of(some)
    assert all(vector.covers(dot) for dot in some)
    assert all((incarnation, counter) in some for incarnation, counter in vector.items())
    assert len(vector) == len({incarnation for incarnation, _ in some})


@given(vectors)
def test_the_flat_form_is_read_back(a: VersionVector) -> None:
    assert VersionVector.from_flat(a.flat()) == a
    assert a.flat() == VersionVector(dict(reversed(list(a.items())))).flat()


@given(st.lists(st.integers(-1, 4) | st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64])))
@example([1, 1, 1, 1])
@example([2, 1, 1, 1])
@example([1, 0])
@example([1])
def test_a_flat_form_is_refused_or_canonical(flat: list[int]) -> None:
    try:
        vector = VersionVector.from_flat(flat)
    except ValueError:
        return
    assert vector.flat() == flat
    assert all(0 <= i < 2**64 and 1 <= n < 2**63 for i, n in vector.items())


@pytest.mark.parametrize("flat", [[1], [1, 0], [1, 1, 1, 2], [2, 1, 1, 1], [-1, 1], [1, 2**63]])
def test_a_flat_form_that_no_replica_writes_is_refused(flat: list[int]) -> None:
    with pytest.raises(ValueError, match="version vector"):
        VersionVector.from_flat(flat)


def test_people_see_incarnations_in_hexadecimal() -> None:
    assert format_dot((0xABC, 12)) == "0000000000000abc:12"
    assert repr(VersionVector({2: 5, 1: 3})) == "{0000000000000001:3, 0000000000000002:5}"
