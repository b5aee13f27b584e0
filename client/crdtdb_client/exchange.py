"""One request and what comes back: the values between what callers ask and what is on the wire.

A request becomes a *plan*: a generator that says what to do next (send this there, pause so long)
and is told what came of it. It does no I/O and knows no event loop, so the synchronous and the
asynchronous client run the very same plans (`transport`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple, TypeAlias

__all__ = ["Answer", "Failed", "Pause", "Plan", "Received", "Reply", "Request", "Send", "Step"]


class Request(NamedTuple):
    """What is asked of a cluster."""

    method: str
    target: str
    body: bytes | None = None
    #: Does it change something?
    writes: bool = False
    #: May it be carried out more than once, at whatever replica?
    repeatable: bool = True
    #: Must who answers have seen what this session saw?
    in_session: bool = True
    #: What the body is.
    media_type: str = "application/json"
    #: The Idempotency-Key that its caller keeps, to send it again some other day. Only the nearest
    #: replica is asked then, for no other one remembers it.
    key: str | None = None
    #: How long the server may take its time with it, beyond what any request takes.
    wait_s: float = 0.0


class Answer(NamedTuple):
    """What a replica answered, as JSON."""

    document: Any
    replica: str
    #: How many hold the write, if the request asked for a number.
    acked: int | None = None


# -- what a plan wants done -----------------------------------------------------------------------


class Send(NamedTuple):
    """Send this, and tell what came back."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout_s: float


class Pause(NamedTuple):
    """Do nothing for so long."""

    seconds: float


Step: TypeAlias = Send | Pause


# -- what it is told ------------------------------------------------------------------------------


class Received(NamedTuple):
    """An HTTP response, whole."""

    status: int
    #: Names are found in any case.
    headers: Mapping[str, str]
    content: bytes


class Failed(NamedTuple):
    """No response came."""

    reason: str
    #: May the request have arrived?
    sent: bool


#: What came of a step; of a pause, nothing.
Reply: TypeAlias = Received | Failed | None
Plan: TypeAlias = Generator[Step, Reply, Answer]
