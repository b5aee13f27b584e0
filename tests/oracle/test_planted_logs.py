"""Mistakes planted (`oracle.planting`): operations: how they are folded, lists and texts."""

from __future__ import annotations

from typing import Any

import pytest

import test_folding
import test_fugue
from crdtdb import (
    address,
    kinds,
)
from crdtdb.author import Author
from crdtdb.causal import VersionVector
from crdtdb.draft import Draft
from crdtdb.record import Record
from crdtdb.replication.stability import Reports
from crdtdb.transaction import Result
from crdtdb.types import _document
from crdtdb.types import text as text_module
from crdtdb.types._fugue import Elements, Place
from crdtdb.types._runs import LEFT, RIGHT, ids_from
from crdtdb.types.list import List
from laws import test_operation_based
from oracle.planting import VALUES, Patch, breaks, noticed_by
from witness import in_catalogue

pytestmark = pytest.mark.planted


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
    assert noticed_by("opcounter") in VALUES
    law = test_operation_based.test_each_operation_is_applied_once_and_after_all_it_follows
    for field in (None, ["a", "b"]):
        assert breaks(law, field=field)


def test_folding_what_is_not_stable(monkeypatch: Patch) -> None:
    """Others meet a base that they have not seen, and lose what they did meanwhile."""
    monkeypatch.setattr(Reports, "stable", lambda self, members, own, seen: seen)
    assert noticed_by("opcounter") in ("convergence", *VALUES)


def test_an_operation_taken_for_a_base(monkeypatch: Patch) -> None:
    """Operation 4 of a replica has an address that ends like a base's: it would come first."""
    monkeypatch.setattr(address, "is_base", lambda at: at.endswith(address.BASE))
    story = test_folding.test_operations_are_applied_in_causal_order_whatever_their_dots_look_like
    with in_catalogue():
        assert breaks(story)


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
    assert noticed_by("list") in (*VALUES, "convergence", "folded")


def _length(held: Any) -> int:
    return held if isinstance(held, int) else len(held)


def test_every_new_element_below_the_one_before(monkeypatch: Patch) -> None:
    """As in a list of insertions after: what two type backwards at one place is mixed."""

    def place(self: Elements, index: int) -> Place:
        before = list(self.shown(index - 1, index)) if index else []
        return Place(before[0].id if before else None, RIGHT)

    monkeypatch.setattr(Elements, "place", place)
    assert noticed_by("list") in VALUES
    assert breaks(test_fugue.test_runs_that_are_typed_concurrently_never_mix)


def test_siblings_in_the_order_of_arrival(monkeypatch: Patch) -> None:
    """The one that came last stands first: here one of them, there the other."""
    monkeypatch.setattr(Elements, "_put_right", lambda self, run, j: self._runs.insert(j, run))
    assert noticed_by("list") in ("convergence", *VALUES)


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
    assert noticed_by("list") in ("convergence", *VALUES)


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
    assert noticed_by("list") in VALUES


# Texts --------------------------------------------------------------------------------------------


def test_two_replicas_that_type_as_one_client(monkeypatch: Patch) -> None:
    """What the second types has the ids of what the first did: it is taken for known."""
    monkeypatch.setattr(text_module, "client_of", lambda incarnation: 7)
    assert noticed_by("text") in ("convergence", *VALUES)


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
    monkeypatch.setattr(text_module, "_offset", lambda shown, index: index)
    assert noticed_by("text") != "nobody"
