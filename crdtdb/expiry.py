"""Expiry: until when an object is there, and what is left of it after that.

An object's deadline is a record of its own beside its data, at the tail EXPIRY; a payload is

    [deadline, since]      ms since 1970; deadline nil: none (`persist`)

`expire` and `persist` replace the deadlines they find. Concurrent ones are all in force: the latest
counts, and a `persist` more than any. Nothing happens when the deadline comes: every reader holds
it against its own replica's time, and from then on does not see the object any more.

**What is written after the deadline starts from bottom.** Whoever writes to a hidden object first
takes out what is there by a *guarded cut*, [vector, guard], whose guard is the deadline that it
acts on. It is in force as long as no deadline is known that was given before the guard and ends
after it: a later one, made elsewhere in time, is the only thing that brings the object back.

`since` tells which deadlines those are. It is the time of the operation that gave the object its
first deadline, and who moves a deadline repeats it; so what a new life of the object is given,
after a guarded cut, says nothing about the life before.

Both are pure functions of the dots in force, hence the same at all replicas that have seen the
same. No clock decides what is stored, only what is shown, and when a new life begins.

Running totals are beyond cuts, and so are maps and texts: objects with these are deleted before
they are written again, so a deadline moved elsewhere at the same time brings nothing back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, NamedTuple

import msgspec
from msgspec import Meta

from crdtdb.causal import NOTHING, VersionVector
from crdtdb.datatype import Operation
from crdtdb.errors import Field, InvalidOperation
from crdtdb.record import Live, Payload, visible

__all__ = [
    "LATEST_MS",
    "Expire",
    "Persist",
    "Standing",
    "check_deadline",
    "deadline_of",
    "deadline_payload",
    "describe_deadline",
    "guarded",
    "guards",
    "is_hidden",
    "since_of",
    "standing",
]

#: The last deadline there is: what the 48 bits of a hybrid time can say.
LATEST_MS: Final = (1 << 48) - 1
_Milliseconds = Annotated[int, Meta(ge=1, le=LATEST_MS)]


class _Deadline(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    at_ms: _Milliseconds | None
    since_ms: Annotated[int, Meta(ge=0, le=LATEST_MS)]


class Expire(Operation, tag="expire", frozen=True):
    """Give the object a deadline: `in_ms` from now, or `at_ms` since 1970. Exactly one of them."""

    rule: ClassVar = {"oneOf": [{"required": ["in_ms"]}, {"required": ["at_ms"]}]}

    in_ms: _Milliseconds | msgspec.UnsetType = msgspec.UNSET
    at_ms: _Milliseconds | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if (self.in_ms is msgspec.UNSET) == (self.at_ms is msgspec.UNSET):
            raise ValueError("give `in_ms` or `at_ms`, one of them")

    def deadline_ms(self, now_ms: int) -> int:
        """When it ends, if it is now `now_ms`. Raises InvalidOperation for what has passed."""
        if not isinstance(self.at_ms, int):
            assert isinstance(self.in_ms, int)
            return min(now_ms + self.in_ms, LATEST_MS)
        if self.at_ms <= now_ms:
            raise InvalidOperation(
                f"the deadline {self.at_ms} has passed; at this replica it is {now_ms}: give a "
                "later one, or `delete` the object",
                Field("at_ms", "in the past", now_ms + 1),
            )
        return self.at_ms


class Persist(Operation, tag="persist", frozen=True):
    """Take the object's deadline away; wins over any deadline given at the same time."""


# -- deadlines ------------------------------------------------------------------------------------


def deadline_payload(at_ms: int | None, since_ms: int) -> Payload:
    """What `expire`, or without a time `persist`, leaves."""
    return (at_ms, since_ms)


def check_deadline(payload: Payload) -> None:
    """Raises ValueError for what no replica writes."""
    msgspec.convert(payload, type=_Deadline, strict=True)


def deadline_of(live: Live) -> int | None:
    """Until when the object is there, ms since 1970; None: for ever.

    The latest of concurrent deadlines; none at all if one of them was taken away.
    """
    latest: int | None = None
    for at_ms, _since in live.values():
        if at_ms is None:
            return None
        latest = at_ms if latest is None else max(latest, at_ms)
    return latest


def since_of(live: Live, now_ms: int) -> int:
    """Since when the object has had deadlines, if it gets one more now."""
    return min((since for _at, since in live.values()), default=now_ms)


def is_hidden(deadline_ms: int | None, now_ms: int) -> bool:
    """Has the deadline come?"""
    return deadline_ms is not None and deadline_ms <= now_ms


def describe_deadline(payload: Payload) -> dict[str, Any]:
    """What a payload says, for people."""
    at_ms, since_ms = payload
    return {"expires_at_ms": at_ms, "since_ms": since_ms}


# -- guarded cuts ---------------------------------------------------------------------------------


def guarded(cuts: Live) -> Live:
    """The cuts among these that depend on a deadline."""
    return {dot: cut for dot, cut in cuts.items() if cut[1] is not None}


def guards(cuts: Live) -> Iterator[int]:
    """The deadlines that cuts depend on, of those that do."""
    return (guard for _vector, guard in cuts.values() if guard is not None)


class Standing(NamedTuple):
    """What deadlines and cuts come to."""

    #: What is cut of the object; None: nothing.
    cut: VersionVector | None
    #: The deadlines of its present life.
    deadlines: Live


def standing(cuts: Live, deadlines: Live, wide: VersionVector | None = None) -> Standing:
    """What is in force of an object.

    `cuts` and `deadlines` are all that is live at those two records of the object, `wide` is what
    cuts over several objects cover. A deadline that nobody who began a new life had seen, but that
    is no later than the one that ended the life before, has ended with that.
    """
    plain = NOTHING if wide is None else wide
    for flat, guard in cuts.values():
        if guard is None:
            plain = plain.join(VersionVector.from_flat(list(flat)))
    given = visible(deadlines, plain)
    cut, last = plain, 0
    for flat, guard in cuts.values():
        if guard is not None and not _was_moved(given, guard):
            cut = cut.join(VersionVector.from_flat(list(flat)))
            last = max(last, guard)
    present = {
        dot: (at_ms, since)
        for dot, (at_ms, since) in visible(given, cut).items()
        if since >= last or at_ms is None or at_ms > last
    }
    return Standing(cut if len(cut) else None, present)


def _was_moved(deadlines: Live, guard: int) -> bool:
    """Was the deadline moved further, or taken away, before it came?"""
    return any(
        since < guard and (at_ms is None or at_ms > guard) for at_ms, since in deadlines.values()
    )
