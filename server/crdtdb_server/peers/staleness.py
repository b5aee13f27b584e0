"""How far behind may an answer be? `Crdtdb-Staleness`, for the member where that is worst.

The age is the time since this replica last had everything that the member had, so far as the two
have talked: it grows while a link is down, whether or not anything was written over there. Of a
member that this replica has not been level with since its own start, only a lower bound is known;
the header then says `at-least`. The form is that of a structured field (RFC 9651).
"""

from __future__ import annotations

import re
from typing import Final

from crdtdb.replication import Replication
from crdtdb_server.peers.clock import monotonic_ms

__all__ = ["Staleness"]

#: For so long an answer may repeat what the one before said.
_KEPT_MS: Final = 100
#: What a string in a header may hold; names come from peers.
_UNPRINTABLE: Final = re.compile(r"[^ -~]")


class Staleness:
    """The header's value, looked up again when it is older than a moment."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._started_ms = monotonic_ms()
        self._text: str | None = None
        self._until_ms = 0

    def text(self) -> str | None:
        """What the header says now; None while there is no other member."""
        now_ms = monotonic_ms()
        if now_ms >= self._until_ms:
            self._until_ms = now_ms + _KEPT_MS
            self._text = self._worst(now_ms)
        return self._text

    def _worst(self, now_ms: int) -> str | None:
        replication = self._replication
        oldest: tuple[int, str, str] | None = None
        for incarnation, member in replication.members.items():
            if incarnation == replication.incarnation:
                continue
            peer = replication.peers.get(incarnation)
            level_ms = None if peer is None else peer.level_ms
            entry = (
                (self._started_ms, member.name, ";at-least")
                if level_ms is None
                else (level_ms, member.name, "")
            )
            oldest = entry if oldest is None else min(oldest, entry)
        if oldest is None:
            return None
        since_ms, name, bound = oldest
        return f'{(now_ms - since_ms) / 1000:.1f};replica="{_quoted(name)}"{bound}'


def _quoted(name: str) -> str:
    return _UNPRINTABLE.sub("?", name).replace("\\", "\\\\").replace('"', '\\"')
