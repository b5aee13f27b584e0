"""Mistakes planted (`oracle.planting`): remove-wins sets, extremes, sketches and sorted sets."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest

import test_rankings
from crdtdb import (
    address,
)
from crdtdb.address import ObjectName
from crdtdb.causal import Dot
from crdtdb.datatype import Change, Cut, View
from crdtdb.draft import Draft
from crdtdb.head import Head
from crdtdb.rankings import _Ranking
from crdtdb.reading import Reading
from crdtdb.record import Live
from crdtdb.types import CATALOGUE, _sketch, zset
from crdtdb.types._extreme import ExtremeType
from crdtdb.types._stored import stored
from crdtdb.types.rwset import RemoveWinsSet
from crdtdb.types.zset import SortedSet
from oracle.planting import VALUES, Patch, breaks, noticed_by

pytestmark = pytest.mark.planted


# Sets where removing wins -------------------------------------------------------------------------


def test_a_remove_that_leaves_no_mark_where_there_is_no_member(monkeypatch: Patch) -> None:
    """An add that is under way elsewhere would survive it."""

    def removed(self: RemoveWinsSet, tail: bytes, view: View) -> Change:
        observed = view.observed(view.live(tail))
        return Change(tail, observed, False) if observed else Change(tail, ())

    monkeypatch.setattr(RemoveWinsSet, "_removed", removed)
    assert noticed_by("rwset") in VALUES


def test_a_remove_that_leaves_no_mark_at_all(monkeypatch: Patch) -> None:
    """That is an add-wins set."""

    def removed(self: RemoveWinsSet, tail: bytes, view: View) -> Change:
        return Change(tail, view.observed(view.live(tail)))

    monkeypatch.setattr(RemoveWinsSet, "_removed", removed)
    assert noticed_by("rwset") in VALUES


def test_a_clear_that_cuts_marks(monkeypatch: Patch) -> None:
    """It would bring back members that an unseen add had lost against the mark."""
    monkeypatch.setattr(RemoveWinsSet, "_cleared", lambda self, view: iter([Cut()]))
    assert noticed_by("rwset") in VALUES


def test_a_member_with_any_add_in_force(monkeypatch: Patch) -> None:
    """Marks are there to be looked at together."""
    monkeypatch.setattr(RemoveWinsSet, "alive", lambda self, live: any(live.values()))
    assert noticed_by("rwset") in VALUES


def test_a_cut_that_is_taken_for_changing_nothing(monkeypatch: Patch) -> None:
    """As many members as before need not be the same: one that a mark hid may have come back."""
    monkeypatch.setattr(Draft, "members", lambda self, prefix, stem: iter(()))
    assert noticed_by("rwset") == "answers"


# Extremes and sketches ----------------------------------------------------------------------------


def test_a_maximum_that_the_last_write_sets(monkeypatch: Patch) -> None:
    """A lower value must not take the place of a greater one it saw."""

    def mutate(self: ExtremeType, operation: Any, view: View, stamp: Any) -> Iterator[Change]:
        yield Change(address.OWN, view.live(address.OWN).keys(), stored(operation.value))

    monkeypatch.setattr(ExtremeType, "mutate", mutate)
    assert noticed_by("max") in VALUES


def test_a_minimum_of_texts(monkeypatch: Patch) -> None:
    """As JSON text "10" is less than "9", and a string less than any number."""
    monkeypatch.setattr(type(CATALOGUE["min"]), "outermost", lambda self, texts: min(texts))
    assert noticed_by("min") in VALUES


def test_a_sketch_that_takes_the_place_of_others(monkeypatch: Patch) -> None:
    """The registers of concurrent writers join by max; the last one is not the union."""
    monkeypatch.setattr(_sketch, "union", lambda sketches: [_sketch.empty(), *sketches][-1])
    assert noticed_by("hll") in VALUES


def test_a_sketch_that_forgets_what_it_saw(monkeypatch: Patch) -> None:
    """Its dot takes the place of theirs, so it has to hold all that they held."""
    read = _sketch.read
    monkeypatch.setattr(_sketch, "read", lambda data: read(data) and _sketch.empty())
    assert noticed_by("hll") in VALUES


# Sorted sets --------------------------------------------------------------------------------------


def test_a_remove_that_keeps_no_baseline(monkeypatch: Patch) -> None:
    """The next increment would bring back all that its replica had counted before."""
    removed = SortedSet._removed

    def forgetful(self: SortedSet, *arguments: Any) -> Iterator[Change]:
        for _ in removed(self, *arguments):
            tail, view = arguments
            yield Change(tail, view.live(tail).keys())

    monkeypatch.setattr(SortedSet, "_removed", forgetful)
    assert noticed_by("zset") in VALUES


def test_a_score_that_counts_what_it_took_the_place_of(monkeypatch: Patch) -> None:
    """A score stands for the increments that its writer saw; only later ones come on top."""
    added = SortedSet._added

    def doubling(self: SortedSet, *arguments: Any) -> Change:
        tail, replaces, (score, _, _) = added(self, *arguments)
        return Change(tail, replaces, (score, None, []))

    monkeypatch.setattr(SortedSet, "_added", doubling)
    assert noticed_by("zset") in VALUES


def test_a_remove_that_takes_increments_it_did_not_see(monkeypatch: Patch) -> None:
    """The accumulator is out for good, with whatever is counted into it elsewhere."""
    lines = zset._lines

    def greedy(totals: Any) -> Any:
        return lines({name: zset.Total(1 << 62, total.sum) for name, total in totals.items()})

    monkeypatch.setattr(zset, "_lines", greedy)
    assert noticed_by("zset") in VALUES


def test_a_sum_of_doubles(monkeypatch: Patch) -> None:
    """0.1 + 0.7 - 3 + 2^53 depends on what comes first, and does not come apart again."""
    line = zset._line

    def rounded(name: Dot, total: zset.Total) -> Any:
        return line(name, zset.Total(total.increments, Fraction(float(total.sum))))

    monkeypatch.setattr(zset, "_line", rounded)
    assert noticed_by("zset") in VALUES


def test_the_greatest_of_concurrent_scores(monkeypatch: Patch) -> None:
    """The latest wins, not the greatest."""

    def winner(self: SortedSet, live: Live) -> Any:
        scores = [dot for dot, (score, _, _) in live.items() if score is not None]
        return max(scores, key=lambda dot: live[dot][0][1], default=None)

    monkeypatch.setattr(SortedSet, "_winner", winner)
    assert noticed_by("zset") in VALUES


def test_a_sorted_set_that_is_cut(monkeypatch: Patch) -> None:
    """As with counters, a total at B:4 does not tell what it was at B:3."""
    monkeypatch.setattr(SortedSet, "totals", False)
    monkeypatch.setattr(SortedSet, "delete", lambda self, view, stamp: iter([Cut()]))
    assert noticed_by("zset") in VALUES


def test_a_ranking_that_does_not_follow(monkeypatch: Patch) -> None:
    """It would show scores as they were when somebody first asked."""
    monkeypatch.setattr(Reading, "changed_since", lambda self, *_: [])
    assert breaks(test_rankings.test_writes_do_not_cost_a_load)


def test_a_ranking_that_misses_what_was_reclaimed(monkeypatch: Patch) -> None:
    """Neither a record nor a place of the sequence says any more that the member went."""
    follow = _Ranking.follow

    def trusting(self: _Ranking, reading: Reading, name: ObjectName, head: Head) -> bool:
        follow(self, reading, name, head)
        self.sequence, self.changed_at = reading.sequence, head.sequence
        return True

    monkeypatch.setattr(_Ranking, "follow", trusting)
    assert breaks(test_rankings.test_a_member_that_was_reclaimed_before_it_was_missed_is_missed)
