"""What a guarded cut leaves beside itself, where a cut alone does not do.

A cut that begins a new life of an object (`expiry`) covers dots, for as long as it is in force. Two
kinds of operations need more than that:

**Running totals** go on under later dots: who counts on at the same time, without knowing of the
cut, repeats what it covers. So in each record with running totals it leaves, under its own dot, an
*inventory* of what was in force there:

    {"was": [[incarnation, counter, payload], …]}       sorted by dot

As long as the cuts in force cover such a dot, what it said does not count: of a total that has gone
on since, types see what was added since.

**Edits of documents** name what stood beside them, so none can be left out. There a *guarded edit*,
an operation under the dot of the cut, takes out all that is there:

    {"cut": vector as a flat list, "edit": payload}

It counts as long as the cuts in force cover that vector.

Both are facts, whatever becomes of the cut: when a deadline was moved in time, and the cut is in
force no more, they say nothing.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from crdtdb.causal import Dot, VersionVector
from crdtdb.record import Live, Payload

__all__ = [
    "edit_of",
    "found_then",
    "guarded_edit",
    "has_beside_cut",
    "inventory",
    "is_beside_cut",
    "read_inventory",
    "totals_of",
]

_Row = tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=1)], Any]


class _Inventory(msgspec.Struct, forbid_unknown_fields=True):
    was: Annotated[list[_Row], Meta(min_length=1)]


class _Edit(msgspec.Struct, forbid_unknown_fields=True):
    cut: list[int]
    edit: Any


def is_beside_cut(payload: Payload) -> bool:
    """Did a guarded cut leave this? Of records with running totals, and of documents."""
    return type(payload) is dict


def has_beside_cut(live: Live) -> bool:
    """Is there something among these that a guarded cut left?"""
    for payload in live.values():  # noqa: SIM110  (most have one, and are asked often)
        if type(payload) is dict:
            return True
    return False


# -- running totals -------------------------------------------------------------------------------


def inventory(live: Live) -> Payload:
    """What a guarded cut leaves in a record where this is in force."""
    return {"was": [(inc, counter, live[inc, counter]) for inc, counter in sorted(live)]}


def read_inventory(payload: Payload) -> list[tuple[Dot, Payload]]:
    """What was in force then. Raises ValueError for what is no inventory."""
    checked = msgspec.convert(payload, type=_Inventory, strict=True)
    rows = [((inc, counter), inner) for inc, counter, inner in checked.was]
    dots = [dot for dot, _ in rows]
    if dots != sorted(set(dots)):
        raise ValueError("an inventory is not in order")
    return rows


def totals_of(live: Live) -> Live:
    """The same without the inventories."""
    return {dot: payload for dot, payload in live.items() if not is_beside_cut(payload)}


def found_then(live: Live, cut: VersionVector | None) -> Live:
    """What inventories among these say was in force, of what cuts cover."""
    if cut is None:
        return {}
    return {
        (inc, counter): inner
        for payload in live.values()
        if is_beside_cut(payload)
        for inc, counter, inner in payload["was"]
        if cut.covers((inc, counter))
    }


# -- edits ----------------------------------------------------------------------------------------


def guarded_edit(covers: VersionVector, edit: Payload) -> Payload:
    """An edit that counts as long as the cuts in force cover this."""
    return {"cut": covers.flat(), "edit": edit}


def edit_of(payload: Payload) -> tuple[VersionVector, Payload]:
    """What it depends on, and the edit. Raises ValueError for what is no guarded edit."""
    checked = msgspec.convert(payload, type=_Edit, strict=True)
    return VersionVector.from_flat(checked.cut), payload["edit"]
