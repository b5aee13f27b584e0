"""Group commit: many requests, one durable store transaction.

Requests hand in transactions and wait. Whatever has gathered by the next turn of the event loop
becomes one batch and one fsync. A small batch on a quick disk is carried out right there, on the
loop: handing it to a thread would cost more than it saves. Of a greater one, and if the disk is
slow, the one commit thread does what waits for the disk; while it does, the next batch forms. What
takes long by itself is the thread's from beginning to end.

The order is that of arrival, for transactions and calls alike. Nothing is answered or pushed
before it is durable. A request that is cancelled before its batch begins is not carried out;
later, it is, and nobody is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from time import perf_counter, thread_time
from typing import Any, Final, TypeVar

from crdtdb.database import Database
from crdtdb.errors import NoSpace, Overloaded, Problem, ReadOnly, StorageFailed
from crdtdb.limits import LIMITS
from crdtdb.transaction import Committed, Outcome, Transaction
from crdtdb_server.jobs import Bulk, Call, Group, Waiting
from crdtdb_server.metrics import Metrics
from crdtdb_server.pending import Pending

__all__ = ["Writer"]

T = TypeVar("T")

#: Whatever may wait, calls and bulks included: a second or so of work.
QUEUE_ENTRIES: Final = 4_096
#: Who is refused for that comes again after one second, or after up to so many, in turn: those who
#: were refused together do not come back together.
RETURN_S: Final = 4
#: A write of more operations than this keeps others waiting for longer, and counts for more.
OPERATIONS_EACH: Final = 32
#: So long none has to be refused until the overload is over.
RELIEF_S: Final = 1.0
#: One batch: enough to share an fsync well, few enough to keep the next one's wait short.
BATCH_TRANSACTIONS: Final = 256
BATCH_OPERATIONS: Final = 2_000
#: A batch waits for more as long as there are more in each turn of the loop, but not for longer.
GATHERING_TURNS: Final = 8
#: A batch of more transactions than this is worth a thread that waits for the disk.
INLINE_TRANSACTIONS: Final = 64
#: A disk that makes commits wait longer than this is not for the event loop …
INLINE_WAIT_S: Final = 0.002
#: … on average over so many of the latest: one hiccup says nothing of the next commit …
_WAITS: Final = 4
#: … until it gets another chance, after this long.
SLOW_DISK_S: Final = 0.2


#: A disk that has refused writes is taken to refuse them for so long. Then callers should try.
REFUSED_S: Final = 10.0


def _nothing(*_: object) -> None:
    """The callback of one who is not interested."""


def _stopping() -> ReadOnly:
    return ReadOnly("the server is stopping; go on at another replica")


class Writer:
    """The only way to the engine's writes in a server: one batch or call at a time, in order.

    Belongs to the running event loop.
    """

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._metrics = metrics
        #: Called on the loop with every durable commit, in order and before the next job begins
        #: (pushes go out here).
        self.on_commit: Callable[[Committed], None] = _nothing
        #: Called on the loop before every job.
        self.before_job: Callable[[], None] = _nothing
        #: Called on the loop after every job: the replica may have seen more than before.
        self.on_change: Callable[[], None] = _nothing
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")
        self._queue: deque[Waiting | Bulk | Call[Any]] = deque()
        #: Transactions that `hold` keeps waiting.
        self._held: deque[Waiting | Bulk] | None = None
        #: Why transactions are refused; None: they are taken.
        self._refusal: Problem | None = None
        #: Of the bodies of the transactions that wait, held or not; and the operations of these.
        self._waiting_bytes = self._waiting_operations = 0
        #: Requests that may wait or be under way, and how many of them may now.
        self._most = self._room = QUEUE_ENTRIES
        #: Has a request been refused lately?
        self._is_overloaded = False
        #: A batch of fewer transactions waits for more.
        self._gathers = BATCH_TRANSACTIONS
        #: Writes that were refused because too many waited.
        self._turned_away = 0
        #: When those who are refused shall come again.
        self._returns_s = cycle(range(1, RETURN_S + 1))
        #: The group that the thread carries out, or makes durable.
        self._in_thread: Group | None = None
        #: A job is under way, or its beginning has been scheduled.
        self._busy = False
        #: How many entries waited when a job was about to begin.
        self._met = 0
        #: For so many turns of the event loop it has waited for more.
        self._turns = 0
        #: How long the event loop's commits have waited for the disk: a running mean.
        self._wait_s = 0.0
        #: When the event loop may try again to commit by itself.
        self._inline_from = 0.0
        #: When the disk refused the last writes; None: it took them.
        self._refused_s: float | None = None
        self._closed = False
        self._drained: asyncio.Future[None] | None = None

    def commit(
        self,
        transaction: Transaction,
        *,
        before: Callable[[], None] | None = None,
        body_bytes: int = 0,
    ) -> Pending[Outcome]:
        """Carry out a transaction; durable when its outcome is there, or else why it was refused.

        Raises Overloaded or ReadOnly if it is not taken.

        `body_bytes` is the size of the request, by which waiting is bounded.
        `before` runs immediately before it: what that reads is the state that the transaction
        applies to. If it raises, so does this, and nothing is written.
        """
        self.check_room()
        if self._waiting_bytes + body_bytes > LIMITS.waiting_bytes:
            raise Overloaded(
                f"writes of more than {LIMITS.waiting_bytes} bytes are waiting already; slow down"
            )
        waiting = Waiting(transaction, before, body_bytes)
        self._submit(waiting)
        self._waiting_bytes += body_bytes
        self._waiting_operations += len(transaction.updates)
        return waiting.outcome

    def check_room(self) -> None:
        """Raises Overloaded if one more write would only wait longer. O(1)."""
        transactions, operations = len(self._queue), self._waiting_operations
        if self._in_thread is not None:
            transactions += len(self._in_thread)
            operations += self._in_thread.operations
        is_long = operations >= self._room * OPERATIONS_EACH and not self.held
        if transactions >= self._room or is_long:
            raise self._turn_away()

    async def commit_all(self, transactions: Sequence[Transaction]) -> tuple[Outcome, ...]:
        """Carry out transactions in one commit, each for itself; durable when this returns.

        Their outcomes say which were refused. Raises why none could be carried out.
        """
        future: asyncio.Future[tuple[Outcome, ...]] = self._loop.create_future()
        self._submit(Bulk(transactions, future))
        return await future

    def _submit(self, entry: Waiting | Bulk) -> None:
        """Let a write wait for its turn."""
        if self._refusal is not None:
            raise self._refusal
        if self._held is None:
            self._enqueue(entry)
        else:
            self._check_queue(self._held)
            self._held.append(entry)

    async def call(self, function: Callable[[], T], *, in_thread: bool = False) -> T:
        """Run a function that may write to the engine, when its turn comes.

        `in_thread` says that it takes long, so that the event loop must not run it itself.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._enqueue(Call(function, future, small=not in_thread))
        return await future

    @property
    def is_refused(self) -> bool:
        """Did the disk refuse the last writes, and was that a moment ago?"""
        return self._refused_s is not None and perf_counter() - self._refused_s < REFUSED_S

    def take_at_most(self, waiting_writes: int) -> None:
        """Refuse requests while so many wait or are under way: more would only wait longer.

        Once one was refused, no more may wait than the event loop commits by itself, until none had
        to be refused for a moment: a thread would wait for the loop, which is busy with refusing.
        Calls and bulks are not refused, for who makes one waits for it before the next.
        """
        self._most = self._room = waiting_writes

    def hold(self) -> None:
        """Keep transactions waiting until `open`; calls go on."""
        if self._held is None:
            self._held = deque()

    @property
    def held(self) -> bool:
        """Are transactions kept waiting?"""
        return self._held is not None

    @property
    def held_transactions(self) -> int:
        """How many wait for `open`."""
        return len(self._held or ())

    def open(self) -> None:
        """Let those transactions go on. Idempotent."""
        held, self._held = self._held, None
        if held:
            self._queue.extend(held)
            self._begin_soon()

    def refuse(self, why: Problem) -> None:
        """Take no transactions until `accept`; those that are held fail. Calls go on."""
        self._refusal = why
        held, self._held = self._held, None if self._held is None else deque()
        for waiting in held or ():
            if isinstance(waiting, Waiting):
                self._no_longer_waits(waiting)
            waiting.fail(why)
            waiting.settle()

    def accept(self) -> None:
        """Take transactions again. Idempotent."""
        self._refusal = None

    @property
    def closed(self) -> bool:
        """Is nothing taken any more?"""
        return self._closed

    async def close(self) -> None:
        """Take nothing more, carry out what waits unless it is held, end the thread. Idempotent."""
        self._closed = True
        for waiting in self._held or ():
            waiting.fail(_stopping())
            waiting.settle()
        if self._busy:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)
        self._thread.shutdown()

    def _check_queue(self, queue: deque[Any]) -> None:
        if self._closed:
            raise _stopping()
        if len(queue) >= QUEUE_ENTRIES:
            raise self._overloaded()

    def _turn_away(self) -> Overloaded:
        self._turned_away += 1
        if not self._is_overloaded:
            self._is_overloaded = True
            self._gathers = 0  # those who come now are refused
            self._room = min(self._most, INLINE_TRANSACTIONS)
            self._loop.call_later(RELIEF_S, self._relieve, self._turned_away)
        return self._overloaded()

    def _relieve(self, turned_away: int) -> None:
        """Let as many wait as before, unless some have been refused meanwhile."""
        if self._turned_away != turned_away:
            self._loop.call_later(RELIEF_S, self._relieve, self._turned_away)
            return
        self._is_overloaded = False
        self._gathers = BATCH_TRANSACTIONS
        self._room = self._most

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            "too many writes are waiting already; slow down", retry_after_s=next(self._returns_s)
        )

    def _enqueue(self, entry: Waiting | Bulk | Call[Any]) -> None:
        self._check_queue(self._queue)
        self._queue.append(entry)
        self._begin_soon()

    def _begin_soon(self) -> None:
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        """Start the next job, or come to rest."""
        waiting = len(self._queue)
        if self._met < waiting < self._gathers and self._turns < GATHERING_TURNS:
            # More are arriving: who comes now shares the wait for the disk.
            self._met = waiting
            self._turns += 1
            self._loop.call_soon(self._begin)
            return
        self._met = self._turns = 0
        self.before_job()
        job = self._next()
        if job is None:
            self._busy = False
            if self._drained is not None:
                self._drained.set_result(None)
        elif not job.small:
            self._in_thread = job if isinstance(job, Group) else None
            self._thread.submit(self._run_in_thread, job)
        elif self._is_quick() and not (isinstance(job, Group) and len(job) > INLINE_TRANSACTIONS):
            self._run_inline(job)
        elif isinstance(job, Group):
            job.draft(self._database)
            self._in_thread = job
            self._thread.submit(self._persist, job)
        else:
            self._thread.submit(self._run_in_thread, job)

    def _is_quick(self) -> bool:
        """Will a commit hardly wait?"""
        return perf_counter() >= self._inline_from and not self._database.engine.store.is_congested

    def _next(self) -> Group | Bulk | Call[Any] | None:
        """The next call or bulk, or as many transactions as one batch takes."""
        queue = self._queue
        group: list[Waiting] = []
        operations = size = 0
        while queue:
            entry = queue[0]
            if not entry.given_up:
                if not isinstance(entry, Waiting):
                    if group:
                        break
                    queue.popleft()
                    return entry
                operations += len(entry.transaction.updates)
                size += entry.body_bytes
                if group and (
                    entry.before is not None
                    or len(group) == BATCH_TRANSACTIONS
                    or operations > BATCH_OPERATIONS
                    or size > LIMITS.commit_bytes
                ):
                    break
                group.append(entry)
            if isinstance(entry, Waiting):
                self._no_longer_waits(entry)
            queue.popleft()
        return Group(group) if group else None

    def _no_longer_waits(self, waiting: Waiting) -> None:
        self._waiting_bytes -= waiting.body_bytes
        self._waiting_operations -= len(waiting.transaction.updates)

    def _run_inline(self, job: Group | Bulk | Call[Any]) -> None:
        began, worked = perf_counter(), thread_time()
        job.run(self._database)
        ended = perf_counter()
        waited_s = ended - began - (thread_time() - worked)
        self._wait_s += (waited_s - self._wait_s) / _WAITS
        if self._wait_s > INLINE_WAIT_S:
            self._wait_s = 0.0
            self._inline_from = ended + SLOW_DISK_S
        self._settle(job)

    def _run_in_thread(self, job: Group | Bulk | Call[Any]) -> None:
        job.run(self._database)
        self._loop.call_soon_threadsafe(self._settle, job)

    def _persist(self, job: Group) -> None:
        job.persist(self._database)
        self._loop.call_soon_threadsafe(self._install, job)

    def _install(self, job: Group) -> None:
        job.install(self._database)
        self._settle(job)

    def _settle(self, job: Group | Bulk | Call[Any]) -> None:
        """Tell about this job, and go on with the next."""
        self._in_thread = None
        self._loop.call_soon(self._begin)
        job.settle()
        self.on_change()
        if isinstance(job, Group):
            refused = isinstance(job.failure, NoSpace | StorageFailed)
            self._refused_s = perf_counter() if refused else None
        if not isinstance(job, Call) and job.committed is not None:
            self._metrics.committed(job.duration_s, len(job))
            self.on_commit(job.committed)
