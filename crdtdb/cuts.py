"""Cuts: "everything under this address prefix that this version vector covers is dead".

A cut is a record like any other, at an address of its own; its payload is

    [vector as a flat list, guard]

A later cut at the same prefix replaces those it saw; concurrent ones are all in force and cover
the join of their vectors. `guard` is nil, or the deadline (ms since 1970) that the cut depends on:
of one object, what was written after its deadline made it (`expiry` tells when it is in force).

What an object-level cut covers is kept in the object's head. Cuts over several objects (a key
prefix, a type, a bucket) are few; the engine keeps them in memory to know what applies to an
object it meets for the first time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from crdtdb.causal import NOTHING, Dot, VersionVector
from crdtdb.record import Live, Payload

__all__ = [
    "NO_WIDE_CUTS",
    "WideCuts",
    "check_cut",
    "covered",
    "cut_payload",
    "is_object_prefix",
    "is_wide_or_object",
    "replaced",
]


class _CutPayload(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    vector: list[int]
    guard: Annotated[int, Meta(ge=1)] | None


def cut_payload(vector: VersionVector, guard: int | None = None) -> Payload:
    """The payload of a cut that covers `vector`, as long as its guard holds if it has one."""
    return (vector.flat(), guard)


def check_cut(payload: Payload, *, is_object: bool) -> VersionVector:
    """The vector of a cut, at an object or a wider prefix, from a peer. Raises ValueError."""
    checked = msgspec.convert(payload, type=_CutPayload, strict=True)
    if checked.guard is not None and not is_object:
        raise ValueError("the cut of several objects depends on no deadline")
    return VersionVector.from_flat(checked.vector)


def covered(live: Live) -> VersionVector:
    """Everything that the cuts at one prefix cover, of those that depend on no deadline."""
    vector = NOTHING
    for flat, guard in live.values():
        if guard is None:
            vector = vector.join(VersionVector.from_flat(list(flat)))
    return vector


def replaced(cuts: Live, vector: VersionVector, guard: int | None) -> list[Dot]:
    """The cuts at one prefix that say nothing more beside a new one there.

    One that depends on no deadline covers what those like it did, so it replaces them. One that
    does replaces those with the same guard, for these come and go together; for as long as such a
    cut is there, it also tells which deadlines are over.
    """
    if guard is None:
        return [dot for dot, (_, other) in cuts.items() if other is None]
    return [
        dot
        for dot, (flat, other) in cuts.items()
        if other == guard and vector.includes(VersionVector.from_flat(list(flat)))
    ]


def is_object_prefix(prefix: bytes) -> bool:
    """Does the prefix belong to exactly one object? (Names hold no zero byte.)"""
    return prefix.endswith(b"\0") and prefix.count(b"\0") == 3


def is_wide_or_object(prefix: bytes) -> bool:
    """Does the prefix belong to whole objects, not to a part of one?"""
    return prefix.count(b"\0") < 3 or is_object_prefix(prefix)


class WideCuts:
    """The cuts that cover more than one object: prefix → vector. Immutable."""

    __slots__ = ("_cuts", "_lengths")

    def __init__(self, cuts: Iterable[tuple[bytes, VersionVector]] = ()) -> None:
        self._cuts: dict[bytes, VersionVector] = dict(cuts)
        self._lengths = sorted({len(prefix) for prefix in self._cuts})

    def __bool__(self) -> bool:
        """Is there any?"""
        return bool(self._cuts)

    def with_cut(self, prefix: bytes, vector: VersionVector) -> WideCuts:
        """The same with one prefix's vector raised."""
        raised = self._cuts.get(prefix, NOTHING).join(vector)
        return WideCuts({**self._cuts, prefix: raised}.items())

    def without(self, prefix: bytes) -> WideCuts:
        """The same without the cut at one prefix."""
        return WideCuts(entry for entry in self._cuts.items() if entry[0] != prefix)

    def at(self, prefix: bytes) -> VersionVector | None:
        """What the cut at exactly this prefix covers; None if there is none."""
        return self._cuts.get(prefix)

    def over(self, prefix: bytes) -> Iterator[bytes]:
        """The prefixes of the cuts that apply to an object. O(distinct lengths of cut prefixes)."""
        return (at for length in self._lengths if (at := prefix[:length]) in self._cuts)

    def applying(self, prefix: bytes) -> VersionVector | None:
        """What is cut of an object. O(distinct lengths of cut prefixes)."""
        vector: VersionVector | None = None
        for length in self._lengths:
            found = self._cuts.get(prefix[:length])
            if found is not None:
                vector = found if vector is None else vector.join(found)
        return vector

    def raised_over(self, old: WideCuts) -> Iterator[tuple[bytes, VersionVector]]:
        """The (prefix, vector) pairs that `old` does not have."""
        return (entry for entry in self._cuts.items() if old._cuts.get(entry[0]) != entry[1])

    def gone_since(self, old: WideCuts) -> Iterator[bytes]:
        """The prefixes that only `old` has a cut at."""
        return iter(old._cuts.keys() - self._cuts.keys())


NO_WIDE_CUTS: Final = WideCuts()
