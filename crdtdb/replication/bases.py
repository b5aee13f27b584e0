"""Version vectors told by what differs from a *base*: one that both sides have in the same words.

While there is always news, replicas say many times a second what they have seen, and each time it
differs in a few entries from what they said before. Told whole, that came to as many bytes as the
records that it is about. So the vectors of questions (`News`, `Pull`) are kept for a while by who
asks and by who is asked, and what follows is told against one of them, by its mark.

A vector here is as in a frame: entries above a floor, behind the floor's mark (`crdtdb.floors`).
Told against a base it is

    -2 | the base's mark | how many entries differ | (index in the base, difference) each | the rest

where a difference may come to 0 (an entry that only the base has), and the rest are the entries
that the base does not have. A base is only another way to write the same: who does not know it,
after a restart say, is told the whole vector instead.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from crdtdb import codec
from crdtdb.errors import PeerError

__all__ = ["UNKNOWN_BASE", "Bases", "UnknownBase", "tell", "whole"]

#: Why a pull is refused that is told against a base that is not known (any more).
UNKNOWN_BASE: Final = "unknown-base"

#: What a vector that is told against a base begins with; no incarnation, and no floor's mark, is
#: negative.
_AGAINST: Final = -2
_HEAD: Final = 3
#: Of each side's questions, so many are kept: those of one exchange, and some that are under way.
_KEPT: Final = 4
#: Nor more peers than that, and no vector with more numbers.
_PEERS: Final = 64
_LONGEST: Final = 1_024


class UnknownBase(Exception):
    """A vector is told against a base that is not known here (any more)."""


def tell(flat: list[int], base: list[int]) -> list[int]:
    """A vector told against a base, if that takes fewer bytes; else as it is. O(entries)."""
    rest = len(flat) % 2
    if len(base) % 2 != rest or flat[:rest] != base[:rest]:
        return flat  # on another floor
    left = dict(zip(flat[rest::2], flat[rest + 1 :: 2], strict=True))
    differ: list[int] = []
    for index, (incarnation, counter) in enumerate(
        zip(base[rest::2], base[rest + 1 :: 2], strict=True)
    ):
        difference = left.pop(incarnation, 0) - counter
        if difference:
            differ += (index, difference)
    told = [_AGAINST, codec.fingerprint(base), len(differ) // 2, *differ]
    for entry in left.items():
        told += entry
    return told if len(codec.pack(told)) < len(codec.pack(flat)) else flat


def whole(told: list[int], bases: Mapping[int, list[int]]) -> list[int]:
    """The inverse of `tell`, for one of these bases, by mark. O(entries of the base).

    What is not told against a base comes back as it is, and whether the result is a vector at all
    is for its reader to say. Raises UnknownBase; PeerError for what `tell` never writes.
    """
    if told[:1] != [_AGAINST]:
        return told
    if len(told) < _HEAD:
        raise PeerError("bad-vector", "a vector is told against no base")
    base = bases.get(told[1])
    if base is None:
        raise UnknownBase
    rest = len(base) % 2
    end = _HEAD + 2 * told[2]
    indices, differences, others = told[_HEAD:end:2], told[_HEAD + 1 : end : 2], told[end:]
    counters = base[rest + 1 :: 2]
    if not _HEAD <= end <= len(told) or len(others) % 2:
        raise PeerError("bad-vector", "a vector that is told against a base breaks off")
    last = -1
    for index, difference in zip(indices, differences, strict=True):
        if not last < index < len(counters) or counters[index] + difference < 0:
            raise PeerError("bad-vector", "a vector differs where its base has no entry")
        counters[index] += difference
        last = index
    entries = [entry for entry in zip(base[rest::2], counters, strict=True) if entry[1]]
    entries += zip(others[::2], others[1::2], strict=True)
    entries.sort()
    return base[:rest] + [number for entry in entries for number in entry]


class _Known:
    """The questions of this replica and of one peer, as vectors by mark, the latest last."""

    __slots__ = ("answered", "asked", "heard")

    def __init__(self) -> None:
        #: This replica's.
        self.asked: OrderedDict[int, list[int]] = OrderedDict()
        #: The latest of them that the peer is known to have.
        self.answered: list[int] | None = None
        #: The peer's.
        self.heard: OrderedDict[int, list[int]] = OrderedDict()


class Bases:
    """What may be told to each peer against what. Nothing here outlives a restart.

    Bounded in peers and in vectors of each: who was not talked with for longest gives way.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[int, _Known] = OrderedDict()

    def _of(self, peer: int) -> _Known:
        known = self._known.pop(peer, None) or _Known()
        self._known[peer] = known
        if len(self._known) > _PEERS:
            self._known.popitem(last=False)
        return known

    def asking(self, peer: int, flat: list[int]) -> list[int]:
        """As `telling`; what is told so goes with a question, and is a base from then on."""
        known = self._of(peer)
        told = self._told(known, flat)
        _keep(known.asked, flat)
        return told

    def telling(self, peer: int, flat: list[int]) -> list[int]:
        """This replica's vector in the fewest words that the peer understands."""
        return self._told(self._of(peer), flat)

    def _told(self, known: _Known, flat: list[int]) -> list[int]:
        bases = [*list(known.heard.values())[-1:], *([known.answered] if known.answered else [])]
        return min([flat, *(tell(flat, base) for base in bases)], key=len)

    def heard(self, peer: int, flat: list[int]) -> None:
        """A peer told this vector with a question: it is a base from then on."""
        _keep(self._of(peer).heard, flat)

    def reading(self, peer: int, told: list[int]) -> list[int]:
        """The vector that a peer told. Raises UnknownBase, PeerError."""
        known = self._of(peer)
        flat = whole(told, {**known.heard, **known.asked})
        if flat is not told and (base := known.asked.get(told[1])) is not None:
            known.answered = base
        return flat

    def forget(self, peer: int) -> None:
        """The peer does not know what it is told against: it is told everything anew."""
        self._known.pop(peer, None)


def _keep(vectors: OrderedDict[int, list[int]], flat: list[int]) -> None:
    """Keep a vector as the latest."""
    if 0 < len(flat) <= _LONGEST:
        mark = codec.fingerprint(flat)
        vectors[mark] = flat
        vectors.move_to_end(mark)
        if len(vectors) > _KEPT:
            vectors.popitem(last=False)
