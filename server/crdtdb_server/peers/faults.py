"""Faults on the links between replicas, for demonstrations and tests.

Only with `--allow-fault-injection`. A fault is on this replica's link to another: on what is sent
there, on what comes from there, or (when nothing is said) on both. Nothing else of the replica
knows of it.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Annotated, Literal, TypeAlias, TypedDict

import msgspec
from msgspec import Meta

__all__ = ["BrokenDocument", "Fault", "Faults", "FaultsDocument", "LinkDown"]


Direction: TypeAlias = Literal["in", "out"]


class LinkDown(Exception):
    """The injected fault has swallowed this exchange."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wrong with a link."""

    drop: bool = False
    #: Which way it works, seen from this replica.
    direction: Literal["both", "in", "out"] = "both"
    latency_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0
    jitter_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0
    loss: Annotated[float, Meta(ge=0, le=1)] = 0


class BrokenDocument(TypedDict):
    """A link, and its fault."""

    replica: str
    drop: bool
    direction: str
    latency_ms: float
    jitter_ms: float
    loss: float


class FaultsDocument(TypedDict):
    """The broken links, by replica."""

    links: dict[str, Fault]


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

    async def cross(self, replica: str | None, way: Direction) -> None:
        """Let one message cross the link, late or not at all. Raises LinkDown."""
        fault = self._on(replica, way)
        if fault is None:
            return
        if fault.drop or self._random.random() < fault.loss:
            raise LinkDown
        delay_ms = fault.latency_ms + self._random.uniform(-fault.jitter_ms, fault.jitter_ms)
        if delay_ms > 0:
            await asyncio.sleep(delay_ms / 1000)
            fault = self._on(replica, way)
            if fault is not None and fault.drop:
                raise LinkDown

    def _on(self, replica: str | None, way: Direction) -> Fault | None:
        fault = self._faults.get(replica or "")
        return fault if fault is not None and fault.direction in ("both", way) else None
