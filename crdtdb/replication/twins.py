"""Twins: two live replicas that claim one endpoint, told from late frames of one replica.

A replica that lost its disk or its identity goes on at its endpoint under another incarnation, and
frames of the earlier one may still be under way, for any time and in any order. So an endpoint
belongs to who spoke from it last, and who lost it so is heard again, with one exception: meanwhile
the other has *answered at that endpoint* what was asked after this one had spoken.

No late frame proves that, so a live replica is never refused because of one: if the two are one
replica, the one that answered is the later, and the other is gone. If they are two, the one that
answers is where it says that it is, and the other is not. Without the proof, for nobody can ask
there, both are heard in turn. A replica that was put back to an earlier incarnation is refused
until it answers there itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crdtdb.errors import PeerError
from crdtdb.replication.messages import Sender

__all__ = ["Twins"]

#: Who answered so lately is alive.
_ALIVE_MS: Final = 10_000
#: What a transport brings first may answer what was asked before; it asks one thing at a time.
_PROOF_ANSWERS: Final = 2
#: Incarnations that are remembered so; the latest, as anybody can make up any number.
_MOST: Final = 256


@dataclass(slots=True)
class _Displaced:
    """Somebody else spoke from the endpoint of an incarnation, after it had."""

    endpoint: str
    #: The incarnation that did.
    owner: int
    #: How many exchanges with the endpoint the owner has answered since, and when the last.
    answers: int = 0
    answered_ms: int = -1


class Twins:
    """Who lost an endpoint to whom, and which of them have proven to be two."""

    def __init__(self) -> None:
        self._displaced: dict[int, _Displaced] = {}
        #: When somebody was last refused for it, and why, by endpoint.
        self._refused: dict[str, tuple[int, str]] = {}

    def displace(self, incarnation: int, owner: Sender) -> None:
        """From now on the endpoint of an incarnation belongs to another."""
        self._displaced[incarnation] = _Displaced(owner.endpoint, owner.incarnation)
        while len(self._displaced) > _MOST:
            del self._displaced[next(iter(self._displaced))]

    def answered(self, owner: Sender, now_ms: int) -> None:
        """A replica has answered at its endpoint, in an exchange taken in at `now_ms`."""
        for displaced in self._displaced.values():
            if (displaced.owner, displaced.endpoint) != (owner.incarnation, owner.endpoint):
                continue
            if displaced.answered_ms != now_ms:
                displaced.answers += 1
                displaced.answered_ms = now_ms

    def check(self, sender: Sender, via: str, now_ms: int) -> None:
        """May a replica that speaks take the endpoint that it names? Raises PeerError."""
        displaced = self._displaced.get(sender.incarnation)
        if (
            displaced is not None
            and displaced.endpoint == sender.endpoint != via
            and displaced.answers >= _PROOF_ANSWERS
            and now_ms - displaced.answered_ms < _ALIVE_MS
        ):
            why = (
                f"two live replicas say that they are {sender.name!r} at {sender.endpoint}, and "
                "the other one answers there; give each a directory, a name and a URL of its own"
            )
            self._refused[sender.endpoint] = (now_ms, why)
            raise PeerError("identity-conflict", why)
        self._displaced.pop(sender.incarnation, None)
        if displaced is not None and via == sender.endpoint:
            self._refused.pop(via, None)  # it is not another one that answers there, after all

    def refused(self, now_ms: int) -> dict[str, str]:
        """Endpoints that two live replicas claim, and what to do about it."""
        return {
            endpoint: why
            for endpoint, (at_ms, why) in self._refused.items()
            if now_ms - at_ms < _ALIVE_MS
        }
