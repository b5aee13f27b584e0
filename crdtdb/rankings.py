"""Rankings: the members of sorted sets in the order of their scores, in memory.

A store holds members in their own order. Which members have the least scores, and which place a
score has among a million, nobody can tell from that without looking at all of them. So the first
who asks loads a ranking of the object, O(n log n); from then on a page costs O(log n + page), and
what has changed meanwhile is taken over from the by-change sequence: a write does not cost another
load, nor does it know of rankings. They are bounded in bytes together; the one that was not asked
for longest goes first.

Entries are `encode(score) + encode(member)`: their bytes compare as (score, member) do, so equal
scores stand in the order of members, and every member has a rank of its own, from 0 for the least.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Final

from sortedcontainers import SortedList

from crdtdb import address, jsonbytes
from crdtdb.address import ObjectName
from crdtdb.answers import Standing
from crdtdb.datatype import ScoredType
from crdtdb.errors import BadRequest, Field, TooLarge
from crdtdb.head import Head
from crdtdb.jsonvalue import JsonValue
from crdtdb.kinds import in_force
from crdtdb.limits import LIMITS
from crdtdb.operations import type_named
from crdtdb.query import Query
from crdtdb.reading import Page, PageQuery, Reading
from crdtdb.record import Record

__all__ = ["Rankings"]

#: What one entry takes beside the bytes of score and member, each of which it holds twice.
_ENTRY_BYTES: Final = 200
#: Who is so many places of the sequence behind catches up in no time.
_NEAR_PLACES: Final = 1_000
#: A listing by rank that ends where the members do.
_OPEN: Final = (1 << 64) - 1
_LEFT: Final = struct.Struct(">Q")


class Rankings:
    """Those of one store. Threads may share it."""

    def __init__(self, most_bytes: int = LIMITS.ranking_bytes) -> None:
        self._most_bytes = most_bytes
        self._size_bytes = 0
        #: By object prefix; the one that was asked for last is last.
        self._rankings: OrderedDict[bytes, _Ranking] = OrderedDict()
        self._lock = Lock()
        #: How often one was loaded whole.
        self.loads = 0

    @property
    def size_bytes(self) -> int:
        """What all of them take, about."""
        return self._size_bytes

    def page(
        self, reading: Reading, name: ObjectName, head: Head, query: Query, position: bytes | None
    ) -> Page:
        """A page by score or rank. O(log n + page + changes since) after one load.

        Raises TooLarge for an object that has too many members.
        """
        if not head.exists:
            return Page([], None)
        with self._of(reading, name, head) as ranking:
            return ranking.page(query, position)

    def standing(self, reading: Reading, name: ObjectName, member: JsonValue) -> Standing | None:
        """Score and rank of a normalised member; None if it is none. Costs and raises as `page`."""
        head = reading.head(name.prefix)
        if not head.exists:
            return None
        with self._of(reading, name, head) as ranking:
            return ranking.standing(jsonbytes.encode(member))

    def are_near(self, name: ObjectName, sequence: int) -> bool:
        """Would a reading of that place in the sequence find the object ranked, in no time?"""
        kept = self._rankings.get(name.prefix)
        is_near = kept is not None and sequence - kept.sequence <= _NEAR_PLACES
        return is_near and not self._lock.locked()

    def prepare(self, reading: Reading, name: ObjectName) -> None:
        """Rank an object, for those who ask next. Costs and raises as `page`."""
        head = reading.head(name.prefix)
        if head.exists:
            with self._of(reading, name, head):
                pass

    @contextmanager
    def _of(self, reading: Reading, name: ObjectName, head: Head) -> Iterator[_Ranking]:
        """The ranking of an object as of a reading, for as long as the block lasts."""
        prefix = name.prefix
        with self._lock:
            kept = self._kept(reading, name, head)
            if kept is not None:
                yield self._keep(prefix, kept)
                return
        loaded = self._load(reading, name, head)  # others need not wait for that
        with self._lock:
            yield self._keep(prefix, loaded)

    def _kept(self, reading: Reading, name: ObjectName, head: Head) -> _Ranking | None:
        """The one that is there, brought to a reading's state and taken out; None if it cannot."""
        kept = self._rankings.get(name.prefix)
        if kept is None or kept.is_after(reading, head):
            return None
        self._take_out(name.prefix)
        return kept if kept.follow(reading, name, head) else None

    def _take_out(self, prefix: bytes) -> None:
        ranking = self._rankings.pop(prefix)
        self._size_bytes -= ranking.size_bytes

    def _load(self, reading: Reading, name: ObjectName, head: Head) -> _Ranking:
        if head.size * _ENTRY_BYTES > self._most_bytes:
            raise self._too_large(head.size)
        self.loads += 1
        return _Ranking(reading, name, head)

    def _keep(self, prefix: bytes, ranking: _Ranking) -> _Ranking:
        """Put one in the place of an earlier one, and let others go for it."""
        if ranking.size_bytes > self._most_bytes:
            raise self._too_large(len(ranking))
        if prefix in self._rankings:
            self._take_out(prefix)
        self._rankings[prefix] = ranking
        self._size_bytes += ranking.size_bytes
        while self._size_bytes > self._most_bytes:
            self._take_out(next(iter(self._rankings)))
        return ranking

    def _too_large(self, members: int) -> TooLarge:
        return TooLarge(
            f"ranking {members} members takes more than {self._most_bytes} bytes of memory; read "
            "them in the order of members, of which a page from a member on shows its score",
            Field("order", "too many members", self._most_bytes),
        )


class _Ranking:
    """The members of one object by (score, member)."""

    def __init__(self, reading: Reading, name: ObjectName, head: Head) -> None:
        """Load it. O(n log n)."""
        #: The place in the sequence up to which changes have been taken over.
        self.sequence = reading.sequence
        #: The place of the object's latest change among these.
        self.changed_at = head.sequence
        self._cut = head.cut
        self._entries_by_member: dict[bytes, bytes] = {}
        self.size_bytes = 0
        kind = _scored(name)
        for tail, record in reading.records(name, PageQuery()):
            if (entry := _entry(kind, tail, record, head)) is not None:
                self._note(tail[1:], entry)
        self._entries: SortedList[bytes] = SortedList(self._entries_by_member.values())

    def __len__(self) -> int:
        return len(self._entries)

    def is_after(self, reading: Reading, head: Head) -> bool:
        """Has a change been taken over that the reading does not show?"""
        return reading.sequence < self.sequence and head.sequence != self.changed_at

    def _note(self, member: bytes, entry: bytes) -> None:
        self._entries_by_member[member] = entry
        self.size_bytes += _ENTRY_BYTES + len(entry) + len(member)

    def follow(self, reading: Reading, name: ObjectName, head: Head) -> bool:
        """Take over what has changed up to a reading; False if it takes a load to know that."""
        if head.cut != self._cut:
            return False  # another life began, or the one before has come back
        if head.sequence != self.changed_at:
            most = max(_NEAR_PLACES, len(self) // 8)  # or else a load is hardly slower
            changed = reading.changed_since(name.prefix + address.MEMBER, self.sequence, most)
            if changed is None:
                return False
            kind = _scored(name)
            for at, record in changed:
                self._change(at, _entry(kind, at, record, head))
            if len(self) != head.size:
                return False  # a member went, and its tombstone was reclaimed since
            self.changed_at = head.sequence
        self.sequence = max(self.sequence, reading.sequence)
        return True

    def _change(self, tail: bytes, entry: bytes | None) -> None:
        member = tail[1:]
        old = self._entries_by_member.pop(member, None)
        if old is not None:
            self._entries.remove(old)
            self.size_bytes -= _ENTRY_BYTES + len(old) + len(member)
        if entry is not None:
            self._note(member, entry)
            self._entries.add(entry)

    def standing(self, member: bytes) -> Standing | None:
        entry = self._entries_by_member.get(member)
        if entry is None:
            return None
        score: Any = jsonbytes.decode(entry)[0]
        return Standing(score, self._entries.bisect_left(entry))

    def page(self, query: Query, position: bytes | None) -> Page:
        least, end, left = self._range(query, position)
        count = min(query.limit, end - least)
        first = end - count if query.reverse else least
        entries = list(self._entries.islice(first, first + count, query.reverse))
        ranks = range(first, first + count)
        by_rank = query.order == "rank"
        shown = [
            _shown(entry, rank if by_rank else None)
            for entry, rank in zip(
                entries, reversed(ranks) if query.reverse else ranks, strict=True
            )
        ]
        if count == end - least:
            return Page(shown, None)
        left = left if left == _OPEN else left - count
        return Page(shown, (_LEFT.pack(left) if by_rank else b"") + entries[-1])

    def _range(self, query: Query, position: bytes | None) -> tuple[int, int, int]:
        """The ranks to list (least, and one past the greatest), and how many in all, by rank."""
        if query.order == "rank":
            return self._range_by_rank(query, position)
        least, end = 0, len(self)
        if query.start is not None:
            least = self._entries.bisect_left(query.start)
        if query.end is not None:
            end = self._entries.bisect_left(query.end)
        if position is not None:
            if query.reverse:
                end = min(end, self._entries.bisect_left(position))
            else:
                least = max(least, self._entries.bisect_right(position))
        return least, max(least, end), _OPEN

    def _range_by_rank(self, query: Query, position: bytes | None) -> tuple[int, int, int]:
        """By rank, a listing begins at a rank and goes on behind the last entry that it showed.

        Ranks move while it goes on; it ends after as many entries as it asked for.
        """
        size = len(self)
        if position is not None:
            if len(position) < _LEFT.size:
                raise BadRequest("`after` is damaged", Field("after", "not a cursor"))
            (left,) = _LEFT.unpack_from(position)
            entry = position[_LEFT.size :]
            if query.reverse:
                end = self._entries.bisect_left(entry)
                return max(0, end - left), end, left
            least = self._entries.bisect_right(entry)
            return least, min(size, least + left), left
        start, end = _rank(query.start), _rank(query.end)
        least = min(start or 0, size)
        most = size if end is None else max(least, min(end, size))
        is_open = start is None if query.reverse else end is None
        return least, most, _OPEN if is_open else most - least


def _scored(name: ObjectName) -> ScoredType:
    kind = type_named(name.type)
    assert isinstance(kind, ScoredType)
    return kind


def _entry(kind: ScoredType, tail: bytes, record: Record, head: Head) -> bytes | None:
    """The entry of a member; None if users see none."""
    live = in_force(kind, tail, record.live, head.cut)
    return jsonbytes.encode(kind.score(live)) + tail[1:] if kind.alive(live) else None


def _shown(entry: bytes, rank: int | None) -> JsonValue:
    score, end = jsonbytes.decode(entry)
    shown: dict[str, JsonValue] = {"member": jsonbytes.decode(entry, end)[0], "score": score}
    return shown if rank is None else shown | {"rank": rank}


def _rank(bound: bytes | None) -> int | None:
    """A bound of a listing by rank."""
    if bound is None:
        return None
    rank = jsonbytes.decode(bound)[0]
    assert isinstance(rank, int)
    return rank
