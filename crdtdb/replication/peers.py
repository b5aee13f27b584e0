"""What is known of the replicas on the other side."""

from __future__ import annotations

from dataclasses import dataclass

from crdtdb.causal import NOTHING, VersionVector
from crdtdb.replication.messages import Sender

__all__ = ["Contact", "Peer"]


@dataclass(slots=True)
class Contact:
    """An endpoint to knock at: from the configuration or from a member's entry."""

    endpoint: str
    #: Who answered there last.
    incarnation: int | None = None
    #: Has it answered the Hello of this start? And was it fresh itself?
    welcomed: bool = False
    fresh: bool = False
    #: When to say Hello (again).
    hello_ms: int = 0


@dataclass(slots=True)
class Peer:
    """Another replica, by incarnation."""

    sender: Sender
    #: An endpoint at which it answered, whatever it says of itself.
    via: str = ""
    #: What it last said to have seen.
    seen: VersionVector = NOTHING
    last_contact_ms: int = 0
    #: When this replica last had everything the peer had; None: never since it has been heard.
    level_ms: int | None = None
    #: What time it had when it had seen exactly what was seen here, the latest, ms since 1970.
    level_time_ms: int = 0
    #: Its clock less this replica's, as last seen.
    clock_offset_ms: int = 0
    #: Did it last say what it has seen above a floor that is not known here?
    unread: bool = False
    #: Does it confirm that it knows no more of this replica's dots?
    confirmed: bool = False
    #: Members that it named when it confirmed that, which may not be known here.
    named: frozenset[int] = frozenset()
    #: When it was last told what members have reported.
    reported_ms: int | None = None
    #: No pull from there before that, and how long the next such wait is: merging failed here.
    not_before_ms: int = 0
    wait_ms: int = 0
    #: Why; None since a pull from there went well.
    failed: str | None = None

    @property
    def where(self) -> str:
        """Where it can be reached; starting with ~, only in answer to what it sends."""
        return self.sender.endpoint or self.via or self.sender.address
