"""Attacks on who is who."""

from __future__ import annotations

import msgspec
import pytest

from crdtdb import codec
from crdtdb.causal import NOTHING
from crdtdb.replication.cluster import STRANGERS
from crdtdb.replication.messages import (
    Claim,
    Digest,
    Hello,
    Page,
    Pull,
    Push,
    Remembered,
    Same,
    Sender,
    Summary,
    Welcome,
)
from hostile.arena import ATTACKER, Arena


def test_wrong_cluster(arena: Arena) -> None:
    stranger = msgspec.structs.replace(arena.attacker, cluster="another")
    for message in (Hello(0), Pull(1, 0, 0, [], []), arena.push(), Summary([], 0, {}, True)):
        assert arena.attack(message, stranger) == "wrong-cluster"
    assert not arena.heard
    arena.recover()


def test_forged_origin(arena: Arena) -> None:
    """A push in the name of another replica, which would hide that one's next write."""
    b = arena.b.incarnation
    counter = arena.b.seen.get(b) + 1
    forged = Push(b, counter, counter, arena.a.seen.flat(), 0, [])
    assert arena.attack(forged) == "forged-origin"
    arena.recover()


def test_own_incarnation_reused(arena: Arena) -> None:
    """The attacker says that it is the very replica it talks to."""
    twin = msgspec.structs.replace(arena.attacker, incarnation=arena.a.incarnation)
    assert arena.attack(Hello(9), twin) == "self"
    assert arena.attack(arena.push(origin=twin.incarnation), twin) == "self"
    arena.recover()


def test_incarnation_of_another_reused(arena: Arena) -> None:
    """Answers to the real one are led astray for a while, no longer."""
    twin = msgspec.structs.replace(arena.attacker, incarnation=arena.b.incarnation)
    arena.attack(Digest(0, 0, 0), twin)
    arena.attack(Hello(1 << 40), twin)
    arena.recover()


@pytest.mark.parametrize("said_by", ["summary", "welcome", "remembered", "page"])
def test_own_dots_planted(arena: Arena, said_by: str) -> None:
    """Who is told that it knows too little of itself goes on as somebody new, and loses nothing.

    No dot may be issued twice, so a replica must believe that.
    """
    before = arena.a.incarnation
    planted = arena.a.seen.with_dot((before, arena.a.seen.get(before) + 5))
    if said_by == "summary":
        arena.attack(Summary(planted.flat(), 0, {}, False))
    elif said_by == "welcome":
        arena.attack(Welcome(planted.get(before)))
    elif said_by == "remembered":
        arena.attack(Remembered(0, planted.flat()))
    else:
        arena.offer(lambda pull: Page(pull.session, pull.since, 1, 9, [], Claim(planted.flat(), 0)))
    assert arena.a.incarnation != before
    arena.recover()
    assert before not in arena.a.machine.members


def test_endpoint_taken_to_hide_records(arena: Arena) -> None:
    """Who speaks from the endpoint of a member must not say how far that one has been read.

    It once did: the member inherited the cursor when it came back, and its writes up to there were
    skipped for ever.
    """
    arena.run(5_000)
    impostor = msgspec.structs.replace(arena.attacker, endpoint="b")
    epoch = arena.b.replica.engine.epochs.latest
    arena.away = {"a"}
    arena.write("set", "add", by_whom="b", value="hidden")
    arena.run(1_000)
    arena.attack(Hello(0), impostor)
    mark = codec.fingerprint(arena.a.seen.flat())
    arena.attack(Same(mark, 0, epoch, (1 << 63) - 1), impostor)
    arena.away = set()
    arena.recover()
    assert "hidden" in arena.a.replica.value("set")


def test_flood_of_identities(arena: Arena) -> None:
    """Any number can be made up; few are remembered, and fewer are knocked at."""
    for number in range(3 * STRANGERS):
        made_up = Sender("crdtdb", 1_000 + number, f"x{number}", "", f"x{number}", False)
        assert arena.attack(Hello(0), made_up) is None
        assert arena.attack(Digest(0, 0, 0), made_up) is None
    machine = arena.a.machine
    assert len(machine.peers) <= STRANGERS + len(machine.members)
    assert len(machine._cluster.contacts) <= 40
    assert arena.b.incarnation in machine.peers
    arena.recover()


def test_flood_of_identities_at_one_endpoint(arena: Arena) -> None:
    """Each displaces the one before, and the member whose endpoint it is comes back."""
    for number in range(3 * STRANGERS):
        made_up = Sender("crdtdb", 1_000 + number, "b", "", "b", False)
        assert arena.attack(Digest(0, 0, 0), made_up) is None
    cluster = arena.a.machine._cluster
    assert len(cluster.twins._displaced) <= STRANGERS
    assert len(cluster.cursors.now) <= 4
    arena.recover()


def test_greetings_that_know_too_much(arena: Arena) -> None:
    """Each one makes the replica take a new incarnation; the old ones are no members any more."""
    for _ in range(20):
        arena.attack(Welcome(1 << 40))
    arena.recover()
    assert len(arena.a.machine.members) == 2
    assert arena.a.seen.get(ATTACKER) == 0
    assert arena.a.machine.stable() != NOTHING
