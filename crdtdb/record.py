"""The record and its one `join`: the algebra under every state-based type.

A record is one small piece of an object (a set member, a register, a counter):

- `live`: dot → payload of the operations in force,
- `context`: the operations included, in force or not. It covers every live dot.

`join(a, b)` keeps a live dot if both hold it, or if one holds it and the other has never seen it:
a dot that the other saw and does not hold was removed there. It knows no type and drops nothing
else: which value wins is decided when somebody reads (pruning here would break associativity).

**What a replica need not store.** A replica that has seen the VV `seen` has, in effect, that whole
VV as the context of each of its records. So a stored or sent record keeps in `context` only what
tells *whether a peer needs it*: the operations on this record that no later one had seen. The rest
comes back by passing each side's VV as `a_seen` and `b_seen`. With both left out, `join` is the
textbook function; `tests/laws` shows the two agree (strip and fill of Gonçalves et al. 2015).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from crdtdb.causal import NOTHING, Dot, VersionVector

__all__ = ["EMPTY", "Live", "Payload", "Record", "after", "join", "visible"]

#: What one operation left behind: plain values that the codec can write.
Payload: TypeAlias = Any
Live: TypeAlias = Mapping[Dot, Payload]


class Record(NamedTuple):
    """The unit of storage, join and replication."""

    live: Live
    context: VersionVector


EMPTY: Final = Record({}, NOTHING)


def join(
    a: Record, b: Record, a_seen: VersionVector = NOTHING, b_seen: VersionVector = NOTHING
) -> Record:
    """The least upper bound of two records, each held by somebody who has seen `x_seen`.

    Commutative, associative, idempotent, with `EMPTY` as unit. O(live dots + context entries).
    """
    a_live, a_context = a
    b_live, b_context = b
    if a is EMPTY and a_seen.is_below_each(b_context) and not any(map(a_seen.covers, b_live)):
        return b  # all of it is news, as most of what is merged
    live = {
        dot: payload
        for dot, payload in a_live.items()
        if dot in b_live or not (b_context.covers(dot) or b_seen.covers(dot))
    }
    live |= {
        dot: payload
        for dot, payload in b_live.items()
        if dot not in a_live and not (a_context.covers(dot) or a_seen.covers(dot))
    }
    if a_context == b_context:
        return Record(live, a_context)
    return Record(live, _join_contexts(a_context, b_context, a_seen, b_seen, live))


def _join_contexts(
    a: VersionVector, b: VersionVector, a_seen: VersionVector, b_seen: VersionVector, live: Live
) -> VersionVector:
    """Both contexts, less what the other side saw and has replaced; but always what is live."""
    kept: dict[int, int] = {}
    for incarnation, counter in live:
        if counter > kept.get(incarnation, 0):
            kept[incarnation] = counter
    for incarnation, counter in a.items():
        other = b.get(incarnation)
        if other == counter or (other < counter and b_seen.get(incarnation) < counter):
            kept[incarnation] = max(counter, kept.get(incarnation, 0))
    for incarnation, counter in b.items():
        other = a.get(incarnation)
        if other < counter and a_seen.get(incarnation) < counter:
            kept[incarnation] = max(counter, kept.get(incarnation, 0))
    return VersionVector(kept)


_REMOVED: Final = object()


def after(
    record: Record, dot: Dot, replaces: Collection[Dot], payload: Payload = _REMOVED
) -> Record:
    """The delta of one operation: the record it leads to, whose context is all the writer saw.

    The operation `dot` takes the dots `replaces` out of force and, unless the payload is left
    out, puts itself in. Because its context is the writer's whole VV, the delta carries every
    live dot it did not replace; stripped of that VV, only `dot` is left to
    say, for the operation comes after everything its writer saw.
    """
    live = {d: p for d, p in record.live.items() if d not in replaces}
    context = VersionVector.of([*live, dot]) if live else VersionVector.up_to(*dot)
    if payload is not _REMOVED:
        live[dot] = payload
    return Record(live, context)


def visible(live: Live, cut: VersionVector | None) -> Live:
    """The live dots that no cut covers: all that types, digests and readers may look at."""
    if cut is None:
        return live
    return {dot: payload for dot, payload in live.items() if not cut.covers(dot)}
