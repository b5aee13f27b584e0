"""Mistakes planted (`oracle.planting`): records that are joined, deltas, cuts and clocks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from crdtdb import (
    author,
    codec,
    draft,
    hlc,
    record,
)
from crdtdb.author import Author
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.draft import Draft
from crdtdb.record import Live, Payload, Record
from crdtdb.state import State
from crdtdb.store.base import Table
from crdtdb.types import CATALOGUE
from laws import test_state_based
from oracle.planting import VALUES, Patch, breaks, noticed_by

pytestmark = pytest.mark.planted


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
    assert noticed_by() in VALUES


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
    assert noticed_by("register") in VALUES


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
    assert noticed_by() in VALUES


def test_a_context_that_forgets_what_is_dead(monkeypatch: Patch) -> None:
    """Then nobody can be told of a removal: its record says nothing that a peer could lack."""
    monkeypatch.setattr(record, "_join_contexts", lambda *states: VersionVector.of(states[-1]))
    assert noticed_by("set", "flag") in VALUES


# Deltas -------------------------------------------------------------------------------------------


_after = record.after


def test_a_remove_without_a_dot(monkeypatch: Patch) -> None:
    """The filter of a pull takes its record for one that the puller has seen."""

    def after(standing: Record, *change: Any) -> Record:
        delta = _after(standing, *change)
        is_removal = len(change) == 2
        return Record(delta.live, VersionVector.of(delta.live)) if is_removal else delta

    monkeypatch.setattr(author, "after", after)
    assert noticed_by("set", "flag") in VALUES


def test_a_delta_without_what_its_operation_leaves_standing(monkeypatch: Patch) -> None:
    """Dot A:7 claims A:1 to A:6 on its record, so what stands of those must come along."""

    def after(standing: Record, dot: Any, *change: Any) -> Record:
        delta = _after(standing, dot, *change)
        return Record({d: p for d, p in delta.live.items() if d == dot}, delta.context)

    monkeypatch.setattr(author, "after", after)
    assert noticed_by("mvregister") in VALUES


def test_a_failed_transaction_that_leaves_a_trace(monkeypatch: Patch) -> None:
    """What a draft forgets to undo stays."""
    go_back = Draft.go_back

    def forgetful(self: Draft) -> None:
        heads = dict(self._heads)
        go_back(self)
        self._heads.update(heads)

    monkeypatch.setattr(Draft, "go_back", forgetful)
    assert noticed_by() in ("heads", *VALUES)


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


# Cuts ---------------------------------------------------------------------------------------------


def test_a_cut_that_covers_everything(monkeypatch: Patch) -> None:
    """What was added at the same time goes too."""

    def covered(live: Live) -> VersionVector:
        return VersionVector.of((incarnation, (1 << 63) - 1) for incarnation, _ in live)

    monkeypatch.setattr(draft, "covered", covered)
    assert noticed_by() in ("heads", *VALUES)


def test_a_cut_that_takes_more_than_its_read_context(monkeypatch: Patch) -> None:
    """What the caller's read did not show goes too."""
    cut = Author._cut

    def eager(self: Author, draft: Draft, prefix: bytes, _: VersionVector, dot: Any) -> None:
        cut(self, draft, prefix, draft.seen, dot)

    monkeypatch.setattr(Author, "_cut", eager)
    assert noticed_by() in VALUES


def test_a_cut_that_shrinks(monkeypatch: Patch) -> None:
    """A later cut with an older read context takes the place of one that covered more."""
    monkeypatch.setattr(author, "covered", lambda live: NOTHING)
    assert noticed_by("set") in ("heads", *VALUES)


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
    assert noticed_by("register") in VALUES
