"""Peers that run a newer version, as far as that is in the way.

What they send in a form that this version does not know is refused whole, and nothing beyond it is
claimed: this replica stays where it is with them, and goes on serving. That is no damage, but it
ends only with an upgrade, so it is said.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import structlog

from crdtdb.errors import PeerError
from crdtdb.replication.messages import Sender

__all__ = ["NewerPeers"]

_log = structlog.get_logger("crdtdb.peers")

#: After the last refusal. What is refused is tried again at least that often.
_SHOWN_MS: Final = 120_000
#: Peers that are remembered so; anybody can make up any name.
_MOST: Final = 64


class _Refusal(NamedTuple):
    """What was refused last, and when."""

    name: str
    why: str
    at_ms: int


class NewerPeers:
    """Whose frames or records were refused because their version is not known here."""

    def __init__(self) -> None:
        #: By where they can be reached.
        self._refusals: dict[str, _Refusal] = {}

    def note(self, sender: Sender, error: PeerError, now_ms: int) -> None:
        """Something of a peer was refused. The log says so once for each form of each peer."""
        if error.reason != "newer-version":
            return
        last = self._refusals.pop(sender.address, None)
        why = f"{error}; upgrade this replica"
        if last is None or last.why != why:
            _log.error("a peer runs a newer version", peer=sender.name, why=why)
        self._refusals[sender.address] = _Refusal(sender.name, why, now_ms)
        while len(self._refusals) > _MOST:
            del self._refusals[next(iter(self._refusals))]

    def names(self, now_ms: int) -> list[str]:
        """The names of these peers."""
        return sorted({one.name for one in self._now(now_ms).values()})

    def troubles(self, now_ms: int) -> dict[str, str]:
        """Where they are, and what of theirs is not known here."""
        return {address: one.why for address, one in self._now(now_ms).items()}

    def _now(self, now_ms: int) -> dict[str, _Refusal]:
        return {
            address: one
            for address, one in self._refusals.items()
            if now_ms - one.at_ms < _SHOWN_MS
        }
