"""A pull that takes many pages: staged on the disk, resumed after a kill, joined in parts."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING
from crdtdb.errors import PeerError
from crdtdb.head import Head
from crdtdb.replication import Phase, Replication, Send, donor, staging
from crdtdb.replication.messages import Message, Page, Pull, Refused, read_frame, write_frame
from crdtdb.rows import scan_heads
from crdtdb.store.base import Table
from crdtdb.transaction import Erase
from replicas import Replica, missing, update

PAGE = 10
RECORDS = 95


class Pair:
    """A donor with a history and somebody who pulls it; no frame between them is lost."""

    def __init__(self, *, served: bool = False) -> None:
        self.now_ms = 0
        self.donor, self.puller = Replica(1), Replica(2)
        self.machines = {"a": self._machine("a"), "b": self._machine("b")}
        self._deliver([("a", s) for s in self.machines["a"].start(0)])
        self.run(4_000, only="a")
        assert self.machines["a"].phase is Phase.SERVING
        #: What the puller asked for and was sent.
        self.asked: list[int] = []
        self.sent: list[bytes] = []
        #: Is the puller killed after so many pages? None: not at all.
        self.pages_left: int | None = None
        if served:
            self.start()
            self.run(3_000)

    def _machine(self, name: str) -> Replication:
        replica, peer = (self.donor, "b") if name == "a" else (self.puller, "a")
        peers = () if name == "a" else (peer,)
        return Replication(
            replica.engine, name=name, endpoint=name, peers=peers, random=Random(name)
        )

    @property
    def machine(self) -> Replication:
        """The puller's."""
        return self.machines["b"]

    def start(self) -> None:
        """Start the puller."""
        self._deliver([("b", send) for send in self.machine.start(self.now_ms)])

    def restart(self) -> None:
        """The puller was killed: it goes on with what is on its disk."""
        self.puller.reopen()
        self.machines["b"] = self._machine("b")
        self.pages_left = None
        self.start()

    def write(self, count: int = RECORDS, first: int = 0) -> None:
        """Writes at the donor that the puller hears nothing of."""
        for i in range(first, first + count):
            self.put(self.donor, f"k{i % 7}", i)

    @staticmethod
    def put(replica: Replica, key: str, value: int) -> None:
        name = ObjectName("shop", "set", key)
        replica.commit(update(name, {"op": "add", "value": value}))

    def tick(self, name: str = "b") -> None:
        self.now_ms += 50
        self.donor.now_ms += 50
        self.puller.now_ms += 50
        self._deliver([(name, send) for send in self.machines[name].tick(self.now_ms)])

    def run(self, duration_ms: int, only: str | None = None) -> None:
        end = self.now_ms + duration_ms
        while self.now_ms < end:
            for name in ("a", "b") if only is None else (only,):
                self.tick(name)

    def run_until_equal(self) -> None:
        for _ in range(2_000):
            if self.puller.seen.includes(self.donor.seen) and self.machine.progress is None:
                break
            self.run(50)
        assert self.puller.digest() == self.donor.digest()
        self.run(5_000)
        assert not self.puller.rows()[Table.STAGED], "what was joined is still staged"

    def _deliver(self, letters: list[tuple[str, Send]]) -> None:
        while letters:
            whence, (endpoint, frame) = letters.pop(0)
            if endpoint not in self.machines:
                continue
            message = read_frame(frame)
            if isinstance(message, Page):
                if self.pages_left == 0:
                    continue
                self.sent += [at for at, _ in message.records]
            if isinstance(message, Pull):
                self.asked.append(message.since)
            machine = self.machines[endpoint]
            sends = machine.step(self.machines[whence].me, frame, self.now_ms)
            if isinstance(message, Page) and self.pages_left is not None:
                self.pages_left -= 1
                if not self.pages_left:
                    continue  # killed before it could ask for more
            letters += [(endpoint, send) for send in sends]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(donor, "PAGE_RECORDS", PAGE)
    monkeypatch.setattr(staging, "PART_RECORDS", 16)
    monkeypatch.setattr(staging, "RUN_RECORDS", 2 * PAGE)
    monkeypatch.setattr("crdtdb.replication.repair.PART_RECORDS", 16)


@pytest.mark.parametrize("pages", range(1, 12))
def test_a_kill_at_each_page_sends_no_page_twice(pages: int) -> None:
    pair = Pair()
    pair.write()
    pair.pages_left = pages
    pair.start()
    staged = len(pair.puller.rows()[Table.STAGED])
    if pages < 10:
        assert staged == pages * PAGE
    pair.restart()
    pair.run_until_equal()
    own = {at for at in pair.sent if at.startswith(address.bucket_prefix("shop"))}
    assert len(own) == RECORDS
    assert len([at for at in pair.sent if at in own]) == RECORDS
    assert len(pair.asked) == len(set(pair.asked)), "a page was asked for again"


def test_a_record_that_changes_between_two_pages_counts_once() -> None:
    pair = Pair()
    pair.write()
    pair.pages_left = 3
    pair.start()
    pair.donor.do("set", "remove", key="k0", value=0)
    pair.put(pair.donor, "k1", 1)
    pair.restart()
    pair.run_until_equal()
    assert 0 not in pair.puller.value("set", "k0")


def test_a_page_is_put_among_few_rows() -> None:
    """One order of everything would spread a page over all that is staged."""
    pair = Pair()
    pair.write()
    pair.pages_left = 9
    pair.start()
    runs = Counter(at[:4] for at in pair.puller.rows()[Table.STAGED])
    assert len(runs) > 3
    assert max(runs.values()) == 2 * PAGE
    pair.restart()
    pair.run_until_equal()


def test_what_is_damaged_at_the_donor_is_not_sent_to_a_newcomer() -> None:
    """None of its records is decoded for one, but all are checked."""
    pair = Pair()
    pair.write()
    at, row = next((at, row) for at, row in pair.donor.rows()[Table.RECORDS].items() if b"k3" in at)
    flipped = row[:-1] + bytes((row[-1] ^ 1,))
    pair.donor.store.commit({Table.RECORDS: {at: flipped}})
    pair.start()
    pair.run(1_000)
    assert pair.machine.phase is Phase.BOOTSTRAPPING
    assert not len(pair.puller.seen)
    pair.donor.store.commit({Table.RECORDS: {at: row}})
    pair.run_until_equal()


def test_a_first_state_is_joined_in_parts_and_shows_nothing_before() -> None:
    pair = Pair()
    pair.write()
    pair.start()
    joined = []
    while pair.machine.phase is Phase.BOOTSTRAPPING:
        progress = pair.machine.progress
        assert progress is not None
        assert progress.is_complete
        joined.append(progress.joined)
        assert not len(pair.puller.seen)
        pair.tick()
    assert joined == sorted(joined)
    assert len(joined) > RECORDS // 16
    pair.run_until_equal()


@pytest.mark.parametrize("parts", range(7))
def test_a_kill_between_two_parts(parts: int) -> None:
    pair = Pair()
    pair.write()
    pair.start()
    for _ in range(parts):
        pair.tick()
    assert pair.machine.phase is Phase.BOOTSTRAPPING
    asked = len(pair.asked)
    pair.restart()
    pair.run_until_equal()
    assert len(pair.asked) == asked, "what was there was asked for again"


def catching_up(monkeypatch: pytest.MonkeyPatch) -> Pair:
    """A replica that serves and has begun to join a large pull."""
    monkeypatch.setattr("crdtdb.replication.repair.ONE_COMMIT_RECORDS", 50)
    pair = Pair(served=True)
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


def test_as_many_as_one_commit_takes_are_never_shown_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = Pair(served=True)
    pair.write()
    shown = set()
    for _ in range(100):
        pair.tick()
        assert not pair.machine.is_partial
        shown.add(sum(len(pair.puller.value("set", f"k{i}")) for i in range(7)))
    assert shown == {0, RECORDS}


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


def answers(pair: Pair, frame: bytes) -> list[Message]:
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
    pair = Pair(served=True)
    monkeypatch.setattr("crdtdb.replication.repair.ONE_COMMIT_RECORDS", 50)
    pair.write()
    bad = [at for at, _ in all_records(pair.donor)][-1]

    def refuse(draft: object, addresses: object) -> None:
        if bad in list(addresses):  # type: ignore[call-overload]
            raise PeerError("bad-record", "no honest replicas can have done that together")

    monkeypatch.setattr("crdtdb.engine.admit_together", refuse)
    before = pair.puller.digest()
    for _ in range(200):
        pair.tick()
        assert not pair.machine.is_partial
    assert pair.puller.digest() == before
    assert pair.machine.refusals["bad-record"] >= 1
    monkeypatch.undo()
    pair.run(60_000)
    pair.run_until_equal()


def all_records(replica: Replica) -> list[tuple[bytes, bytes]]:
    return sorted(replica.rows()[Table.RECORDS].items())


def test_another_donor_begins_anew() -> None:
    """What one has claimed says nothing about the pages of another."""
    pair = Pair()
    pair.write()
    pair.pages_left = 3
    pair.start()
    pair.pages_left = None
    assert len(pair.puller.rows()[Table.STAGED]) == 3 * PAGE
    pair.machines["a"].unreachable("b")
    pair.donor.reopen(b"elsewhere")  # a copy: it takes a new identity
    pair.machines["a"] = pair._machine("a")
    pair._deliver([("a", send) for send in pair.machines["a"].start(pair.now_ms)])
    pair.run_until_equal()


def test_a_thousand_increments_are_one_record() -> None:
    """However often one record changed, whoever missed it fetches it once."""
    pair = Pair(served=True)
    pair.write(1)
    pair.run(5_000)
    pair.sent.clear()
    for _ in range(1_000):
        pair.donor.do("counter", "increment", key="views", by=1)
    pair.run_until_equal()
    assert len(pair.sent) == 1


def write_everything(replica: Replica) -> None:
    """Objects of many types, some of them removed, in whole or in part."""
    # The addresses of these operations come after those of the ones that build on them.
    earlier = Replica(9)
    for i in range(20):
        earlier.do("list", "insert", key="l", index=i, value=f"x{i}")
    replica.pull(earlier)
    for i in range(12):
        replica.do("register", "set", key=f"r{i}", value=i)
        replica.do("counter", "increment", key=f"c{i % 3}", by=i + 1)
        replica.do("list", "insert", key="l", index=19, value=i)
        replica.do("opcounter", "increment", key="o", by=1)
        replica.do(
            "map", "update", key="m", field=[f"f{i}"], do={"type": "set", "op": "add", "value": i}
        )
        replica.do("rwset", "add", key="rw", values=[i, i + 1])
        replica.do("mvregister", "set", key="mv", value=i)
        replica.do("zset", "increment", key="z", member=f"m{i % 4}", by=i)
    replica.do("rwset", "remove", key="rw", value=3)
    replica.do("list", "delete", key="l", index=2, count=3)
    replica.do("set", "add", key="gone", values=list(range(30)))
    replica.do("set", "clear", key="gone")
    replica.do("set", "add", key="gone", value=7)
    replica.do("counter", "reset", key="c1")
    replica.commit(Erase(address.type_prefix("shop", "register")))
    replica.do("register", "set", key="r1", value="after")


@pytest.mark.parametrize("reclaims", [False, True])
def test_taken_over_as_joined(monkeypatch: pytest.MonkeyPatch, *, reclaims: bool) -> None:
    """A newcomer that takes records over holds what one that joins them holds, heads and all."""
    pair = Pair()
    write_everything(pair.donor)
    if reclaims:
        assert pair.donor.reclaim() > 0
    joiner = Replica(3)
    pair.start()
    assert pair.machine.is_joining
    pair.run_until_equal()
    joiner.engine.merge(
        missing(pair.donor.store, NOTHING),
        pair.donor.seen,
        pair.donor.engine.state.time,
        served=True,
        whole=pair.donor.engine.reclaimed.vector,
    )
    assert pair.puller.digest() == joiner.digest() == pair.donor.digest()
    assert shown(pair.puller) == shown(joiner) == shown(pair.donor)
    assert heads(pair.puller) == heads(joiner)


def shown(replica: Replica) -> list[object]:
    objects = [("set", "gone"), ("list", "l"), ("opcounter", "o"), ("map", "m"), ("rwset", "rw")]
    objects += [("mvregister", "mv"), ("zset", "z"), ("counter", "c1"), ("register", "r1")]
    return [replica.value(kind, key) for kind, key in objects]


def heads(replica: Replica) -> dict[bytes, Head]:
    """Without the local places."""
    with replica.store.snapshot() as snapshot:
        return {prefix: head.numbered(0) for prefix, head in scan_heads(snapshot, b"\x10shop")}
