"""`Crdtdb-Ack`: a write that is answered when other replicas hold it too.

Held means fsynced there, as the other replica itself has said. Reached in time the answer is 200,
else 202: the write was accepted either way, is durable here and goes on to all replicas.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from crdtdb.causal import VersionVector
from crdtdb.errors import BadHeader, Field
from crdtdb_server.parameters import Header

__all__ = ["ACK", "ACKED", "Ack", "Alone", "Holders", "Witnesses", "ack_of", "held"]

#: How many replicas (or regions, if that was asked) hold the write, this one included.
ACKED: Final = "Crdtdb-Acked"

_HEADER: Final = "Crdtdb-Ack"
_FORM: Final = re.compile("(local|all)|(regions=)?([1-9][0-9]{0,2})")

ACK: Final = Header(
    _HEADER,
    "Who is to hold the write before it is answered: local, N replicas, all, or regions=N",
    {"pattern": f"^({_FORM.pattern})$"},
)


class Holders(NamedTuple):
    """Who holds a write, this replica included. Replicas without a region share one."""

    replicas: int
    regions: int
    #: All there are.
    members: int


class Witnesses(Protocol):
    """Who can tell what other replicas hold."""

    def holders(self, write: VersionVector) -> Holders:
        """Who is known to hold it, durably."""

    async def next_report(self) -> bool:
        """Wait until a replica may have said more; False: none will."""


class Alone:
    """Nobody else is there."""

    def holders(self, write: VersionVector) -> Holders:
        return Holders(1, 1, 1)

    async def next_report(self) -> bool:
        return False


class Ack(NamedTuple):
    """How many must hold a write."""

    #: None: all members.
    wanted: int | None
    of_regions: bool = False

    def counted(self, holders: Holders) -> int:
        """How many of what was asked for hold it."""
        return holders.regions if self.of_regions else holders.replicas

    def is_reached(self, holders: Holders) -> bool:
        wanted = holders.members if self.wanted is None else self.wanted
        return self.counted(holders) >= wanted


def ack_of(headers: Mapping[str, str]) -> Ack | None:
    """What a request wants. Raises BadHeader."""
    text = headers.get(_HEADER.lower())
    if text is None:
        return None
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise BadHeader(
            f"{_HEADER} is local, a number of replicas, all, or regions=N",
            Field(_HEADER, "not understood"),
        )
    word, regions, count = match.groups()
    if word:
        return Ack(1 if word == "local" else None)
    return Ack(int(count), of_regions=regions is not None)


async def held(witnesses: Witnesses, ack: Ack, write: VersionVector, wait_s: float) -> Holders:
    """Who holds a write, once they are enough or the time is over."""
    try:
        async with asyncio.timeout(wait_s):
            while not ack.is_reached(witnesses.holders(write)):
                if not await witnesses.next_report():
                    break
    except TimeoutError:
        pass
    return witnesses.holders(write)
