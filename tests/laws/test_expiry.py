"""Laws of deadlines and guarded cuts: functions of what is in force, whatever order it came in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtdb.expiry import deadline_of, standing
from crdtdb.record import Live

_MS = st.integers(1, 6)
_DOTS = st.tuples(st.integers(1, 3), st.integers(1, 4))
_DEADLINES = st.dictionaries(_DOTS, st.tuples(st.none() | _MS, _MS), max_size=4)
_VECTORS = st.builds(lambda a, b: [1, a, 2, b], st.integers(1, 4), st.integers(1, 4))
_CUTS = st.dictionaries(_DOTS, st.tuples(_VECTORS, st.none() | _MS), max_size=3)


def _reversed(live: Live) -> Live:
    return dict(reversed(list(live.items())))


@given(_DEADLINES, _CUTS)
def test_no_order_matters(deadlines: Live, cuts: Live) -> None:
    assert deadline_of(deadlines) == deadline_of(_reversed(deadlines))
    assert standing(cuts, deadlines) == standing(_reversed(cuts), _reversed(deadlines))


@given(_DEADLINES, _DEADLINES)
def test_of_two_the_later_counts_and_none_more_than_any(one: Live, other: Live) -> None:
    both = {**one, **{dot: given for dot, given in other.items() if dot not in one}}
    found = {deadline_of(one), deadline_of({d: both[d] for d in both if d not in one})}
    if any(at_ms is None for at_ms, _ in both.values()):
        assert deadline_of(both) is None
    else:
        assert deadline_of(both) == max((f for f in found if f is not None), default=None)


@given(_DEADLINES, _CUTS)
def test_what_is_given_after_a_guard_does_not_bring_back_what_it_cut(
    deadlines: Live, cuts: Live
) -> None:
    latest = max((guard or 0 for _, guard in cuts.values()), default=0)
    new_life = {(9, 1): (latest + 9, latest)}
    assert standing(cuts, {**deadlines, **new_life}).cut == standing(cuts, deadlines).cut


@given(_DEADLINES, _CUTS)
def test_taken_away_in_time_only_cuts_without_a_guard_are_in_force(
    deadlines: Live, cuts: Live
) -> None:
    plain = {dot: cut for dot, cut in cuts.items() if cut[1] is None}
    persisted = {**deadlines, (9, 1): (None, 0)}
    assert standing(cuts, persisted).cut == standing(plain, {}).cut
