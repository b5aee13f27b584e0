"""Attacks with operations: ahead of what is claimed, again, twice, of others, out of order."""

from __future__ import annotations

import pytest

from crdtdb import address, codec
from crdtdb.address import ObjectName
from crdtdb.hlc import MOST
from crdtdb.limits import LIMITS
from crdtdb.replication.messages import News, Pull, Received, Summary, write_frame
from crdtdb.store.base import Table
from hostile.arena import ATTACKER, Arena, sent

SET = ObjectName("shop", "set", "k")
FLAG = ObjectName("shop", "flag", "k")
DOT = (ATTACKER, 1)


def test_dots_ahead_of_the_claim(arena: Arena) -> None:
    ahead = sent(address.own(FLAG), None, (ATTACKER, 2))
    good = sent(address.member(SET, "planted"), None, DOT)
    assert arena.attack(arena.push(good, ahead)) == "beyond-claim"
    assert "planted" not in arena.a.replica.value("set")
    arena.recover()


def test_dots_of_others_ahead_of_the_claim(arena: Arena) -> None:
    """A write that `b` has not made yet."""
    b = arena.b.incarnation
    ahead = sent(address.member(SET, "planted"), None, (b, arena.b.seen.get(b) + 1))
    assert arena.attack(arena.push(ahead)) == "beyond-claim"
    arena.recover()


def test_dots_of_others_planted(arena: Arena) -> None:
    """In a push only its origin's operations are news: others' are here, or were and are gone."""
    b = arena.b.incarnation
    planted = sent(address.member(SET, "planted"), None, (b, 1))
    assert arena.attack(arena.push(planted)) is None
    assert "planted" not in arena.a.replica.value("set")
    assert arena.a.seen.get(ATTACKER) == 1
    arena.recover()


def test_dots_of_others_under_another_payload(arena: Arena) -> None:
    """What is here stays as it is; a running total is not what somebody says it is."""
    total = arena.a.replica.value("opcounter")
    records = arena.a.replica.rows()[Table.RECORDS]
    operation = next(at for at in records if _is_operation(at))
    dot = address.operation_dot(address.split_object(operation)[1])
    assert arena.attack(arena.push(sent(operation, 1_000, dot))) is None
    assert arena.a.replica.value("opcounter") == total
    arena.recover()


def test_equivocation_to_one_replica(arena: Arena) -> None:
    """Two operations with one dot: the first counts, the other is no news."""
    first = arena.push(sent(address.member(SET, "first"), None, DOT))
    second = arena.push(sent(address.member(SET, "second"), None, DOT))
    assert arena.attack(first) is None
    assert arena.attack(second) is None
    assert "first" in arena.a.replica.value("set")
    assert "second" not in arena.a.replica.value("set")
    arena.recover()


def test_equivocation_to_two_replicas(arena: Arena) -> None:
    """Not defended: each keeps what came first, and only digests show it. All else goes on."""
    first = arena.push(sent(address.member(SET, "first"), None, DOT))
    second = arena.push(sent(address.member(SET, "second"), None, DOT))
    assert arena.attack(first) is None
    arena.b.machine.step(arena.attacker, write_frame(second), arena.now_ms)
    arena.write("set", "add", value="after")
    arena.write("set", "add", by_whom="b", value="after that")
    arena.run(10_000)
    assert arena.a.seen == arena.b.seen
    assert arena.a.replica.digest() != arena.b.replica.digest()
    shown = [set(honest.replica.value("set")) for honest in arena.honest]
    assert shown[0] ^ shown[1] == {"first", "second"}


def test_replay(arena: Arena) -> None:
    """Also after what it added was removed."""
    push = arena.push(sent(address.member(SET, "again"), None, DOT))
    assert arena.attack(push) is None
    arena.write("set", "remove", value="again")
    for _ in range(3):
        rows = arena.a.replica.rows()
        assert arena.attack(push) is None
        assert arena.a.replica.rows() == rows
    arena.recover()
    assert "again" not in arena.a.replica.value("set")


@pytest.mark.parametrize(("first", "last"), [(0, 0), (0, 1), (2, 1), (5, 0)])
def test_no_operations(arena: Arena, first: int, last: int) -> None:
    assert arena.attack(arena.push(first=first, last=last)) == "bad-frame"
    arena.recover()


def test_gaps(arena: Arena) -> None:
    """What never continues is held for a while, within bounds, and nobody waits for it."""
    big = sent(address.own(ObjectName("shop", "newer", "k")), b"x" * 1_048_576, (ATTACKER, 9))
    for number in range(2, 600):
        assert arena.attack(arena.push(big, first=2 * number, last=2 * number)) is None
    early = arena.a.machine._early
    assert len(early) <= 256
    assert early._bytes <= LIMITS.early_bytes
    arena.run(10_000)
    arena.recover()


@pytest.mark.parametrize("deps", [[9, 5, 0], [5, 1, 3, 1], [5, 0], [-1, 1], [1, 1 << 63]])
def test_a_vector_that_is_none(arena: Arena, deps: list[int]) -> None:
    assert arena.attack(arena.push(deps=deps)) == "bad-vector"
    assert arena.attack(Summary(deps, 0, {}, True)) == "bad-vector"
    assert arena.attack(Pull(1, 0, 0, deps, [])) == "bad-vector"
    assert arena.attack(News(deps, 0, True)) == "bad-vector"
    assert arena.attack(Summary([], 0, {arena.b.incarnation: deps}, True)) == "bad-vector"
    arena.recover()


@pytest.mark.parametrize(
    "told", [[], [0], [0, 1], [0, 1, 1, 1], [0, -1], [0, 1, 0, -2], [0, 0, 5], [0, 0, 5, 1]]
)
def test_a_vector_against_a_base_that_does_not_fit(arena: Arena, told: list[int]) -> None:
    """What the attacker said before is the base: one entry, 5, of 1."""
    base = [5, 1]
    assert arena.attack(News(base, 0, True)) is None
    against = [-2, *([codec.fingerprint(base), *told[1:]] if told else [])]
    assert arena.attack(News(against, 0, True)) == "bad-vector"
    assert arena.attack(Pull(1, 0, 0, against, [])) == "bad-vector"
    arena.recover()


def test_bases_that_nobody_has_said(arena: Arena) -> None:
    """Whoever does so is asked to say it all, and is told no more than anybody who asks."""
    for number in range(1_000):
        assert arena.attack(News([-2, number, 0], 0, True)) is None
        assert arena.attack(Pull(1, 0, 0, [-2, number, 0], [])) is None
        assert arena.attack(News([ATTACKER, number + 1], 0, False)) is None
    arena.recover()


@pytest.mark.parametrize("lags", [[], [0], [0, 0, 0], [2, 0], [1 << 62, 0], [0, -1]])
def test_a_report_that_lags_behind_what_nobody_said(arena: Arena, lags: list[int]) -> None:
    """A report is told entry by entry of what its teller has seen: two entries of 1 each."""
    told = {arena.b.incarnation: [-1, *lags]}
    assert arena.attack(Summary([5, 1, 6, 1], 0, told, True)) == "bad-vector"
    arena.recover()


def test_a_floor_that_nobody_has_laid(arena: Arena) -> None:
    """Who writes so has seen what the replica has not: it is asked, and that is all."""
    seen = arena.a.seen
    for flat in ([ATTACKER], [ATTACKER, 1, 1 << 62]):
        assert arena.attack(arena.push(deps=flat)) is None
        assert arena.attack(Summary(flat, 0, {}, True)) is None
        assert arena.attack(Pull(1, 0, 0, flat, [])) is None
        assert arena.attack(Summary([], 0, {arena.b.incarnation: flat}, True)) is None
    assert arena.a.seen == seen
    arena.recover()


def test_a_cut_with_a_foreign_vector(arena: Arena) -> None:
    """It would remove what `b` is about to write."""
    b = arena.b.incarnation
    cut = address.cut(SET.prefix)
    ahead = arena.a.seen.with_dot((b, 1_000)).flat()
    assert arena.attack(arena.push(sent(cut, (ahead, None), DOT))) == "beyond-claim"
    unsorted = [9, 1, 3, 1]
    assert arena.attack(arena.push(sent(cut, (unsorted, None), DOT))) == "bad-record"
    arena.recover()


def test_far_future_time(arena: Arena) -> None:
    """The time is refused, not the update; the clocks of others stay where they are."""
    before = arena.a.replica.engine.time_now()
    push = arena.push(sent(address.member(SET, "tomorrow"), None, DOT), time=MOST)
    assert arena.attack(push) is None
    assert arena.a.refused("clock-ahead") == 1
    assert arena.a.replica.engine.time_now() - before < 1 << 32
    arena.write("register", "set", value="later")
    arena.recover()
    assert "tomorrow" in arena.b.replica.value("set")


def test_a_register_of_the_far_future(arena: Arena) -> None:
    """It wins against what is concurrent to it, not against who has seen it."""
    at = address.own(ObjectName("shop", "register", "k"))
    assert arena.attack(arena.push(sent(at, (MOST, b'"for ever"'), DOT))) is None
    assert arena.a.replica.value("register") == "for ever"
    arena.run(5_000)
    arena.write("register", "set", by_whom="b", value="later")
    arena.recover()
    assert arena.a.replica.value("register") == "later"


@pytest.mark.parametrize("time", [-1, -(1 << 63), (1 << 64) - 1])
def test_times_that_are_none(arena: Arena, time: int) -> None:
    assert arena.attack(arena.push(sent(address.own(FLAG), None, DOT), time=time)) is None
    arena.attack(Summary([], time, {}, True))
    arena.recover()


def test_receipts_for_what_was_never_sent(arena: Arena) -> None:
    """Nobody is believed to hold more than there is."""
    own = arena.a.incarnation
    assert arena.attack(Received(own, (1 << 63) - 1)) is None
    assert arena.a.machine.peers[ATTACKER].seen.get(own) == arena.a.seen.get(own)
    arena.recover()


def _is_operation(at: bytes) -> bool:
    if address.is_cut(at):
        return False
    return address.split_object(at)[1].startswith(address.OPERATION)
