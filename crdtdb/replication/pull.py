"""Taking: one pull session at a time, its pages staged until the donor claims.

Pulls are serialised because overlapping ones fetch the same records twice (1.00 against 1.71 times
the minimum on the ICDE'19 meshes). Pages are staged because a page alone is no consistent state:
its records become visible together, with the VV the donor claims. A page that is not the one
asked for is ignored (F18), and of a record that came twice, because it changed between two pages,
only the later counts: the claim holds for that one alone.

A session says what it asks for next; where its pages are, and what becomes of them, is said in
`crdtdb.replication.staging`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from crdtdb.causal import NOTHING, VersionVector
from crdtdb.errors import PeerError
from crdtdb.floors import write_floored
from crdtdb.replication.cursors import Cursor
from crdtdb.replication.messages import Page, Pull, Sender

__all__ = ["PULL_PATIENCE_MS", "Progress", "PullSession"]

#: A donor that has not answered for so long is given up; the next digest finds another.
PULL_PATIENCE_MS: Final = 5_000


class Progress(NamedTuple):
    """How far a pull has come."""

    #: The donor's name.
    donor: str
    #: Records that have come, and the bytes of their addresses and of themselves.
    records: int
    size_bytes: int
    #: How many of them have been joined since all were there.
    joined: int
    #: The last place of the donor's sequence that was read, and the last there is.
    place: int
    head: int
    #: Are all of them there?
    is_complete: bool


class PullSession:
    """What is known of the pull under way."""

    def __init__(
        self,
        number: int,
        donor: Sender,
        cursor: Cursor,
        seen: VersionVector,
        now_ms: int,
        whole: VersionVector = NOTHING,
    ) -> None:
        """`whole`: what the donor has reclaimed, if the pull is a whole one."""
        self.donor = donor
        self.number = number
        self.seen = seen
        self.whole = whole
        #: How far the donor's records have come.
        self.cursor = cursor
        #: Has the donor claimed? Then nothing is asked of it any more.
        self.is_claimed = False
        self._heard_ms = now_ms

    def request(self) -> Pull:
        """The request for the next page."""
        return Pull(self.number, *self.cursor, write_floored(self.seen), self.whole.flat())

    def asked(self, session: int) -> bool:
        """Is this the number of the session?"""
        return session == self.number

    def expects(self, page: Page) -> bool:
        """Is this the page that was asked for?

        Raises PeerError for one that leads nowhere.
        """
        if self.is_claimed or page.session != self.number or page.since != self.cursor.place:
            return False
        if page.claim is None and page.epoch == self.cursor.epoch and page.next <= page.since:
            raise PeerError("endless-pull", "a page that claims nothing ends where it began")
        return True

    def advance(self, page: Page, now_ms: int) -> None:
        """The page is taken in: the next one is due."""
        self.cursor = Cursor(page.epoch, page.next)
        self._heard_ms = now_ms

    def is_stalled(self, now_ms: int) -> bool:
        """Has the donor kept silent for too long?"""
        return not self.is_claimed and now_ms - self._heard_ms > PULL_PATIENCE_MS
