"""Mending by a pull: at its claim, the donor is asked for what it holds where records are damaged.

Whatever touches what is damaged here cannot be joined, and what has been missed may be much. So it
is pulled as ever: page by page, staged on the disk, gone on with after a kill. When the donor has
claimed, it says what it holds in the damaged places and what has changed since, and both take
effect together; if it is more than one commit takes, the damaged places come first, then the parts.
If more has changed since than one message carries, the pull goes on for some pages and asks again.
A donor that is damaged itself is asked once more, without what it may not hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from crdtdb.damage import Replacement
from crdtdb.kinds import object_of
from crdtdb.replication.cluster import Cluster, Send
from crdtdb.replication.messages import Claim, Mend, Mended, Page, read_vector, write_frame
from crdtdb.replication.pull import PULL_PATIENCE_MS, PullSession

__all__ = ["MOST_REPLACED", "Replacing", "together"]

#: Damaged records that a pull asks for, at least. Beyond, several pulls are needed.
MOST_REPLACED: Final = 4_096


class _Asked(NamedTuple):
    session: int
    addresses: list[bytes]
    at_ms: int


class Replacing:
    """What the donor of the pull under way was asked for, and what it said."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._asked: _Asked | None = None
        #: Has the donor been asked in vain? Then it is joined without, if that can be done.
        self._in_vain = False
        #: Damaged records, and objects, of which it cannot say what it holds.
        self._left_out: set[bytes] = set()
        #: What it holds in the places of damaged records.
        self.replacement: Replacement | None = None

    def begin(self) -> None:
        """A pull begins, or is given up: nothing has been asked."""
        self._asked, self.replacement, self._in_vain = None, None, False
        self._left_out.clear()

    def ask(self, pull: PullSession, claim: Claim) -> list[Send] | None:
        """Ask the donor of a pull that has claimed, or wait for it; None: there is no need."""
        cluster, damaged = self._cluster, self._cluster.engine.damaged
        if not damaged or self._in_vain or self.replacement is not None or len(pull.whole):
            return None
        asked = self._asked
        if asked is not None:
            self._in_vain = cluster.now_ms - asked.at_ms > PULL_PATIENCE_MS
            return None if self._in_vain else []
        claimed = read_vector(claim.seen)
        addresses = [
            at
            for at in sorted(damaged)
            if claimed.includes(damaged[at].seen) and self._left_out.isdisjoint((at, object_of(at)))
        ]
        if not addresses:
            return None
        addresses = together(addresses, MOST_REPLACED)
        self._asked = _Asked(pull.number, addresses, cluster.now_ms)
        mend = Mend(pull.number, *pull.cursor, pull.seen.flat(), addresses)
        return [Send(pull.donor.address, write_frame(mend))]

    def awaits(self, session: int) -> bool:
        """Was this asked for here?"""
        return self._asked is not None and self._asked.session == session

    def take(self, pull: PullSession, message: Mended) -> Page:
        """What the donor holds; returns what has changed since its claim, as one more page."""
        assert self._asked is not None
        self.replacement = Replacement(self._asked.addresses, message.held)
        self._asked = None
        epoch, place = pull.cursor
        return Page(pull.number, place, epoch, place, message.records, message.claim, place)

    def without(self, held: Sequence[tuple[bytes, bytes]]) -> None:
        """The donor can answer for nothing but these records: ask for no others."""
        assert self._asked is not None
        missing = set(self._asked.addresses).difference(at for at, _ in held)
        self._left_out |= missing | {object_of(at) for at in missing} - {b""}
        self._in_vain = not missing
        self._asked = None

    def refused(self, reason: str) -> bool:
        """The donor cannot do it. Is that because it has much more to send first?"""
        self._asked = None
        self._in_vain = reason != "too-far-behind"
        return not self._in_vain


def together(damaged: list[bytes], most: int) -> list[bytes]:
    """So many of them, and of each object all: what its records come to is counted again."""
    prefixes = {object_of(at) for at in damaged[:most]} - {b""}
    return [at for i, at in enumerate(damaged) if i < most or object_of(at) in prefixes]
