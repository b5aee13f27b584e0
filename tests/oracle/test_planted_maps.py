"""Mistakes planted (`oracle.planting`): maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import test_mending
import test_nested
from crdtdb import (
    address,
    draft,
    fields,
    kinds,
    mending,
    oplog,
    reclaim,
    record,
)
from crdtdb.author import Author
from crdtdb.causal import NOTHING, Dot, VersionVector
from crdtdb.datatype import Change, Cut
from crdtdb.draft import Draft
from crdtdb.pending import Pending
from crdtdb.record import Live, Record
from crdtdb.types import _accumulator
from crdtdb.types._accumulator import Step
from crdtdb.types.map import _LeafView
from oracle.planting import VALUES, Patch, breaks, noticed_by

pytestmark = pytest.mark.planted


def test_a_field_removed_without_what_was_observed(monkeypatch: Patch) -> None:
    """What came after the read goes, too."""
    monkeypatch.setattr(_LeafView, "observed", lambda self, live: list(live))
    monkeypatch.setattr(_LeafView, "_cleared", _cleared_blindly)
    assert noticed_by("map") in VALUES


def _cleared_blindly(leaf: _LeafView) -> Iterator[Change]:
    for tail, live in leaf._view.members(leaf._stem):
        yield Change(tail, live.keys())


def test_a_counter_removed_with_its_field_as_if_its_total_were_a_dot(monkeypatch: Patch) -> None:
    """A step made at the same time brings back all that the remove had seen."""
    monkeypatch.setattr(_LeafView, "removed", lambda self, stamp: self._cleared())
    assert breaks(
        test_nested.test_a_remove_takes_out_what_it_saw_and_a_concurrent_increment_survives_as_that
    )
    assert noticed_by("map") in VALUES


def test_an_op_based_leaf_removed_without_a_cut(monkeypatch: Patch) -> None:
    """Its operations are taken out one by one: what is part of a base by then stays."""

    def one_by_one(self: Author, changing: Draft, prefix: bytes, payload: Any, dot: Dot) -> bool:
        if not isinstance(payload, Cut):
            return log(self, changing, prefix, payload, dot)
        for at, standing in list(changing.records_under(prefix + address.OPERATION)):
            changing.put(at, Record({}, standing.context))
            changing.changed_last(address.split_object(at)[0], at)
        leaf = kinds.log_at(prefix)
        assert leaf is not None
        oplog.refold(changing, leaf, changing.head(leaf.owner))
        return True

    log = Author._log
    monkeypatch.setattr(Author, "_log", one_by_one)
    assert noticed_by("map") in ("folded", *VALUES)


def test_an_op_based_leaf_removed_with_what_was_not_seen(monkeypatch: Patch) -> None:
    """A step made at the same time is lost wherever the remove comes second."""

    def everything(self: Draft, log: kinds.Log, _: VersionVector, at: bytes) -> None:
        self.changed_last(log.owner, at)
        self.set_folded(log, self.head(log.owner), None)

    monkeypatch.setattr(Draft, "_cut_leaf", everything)
    assert noticed_by("map") in ("folded", *VALUES)


def test_a_step_lost_because_it_came_after_a_remove_that_had_not_seen_it(
    monkeypatch: Patch,
) -> None:
    """The replica goes by what it has seen, not by what the remover had."""
    cut_of = Pending.cut_of

    def seen(self: Pending, log: kinds.Log) -> VersionVector | None:
        cut = cut_of(self, log)
        return self.seen.join(cut) if log.is_leaf and cut is not None else cut

    monkeypatch.setattr(Pending, "cut_of", seen)
    assert breaks(
        test_nested.test_an_op_based_leaf_that_is_removed_keeps_what_was_written_at_the_same_time,
        leaf=test_nested.LOGGED[0],
    )
    assert noticed_by("map") in ("folded", *VALUES)


def test_a_fold_that_forgets_a_remove(monkeypatch: Patch) -> None:
    """What was removed becomes part of the base, and comes back when the cut has gone."""
    fold_stable, cut_of = oplog.fold_stable, Pending.cut_of

    def forgetful(*arguments: Any, **options: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(
                Pending, "cut_of", lambda self, log: None if log.is_leaf else cut_of(self, log)
            )
            fold_stable(*arguments, **options)

    monkeypatch.setattr("crdtdb.reclaim.fold_stable", forgetful)
    assert noticed_by("map") in ("folded", "convergence", *VALUES)


def test_a_cut_of_a_leaf_that_goes_without_a_sweep(monkeypatch: Patch) -> None:
    """The operations that it covered are in force again."""
    monkeypatch.setattr(reclaim._Portion, "_sweep_record", lambda *_: None)
    assert noticed_by("map") in ("folded", "convergence", *VALUES)


@pytest.mark.parametrize("field", [None, ["x"]], ids=["an object", "a leaf"])
def test_a_log_mended_with_what_its_donor_has_yet_to_sweep(
    monkeypatch: Patch, field: list[str] | None
) -> None:
    """The cut has gone where it is mended, so what that covered comes back."""
    monkeypatch.setattr(mending, "_cut_for_good", lambda *_: None)
    assert breaks(test_mending.test_what_a_peer_has_yet_to_sweep_does_not_come_back, field=field)


def test_a_damaged_cut_that_goes_without_a_sweep(monkeypatch: Patch) -> None:
    """What it covered is in force again: the donor of the mending has nothing to say of it."""
    monkeypatch.setattr(mending, "_sweep", lambda *_: None)
    monkeypatch.setattr(kinds, "_log_cut_at", lambda _: b"")
    for kind in ("opcounter", "leaf", "set", "wide"):
        assert breaks(test_mending.test_what_a_damaged_cut_covered_does_not_come_back, kind=kind)


def test_a_reset_that_loses_what_a_field_counted_at_the_same_time(monkeypatch: Patch) -> None:
    monkeypatch.setattr(_accumulator, "reset", _greedy_reset)
    assert breaks(
        test_nested.test_a_remove_takes_out_what_it_saw_and_a_concurrent_increment_survives_as_that
    )
    assert noticed_by("map") in VALUES


def _greedy_reset(live: Live, dot: Dot, _observed: Any) -> Step:
    mine, name = _accumulator._own(live, dot)
    totals, _ = _accumulator._read(live)
    most = _accumulator.Sums(1 << 63, 1 << 63)
    sums = totals.get(name, _accumulator.Sums(0, 0))
    return Step(mine, _accumulator._write(name, sums, dict.fromkeys(totals, most)))


def test_a_removal_in_part_that_makes_ones_own_steps_look_newer(monkeypatch: Patch) -> None:
    """Who has seen those steps can no longer take them out."""
    write = _accumulator._write

    def refreshed(live: Live, dot: Dot, observed: Any) -> Step | None:
        step = reset(live, dot, observed)
        mine, name = _accumulator._own(live, dot)
        if step is None or all(d in observed for d in mine):
            return step
        totals, baselines = _accumulator._read({**live, dot: step.payload})
        return Step(mine, write(name, totals[name], baselines))

    reset = _accumulator.reset
    monkeypatch.setattr("crdtdb.types._accumulator.reset", refreshed)
    assert breaks(test_nested.test_a_counter_that_is_taken_out_in_part_goes_on_exactly)


def test_a_deferred_remove_that_is_lost_in_a_nested_map(monkeypatch: Patch) -> None:
    """It has come before what it removes, which then arrives and stays."""
    join = record.join

    def forgetful(a: Record, b: Record, _: VersionVector, b_seen: VersionVector) -> Record:
        return join(a, b, NOTHING, b_seen)

    story = test_nested.test_a_remove_that_comes_before_what_it_removed_takes_effect_later
    story()
    monkeypatch.setattr(draft, "join", forgetful)
    assert breaks(story)


def test_a_field_shown_with_what_a_leaf_above_it_hides(monkeypatch: Patch) -> None:
    """The pages of a map would not fit together."""
    monkeypatch.setattr(fields, "_hiding", lambda *_: ())
    assert noticed_by("map") == "specification"


def test_a_removed_field_that_takes_its_neighbours(monkeypatch: Patch) -> None:
    """`["a"]` is no beginning of `["ab"]`, as a text it is."""
    below = address.leaves_below
    monkeypatch.setattr(address, "leaves_below", lambda path: below(path)[:-1])
    assert breaks(test_nested.test_a_remove_spares_fields_whose_names_begin_alike)
