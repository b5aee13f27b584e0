"""Taking: one pull session at a time, its pages staged until the donor claims.

Pulls are serialised because overlapping ones fetch the same records twice (1.00 against 1.71 times
the minimum on the ICDE'19 meshes). Pages are staged because a page alone is no consistent state:
its records become visible together, with the VV the donor claims, in one commit. A page that is
not the one asked for is ignored (F18), and of a record that came twice, because it changed between
two pages, only the later counts: the claim holds for that one alone.
"""

from __future__ import annotations

from typing import Final

from crdtdb.causal import NOTHING, VersionVector
from crdtdb.errors import PeerError
from crdtdb.replication.cursors import Cursor
from crdtdb.replication.messages import Page, Pull, Sender

__all__ = ["PULL_PATIENCE_MS", "STAGED_BYTES", "PullSession"]

#: A donor that has not answered for so long is given up; the next digest finds another.
PULL_PATIENCE_MS: Final = 5_000
#: What one pull may stage. Staging is in memory: beyond that no replica could take in the claim.
STAGED_BYTES: Final = 4 * 1_024 * 1_048_576


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
        self.whole = whole
        self._staged: dict[bytes, bytes] = {}
        self._staged_bytes = 0
        self._number = number
        self._cursor = cursor
        self._seen = seen.flat()
        self._heard_ms = now_ms

    def request(self) -> Pull:
        """The request for the next page."""
        return Pull(self._number, *self._cursor, self._seen, self.whole.flat())

    def asked(self, session: int) -> bool:
        """Is this the number of the session?"""
        return session == self._number

    def take(self, page: Page, now_ms: int) -> bool:
        """Stage a page; False if it is not the one asked for.

        Raises PeerError for one that leads nowhere, or beyond what can be staged.
        """
        if page.session != self._number or page.since != self._cursor.place:
            return False
        if page.claim is None and page.epoch == self._cursor.epoch and page.next <= page.since:
            raise PeerError("endless-pull", "a page that claims nothing ends where it began")
        for at, data in page.records:
            earlier = self._staged.pop(at, None)
            self._staged_bytes += len(data) - (-len(at) if earlier is None else len(earlier))
            self._staged[at] = data
        if self._staged_bytes > STAGED_BYTES:
            raise PeerError("endless-pull", f"a pull brings more than {STAGED_BYTES} bytes")
        self._cursor = Cursor(page.epoch, page.next)
        self._heard_ms = now_ms
        return True

    @property
    def records(self) -> list[tuple[bytes, bytes]]:
        """What has been staged, in the donor's sequence."""
        return list(self._staged.items())

    @property
    def size(self) -> int:
        """How many records have been staged."""
        return len(self._staged)

    @property
    def cursor(self) -> Cursor:
        """How far the donor's records have come."""
        return self._cursor

    def is_stalled(self, now_ms: int) -> bool:
        """Has the donor kept silent for too long?"""
        return now_ms - self._heard_ms > PULL_PATIENCE_MS
