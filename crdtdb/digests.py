"""Digests of ranges of objects, at hand in memory, so that equal replicas need not look at all.

What users see of an object is one digest in its head; XOR adds them up. A *digest tree* divides the
objects, in the order of their addresses, into pages of some hundred and keeps the sum of each. The
digest of any range is then that of the whole pages in it and of what sticks out at its two ends,
which is read: O(pages + page). Replicas need not divide alike, because one may ask another about
any range ("Range-Based Set Reconciliation", Meyer 2023).

The first who asks loads the pages, portion by portion, with one look at each head. From then on a
write adds its changes: what it made of a head, against what it found. A note is taken before the
write is durable and counts for whoever sees a state with that write, and for nobody if the write
failed. A page that has grown too large is divided when somebody next asks.

Buckets of the system do not count.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from itertools import pairwise
from threading import Lock
from typing import Final, NamedTuple, TypeAlias

from crdtdb import address
from crdtdb.head import Head
from crdtdb.rows import scan_heads
from crdtdb.state import STATE_KEY, read_state
from crdtdb.store.base import Snapshot, Store, Table

__all__ = [
    "END",
    "MOST_NOTED",
    "PAGE_HEADS",
    "START",
    "Digest",
    "DigestTree",
    "DigestView",
    "HeadChanges",
    "digest_from_scratch",
]

#: All objects lie between these addresses.
START: Final = address.DATA
END: Final = address.after(address.DATA) or b""
#: Heads of a page as it is loaded; it is divided when it has twice as many.
PAGE_HEADS: Final = 512
#: Who changes more heads than that in one write is not followed: everything is loaded anew.
MOST_NOTED: Final = 10_000
#: What the names of the system's buckets begin with.
_OF_SYSTEM: Final = ord("_")


class Digest(NamedTuple):
    """A hash over what users see of some objects, and how many objects that is."""

    digest: int
    objects: int


#: The heads that a write changes: as it found them, as it leaves them, and those that then go.
#: (A plain tuple, as every write makes one.)
HeadChanges: TypeAlias = tuple[Mapping[bytes, Head | None], Mapping[bytes, Head], Set[bytes]]


class _Page:
    """What the heads of one page come to."""

    __slots__ = ("digest", "heads", "objects")

    def __init__(self) -> None:
        self.digest = self.objects = self.heads = 0

    def add(self, head: Head) -> None:
        self.digest ^= head.shown
        self.objects += head.exists
        self.heads += 1


class DigestTree:
    """The digests of one store's objects. Threads may share it; only the writer takes notes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        #: Where each page starts, and what it comes to; None: that is not known.
        self._starts: list[bytes] = [START]
        self._pages: list[_Page | None] = [None]
        #: Has anybody asked yet?
        self._in_use = False
        #: Of the latest write, which may not be durable: the place it leads to, what it changes
        #: (None: nobody knows).
        self._note: tuple[int, HeadChanges | None] | None = None

    def note(self, durable: int, sequence: int, changes: HeadChanges) -> None:
        """A write is about to change heads. To be called without a snapshot.

        `durable` is the place of the sequence that the last durable write led to, `sequence` the
        one that this write leads to. O(heads changed by the write before × log pages).
        """
        with self._lock:
            if self._in_use:
                self._count_note_in(durable)
            self._note = (sequence, changes if len(changes[1]) <= MOST_NOTED else None)

    def forget(self, durable: int, sequence: int) -> None:
        """As `note`, of a write that mends heads: what was found of them does not count."""
        with self._lock:
            if self._in_use:
                self._count_note_in(durable)
            self._note = (sequence, None)

    def _count_note_in(self, sequence: int) -> None:
        """Count the note in, if a state of that place shows its write."""
        if self._note is None or self._note[0] > sequence:
            return
        changes, self._note = self._note[1], None
        if changes is None:
            self._starts, self._pages = [START], [None]
            return
        found, left, vacated = changes
        starts, pages = self._starts, self._pages
        for prefix, head in left.items():
            page = pages[bisect_right(starts, prefix) - 1]
            if page is None or prefix[1] == _OF_SYSTEM:
                continue
            old = found[prefix]
            if old is None:
                page.add(head)
                continue
            page.digest ^= old.shown ^ head.shown
            if old.size != head.size:
                page.objects += head.exists - old.exists
        for prefix in vacated:
            page = pages[bisect_right(starts, prefix) - 1]
            if page is not None and prefix[1] != _OF_SYSTEM:
                page.heads -= 1

    @contextmanager
    def view(self) -> Iterator[DigestView]:
        """The digests of one state, for as long as the block lasts. Raises StorageFailed.

        The first one looks at every head.
        """
        hint = 0
        while (loaded := self._load(hint)) is not None:
            hint = loaded
        with self._lock:
            context = self._store.snapshot()
            snapshot = context.__enter__()
            try:
                self._count_note_in(_sequence(snapshot))
                sums = [None if p is None else Digest(p.digest, p.objects) for p in self._pages]
                starts = list(self._starts)
            except BaseException:
                context.__exit__(None, None, None)
                raise
        try:
            yield DigestView(snapshot, starts, sums)
        finally:
            context.__exit__(None, None, None)

    def _load(self, hint: int) -> int | None:
        """Load the first page, from that one on, that is not known; None if there is none.

        On the way, pages that have become empty are joined to those before them.
        """
        with self._lock, self._store.snapshot() as snapshot:
            self._in_use = True
            self._count_note_in(_sequence(snapshot))
            starts, pages = self._starts, self._pages
            for index in range(hint, len(pages)):
                known = pages[index]
                if known is None or known.heads >= 2 * PAGE_HEADS:
                    break
                if index and known.heads == 0:
                    del starts[index], pages[index]
                    return index - 1
            else:
                return None
            page = _Page()
            end = starts[index + 1] if index + 1 < len(starts) else END
            for prefix, head in scan_heads(snapshot, starts[index], end):
                if page.heads == PAGE_HEADS:
                    starts.insert(index + 1, prefix)
                    pages.insert(index + 1, None)
                    break
                if prefix[1] != _OF_SYSTEM:
                    page.add(head)
            pages[index] = page
            return index


class DigestView:
    """The digests of one state."""

    def __init__(self, snapshot: Snapshot, starts: list[bytes], sums: list[Digest | None]) -> None:
        self.snapshot = snapshot
        self._starts = starts
        self._sums = sums

    def digest(self, start: bytes = START, end: bytes = END) -> Digest:
        """Of the objects with start ≤ address < end. O(pages there + heads of two pages)."""
        digest = objects = 0
        for low, high, known in self._pieces(start, end):
            if known is None:
                known = digest_from_scratch(self.snapshot, low, high)
            digest ^= known.digest
            objects += known.objects
        return Digest(digest, objects)

    def bounds(self, start: bytes, end: bytes, parts: int) -> list[bytes]:
        """Addresses between start and end that divide the objects there, about evenly.

        Fewer than `parts`, in order; empty if there is nothing to divide. O(pages + heads of
        2 × parts pages).
        """
        pieces = [
            (low, high, None if known is None else known.objects)
            for low, high, known in self._pieces(start, end)
        ]
        if len(pieces) < 2 * parts:  # too coarse
            pieces = [(low, high, None) for low, high, _ in pieces]
        counted: list[tuple[bytes, int]] = []
        for low, high, objects in pieces:
            if objects is None:
                counted += [(prefix, 1) for prefix, _ in self.objects(low, high)]
            else:
                counted.append((low, objects))
        share = -(-sum(objects for _, objects in counted) // parts)
        found: list[bytes] = []
        passed = 0
        for low, objects in counted:
            if low > start and passed >= share * (len(found) + 1):
                found.append(low)
            passed += objects
        return found

    def objects(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Head]]:
        """The objects themselves that exist there, in order. O(heads there)."""
        for prefix, head in scan_heads(self.snapshot, start, end):
            if head.exists and prefix[1] != _OF_SYSTEM:
                yield prefix, head

    def _pieces(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes, Digest | None]]:
        """The range, cut where pages begin; with the sums of the whole pages in it."""
        starts = self._starts
        first = bisect_right(starts, start) - 1
        last = bisect_left(starts, end)
        edges = [*starts[max(first, 0) : last], END if last == len(starts) else starts[last]]
        for index, (low, high) in enumerate(pairwise(edges), max(first, 0)):
            if start <= low and high <= end:
                yield low, high, self._sums[index]
            elif max(low, start) < min(high, end):
                yield max(low, start), min(high, end), None


def digest_from_scratch(snapshot: Snapshot, start: bytes = START, end: bytes = END) -> Digest:
    """The digest of the objects with start ≤ address < end. O(heads there).

    Raises StorageFailed.
    """
    digest = objects = 0
    for prefix, head in scan_heads(snapshot, start, end):
        if prefix[1] != _OF_SYSTEM:
            digest ^= head.shown
            objects += head.exists
    return Digest(digest, objects)


def _sequence(snapshot: Snapshot) -> int:
    """The place of the sequence that a state stands at."""
    row = snapshot.get(Table.META, STATE_KEY)
    return 0 if row is None else read_state(row).sequence
