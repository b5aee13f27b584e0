"""What the handlers of one server share: the replica, the way to write to it, and who may ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Final, Literal, TypeAlias

from crdtdb.causal import VersionVector
from crdtdb.database import Database
from crdtdb.replication.pull import Progress
from crdtdb.transaction import Outcome, Transaction, Update
from crdtdb_server.acks import Alone, Witnesses
from crdtdb_server.bounds import Bounds
from crdtdb_server.credentials import Keyring
from crdtdb_server.logins import Logins
from crdtdb_server.metrics import Metrics
from crdtdb_server.readings import TurnReadings
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
    #: Who may ask; None: everybody may do everything.
    keyring: Keyring | None = None
    #: The certificate to answer with; None: in the clear.
    tls: SSLContext | None = None
    #: What it takes of its callers.
    bounds: Bounds = field(default_factory=Bounds)


def _serving() -> State:
    return "serving"


def _up_to_date() -> None:
    return None


def _no_pull() -> None:
    return None


def _no_other_clock() -> None:
    return None


def _whole() -> bool:
    return False


@dataclass(slots=True)
class Service:
    """One replica as a server serves it. Made within the running event loop."""

    database: Database
    options: Options = field(default_factory=Options)
    #: Replication, once it runs, knows better.
    state: Callable[[], State] = _serving
    #: What `Crdtdb-Staleness` says; None while there is no other replica to be behind of.
    staleness: Callable[[], str | None] = _up_to_date
    #: How far the pull under way has come; None: nothing is being fetched.
    progress: Callable[[], Progress | None] = _no_pull
    #: Does it show a part of a large pull whose other parts are yet to come?
    is_partial: Callable[[], bool] = _whole
    #: How far the clocks of most other members are off this one's, if that is too far.
    clock_off_by_ms: Callable[[], int | None] = _no_other_clock
    #: The names of peers that run a newer version, of which something cannot be taken in here.
    newer_peers: Callable[[], list[str]] = list
    #: The chores of replication that fail because of a bug.
    failing: Callable[[], list[str]] = list
    witnesses: Witnesses = field(default_factory=Alone)
    #: What makes the writer: another one, if writes are traced.
    make_writer: Callable[[Database, Metrics], Writer] = Writer
    metrics: Metrics = field(init=False)
    writer: Writer = field(init=False)
    logins: Logins = field(init=False)
    readings: TurnReadings = field(init=False)
    sessions: Sessions = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.database.engine.store, lambda: self.progress())
        self.writer = self.make_writer(self.database, self.metrics)
        self.writer.take_at_most(self.options.bounds.waiting_writes)
        self.logins = Logins(self.options.bounds.failed_logins_per_min)
        self.metrics.watch_logins(self.logins)
        self.sessions = Sessions(
            self.database.cluster, lambda: self.seen, lambda: self.is_partial()
        )
        self.writer.on_change = self.sessions.advanced
        self.readings = TurnReadings(self.database)
        self.writer.before_job = self.readings.end

    async def carry_out_all(self, transactions: Sequence[Transaction]) -> tuple[Outcome, ...]:
        """Carry out a client's transactions in one commit, each for itself; durable on return.

        Their outcomes say which were refused. Raises why none could be carried out.
        """
        outcomes = await self.writer.commit_all(transactions)
        for transaction, outcome in zip(transactions, outcomes, strict=True):
            if outcome.error is None:
                self.count(transaction, outcome)
        return outcomes

    def count(self, transaction: Transaction, outcome: Outcome) -> None:
        """A client's transaction has been carried out."""
        if outcome.replayed is None:
            for update in transaction.updates:
                if isinstance(update, Update):
                    self.metrics.operation(update.name.type, type(update.operation))

    @property
    def seen(self) -> VersionVector:
        """What this replica has seen, durably."""
        return self.database.engine.state.seen
