"""A push goes to nobody who could not take it in yet and would pull its records once more."""

from __future__ import annotations

from collections import Counter, deque
from random import Random

import pytest

from crdtdb.address import ObjectName
from crdtdb.engine import Engine
from crdtdb.replication import Replication, Send
from crdtdb.replication.messages import Digest, News, Page, Push, Same, read_frame
from crdtdb.store.memory import MemoryStore
from crdtdb.transaction import Transaction
from replicas import START_MS, update

_TICK_MS = 100


class Trio:
    """`far` and `near` each talk to `middle`, at once and without loss, and not to each other."""

    def __init__(self) -> None:
        self.now_ms = 0
        #: How often users' records were sent to whom.
        self.records: Counter[str] = Counter()
        self.cut_off: set[str] = set()
        self.engines: dict[str, Engine] = {}
        self.replicas: dict[str, Replication] = {}
        self._under_way: deque[tuple[str, Send]] = deque()
        for name, peers in (("far", ["middle"]), ("middle", []), ("near", ["middle"])):
            random = Random(name)
            engine = Engine(
                MemoryStore(name.encode()), lambda: START_MS + self.now_ms, random.getrandbits
            )
            self.engines[name] = engine
            self.replicas[name] = Replication(
                engine, name=name, endpoint=name, peers=tuple(peers), random=random
            )
        for name, replica in self.replicas.items():
            self.post(name, replica.start(0))
        self.pass_time(5_000)
        assert self.is_level
        self.records.clear()

    @property
    def is_level(self) -> bool:
        seen = [engine.state.seen for engine in self.engines.values()]
        return seen == [seen[0]] * 3

    def pass_time(self, for_ms: int = _TICK_MS) -> None:
        """Let the replicas tick, and deliver what they say."""
        for _ in range(0, for_ms, _TICK_MS):
            self.now_ms += _TICK_MS
            for name, replica in self.replicas.items():
                self.post(name, replica.tick(self.now_ms))

    def write(self, name: str) -> list[Send]:
        """A write at a replica; returns what is to be sent."""
        engine = self.engines[name]
        value = f"{name} {engine.state.sequence}"
        operation = update(ObjectName("shop", "set", "k"), {"op": "add", "value": value})
        push = engine.commit([Transaction((operation,))]).push
        assert push is not None
        return self.replicas[name].committed(push)

    def post(self, origin: str, sends: list[Send]) -> None:
        """Deliver frames, and what they call for, in order."""
        self._under_way.extend((origin, send) for send in sends)
        while self._under_way:
            origin, (target, frame) = self._under_way.popleft()
            if "middle" not in (origin, target) or {origin, target} & self.cut_off:
                continue
            message = read_frame(frame)
            if isinstance(message, Push | Page):
                self.records[target] += len(message.records)
            me = self.replicas[origin].me
            answers = self.replicas[target].step(me, frame, self.now_ms)
            self._under_way.extend((target, send) for send in answers)


def pushed_to(sends: list[Send]) -> set[str]:
    return {send.endpoint for send in sends if isinstance(read_frame(send.frame), Push)}


@pytest.fixture
def trio() -> Trio:
    """Near has not heard of what far wrote and middle has pulled."""
    trio = Trio()
    trio.cut_off = {"near"}
    trio.write("far")
    while trio.engines["middle"].state.seen != trio.engines["far"].state.seen:
        trio.pass_time()
    return trio


def test_who_lacks_what_was_pulled_gets_no_push_and_is_told_with_the_next_tick(trio: Trio) -> None:
    trio.cut_off = set()
    trio.post("middle", sends := trio.write("middle"))
    assert pushed_to(sends) == {"far"}
    assert trio.records["near"] == 0
    trio.post("middle", trio.replicas["middle"].tick(trio.now_ms + 1))
    assert trio.is_level
    assert trio.records["near"] == 2, "once each"


def test_who_has_said_that_it_has_that_gets_pushes_again(trio: Trio) -> None:
    trio.cut_off = set()
    trio.pass_time(2_000)
    trio.records.clear()
    trio.post("middle", sends := trio.write("middle"))
    assert pushed_to(sends) == {"far", "near"}
    assert trio.is_level
    assert trio.records == {"far": 1, "near": 1}


def test_news_are_told_to_those_who_may_lack_them_and_to_nobody_else(trio: Trio) -> None:
    told = Counter(
        send.endpoint
        for now_ms in range(trio.now_ms, trio.now_ms + 50)
        for send in trio.replicas["middle"].tick(now_ms)
        if isinstance(read_frame(send.frame), Digest | News | Same)
    )
    assert told == {"near": 1}
