"""Faults on the links between replicas, for demonstrations and tests.

Only with `--allow-fault-injection`. A fault is on this replica's link to another, both ways: what
is sent there and what comes from there. Nothing else of the replica knows of it.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["Fault", "Faults", "LinkDown"]


class LinkDown(Exception):
    """The injected fault has swallowed this exchange."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wrong with a link."""

    drop: bool = False
    latency_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0
    jitter_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0
    loss: Annotated[float, Meta(ge=0, le=1)] = 0


class Faults:
    """The faults in force, by the name of the replica at the other end."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._faults: dict[str, Fault] = {}

    def put(self, replica: str, fault: Fault) -> None:
        """Break the link to a replica."""
        self._faults[replica] = fault

    def mend(self, replica: str) -> bool:
        """Take the fault away; False if there was none."""
        return self._faults.pop(replica, None) is not None

    def all(self) -> dict[str, Fault]:
        """The faults in force."""
        return dict(self._faults)

    async def cross(self, replica: str | None) -> None:
        """Let one message cross the link, late or not at all. Raises LinkDown."""
        fault = self._faults.get(replica or "")
        if fault is None:
            return
        if fault.drop or self._random.random() < fault.loss:
            raise LinkDown
        delay_ms = fault.latency_ms + self._random.uniform(-fault.jitter_ms, fault.jitter_ms)
        if delay_ms > 0:
            await asyncio.sleep(delay_ms / 1000)
            if self._faults.get(replica or "", fault).drop:
                raise LinkDown
