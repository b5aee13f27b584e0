"""What the handlers of one server share: the replica, the way to write to it, and who may ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from crdtdb.causal import VersionVector
from crdtdb.database import Database
from crdtdb.transaction import Erase, Result, Transaction, Update
from crdtdb_server.metrics import Metrics
from crdtdb_server.session import Sessions
from crdtdb_server.writer import Writer

__all__ = ["UNREADY", "Options", "Service", "State"]

#: What a replica is doing, as `/readyz` says it.
State: TypeAlias = Literal[
    "serving", "catching_up", "read_only", "bootstrapping", "stopping", "evicted", "damaged"
]
#: States in which a replica must get no requests.
UNREADY: Final[frozenset[State]] = frozenset({"bootstrapping", "stopping", "evicted", "damaged"})


@dataclass(frozen=True, slots=True)
class Options:
    """How a server is reached."""

    host: str = "127.0.0.1"
    #: 0: any free port.
    port: int = 7460
    #: The URL under which others reach this server.
    advertise: str | None = None
    #: Further names that the `Host` header may give.
    allow_hosts: tuple[str, ...] = ()
    #: Listen beyond loopback although nobody has to authenticate.
    insecure: bool = False


def _serving() -> State:
    return "serving"


@dataclass(slots=True)
class Service:
    """One replica as a server serves it. Made within the running event loop."""

    database: Database
    options: Options = field(default_factory=Options)
    #: Replication, once it runs, knows better.
    state: Callable[[], State] = _serving
    metrics: Metrics = field(init=False)
    writer: Writer = field(init=False)
    sessions: Sessions = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.database.engine.store)
        self.writer = Writer(self.database, self.metrics)
        self.sessions = Sessions(self.database.cluster, lambda: self.seen)
        self.writer.on_change = self.sessions.advanced

    async def carry_out(
        self,
        updates: tuple[Update | Erase, ...],
        *,
        before: Callable[[], None] | None = None,
    ) -> tuple[Result, ...]:
        """Carry out a client's updates, all or none; durable when this returns.

        `before` runs immediately before them (`Writer.commit`). Raises why they were refused.
        """
        outcome = await self.writer.commit(Transaction(updates), before=before)
        for update in updates:
            if isinstance(update, Update):
                self.metrics.operation(update.name.type, type(update.operation))
        return outcome.results

    @property
    def seen(self) -> VersionVector:
        """What this replica has seen, durably."""
        return self.database.engine.state.seen
