"""A pull that takes many pages: staged on the disk, resumed after a kill, joined in parts."""

from __future__ import annotations

from collections import Counter

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.errors import PeerError
from crdtdb.replication import Phase, donor, staging
from crdtdb.replication.messages import Message, Pull, Refused, read_frame, write_frame
from crdtdb.store.base import Batch, Table
from pulling import RECORDS, Pulling
from replicas import Replica, update

PAGE = 10


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(donor, "PAGE_RECORDS", PAGE)
    monkeypatch.setattr(staging, "PART_RECORDS", 16)
    monkeypatch.setattr(staging, "RUN_RECORDS", 2 * PAGE)
    monkeypatch.setattr("crdtdb.replication.repair.PART_RECORDS", 16)
    monkeypatch.setattr(staging, "SHORT_PART_RECORDS", 16)
    monkeypatch.setattr("crdtdb.replication.repair.SHORT_PART_RECORDS", 16)


@pytest.mark.parametrize("pages", range(1, 10))
def test_a_kill_at_each_page_sends_no_page_twice(pages: int) -> None:
    pair = Pulling(served=True)
    pair.write()
    pair.pull(pages)
    staged = len(pair.puller.rows()[Table.STAGED])
    assert staged == pages * PAGE
    pair.restart()
    pair.run_until_equal()
    own = {at for at in pair.sent if at.startswith(address.bucket_prefix("shop"))}
    assert len(own) == RECORDS
    assert len([at for at in pair.sent if at in own]) == RECORDS


def test_a_record_that_changes_between_two_pages_counts_once() -> None:
    pair = Pulling(served=True)
    pair.write()
    pair.pull(3)
    pair.donor.do("set", "remove", key="k0", value=0)
    pair.put(pair.donor, "k1", 1)
    pair.restart()
    pair.run_until_equal()
    assert 0 not in pair.puller.value("set", "k0")


def test_a_page_is_put_among_few_rows() -> None:
    """One order of everything would spread a page over all that is staged."""
    pair = Pulling(served=True)
    pair.write()
    pair.pull(9)
    runs = Counter(at[:4] for at in pair.puller.rows()[Table.STAGED])
    assert len(runs) > 3
    assert max(runs.values()) == 2 * PAGE
    pair.restart()
    pair.run_until_equal()


def catching_up(monkeypatch: pytest.MonkeyPatch) -> Pulling:
    """A replica that serves and has begun to join a large pull."""
    monkeypatch.setattr("crdtdb.replication.repair.ONE_COMMIT_RECORDS", 50)
    pair = Pulling(served=True)
    pair.put(pair.donor, "k0", -1)
    pair.run(3_000)
    assert pair.puller.value("set", "k0") == [-1]
    pair.write()
    for _ in range(1_000):
        if pair.machine.is_partial:
            return pair
        pair.tick()
    raise AssertionError("it never was")


def test_a_large_catch_up_is_joined_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = catching_up(monkeypatch)
    seen = pair.puller.seen
    assert not seen.includes(pair.donor.seen)
    assert pair.machine.phase is Phase.CATCHING_UP
    while pair.machine.is_partial:
        assert pair.puller.seen == seen, "claimed before the last part"
        pair.tick()
    pair.run_until_equal()


def test_a_catch_up_of_many_bytes_is_joined_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few the records are: a commit of all of them would take that much memory."""
    monkeypatch.setattr(staging, "PART_BYTES", 20_000)
    monkeypatch.setattr("crdtdb.replication.repair.ONE_COMMIT_BYTES", 100_000)
    pair = Pulling(served=True)
    largest = 0
    commit = pair.puller.store.commit

    def noting(batch: Batch) -> None:
        nonlocal largest
        records = batch.get(Table.RECORDS, {}).values()
        largest = max(largest, sum(len(row) for row in records if row is not None))
        commit(batch)

    monkeypatch.setattr(pair.puller.store, "commit", noting)
    for number in range(12):
        name = ObjectName("shop", "register", f"k{number}")
        pair.donor.commit(update(name, {"op": "set", "value": "x" * 9_900}))
    was_partial = False
    while not pair.puller.seen.includes(pair.donor.seen):
        pair.tick()
        was_partial |= pair.machine.is_partial
    assert was_partial
    assert 10_000 < largest < 40_000
    pair.run_until_equal()


def test_as_many_as_one_commit_takes_are_never_shown_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = Pulling(served=True)
    pair.write()
    shown = set()
    for _ in range(100):
        pair.tick()
        assert not pair.machine.is_partial
        shown.add(sum(len(pair.puller.value("set", f"k{i}")) for i in range(7)))
    assert shown == {0, RECORDS}


def test_pages_of_a_pull_that_broke_off_are_let_go_when_all_has_come_otherwise() -> None:
    """Seed 9089 once: they were kept for a donor from whom nothing was missing any more."""
    pair = Pulling(served=True)
    pair.write()
    pair.pull(2)
    assert pair.puller.rows()[Table.STAGED]
    pair.away = {"a"}
    pair.restart()
    pair.puller.pull(pair.donor)
    pair.run(8_000, only="b")
    assert pair.puller.rows()[Table.STAGED], "it may have more to give"
    pair.away = set()
    pair.run(3_000)
    assert not pair.puller.rows()[Table.STAGED]


def test_who_is_partial_gives_nothing_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = catching_up(monkeypatch)
    me = pair.machines["a"].me
    (answer,) = pair.machine.step(me, write_frame(Pull(1, 0, 0, [], [])), pair.now_ms)
    assert read_frame(answer.frame) == Refused("partial")
    # Nor does it say where its sequence stands: the other would skip what it has not seen.
    digest = pair.machines["b"].probe()
    kinds = {type(m) for m in answers(pair, digest)}
    assert "Same" not in {kind.__name__ for kind in kinds}
    pair.run_until_equal()


def answers(pair: Pulling, frame: bytes) -> list[Message]:
    sends = pair.machine.step(pair.machines["a"].me, frame, pair.now_ms)
    return [read_frame(send.frame) for send in sends]


def test_writes_go_on_meanwhile_and_reach_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = catching_up(monkeypatch)
    name = ObjectName("shop", "set", "k3")
    for value in (1_000, 3):
        committed = pair.puller.commit(update(name, {"op": "add", "value": value}))
        assert committed.push is not None
        assert pair.machine.committed(committed.push) == []
    committed = pair.puller.commit(update(name, {"op": "remove", "value": 10}))
    pair.run_until_equal()
    pair.run(5_000)
    assert pair.donor.digest() == pair.puller.digest()
    assert 1_000 in pair.donor.value("set", "k3")


@pytest.mark.parametrize("parts", range(7))
def test_a_kill_between_two_parts(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = catching_up(monkeypatch)
    for _ in range(parts):
        pair.tick()
    asked = len(pair.asked)
    pair.restart()
    pair.run_until_equal()
    assert len(pair.asked) == asked, "what was there was asked for again"


def test_a_kill_while_partial(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = catching_up(monkeypatch)
    asked = len(pair.asked)
    pair.restart()
    assert pair.machine.is_partial
    pair.run_until_equal()
    assert len(pair.asked) == asked


def test_what_cannot_be_joined_is_found_out_before_a_part_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = Pulling(served=True)
    monkeypatch.setattr("crdtdb.replication.repair.ONE_COMMIT_RECORDS", 50)
    pair.write()
    bad = [at for at, _ in all_records(pair.donor)][-1]

    def refuse(draft: object, addresses: object) -> None:
        if bad in list(addresses):  # type: ignore[call-overload]
            raise PeerError("bad-record", "no honest replicas can have done that together")

    monkeypatch.setattr("crdtdb.joining.admit_together", refuse)
    before = pair.puller.digest()
    for _ in range(200):
        pair.tick()
        assert not pair.machine.is_partial
    assert pair.puller.digest() == before
    assert pair.machine.refusals["bad-record"] >= 1
    monkeypatch.undo()
    pair.run(60_000)
    pair.run_until_equal()


def spoil(pair: Pulling, *, cut_short: bool = False) -> None:
    """Damage a row that is staged on the puller's disk."""
    key, row = list(pair.puller.rows()[Table.STAGED].items())[-1]
    bad = row[:3] if cut_short else row[:-1] + bytes((row[-1] ^ 0x41,))
    pair.puller.store.commit({Table.STAGED: {key: bad}})


@pytest.mark.parametrize("parts", [0, 2])
@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("cut_short", [False, True])
def test_a_staged_row_that_is_damaged_while_parts_are_joined(
    parts: int, kill: bool, cut_short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it was tried to join for ever: what is begun is finished, and that could not be."""
    pair = catching_up(monkeypatch)
    for _ in range(parts):
        pair.tick()
    seen = pair.puller.seen
    spoil(pair, cut_short=cut_short)
    for _ in range(100):
        pair.tick()
        if pair.machine.refusals["staging-damaged"]:
            break
    assert pair.machine.refusals == {"staging-damaged": 1}
    assert pair.machine.is_partial, "parts of it are joined"
    if kill:
        pair.restart()
    while pair.machine.is_partial:
        assert pair.puller.seen == seen, "claimed before the last part"
        pair.run(50)
    pair.run_until_equal()
    assert pair.machine.progress is None
    assert b"pull/rest" not in pair.puller.rows()[Table.META]


def test_what_was_joined_in_part_is_pulled_from_who_has_seen_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another's claim may cover less than what is here already."""
    pair = catching_up(monkeypatch)
    spoil(pair)
    pair.away.add("a")
    for _ in range(100):
        pair.tick()
    pair.restart()
    staged = staging.Staging(pair.puller.engine)
    assert staged.is_partial
    assert not staged.is_begun
    assert staged.is_served_by(pair.donor.seen)
    assert not staged.is_served_by(pair.puller.seen)
    pair.away.clear()
    pair.run_until_equal()


def test_a_staged_row_that_is_damaged_before_any_is_joined() -> None:
    """All of them are pulled again, at once, and nobody is blamed for it."""
    pair = Pulling(served=True)
    pair.write()
    pair.pull(5)
    spoil(pair)
    pair.restart()
    pair.run_until_equal()
    assert pair.machine.refusals == {"staging-damaged": 1}


def all_records(replica: Replica) -> list[tuple[bytes, bytes]]:
    return sorted(replica.rows()[Table.RECORDS].items())


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is let go but by the pages of the next pull."""
    monkeypatch.setattr(staging, "_SWEEP_ROWS", 1)
    monkeypatch.setattr(staging, "_SHORT_SWEEP_ROWS", 0)


def _left_behind(pair: Pulling) -> int:
    """Let the puller join a pull, and leave its rows; how many."""
    pair.write()
    while not pair.puller.seen.includes(pair.donor.seen):
        pair.tick()
    return len(pair.puller.rows()[Table.STAGED])


@pytest.mark.usefixtures("slowly")
@pytest.mark.parametrize("kill", [False, True])
def test_the_next_pull_does_not_wait_for_what_the_last_one_left(kill: bool) -> None:
    """It used to: five seconds after 100,000 records."""
    pair = Pulling(served=True)
    left = _left_behind(pair)
    assert left >= RECORDS
    if kill:
        pair.restart()
    pair.write(RECORDS, first=RECORDS)
    while not pair.puller.seen.includes(pair.donor.seen):
        pair.tick()
        staged = len(pair.puller.rows()[Table.STAGED])
        assert staged <= left + PAGE, "a page lets go as many rows as it brings"
    assert pair.puller.digest() == pair.donor.digest()


@pytest.mark.usefixtures("slowly")
@pytest.mark.parametrize("pages", range(1, 5))
def test_a_kill_while_what_the_last_pull_left_is_let_go(pages: int) -> None:
    """What is there of the one before is not taken for pages of this one."""
    pair = Pulling(served=True)
    _left_behind(pair)
    for i in range(0, RECORDS, 2):
        pair.donor.do("set", "remove", key=f"k{i % 7}", value=i)
    pair.pull(pages)
    assert pair.machine.progress is not None
    pair.restart()
    while not pair.puller.seen.includes(pair.donor.seen):
        pair.tick()
    assert pair.puller.digest() == pair.donor.digest()


def test_another_donor_begins_anew() -> None:
    """What one has claimed says nothing about the pages of another."""
    pair = Pulling(served=True)
    pair.write()
    pair.pull(3)
    pair.pages_left = None
    assert len(pair.puller.rows()[Table.STAGED]) == 3 * PAGE
    pair.machines["a"].unreachable("b")
    pair.donor.reopen(b"elsewhere")  # a copy: it takes a new identity
    pair.machines["a"] = pair._machine("a")
    pair.deliver([("a", send) for send in pair.machines["a"].start(pair.now_ms)])
    pair.run_until_equal()


def test_a_thousand_increments_are_one_record() -> None:
    """However often one record changed, whoever missed it fetches it once."""
    pair = Pulling(served=True)
    pair.write(1)
    pair.run(5_000)
    pair.sent.clear()
    for _ in range(1_000):
        pair.donor.do("counter", "increment", key="views", by=1)
    pair.run_until_equal()
    assert len(pair.sent) == 1
