"""Planted bugs: each mistake that the design was made to avoid is made again, and must be noticed.

A checker that cannot fail proves nothing. Every test tells what goes wrong and names the check
that finds it: one of the random executions' (within a bounded number of seeds), a law, or a story.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, Final

import msgspec
import pytest

import test_accumulator
import test_folding
import test_fugue
import test_mending
import test_nested
import test_rankings
import test_rights
from crdtdb import (
    address,
    author,
    codec,
    draft,
    fields,
    hlc,
    kinds,
    mending,
    oplog,
    reclaim,
    record,
)
from crdtdb.address import ObjectName
from crdtdb.author import Author
from crdtdb.causal import NOTHING, Dot, VersionVector
from crdtdb.datatype import Change, Cut, View
from crdtdb.draft import Draft
from crdtdb.head import Head
from crdtdb.pending import Pending
from crdtdb.rankings import _Ranking
from crdtdb.reading import Reading
from crdtdb.record import Live, Payload, Record
from crdtdb.replication.stability import Reports
from crdtdb.state import State
from crdtdb.store.base import Table
from crdtdb.transaction import Result
from crdtdb.types import CATALOGUE, _accumulator, _document, _sketch, zset
from crdtdb.types import text as text_module
from crdtdb.types._accumulator import Step
from crdtdb.types._counting import CountingType
from crdtdb.types._extreme import ExtremeType
from crdtdb.types._fugue import LEFT, RIGHT, Elements, Place, ids_from
from crdtdb.types._rights import Creation, Matrix, Row
from crdtdb.types._stored import stored
from crdtdb.types.bcounter import BoundedCounter
from crdtdb.types.list import List
from crdtdb.types.map import _LeafView
from crdtdb.types.rwset import RemoveWinsSet
from crdtdb.types.zset import SortedSet
from laws import test_operation_based, test_state_based
from oracle.checks import Violation
from oracle.executions import Execution
from witness import in_catalogue

#: Executions in which a bug must show; most show in one of the first.
_SEEDS: Final = 60
#: What compares values with the specification, after a step or in the answer to it.
_VALUES: Final = ("answers", "specification")
#: And of a bounded counter, what refuses and what must not be.
_BOUNDED: Final = (*_VALUES, "bounds")

Patch = pytest.MonkeyPatch

pytestmark = pytest.mark.planted

#: What noticed the mistake of the test that runs.
_noticed: Final[list[str]] = []


@pytest.fixture(autouse=True)
def _told(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Say in the test's report what noticed its mistake."""
    _noticed.clear()
    yield
    for check in _noticed:
        record_property("noticed_by", check)


def noticed_by(*types: str) -> str:
    """The check that fails first in executions about objects of these types, or of any."""
    for seed in range(_SEEDS):
        try:
            Execution(seed, types).run()
        except Violation as violation:
            print(f"seed {seed}: {violation}")
            _noticed.append(f"the random executions’ check of {violation.check!r} (seed {seed})")
            return violation.check
    return "nobody"


def breaks(check: Callable[..., None], **arguments: Any) -> bool:
    """Does a law or a story fail?"""
    try:
        check(**arguments)
    except (AssertionError, ExceptionGroup):
        _noticed.append(check.__name__)
        return True
    return False


# Joining ------------------------------------------------------------------------------------------


def test_a_union_of_what_is_live(monkeypatch: Patch) -> None:
    """Without contexts nobody can tell "removed" from "not seen yet": what was removed returns."""

    def union(a: Record, b: Record, *_: VersionVector) -> Record:
        return Record({**a.live, **b.live}, a.context.join(b.context))

    law = test_state_based.test_joining_its_delta_carries_out_an_operation
    with monkeypatch.context() as patch:
        patch.setattr(record, "join", union)
        assert breaks(law, type_name="set")
    monkeypatch.setattr(draft, "join", union)
    assert noticed_by() in _VALUES


def test_losers_pruned_at_a_join(monkeypatch: Patch) -> None:
    """C drops A's value for B's; B deletes its own; now A's is there for some, not for C."""
    join = record.join

    def pruned(*states: Any) -> Record:
        live, context = join(*states)
        if len(live) > 1 and all(_is_timed(payload) for payload in live.values()):
            winner = max(live, key=lambda dot: (live[dot][0], dot))
            live = {winner: live[winner]}
        return Record(live, context)

    law = test_state_based.test_a_cut_may_be_made_before_a_join_or_after_it
    with monkeypatch.context() as patch:
        patch.setattr(record, "join", pruned)
        assert breaks(law, type_name="register")
    monkeypatch.setattr(draft, "join", pruned)
    assert noticed_by("register") in _VALUES


def _is_timed(payload: Payload) -> bool:
    return isinstance(payload, list | tuple) and len(payload) == 2 and isinstance(payload[1], bytes)


def test_live_dots_judged_by_the_context_of_their_record_alone(monkeypatch: Patch) -> None:
    """A stored context says only what the replica's own vector does not."""
    join = record.join

    def alone(a: Record, b: Record, *_: VersionVector) -> Record:
        return join(a, b)

    law = test_state_based.test_join_without_what_is_seen_anyway_is_the_textbook_join
    with monkeypatch.context() as patch:
        patch.setattr(record, "join", alone)
        assert breaks(law, type_name="flag")
    monkeypatch.setattr(draft, "join", alone)
    assert noticed_by() in _VALUES


def test_a_context_that_forgets_what_is_dead(monkeypatch: Patch) -> None:
    """Then nobody can be told of a removal: its record says nothing that a peer could lack."""
    monkeypatch.setattr(record, "_join_contexts", lambda *states: VersionVector.of(states[-1]))
    assert noticed_by("set", "flag") in _VALUES


# Deltas -------------------------------------------------------------------------------------------

_after = record.after


def test_a_remove_without_a_dot(monkeypatch: Patch) -> None:
    """The filter of a pull takes its record for one that the puller has seen."""

    def after(standing: Record, *change: Any) -> Record:
        delta = _after(standing, *change)
        is_removal = len(change) == 2
        return Record(delta.live, VersionVector.of(delta.live)) if is_removal else delta

    monkeypatch.setattr(author, "after", after)
    assert noticed_by("set", "flag") in _VALUES


def test_a_delta_without_what_its_operation_leaves_standing(monkeypatch: Patch) -> None:
    """Dot A:7 claims A:1 to A:6 on its record, so what stands of those must come along."""

    def after(standing: Record, dot: Any, *change: Any) -> Record:
        delta = _after(standing, dot, *change)
        return Record({d: p for d, p in delta.live.items() if d == dot}, delta.context)

    monkeypatch.setattr(author, "after", after)
    assert noticed_by("mvregister") in _VALUES


def test_a_failed_transaction_that_leaves_a_trace(monkeypatch: Patch) -> None:
    """What a draft forgets to undo stays."""
    go_back = Draft.go_back

    def forgetful(self: Draft) -> None:
        heads = dict(self._heads)
        go_back(self)
        self._heads.update(heads)

    monkeypatch.setattr(Draft, "go_back", forgetful)
    assert noticed_by() in ("heads", *_VALUES)


def test_a_record_that_is_in_the_sequence_twice(monkeypatch: Patch) -> None:
    """Who missed a million increments of one counter would fetch a million records."""
    batch = Draft.batch

    def keeping(self: Draft, sequence: int) -> Any:
        changes, *rest = batch(self, sequence)
        entries = changes[Table.SEQUENCE]
        changes[Table.SEQUENCE] = {place: at for place, at in entries.items() if at is not None}
        return (changes, *rest)

    monkeypatch.setattr(Draft, "batch", keeping)
    assert noticed_by() == "sequence"


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
    assert noticed_by("counter") in _VALUES


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
    assert noticed_by("counter") in _VALUES


def test_a_cut_over_running_totals(monkeypatch: Patch) -> None:
    """A total at B:4 does not tell what it was at B:3; a cut takes all of it or nothing."""
    monkeypatch.setattr(CountingType, "totals", False)
    monkeypatch.setattr(CountingType, "delete", lambda self, view, stamp: iter([Cut()]))
    assert noticed_by("counter", "gcounter") in _VALUES


# Bounded counters ---------------------------------------------------------------------------------


def test_rights_spent_twice(monkeypatch: Patch) -> None:
    """Who gave rights away still uses them, and so does who got them."""

    def kept(self: Matrix, incarnation: int) -> int:
        row = self.rows.get(incarnation, Row())
        received = sum(other.given.get(incarnation, 0) for other in self.rows.values())
        return row.added - row.taken + received

    monkeypatch.setattr(Matrix, "to_decrement", kept)
    assert noticed_by("bcounter") in _BOUNDED


def test_room_that_is_given_out_again(monkeypatch: Patch) -> None:
    """An increment uses the room there is as far as one replica sees, not the rights to it."""

    def room(self: Matrix, _: int, creation: Creation) -> int:
        return (creation.max or 0) - self.value

    monkeypatch.setattr(Matrix, "to_increment", room)
    assert noticed_by("bcounter") in _BOUNDED


def test_the_last_bounds_win(monkeypatch: Patch) -> None:
    """Each of two creations gave out all the rights there are to be."""
    monkeypatch.setattr(Matrix, "is_conflicting", False)
    monkeypatch.setattr(Matrix, "standing", property(lambda self: [max(self._creations)]))
    assert noticed_by("bcounter") in _BOUNDED


def test_the_least_lower_bound(monkeypatch: Patch) -> None:
    """Who was promised more sees less."""
    least = property(lambda self: min((one.min for one in self._creations), default=0))
    monkeypatch.setattr(Matrix, "least", least)
    assert noticed_by("bcounter") in _BOUNDED


def test_a_row_that_takes_the_place_of_others(monkeypatch: Patch) -> None:
    """What they did is undone, and what they gave is gone."""
    mutate = BoundedCounter.mutate

    def replacing(self: BoundedCounter, operation: Any, view: View, stamp: Any) -> Iterator[Any]:
        for change in mutate(self, operation, view, stamp):
            assert isinstance(change, Change)
            yield change._replace(replaces=view.live(address.OWN).keys())

    monkeypatch.setattr(BoundedCounter, "mutate", replacing)
    monkeypatch.setattr(Matrix, "check", lambda self, live: None)
    assert noticed_by("bcounter") in _BOUNDED


def test_rights_that_nobody_held_and_a_peer_used(monkeypatch: Patch) -> None:
    """Whoever does not look takes in a value below the bound."""
    monkeypatch.setattr(Matrix, "check", lambda self, live: None)
    story = test_rights.test_a_row_that_uses_rights_it_has_not_is_refused_whole
    try:
        story((test_rights.CREATION, 0, 1, [], None))
    except pytest.fail.Exception:
        return
    raise AssertionError("nobody noticed")


# Cuts ---------------------------------------------------------------------------------------------


def test_a_cut_that_covers_everything(monkeypatch: Patch) -> None:
    """What was added at the same time goes too."""

    def covered(live: Live) -> VersionVector:
        return VersionVector.of((incarnation, (1 << 63) - 1) for incarnation, _ in live)

    monkeypatch.setattr(draft, "covered", covered)
    assert noticed_by() in ("heads", *_VALUES)


def test_a_cut_that_takes_more_than_its_read_context(monkeypatch: Patch) -> None:
    """What the caller's read did not show goes too."""
    cut = Author._cut

    def eager(self: Author, draft: Draft, prefix: bytes, _: VersionVector, dot: Any) -> None:
        cut(self, draft, prefix, draft.seen, dot)

    monkeypatch.setattr(Author, "_cut", eager)
    assert noticed_by() in _VALUES


def test_a_cut_that_shrinks(monkeypatch: Patch) -> None:
    """A later cut with an older read context takes the place of one that covered more."""
    monkeypatch.setattr(author, "covered", lambda live: NOTHING)
    assert noticed_by("set") in ("heads", *_VALUES)


def test_a_digest_over_what_is_cut(monkeypatch: Patch) -> None:
    """Replicas that show the same would seem to differ."""
    recount = Draft.recount

    def unfiltered(self: Draft, prefix: bytes, head: Any, kind: Any) -> None:
        recount(self, prefix, head, kind)
        digest = 0
        for at, whole in self.records_under(prefix):
            digest ^= codec.live_digest(at, whole.live)
        self._heads[prefix] = msgspec.structs.replace(self._heads[prefix], digest=digest)

    monkeypatch.setattr(Draft, "recount", unfiltered)
    assert noticed_by() == "heads"


# Sets where removing wins -------------------------------------------------------------------------


def test_a_remove_that_leaves_no_mark_where_there_is_no_member(monkeypatch: Patch) -> None:
    """An add that is under way elsewhere would survive it."""

    def removed(self: RemoveWinsSet, tail: bytes, view: View) -> Change:
        observed = view.observed(view.live(tail))
        return Change(tail, observed, False) if observed else Change(tail, ())

    monkeypatch.setattr(RemoveWinsSet, "_removed", removed)
    assert noticed_by("rwset") in _VALUES


def test_a_remove_that_leaves_no_mark_at_all(monkeypatch: Patch) -> None:
    """That is an add-wins set."""

    def removed(self: RemoveWinsSet, tail: bytes, view: View) -> Change:
        return Change(tail, view.observed(view.live(tail)))

    monkeypatch.setattr(RemoveWinsSet, "_removed", removed)
    assert noticed_by("rwset") in _VALUES


def test_a_clear_that_cuts_marks(monkeypatch: Patch) -> None:
    """It would bring back members that an unseen add had lost against the mark."""
    monkeypatch.setattr(RemoveWinsSet, "_cleared", lambda self, view: iter([Cut()]))
    assert noticed_by("rwset") in _VALUES


def test_a_member_with_any_add_in_force(monkeypatch: Patch) -> None:
    """Marks are there to be looked at together."""
    monkeypatch.setattr(RemoveWinsSet, "alive", lambda self, live: any(live.values()))
    assert noticed_by("rwset") in _VALUES


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
    assert noticed_by("max") in _VALUES


def test_a_minimum_of_texts(monkeypatch: Patch) -> None:
    """As JSON text "10" is less than "9", and a string less than any number."""
    monkeypatch.setattr(type(CATALOGUE["min"]), "outermost", lambda self, texts: min(texts))
    assert noticed_by("min") in _VALUES


def test_a_sketch_that_takes_the_place_of_others(monkeypatch: Patch) -> None:
    """The registers of concurrent writers join by max; the last one is not the union."""
    monkeypatch.setattr(_sketch, "union", lambda sketches: [_sketch.empty(), *sketches][-1])
    assert noticed_by("hll") in _VALUES


def test_a_sketch_that_forgets_what_it_saw(monkeypatch: Patch) -> None:
    """Its dot takes the place of theirs, so it has to hold all that they held."""
    read = _sketch.read
    monkeypatch.setattr(_sketch, "read", lambda data: read(data) and _sketch.empty())
    assert noticed_by("hll") in _VALUES


# Sorted sets --------------------------------------------------------------------------------------


def test_a_remove_that_keeps_no_baseline(monkeypatch: Patch) -> None:
    """The next increment would bring back all that its replica had counted before."""
    removed = SortedSet._removed

    def forgetful(self: SortedSet, *arguments: Any) -> Iterator[Change]:
        for _ in removed(self, *arguments):
            tail, view = arguments
            yield Change(tail, view.live(tail).keys())

    monkeypatch.setattr(SortedSet, "_removed", forgetful)
    assert noticed_by("zset") in _VALUES


def test_a_score_that_counts_what_it_took_the_place_of(monkeypatch: Patch) -> None:
    """A score stands for the increments that its writer saw; only later ones come on top."""
    added = SortedSet._added

    def doubling(self: SortedSet, *arguments: Any) -> Change:
        tail, replaces, (score, _, _) = added(self, *arguments)
        return Change(tail, replaces, (score, None, []))

    monkeypatch.setattr(SortedSet, "_added", doubling)
    assert noticed_by("zset") in _VALUES


def test_a_remove_that_takes_increments_it_did_not_see(monkeypatch: Patch) -> None:
    """The accumulator is out for good, with whatever is counted into it elsewhere."""
    lines = zset._lines

    def greedy(totals: Any) -> Any:
        return lines({name: zset.Total(1 << 62, total.sum) for name, total in totals.items()})

    monkeypatch.setattr(zset, "_lines", greedy)
    assert noticed_by("zset") in _VALUES


def test_a_sum_of_doubles(monkeypatch: Patch) -> None:
    """0.1 + 0.7 - 3 + 2^53 depends on what comes first, and does not come apart again."""
    line = zset._line

    def rounded(name: Dot, total: zset.Total) -> Any:
        return line(name, zset.Total(total.increments, Fraction(float(total.sum))))

    monkeypatch.setattr(zset, "_line", rounded)
    assert noticed_by("zset") in _VALUES


def test_the_greatest_of_concurrent_scores(monkeypatch: Patch) -> None:
    """The latest wins, not the greatest."""

    def winner(self: SortedSet, live: Live) -> Any:
        scores = [dot for dot, (score, _, _) in live.items() if score is not None]
        return max(scores, key=lambda dot: live[dot][0][1], default=None)

    monkeypatch.setattr(SortedSet, "_winner", winner)
    assert noticed_by("zset") in _VALUES


def test_a_sorted_set_that_is_cut(monkeypatch: Patch) -> None:
    """As with counters, a total at B:4 does not tell what it was at B:3."""
    monkeypatch.setattr(SortedSet, "totals", False)
    monkeypatch.setattr(SortedSet, "delete", lambda self, view, stamp: iter([Cut()]))
    assert noticed_by("zset") in _VALUES


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


# Operations ---------------------------------------------------------------------------------------


def test_an_operation_applied_again(monkeypatch: Patch) -> None:
    """It came by a push while a pull that brings it too was under way."""
    join = Draft.join

    def again(self: Draft, at: bytes, incoming: Record, seen: VersionVector) -> Record:
        standing = self.record(at)
        joined = join(self, at, incoming, seen)
        if joined is standing and not address.is_cut(at):
            log = kinds.log_in(*address.split_object(at))
            if log is not None and not address.is_base(at):
                self._install_operation(at, log, joined)
        return joined

    monkeypatch.setattr(Draft, "join", again)
    assert noticed_by("opcounter") in _VALUES
    law = test_operation_based.test_each_operation_is_applied_once_and_after_all_it_follows
    for field in (None, ["a", "b"]):
        assert breaks(law, field=field)


def test_folding_what_is_not_stable(monkeypatch: Patch) -> None:
    """Others meet a base that they have not seen, and lose what they did meanwhile."""
    monkeypatch.setattr(Reports, "stable", lambda self, members, own, seen: seen)
    assert noticed_by("opcounter") in ("convergence", *_VALUES)


def test_an_operation_taken_for_a_base(monkeypatch: Patch) -> None:
    """Operation 4 of a replica has an address that ends like a base's: it would come first."""
    monkeypatch.setattr(address, "is_base", lambda at: at.endswith(address.BASE))
    story = test_folding.test_operations_are_applied_in_causal_order_whatever_their_dots_look_like
    with in_catalogue():
        assert breaks(story)


# Maps ---------------------------------------------------------------------------------------------


def test_a_field_removed_without_what_was_observed(monkeypatch: Patch) -> None:
    """What came after the read goes, too."""
    monkeypatch.setattr(_LeafView, "observed", lambda self, live: list(live))
    monkeypatch.setattr(_LeafView, "_cleared", _cleared_blindly)
    assert noticed_by("map") in _VALUES


def _cleared_blindly(leaf: _LeafView) -> Iterator[Change]:
    for tail, live in leaf._view.members(leaf._stem):
        yield Change(tail, live.keys())


def test_a_counter_removed_with_its_field_as_if_its_total_were_a_dot(monkeypatch: Patch) -> None:
    """A step made at the same time brings back all that the remove had seen."""
    monkeypatch.setattr(_LeafView, "removed", lambda self, stamp: self._cleared())
    assert breaks(
        test_nested.test_a_remove_takes_out_what_it_saw_and_a_concurrent_increment_survives_as_that
    )
    assert noticed_by("map") in _VALUES


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
    assert noticed_by("map") in ("folded", *_VALUES)


def test_an_op_based_leaf_removed_with_what_was_not_seen(monkeypatch: Patch) -> None:
    """A step made at the same time is lost wherever the remove comes second."""

    def everything(self: Draft, log: kinds.Log, _: VersionVector, at: bytes) -> None:
        self.changed_last(log.owner, at)
        self.set_folded(log, self.head(log.owner), None)

    monkeypatch.setattr(Draft, "_cut_leaf", everything)
    assert noticed_by("map") in ("folded", *_VALUES)


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
    assert noticed_by("map") in ("folded", *_VALUES)


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
    assert noticed_by("map") in ("folded", "convergence", *_VALUES)


def test_a_cut_of_a_leaf_that_goes_without_a_sweep(monkeypatch: Patch) -> None:
    """The operations that it covered are in force again."""
    monkeypatch.setattr(reclaim._Portion, "_sweep_record", lambda *_: None)
    assert noticed_by("map") in ("folded", "convergence", *_VALUES)


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
    assert noticed_by("map") in _VALUES


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


# Sequences ----------------------------------------------------------------------------------------


def test_new_elements_beside_what_was_deleted(monkeypatch: Patch) -> None:
    """They would hang below an element that others let go, and stand elsewhere there."""

    def place(self: Elements, index: int) -> Place:
        """Below the last element before the position, seen by users or not."""
        shown = [element.id for element in self.shown(0, index)]
        every = [one for first, *_, held in self.dump() for one in ids_from(first, _length(held))]
        if not every:
            return Place(None, RIGHT)
        behind = every.index(shown[-1]) + 1 if shown else 0
        while behind < len(every) and self.position(every[behind]) == (index, False):
            behind += 1
        return Place(every[behind - 1], RIGHT) if behind else Place(every[0], LEFT)

    monkeypatch.setattr(Elements, "place", place)
    assert noticed_by("list") in (*_VALUES, "convergence", "folded")


def _length(held: Any) -> int:
    return held if isinstance(held, int) else len(held)


def test_every_new_element_below_the_one_before(monkeypatch: Patch) -> None:
    """As in a list of insertions after: what two type backwards at one place is mixed."""

    def place(self: Elements, index: int) -> Place:
        before = list(self.shown(index - 1, index)) if index else []
        return Place(before[0].id if before else None, RIGHT)

    monkeypatch.setattr(Elements, "place", place)
    assert noticed_by("list") in _VALUES
    assert breaks(test_fugue.test_runs_that_are_typed_concurrently_never_mix)


def test_siblings_in_the_order_of_arrival(monkeypatch: Patch) -> None:
    """The one that came last stands first: here one of them, there the other."""
    monkeypatch.setattr(Elements, "_put_right", lambda self, run, j: self._runs.insert(j, run))
    assert noticed_by("list") in ("convergence", *_VALUES)


def test_deleted_elements_that_go_although_others_are_still_to_hang_below(
    monkeypatch: Patch,
) -> None:
    """An insert beside one, made before its writer saw it deleted, is not stable yet."""
    settled = Elements.settled
    monkeypatch.setattr(Elements, "settled", lambda self, named: settled(self, ()))
    assert breaks(test_fugue.test_a_deleted_element_stays_while_an_insert_beside_it_is_not_stable)


def test_deleted_elements_that_go_before_everybody_knows(monkeypatch: Patch) -> None:
    """Who has not seen them deleted puts others below them."""
    deleted = Elements.deleted
    monkeypatch.setattr(
        Elements, "deleted", lambda self, first, count: deleted(self, first, count).settled(())
    )
    assert noticed_by("list") in ("convergence", *_VALUES)


def test_a_digest_over_how_elements_are_stored(monkeypatch: Patch) -> None:
    """Who has let deleted elements go stores others than who has not, and shows the same."""
    monkeypatch.setattr(List, "shown", lambda self, folded: folded.dump())
    assert noticed_by("list") == "convergence"


def test_elements_beside_deleted_ones_of_no_generation(monkeypatch: Patch) -> None:
    """Beside what was typed there before, they stand by their ids: on the wrong side of it."""
    place = Elements.place
    monkeypatch.setattr(
        Elements, "place", lambda self, index: place(self, index)._replace(generation=0)
    )
    assert noticed_by("list") in _VALUES


# Texts --------------------------------------------------------------------------------------------


def test_two_replicas_that_type_as_one_client(monkeypatch: Patch) -> None:
    """What the second types has the ids of what the first did: it is taken for known."""
    monkeypatch.setattr(text_module, "client_of", lambda incarnation: 7)
    assert noticed_by("text") in ("convergence", *_VALUES)


def test_a_cut_over_a_text(monkeypatch: Patch) -> None:
    """It takes out what is typed beside deleted characters, for these are not there any more."""

    def erase(self: Author, draft: Draft, prefix: bytes) -> Result:
        living = sum(draft.head(one).exists for one in draft.heads_under(prefix))
        stamp = self._next(draft)
        self._cut(draft, prefix, draft.seen, stamp.dot)
        self._mint(draft, stamp)
        return Result(living > 0, None, living, stamp)

    monkeypatch.setattr(kinds, "DocumentType", ())
    monkeypatch.setattr(Author, "_erase", erase)
    assert noticed_by("text") != "nobody"


def test_a_document_that_a_failed_transaction_has_altered(monkeypatch: Patch) -> None:
    """It is used on as if nothing had been typed into it."""
    monkeypatch.setattr(_document.Document, "_settle", lambda self: self._branch)
    assert noticed_by("text") != "nobody"


def test_positions_in_bytes(monkeypatch: Patch) -> None:
    """As pycrdt counts: right as long as all is ASCII."""
    monkeypatch.setattr(text_module._Editing, "_offset", lambda self, index: index)
    assert noticed_by("text") != "nobody"


# Time ---------------------------------------------------------------------------------------------


def test_a_clock_that_goes_back_over_a_restart(monkeypatch: Patch) -> None:
    """The high-water mark is part of the state."""
    decode = State.decode

    def forgetful(data: bytes) -> State:
        return msgspec.structs.replace(decode(data), time=0)

    monkeypatch.setattr(State, "decode", forgetful)
    assert noticed_by() == "clock"


def test_a_clock_that_follows_the_wall_clock(monkeypatch: Patch) -> None:
    """It would go back whenever that is set back, and stand still within a millisecond."""
    monkeypatch.setattr(hlc, "tick", lambda last, now_ms: now_ms << hlc.LOGICAL_BITS)
    assert noticed_by() == "clock"


def test_ties_broken_by_the_order_of_arrival(monkeypatch: Patch) -> None:
    """Two writes at the same time: the greater dot must be read everywhere, first come or last."""
    monkeypatch.setattr(
        type(CATALOGUE["register"]),
        "_winner",
        lambda self, live: max(live, key=lambda dot: live[dot][0]),
    )
    assert noticed_by("register") in _VALUES
