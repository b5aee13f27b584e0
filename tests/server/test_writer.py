"""The group commit: what shares a commit, in which order, and what failures do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from threading import Event, current_thread, main_thread
from typing import Any

import pytest

from crdtdb import Database
from crdtdb.address import ObjectName
from crdtdb.errors import BadRequest, NoSpace, Overloaded, ReadOnly, StorageFailed
from crdtdb.limits import Limits
from crdtdb.store.base import Batch
from crdtdb.store.memory import MemoryStore
from crdtdb.transaction import Committed, Outcome, Transaction
from crdtdb_server import jobs, writer
from crdtdb_server.metrics import Metrics
from crdtdb_server.writer import Writer
from processes import DEADLINE_S

_COUNTER = ObjectName("shop", "counter", "k")


class _Disk(MemoryStore):
    """A store whose writes can be made to fail."""

    failure: Exception | None = None
    #: What a commit waits for.
    ready: Callable[[], object] = bool

    def commit(self, batch: Batch) -> None:
        self.ready()
        if self.failure is not None:
            raise self.failure
        super().commit(batch)


class Bench:
    """A writer, and what it told."""

    def __init__(self) -> None:
        self.disk = _Disk()
        self.database = Database(self.disk, replica="eu-1")
        self.writer = Writer(self.database, Metrics(self.disk, lambda: None))
        self.commits: list[Committed] = []
        self.writer.on_commit = self.commits.append

    @property
    def value(self) -> Any:
        return self.database.read(_COUNTER).value

    @property
    def group_sizes(self) -> list[int]:
        return [len(committed.outcomes) for committed in self.commits]

    def step(self, by: int = 1) -> Transaction:
        plain = {"op": "increment", "by": by}
        return Transaction((self.database.parse_update(_COUNTER, plain),))

    async def carry_out(self, transaction: Transaction, **terms: Any) -> Outcome:
        return await self.writer.commit(transaction, **terms)

    def commit(self, by: int = 1) -> asyncio.Task[Outcome]:
        return asyncio.create_task(self.carry_out(self.step(by)))


class Occupied:
    """Keeps the commit thread at work until it is released."""

    def __init__(self, bench: Bench) -> None:
        self._begun = asyncio.Event()
        self._release = Event()
        self._bench = bench
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Occupied:
        self._call = asyncio.create_task(self._bench.writer.call(self._work, in_thread=True))
        await self._begun.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._release.set()
        await self._call

    def _work(self) -> None:
        assert current_thread() is not main_thread()
        self._loop.call_soon_threadsafe(self._begun.set)
        self._release.wait()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.writer.close()


async def _queued() -> None:
    """Let tasks that were just created hand in what they have."""
    await asyncio.sleep(0)


# -- groups ---------------------------------------------------------------------------------------


async def test_what_arrives_together_shares_a_commit(bench: Bench) -> None:
    outcomes = await asyncio.gather(*(bench.commit() for _ in range(5)))
    assert [outcome.results[0].value for outcome in outcomes] == [1, 2, 3, 4, 5]
    assert bench.group_sizes == [5]


async def test_what_arrives_turn_after_turn_shares_a_commit_for_a_while(bench: Bench) -> None:
    """Who comes while others are coming shares their wait for the disk; but nobody waits long."""
    tasks = []
    for _ in range(2 * writer.GATHERING_TURNS):
        tasks.append(bench.commit())
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert len(bench.group_sizes) < len(tasks) / 2
    assert bench.group_sizes[0] <= writer.GATHERING_TURNS + 1


async def test_a_disk_that_fails_in_the_thread_changes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread only waits for the disk; what it could not make durable was never there."""
    monkeypatch.setattr(writer, "INLINE_TRANSACTIONS", 1)
    bench.disk.failure = NoSpace("full")
    before = bench.database.engine.state
    tasks = [bench.commit() for _ in range(3)]
    assert [type(failure) for failure in await asyncio.gather(*tasks, return_exceptions=True)] == [
        NoSpace
    ] * 3
    assert bench.database.engine.state is before
    assert bench.commits == []
    bench.disk.failure = None
    await asyncio.gather(*(bench.commit() for _ in range(3)))
    assert (bench.value, bench.group_sizes) == (3, [3])


async def test_a_group_forms_while_the_thread_works(bench: Bench) -> None:
    async with Occupied(bench):
        waiting = [bench.commit() for _ in range(7)]
        await _queued()
        assert bench.value == 0
        assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)
    assert bench.group_sizes == [7]
    assert bench.value == 7


async def test_reads_go_on_while_the_thread_works(bench: Bench) -> None:
    await bench.commit()
    async with Occupied(bench):
        assert bench.value == 1


async def test_a_group_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BATCH_TRANSACTIONS", 2)
    await asyncio.gather(*(bench.commit() for _ in range(5)))
    assert bench.group_sizes == [2, 2, 1]
    monkeypatch.setattr(writer, "BATCH_OPERATIONS", 3)
    large = Transaction(bench.step().updates * 3)
    await asyncio.gather(*(bench.writer.commit(large) for _ in range(2)))
    assert bench.group_sizes[3:] == [1, 1]


async def test_a_transaction_that_is_refused_leaves_the_others_alone(bench: Bench) -> None:
    impossible = bench.database.parse_update(
        ObjectName("shop", "set", "k"), {"op": "add", "value": "x" * 5_000}
    )
    first, refused, last = await asyncio.gather(
        bench.commit(),
        bench.writer.commit(Transaction((impossible,))),
        bench.commit(),
        return_exceptions=True,
    )
    assert type(refused).__name__ == "TooLarge"
    assert isinstance(first, Outcome)
    assert isinstance(last, Outcome)
    assert bench.value == 2


# -- order ----------------------------------------------------------------------------------------


async def test_commits_and_calls_keep_the_order_of_arrival(bench: Bench) -> None:
    seen: list[Any] = []

    def note() -> None:
        seen.append(bench.value)

    async with Occupied(bench):
        waiting: list[asyncio.Task[Any]] = []
        for _ in range(3):
            waiting += [bench.commit(), bench.commit()]
            waiting.append(asyncio.create_task(bench.writer.call(note)))
        await _queued()
    await asyncio.gather(*waiting)
    assert seen == [2, 4, 6]
    assert bench.group_sizes == [2, 2, 2]


async def test_what_comes_before_a_transaction_sees_the_state_it_applies_to(bench: Bench) -> None:
    read: list[Any] = []

    def before() -> None:
        read.append(bench.value)

    async with Occupied(bench):
        waiting = [
            bench.commit(),
            asyncio.create_task(bench.carry_out(bench.step(), before=before)),
            bench.commit(),
            asyncio.create_task(bench.carry_out(bench.step(), before=before)),
        ]
        await _queued()
    outcomes = await asyncio.gather(*waiting)
    assert [outcome.results[0].value for outcome in outcomes] == [1, 2, 3, 4]
    assert read == [1, 3]
    assert bench.group_sizes == [1, 2, 1]


async def test_if_that_fails_nothing_of_the_transaction_is_written(bench: Bench) -> None:
    def before() -> None:
        raise BadRequest("no such cursor")

    refused, done = await asyncio.gather(
        bench.writer.commit(bench.step(), before=before), bench.commit(), return_exceptions=True
    )
    assert isinstance(refused, BadRequest)
    assert isinstance(done, Outcome)
    assert bench.value == 1


# -- where ----------------------------------------------------------------------------------------


async def test_small_work_on_a_quick_disk_is_done_on_the_loop(bench: Bench) -> None:
    assert await bench.writer.call(current_thread) is main_thread()
    assert await bench.writer.call(current_thread, in_thread=True) is not main_thread()


async def test_a_slow_disk_moves_the_work_to_the_thread(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "INLINE_WAIT_S", -1.0)
    assert await bench.writer.call(current_thread) is main_thread()
    assert await bench.writer.call(current_thread) is not main_thread()
    monkeypatch.setattr(writer, "SLOW_DISK_S", 0.0)
    other = Bench()
    assert await other.writer.call(current_thread) is main_thread()
    assert await other.writer.call(current_thread) is main_thread(), "it got another chance"
    await other.writer.close()


async def test_one_hiccup_of_the_disk_moves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(writer, "perf_counter", lambda: now_s[0])
    monkeypatch.setattr(writer, "thread_time", lambda: 0.0)

    def wait() -> None:
        now_s[0] += 2 * writer.INLINE_WAIT_S

    await bench.writer.call(wait)
    assert await bench.writer.call(current_thread) is main_thread()
    for _ in range(4):
        await bench.writer.call(wait)
    assert await bench.writer.call(current_thread) is not main_thread(), "the disk is slow"


async def test_much_work_goes_to_the_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "SMALL_OPERATIONS", 2)
    threads: list[Any] = []

    def before() -> None:
        threads.append(current_thread() is main_thread())

    for count in (2, 3):
        await bench.writer.commit(Transaction(bench.step().updates * count), before=before)
    assert threads == [True, False]


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [StorageFailed("no fsync"), NoSpace("full")])
async def test_a_failing_disk_refuses_the_whole_group_and_recovers(
    bench: Bench, failure: Exception
) -> None:
    await bench.commit()
    bench.disk.failure = failure
    refused = await asyncio.gather(*(bench.commit() for _ in range(3)), return_exceptions=True)
    assert refused == [failure] * 3
    assert bench.value == 1
    assert bench.group_sizes == [1], "nothing is pushed that is not durable"
    bench.disk.failure = None
    await bench.commit()
    assert bench.value == 2


async def test_a_call_that_raises_raises_there(bench: Bench) -> None:
    def broken() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await bench.writer.call(broken)
    await bench.commit()


async def test_too_much_at_once_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "QUEUE_ENTRIES", 3)
    async with Occupied(bench):
        waiting = [bench.commit() for _ in range(3)]
        await _queued()
        with pytest.raises(Overloaded):
            await bench.writer.commit(bench.step())
        with pytest.raises(Overloaded):
            await bench.writer.call(lambda: None)
    await asyncio.gather(*waiting)
    assert bench.value == 3


async def test_what_would_make_all_wait_longer_is_refused(bench: Bench) -> None:
    bench.writer.take_at_most(3)
    async with Occupied(bench):
        waiting = [bench.commit() for _ in range(3)]
        await _queued()
        for _ in range(2):
            with pytest.raises(Overloaded, match="too many writes are waiting"):
                await bench.writer.commit(bench.step())
        # Peers go on, and who hands in many at once waits for them before the next.
        call = asyncio.create_task(bench.writer.call(lambda: None))
        bulk = asyncio.create_task(bench.writer.commit_all([bench.step()] * 5))
        await _queued()
    await asyncio.gather(*waiting, call, bulk)
    assert bench.value == 8, "all that was taken, and nothing else"
    await bench.commit()
    assert bench.value == 9


async def _taken_of(bench: Bench, transactions: list[Transaction]) -> list[bool]:
    """Which of those that come together are not refused?"""
    async with Occupied(bench):
        tasks = [asyncio.create_task(bench.carry_out(one)) for one in transactions]
        await _queued()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    return [isinstance(outcome, Outcome) for outcome in outcomes]


async def test_writes_of_many_operations_count_for_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """256 transactions of 100 operations each kept those who were let in waiting for seconds."""
    monkeypatch.setattr(writer, "OPERATIONS_EACH", 2)
    bench.writer.take_at_most(4)
    small, large = bench.step(), Transaction(bench.step().updates * 7)
    assert await _taken_of(bench, [large, small, small]) == [True, True, False]
    assert await _taken_of(bench, [small, large, large]) == [True, True, False]
    assert await _taken_of(bench, [small] * 5) == [True] * 4 + [False]
    assert bench.value == 20


async def test_a_large_write_that_is_being_carried_out_counts_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too much for the event loop is the thread's, and was counted nowhere."""
    monkeypatch.setattr(jobs, "SMALL_OPERATIONS", 2)
    bench.writer.take_at_most(1)
    persisting, release = Event(), Event()

    def wait() -> None:
        persisting.set()
        release.wait()

    bench.disk.ready = wait
    taken = asyncio.create_task(bench.carry_out(Transaction(bench.step().updates * 3)))
    try:
        assert await asyncio.to_thread(persisting.wait, DEADLINE_S)
        with pytest.raises(Overloaded):
            bench.writer.check_room()
    finally:
        bench.disk.ready = bool
        release.set()
    await taken
    bench.writer.check_room()
    assert bench.value == 3


async def test_what_is_held_counts_by_transactions_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "OPERATIONS_EACH", 1)
    bench.writer.take_at_most(2)
    bench.writer.hold()
    tasks = [bench.commit() for _ in range(4)]
    await _queued()
    bench.writer.open()
    await asyncio.gather(*tasks)
    assert bench.value == 4
    bench.writer.check_room()


async def _taken(bench: Bench, count: int) -> int:
    """How many of so many that come together are not refused?"""
    async with Occupied(bench):
        tasks = [bench.commit() for _ in range(count)]
        await _queued()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    return sum(isinstance(outcome, Outcome) for outcome in outcomes)


async def test_who_had_to_refuse_some_takes_less_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RELIEF_S", 3_600)
    monkeypatch.setattr(writer, "INLINE_TRANSACTIONS", 2)
    bench.writer.take_at_most(4)
    assert [await _taken(bench, count) for count in (4, 4, 9, 9, 2)] == [4, 4, 4, 2, 2]
    assert bench.value == 16


async def test_when_the_overload_is_over_as_many_are_taken_as_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RELIEF_S", 0.0)
    monkeypatch.setattr(writer, "INLINE_TRANSACTIONS", 2)
    bench.writer.take_at_most(4)
    assert await _taken(bench, 9) == 4
    while await _taken(bench, 4) < 4:
        pass


async def test_what_is_being_committed_counts_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "INLINE_TRANSACTIONS", 1)
    bench.writer.take_at_most(3)
    await bench.commit()  # with it the incarnation is written
    persisting, release = Event(), Event()

    def wait() -> None:
        assert current_thread() is not main_thread()
        persisting.set()
        release.wait()

    bench.disk.ready = wait
    taken = [bench.commit() for _ in range(2)]
    try:
        assert await asyncio.to_thread(persisting.wait, DEADLINE_S)
        taken.append(bench.commit())
        await _queued()
        with pytest.raises(Overloaded):
            bench.writer.commit(bench.step())
    finally:
        bench.disk.ready = bool
        release.set()
    await asyncio.gather(*taken)
    await bench.commit()
    assert bench.value == 5


async def test_few_large_writes_once_filled_the_memory(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4,096 writes might wait, of 8 MiB each; now their bytes are bounded, too."""
    monkeypatch.setattr(writer, "LIMITS", Limits(waiting_bytes=20))

    async def commit() -> None:
        await bench.writer.commit(bench.step(), body_bytes=8)

    for _ in range(2):
        async with Occupied(bench):
            waiting = [asyncio.create_task(commit()) for _ in range(2)]
            await _queued()
            with pytest.raises(Overloaded, match="20 bytes"):
                await commit()
            waiting[0].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert bench.value == 2


async def test_the_bytes_of_a_group_are_bounded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LIMITS", Limits(commit_bytes=10))
    sizes = (4, 6, 1, 30, 5, 5)
    await asyncio.gather(*(bench.writer.commit(bench.step(), body_bytes=n) for n in sizes))
    assert bench.group_sizes == [2, 1, 1, 2]


# -- cancellation ---------------------------------------------------------------------------------


async def test_who_leaves_before_the_batch_begins_writes_nothing(bench: Bench) -> None:
    async with Occupied(bench):
        waiting = [bench.commit(by) for by in (1, 10, 100)]
        await _queued()
        waiting[1].cancel()
        await _queued()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert bench.value == 101
    assert bench.group_sizes == [2]


async def test_who_leaves_later_has_written_once(bench: Bench) -> None:
    working, release = asyncio.Event(), Event()
    loop = asyncio.get_running_loop()

    def before() -> None:
        loop.call_soon_threadsafe(working.set)
        release.wait()

    large = Transaction(bench.step().updates * (jobs.SMALL_OPERATIONS + 1))
    gone = asyncio.create_task(bench.carry_out(large, before=before))
    await working.wait()
    other = bench.commit()
    gone.cancel()
    release.set()
    await other
    assert gone.cancelled()
    assert bench.value == len(large.updates) + 1


async def test_a_call_whose_caller_left_before_its_turn_is_not_made(bench: Bench) -> None:
    made: list[int] = []
    async with Occupied(bench):
        calls = [asyncio.create_task(bench.writer.call(_noting(made, n))) for n in range(3)]
        await _queued()
        calls[1].cancel()
        await _queued()
    await asyncio.gather(*calls, return_exceptions=True)
    assert made == [0, 2]


def _noting(made: list[int], number: int) -> Callable[[], None]:
    return lambda: made.append(number)


# -- beginning and end ----------------------------------------------------------------------------


async def test_held_transactions_wait_and_calls_do_not(bench: Bench) -> None:
    bench.writer.hold()
    waiting = [bench.commit() for _ in range(3)]
    await _queued()
    assert bench.writer.held
    assert bench.writer.held_transactions == 3
    assert await bench.writer.call(lambda: bench.value) == 0
    bench.writer.open()
    bench.writer.open()
    await asyncio.gather(*waiting)
    assert bench.group_sizes == [3]


async def test_closing_carries_out_what_waits_and_takes_nothing_more(bench: Bench) -> None:
    async with Occupied(bench):
        waiting = bench.commit()
        await _queued()
        closing = [asyncio.create_task(bench.writer.close()) for _ in range(2)]
        await _queued()
        with pytest.raises(ReadOnly):
            await bench.writer.commit(bench.step())
    await asyncio.gather(*closing)
    assert (await waiting).results[0].value == 1


async def test_closing_refuses_what_is_held(bench: Bench) -> None:
    bench.writer.hold()
    waiting = bench.commit()
    await _queued()
    await bench.writer.close()
    with pytest.raises(ReadOnly):
        await waiting
    assert bench.value == 0


async def test_every_job_is_followed_by_a_sign_of_change(bench: Bench) -> None:
    signs: list[Any] = []
    bench.writer.on_change = lambda: signs.append(bench.value)
    await bench.commit()
    await bench.writer.call(lambda: None)
    assert signs == [1, 1]
