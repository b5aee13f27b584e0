"""What waits for its turn at the engine, and what one turn is.

A job is carried out in one place (the event loop or the commit thread) and settled in another:
`run` does the work and keeps what came of it, `settle` tells the loop's futures. A group of small
transactions can be run in three steps, of which only the one that waits for the disk is for a
thread: two threads that both run Python only take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final, Generic, TypeVar, cast

from crdtdb.database import Database
from crdtdb.engine import Drafted
from crdtdb.transaction import Committed, Outcome, Transaction, Update
from crdtdb_server.pending import Pending

__all__ = ["Bulk", "Call", "Group", "Waiting"]

T = TypeVar("T")

#: More updates than this take too long for the event loop: about 10 ms.
SMALL_OPERATIONS: Final = 256


class Waiting:
    """One transaction and the request that waits for it."""

    __slots__ = ("_error", "_outcome", "before", "body_bytes", "outcome", "transaction")

    def __init__(
        self, transaction: Transaction, before: Callable[[], None] | None, body_bytes: int
    ) -> None:
        self.transaction = transaction
        self.before = before
        self.body_bytes = body_bytes
        #: What the request waits for.
        self.outcome: Pending[Outcome] = Pending()
        self._outcome: Outcome | None = None
        self._error: Exception | None = None

    @property
    def given_up(self) -> bool:
        """Has the request gone?"""
        return self.outcome.is_settled

    def prepare(self) -> bool:
        """Do what comes before the transaction; False if that went wrong."""
        if self.before is not None:
            try:
                self.before()
            except Exception as error:
                self._error = error
                return False
        return True

    def finish(self, outcome: Outcome) -> None:
        self._outcome, self._error = outcome, outcome.error

    def fail(self, error: Exception) -> None:
        self._error = self._error or error

    def settle(self) -> None:
        if self._error is not None:
            self.outcome.fail(self._error)
        else:
            assert self._outcome is not None
            self.outcome.succeed(self._outcome)


class Group:
    """Transactions that share a commit. Only the first may have something to do before it."""

    def __init__(self, waiting: list[Waiting]) -> None:
        self._waiting = waiting
        updates = [update for one in waiting for update in one.transaction.updates]
        self.operations = len(updates)
        #: May the event loop carry it out itself?
        self.small = len(updates) <= SMALL_OPERATIONS and not any(
            not isinstance(update, Update) or update.operation.wide for update in updates
        )
        #: What was made durable; None if nothing was.
        self.committed: Committed | None = None
        self.duration_s = 0.0
        #: Why nothing was made durable.
        self.failure: Exception | None = None
        self._began = 0.0
        self._ready: list[Waiting] = []
        self._drafted: Drafted | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def run(self, database: Database) -> None:
        """Carry the transactions out, in one commit."""
        self.draft(database)
        self.persist(database)
        self.install(database)

    def draft(self, database: Database) -> None:
        """The first step of `run`, where nothing else is under way."""
        self._began = perf_counter()
        try:
            self._ready = [one for one in self._waiting if one.prepare()]
            self._drafted = database.engine.draft([one.transaction for one in self._ready])
        except Exception as error:
            self._fail(error)

    def persist(self, database: Database) -> None:
        """The second step, which waits for the disk, in any thread."""
        if self._drafted is not None:
            try:
                database.engine.persist(self._drafted)
            except Exception as error:
                self._fail(error)

    def install(self, database: Database) -> None:
        """The last step, where nothing else is under way."""
        if self._drafted is not None:
            self.committed = database.engine.install(self._drafted)
            for one, outcome in zip(self._ready, self.committed.outcomes, strict=True):
                one.finish(outcome)
        self.duration_s = perf_counter() - self._began

    def _fail(self, error: Exception) -> None:
        self.failure = error
        self._drafted = None
        for one in self._waiting:
            one.fail(error)

    def settle(self) -> None:
        """Tell every request, on the loop."""
        for one in self._waiting:
            one.settle()


class Bulk:
    """Transactions of one caller that have a commit of their own."""

    small = False

    def __init__(
        self, transactions: Sequence[Transaction], future: asyncio.Future[tuple[Outcome, ...]]
    ) -> None:
        self._transactions = transactions
        self._future = future
        self._error: Exception | None = None
        self.committed: Committed | None = None
        self.duration_s = 0.0

    def __len__(self) -> int:
        return len(self._transactions)

    @property
    def given_up(self) -> bool:
        """Has the caller gone?"""
        return self._future.done()

    def run(self, database: Database) -> None:
        """Carry the transactions out, in one commit."""
        began = perf_counter()
        try:
            self.committed = database.engine.commit(self._transactions)
        except Exception as error:
            self.fail(error)
        self.duration_s = perf_counter() - began

    def fail(self, error: Exception) -> None:
        self._error = error

    def settle(self) -> None:
        """Tell the caller, on the loop."""
        if self._future.done():
            return
        if self._error is not None:
            self._future.set_exception(self._error)
        else:
            assert self.committed is not None
            self._future.set_result(self.committed.outcomes)


class Call(Generic[T]):
    """A function that may write to the engine."""

    def __init__(
        self, function: Callable[[], T], future: asyncio.Future[T], *, small: bool
    ) -> None:
        self._function = function
        self._future = future
        self.small = small
        self._result: T | None = None
        self._error: Exception | None = None

    @property
    def given_up(self) -> bool:
        """Has the caller gone?"""
        return self._future.done()

    def run(self, database: Database) -> None:
        """Call the function."""
        try:
            self._result = self._function()
        except Exception as error:
            self._error = error

    def settle(self) -> None:
        """Tell the caller, on the loop."""
        if self._future.done():
            return
        if self._error is not None:
            self._future.set_exception(self._error)
        else:
            self._future.set_result(cast(T, self._result))
