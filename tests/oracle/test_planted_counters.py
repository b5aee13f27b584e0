"""Mistakes planted (`oracle.planting`): counters and bounded counters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import test_accumulator
import test_rights
from crdtdb import (
    address,
)
from crdtdb.datatype import Change, Cut, View
from crdtdb.record import Live
from crdtdb.types import _accumulator
from crdtdb.types._accumulator import Step
from crdtdb.types._counting import CountingType
from crdtdb.types._rights import Creation, Matrix, Row
from crdtdb.types.bcounter import BoundedCounter
from oracle.planting import BOUNDED, VALUES, Patch, breaks, noticed_by

pytestmark = pytest.mark.planted


# Counters -----------------------------------------------------------------------------------------


def test_totals_named_by_replica(monkeypatch: Patch) -> None:
    """Once B's old total is reclaimed, the baseline at A swallows its new one."""
    monkeypatch.setattr(_accumulator, "_own", _own_by_replica)
    assert breaks(test_accumulator.test_an_increment_counts_after_the_old_totals_were_reclaimed)


def _own_by_replica(live: Live, dot: Any) -> Any:
    return [d for d in live if d[0] == dot[0]], (dot[0], 1)


def test_a_baseline_that_its_own_replica_does_not_repeat(monkeypatch: Patch) -> None:
    """The total revives when the payload that reset it is reclaimed."""
    accumulate = _accumulator.accumulate

    def forgetful(live: Live, dot: Any, by: Any) -> Step:
        own = {d: payload for d, payload in live.items() if d[0] == dot[0]}
        return accumulate(own, dot, by)

    monkeypatch.setattr(test_accumulator, "accumulate", forgetful)
    assert breaks(test_accumulator.test_a_reset_lasts_when_the_payload_that_said_so_is_reclaimed)


def test_baselines_that_end_with_the_payload_that_set_them(monkeypatch: Patch) -> None:
    """A resets B's total, then counts on; its next payload must say all that the last did."""
    write = _accumulator._write
    accumulate = _accumulator.accumulate

    def forgetful(live: Live, dot: Any, by: Any) -> Step:
        with monkeypatch.context() as patch:
            patch.setattr(_accumulator, "_write", lambda name, sums, _: write(name, sums, {}))
            return accumulate(live, dot, by)

    monkeypatch.setattr(_accumulator, "accumulate", forgetful)
    assert noticed_by("counter") in VALUES


def test_a_reset_that_takes_what_it_did_not_see(monkeypatch: Patch) -> None:
    """Back to zero for good: increments made at the same time are lost."""
    read = _accumulator._read

    def reset(live: Live, dot: Any, _observed: Any) -> Step:
        mine, name = _accumulator._own(live, dot)
        totals, _ = read(live)
        most = _accumulator.Sums(1 << 63, 1 << 63)
        mine_now = totals.get(name, _accumulator.Sums(0, 0))
        return Step(mine, _accumulator._write(name, mine_now, dict.fromkeys(totals, most)))

    monkeypatch.setattr(_accumulator, "reset", reset)
    assert noticed_by("counter") in VALUES


def test_a_cut_over_running_totals(monkeypatch: Patch) -> None:
    """A total at B:4 does not tell what it was at B:3; a cut takes all of it or nothing."""
    monkeypatch.setattr(CountingType, "totals", False)
    monkeypatch.setattr(CountingType, "delete", lambda self, view, stamp: iter([Cut()]))
    assert noticed_by("counter", "gcounter") in VALUES


# Bounded counters ---------------------------------------------------------------------------------


def test_rights_spent_twice(monkeypatch: Patch) -> None:
    """Who gave rights away still uses them, and so does who got them."""

    def kept(self: Matrix, incarnation: int) -> int:
        row = self.rows.get(incarnation, Row())
        received = sum(other.given.get(incarnation, 0) for other in self.rows.values())
        return row.added - row.taken + received

    monkeypatch.setattr(Matrix, "to_decrement", kept)
    assert noticed_by("bcounter") in BOUNDED


def test_room_that_is_given_out_again(monkeypatch: Patch) -> None:
    """An increment uses the room there is as far as one replica sees, not the rights to it."""

    def room(self: Matrix, _: int, creation: Creation) -> int:
        return (creation.max or 0) - self.value

    monkeypatch.setattr(Matrix, "to_increment", room)
    assert noticed_by("bcounter") in BOUNDED


def test_the_last_bounds_win(monkeypatch: Patch) -> None:
    """Each of two creations gave out all the rights there are to be."""
    monkeypatch.setattr(Matrix, "is_conflicting", False)
    monkeypatch.setattr(Matrix, "standing", property(lambda self: [max(self._creations)]))
    assert noticed_by("bcounter") in BOUNDED


def test_the_least_lower_bound(monkeypatch: Patch) -> None:
    """Who was promised more sees less."""
    least = property(lambda self: min((one.min for one in self._creations), default=0))
    monkeypatch.setattr(Matrix, "least", least)
    assert noticed_by("bcounter") in BOUNDED


def test_a_row_that_takes_the_place_of_others(monkeypatch: Patch) -> None:
    """What they did is undone, and what they gave is gone."""
    mutate = BoundedCounter.mutate

    def replacing(self: BoundedCounter, operation: Any, view: View, stamp: Any) -> Iterator[Any]:
        for change in mutate(self, operation, view, stamp):
            assert isinstance(change, Change)
            yield change._replace(replaces=view.live(address.OWN).keys())

    monkeypatch.setattr(BoundedCounter, "mutate", replacing)
    monkeypatch.setattr(Matrix, "check", lambda self, live: None)
    assert noticed_by("bcounter") in BOUNDED


def test_rights_that_nobody_held_and_a_peer_used(monkeypatch: Patch) -> None:
    """Whoever does not look takes in a value below the bound."""
    monkeypatch.setattr(Matrix, "check", lambda self, live: None)
    story = test_rights.test_a_row_that_uses_rights_it_has_not_is_refused_whole
    try:
        story((test_rights.CREATION, 0, 1, [], None))
    except pytest.fail.Exception:
        return
    raise AssertionError("nobody noticed")
