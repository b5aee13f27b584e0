"""Incarnations that have ended leave vectors, frames and tokens; nothing is lost or made up."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any, Final
from unittest.mock import patch

import pytest

from crdtdb.address import ObjectName
from crdtdb.causal import VersionVector
from crdtdb.changes import ChangeCursor
from crdtdb.engine import Engine
from crdtdb.errors import BadToken, PeerError
from crdtdb.floors import floor_of, write_floored
from crdtdb.reading import Reading
from crdtdb.replication import Replication, Send, flooring
from crdtdb.replication.laid import laying
from crdtdb.replication.messages import Digest, Mend, Push, Received, read_frame, write_frame
from crdtdb.state import State
from crdtdb.store.base import Table
from crdtdb.store.memory import MemoryStore
from crdtdb.token import TokenKind, join_tokens, read_token, write_token
from crdtdb.transaction import Transaction, Update
from replicas import START_MS, update

_TICK_MS: Final = 250
_COUNTER: Final = ObjectName("shop", "counter", "sold")


class Mesh:
    """Replicas that all reach each other, at once and without loss, but for those cut off."""

    def __init__(self, *names: str) -> None:
        self.now_ms = 0
        self.cut_off: set[str] = set()
        self.engines: dict[str, Engine] = {}
        self.replicas: dict[str, Replication] = {}
        #: The last push of each.
        self.pushed: dict[str, bytes] = {}
        self._names = names
        self._starts = 0
        self._under_way: deque[tuple[str, Send]] = deque()
        for name in names:
            self.start(name)
        self.pass_time(8_000)

    def start(self, name: str, store: MemoryStore | None = None) -> None:
        """Start a replica on a store; it is new if there is none."""
        self._starts += 1
        random = Random(self._starts)
        store = store or MemoryStore(f"{name} {self._starts}".encode())
        engine = Engine(store, lambda: START_MS + self.now_ms, random.getrandbits)
        peers = tuple(other for other in self._names if other != name)
        self.engines[name] = engine
        self.replicas[name] = Replication(
            engine, name=name, endpoint=name, peers=peers, random=random
        )
        self._post(name, self.replicas[name].start(self.now_ms))

    def disk(self, name: str) -> MemoryStore:
        """A replica's disk as it is now; whoever starts from it takes another incarnation."""
        store = self.engines[name].store
        assert isinstance(store, MemoryStore)
        return store.copy(f"{name} {self._starts} {self.now_ms}".encode())

    def write(self, name: str) -> None:
        """Count one up at a replica."""
        self._post(name, self.replicas[name].before_write())
        self.commit(name, Transaction((update(_COUNTER, {"op": "increment", "by": 1}),)))

    def commit(self, name: str, transaction: Transaction) -> None:
        """Commit something at a replica, and push it."""
        push = self.engines[name].commit([transaction]).push
        assert push is not None
        sends = self.replicas[name].committed(push)
        if sends:
            self.pushed[name] = sends[0].frame
        self._post(name, sends)

    def pass_time(self, for_ms: int = _TICK_MS) -> None:
        """Let the replicas tick, and deliver what they say."""
        for _ in range(0, for_ms, _TICK_MS):
            self.now_ms += _TICK_MS
            for name, replica in list(self.replicas.items()):
                self._post(name, replica.tick(self.now_ms))

    def _post(self, origin: str, sends: list[Send]) -> None:
        self._under_way.extend((origin, send) for send in sends)
        while self._under_way:
            origin, send = self._under_way.popleft()
            target = next(
                (n for n, r in self.replicas.items() if send.endpoint in (n, r.me.address)), None
            )
            if target is None or {origin, target} & self.cut_off:
                continue
            answers = self.replicas[target].step(self.replicas[origin].me, send.frame, self.now_ms)
            self._under_way.extend((target, answer) for answer in answers)

    def seen(self, name: str) -> VersionVector:
        """What a replica has seen."""
        return self.engines[name].state.seen

    def value(self, name: str) -> Any:
        """What a replica shows."""
        with self.engines[name].store.snapshot() as snapshot:
            reading = Reading(snapshot)
            return reading.value(_COUNTER, reading.head(_COUNTER.prefix))

    def shows(self, value: int) -> bool:
        """Do all replicas show this, have seen the same, and write it as short as can be?"""
        seen = [self.seen(name) for name in self.engines]
        return (
            {self.value(name) for name in self.engines} == {value}
            and all(vector == seen[0] for vector in seen)
            and all(len(v.flat_above()) <= 2 * len(self.engines) for v in seen)
        )

    def restarts(self, name: str, times: int) -> None:
        """Start a replica anew from a copy of its disk, again and again, with a write each time."""
        for _ in range(times):
            self.start(name, self.disk(name))
            self.write(name)
            self.pass_time(1_000)


def test_two_hundred_incarnations_leave_nothing_in_vectors_frames_and_tokens() -> None:
    mesh = Mesh("a", "b", "c")
    for _ in range(67):
        for name in mesh.engines:
            mesh.restarts(name, 1)
    mesh.write("b")
    push = read_frame(mesh.pushed["b"])
    mesh.pass_time(15_000)
    assert len(mesh.seen("a")) >= 200
    assert mesh.shows(202)
    floors = mesh.engines["c"].floors
    for name in mesh.engines:
        mesh.write(name)
        push = read_frame(mesh.pushed[name])
        assert isinstance(push, Push)
        assert len(push.deps) <= 5
        token = write_token(TokenKind.SESSION, "crdtdb", mesh.seen(name))
        assert len(token) < 120
        assert mesh.seen("c").includes(read_token(TokenKind.SESSION, "crdtdb", token))
        context = write_token(TokenKind.READ, "crdtdb", mesh.seen(name))
        assert len(context) < 130
        assert read_token(TokenKind.READ, "crdtdb", context, floors) == mesh.seen(name)


def test_a_restart_keeps_what_was_seen_below_the_floor() -> None:
    mesh = Mesh("a", "b")
    mesh.restarts("a", 3)
    mesh.pass_time(8_000)
    before = mesh.seen("b")
    assert before.floor
    store = mesh.engines["b"].store
    assert isinstance(store, MemoryStore)
    mesh.start("b", store.copy())
    assert mesh.seen("b") == before
    assert mesh.seen("b").floor is before.floor


def test_a_newcomer_reads_no_floor_and_rests_on_it_later() -> None:
    mesh = Mesh("a", "b")
    mesh.restarts("a", 3)
    mesh.pass_time(8_000)
    mesh.start("c")
    mesh.pass_time(15_000)
    assert mesh.shows(3)
    assert mesh.seen("c").floor is mesh.seen("a").floor


def test_a_disk_that_went_back_behind_the_floor_catches_up() -> None:
    mesh = Mesh("a", "b", "c")
    old = mesh.disk("c")
    mesh.restarts("a", 3)
    mesh.pass_time(8_000)
    assert mesh.seen("b").floor
    mesh.cut_off = {"c"}
    mesh.start("c", old)
    mesh.write("c")
    mesh.write("a")
    mesh.cut_off = set()
    mesh.pass_time(20_000)
    assert mesh.shows(5)
    assert not any(replica.refusals for replica in mesh.replicas.values())


def test_an_incarnation_that_had_not_ended_is_above_the_floor_again() -> None:
    """Its directory was copied, the copy took its place, and the original was only away."""
    mesh = Mesh("a", "b", "c")
    engine, replica = mesh.engines["c"], mesh.replicas["c"]
    ended = engine.state.incarnation
    copy = mesh.disk("c")
    mesh.start("c", copy)
    mesh.pass_time(15_000)
    assert ended in mesh.seen("a").floor
    mesh.engines["c"], mesh.replicas["c"] = engine, replica
    mesh.write("c")
    mesh.pass_time(10_000)
    assert mesh.value("a") == mesh.value("b") == 1
    assert mesh.seen("a").covers((ended, engine.state.seen.get(ended)))
    assert mesh.seen("a").get(ended) > mesh.seen("a").floor[ended]


def test_a_late_push_of_an_ended_incarnation_changes_nothing() -> None:
    mesh = Mesh("a", "b")
    mesh.write("a")
    late, sender = mesh.pushed["a"], mesh.replicas["a"].me
    mesh.restarts("a", 2)
    mesh.pass_time(8_000)
    assert sender.incarnation in mesh.seen("b").floor
    before = mesh.seen("b")
    mesh.replicas["b"].step(sender, late, mesh.now_ms)
    assert mesh.seen("b") == before
    assert mesh.value("b") == 3


def test_tokens_from_before_a_floor_are_good_after_it_and_can_be_joined() -> None:
    mesh = Mesh("a", "b")
    mesh.restarts("a", 3)
    old = mesh.seen("b")
    kind, cluster = TokenKind.SESSION, "crdtdb"
    early = write_token(kind, cluster, VersionVector(dict(old.items())))
    mesh.pass_time(8_000)
    mesh.write("b")
    both = join_tokens(early, write_token(kind, cluster, mesh.seen("b")))
    assert mesh.seen("b").includes(read_token(kind, cluster, both))
    assert mesh.seen("a").includes(read_token(kind, cluster, both))
    assert not old.includes(read_token(kind, cluster, both))


def test_a_read_context_on_an_unknown_floor_is_refused_and_removes_nothing() -> None:
    vector = VersionVector({1: 5}).above(floor_of(VersionVector({2: 6})))
    token = write_token(TokenKind.READ, "crdtdb", vector)
    with pytest.raises(BadToken, match="yet to see"):
        read_token(TokenKind.READ, "crdtdb", token)


def test_two_floors_laid_at_once_end_in_one() -> None:
    mesh = Mesh("a", "b", "c")
    with patch.object(flooring.Flooring, "_lay", return_value=[]):
        mesh.restarts("a", 3)
        mesh.restarts("b", 3)
        members = mesh.replicas["c"].members
        ended = [(i, n) for i, n in mesh.seen("c").items() if i not in members]
        assert len(ended) == 4
        mesh.cut_off = {"c"}
        for name, entries in (("a", dict(ended[:2])), ("c", dict(ended[2:]))):
            mesh.commit(name, laying(mesh.seen(name).floor, entries))
        mesh.cut_off = set()
        mesh.pass_time(8_000)
        assert len({mesh.seen(name).floor.mark for name in mesh.engines}) == 1
        assert len(mesh.seen("a").floor) == 2
    mesh.pass_time(8_000)
    assert mesh.shows(6)
    assert dict(ended).keys() <= mesh.seen("a").floor.keys()


def test_a_record_that_is_not_the_floor_it_is_called_means_nothing() -> None:
    mesh = Mesh("a", "b")
    ground = mesh.seen("a").floor
    good, other = laying(ground, {7: 1}), laying(ground, {8: 1})
    (named,), (said,) = good.updates, other.updates
    assert isinstance(named, Update)
    assert isinstance(said, Update)
    mesh.commit("a", Transaction((named._replace(operation=said.operation),)))
    mesh.pass_time(5_000)
    assert not mesh.engines["b"].floors
    assert not mesh.seen("b").floor


def test_a_damaged_record_of_a_floor_keeps_nobody_from_starting() -> None:
    mesh = Mesh("a", "b")
    mesh.restarts("a", 3)
    mesh.pass_time(8_000)
    store = mesh.engines["b"].store
    assert isinstance(store, MemoryStore)
    with store.snapshot() as snapshot:
        rows = [at for at, _ in snapshot.scan(Table.RECORDS) if b"floor/" in at]
    assert rows
    store.commit({Table.RECORDS: dict.fromkeys(rows, b"\0" * 60)})
    mesh.start("b", store.copy())
    assert mesh.seen("b").floor.mark in mesh.engines["b"].floors, "as its own state names it"
    mesh.write("a")
    mesh.pass_time(2_000)
    assert mesh.value("b") == 4


def test_a_floor_that_reaches_over_its_own_record_means_nothing() -> None:
    """A session token that leaves out what is below it would not lead to that record."""
    mesh = Mesh("a", "b")
    own = mesh.replicas["a"].incarnation
    mesh.commit("a", laying(mesh.seen("a").floor, {own: mesh.seen("a").get(own) + 1}))
    mesh.pass_time(5_000)
    assert not mesh.engines["b"].floors
    assert not mesh.seen("b").floor


def test_a_floor_above_what_was_seen_is_not_rested_on() -> None:
    mesh = Mesh("a", "b")
    mesh.commit("a", laying(mesh.seen("a").floor, {7: 1}))
    mesh.pass_time(5_000)
    assert len(mesh.engines["b"].floors) == 1
    assert not mesh.seen("b").floor
    assert not mesh.seen("b").covers((7, 1))


def test_a_vector_on_an_unknown_floor_is_refused_in_a_push() -> None:
    mesh = Mesh("a", "b")
    a = mesh.replicas["a"]
    with pytest.raises(PeerError) as refused:
        mesh.replicas["b"].step(a.me, write_frame(Mend(1, 1, 0, [99], [])), mesh.now_ms)
    assert refused.value.reason == "unknown-floor"
    before = mesh.seen("b")
    next_one = mesh.seen("a").get(a.incarnation) + 1
    push = Push(a.incarnation, next_one, next_one, [99], 0, [])
    answers = mesh.replicas["b"].step(a.me, write_frame(push), mesh.now_ms)
    assert mesh.seen("b") == before
    kinds = [type(read_frame(answer.frame)) for answer in answers]
    assert kinds == [Digest, Received], "it asks what it lacks"


def test_the_bytes_of_a_floor_and_of_what_rests_on_it_never_change() -> None:
    floor = floor_of(VersionVector({2: 6, 7: 300}))
    vector = VersionVector({1: 5}).above(floor)
    assert floor.packed.hex() == "94020607cd012c"
    assert write_floored(vector) == [11030963328688026869, 1, 5]
    row = "02ea1738d9bcdcf4af9801039201050405c3c4017894020607cd012c"
    state = State(1, 3, vector, 4, 5, True, b"x")
    assert state.encode().hex() == row
    assert State.decode(bytes.fromhex(row)) == state
    context = "AXLGvZzf8Sf3jZPPmRXas_DPdPUBBcNzTLU"
    assert write_token(TokenKind.READ, "crdtdb", vector) == context
    assert read_token(TokenKind.READ, "crdtdb", context, {floor.mark: floor}) == vector
    assert write_token(TokenKind.SESSION, "crdtdb", vector) == "AXPGvZzf8Sf3jZIBBekX3cU"


def test_a_cursor_of_changes_rests_on_a_floor() -> None:
    floor = floor_of(VersionVector(dict.fromkeys(range(2, 600), 300)))
    cursor = ChangeCursor(1, 2, VersionVector({1: 5}).above(floor))
    text = cursor.write("crdtdb")
    assert len(text) < 80
    assert ChangeCursor.read("crdtdb", text, {floor.mark: floor}) == cursor
    with pytest.raises(BadToken):
        ChangeCursor.read("crdtdb", text)
