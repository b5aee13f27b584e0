"""However much a replica with damaged records has missed: it is pulled, and mended at the claim."""

from __future__ import annotations

from typing import Final

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.damage import Damage
from crdtdb.replication import Send, donor, mending
from crdtdb.replication.messages import Mend, Sender, read_frame
from crdtdb.scrub import Scrub
from crdtdb.store.base import Table
from pairs import Pair
from replicas import Replica

CART: Final = ObjectName("shop", "set", "cart")
LIST: Final = ObjectName("shop", "list", "todo")


def flip(a: Replica, at: bytes) -> None:
    """Flip two bits of a stored record: one alone would be put right without a peer."""
    row = bytearray(a.rows()[Table.RECORDS][at])
    row[-1] ^= 0x41
    a.store.commit({Table.RECORDS: {at: bytes(row)}})


def look_at_all(a: Replica) -> list[Damage]:
    """One walk; what it found."""
    walk, found = Scrub(), []
    while not walk.done:
        found += a.engine.scrub(walk, 100)
    return found


def assert_sound(a: Replica, like: Replica) -> None:
    """It shows what the other shows, and nothing is damaged."""
    assert a.engine.damaged == {}
    assert look_at_all(a) == []
    assert a.digest() == like.digest()


@pytest.fixture
def far_behind(monkeypatch: pytest.MonkeyPatch) -> Pair:
    """A replica with damage, that has missed more than one message of the other carries.

    Some of that touches what is damaged: one record, and an operation of a list.
    """
    monkeypatch.setattr(donor, "PAGE_RECORDS", 10)
    monkeypatch.setattr(mending, "MOST_PAGES", 2)
    pair = Pair()
    pair.run(2_000)
    a, b = pair.replicas["a"], pair.replicas["b"]
    b.do("set", "add", key="cart", values=list(range(20)))
    b.do("list", "insert", key="todo", index=0, values=["x", "y"])
    b.do("list", "insert", key="todo", index=2, value="z")
    pair.run(3_000)
    flip(a, address.member(CART, 7))
    flip(a, next(at for at in a.rows()[Table.RECORDS] if at.startswith(LIST.prefix)))
    for number in range(100, 200):
        b.do("set", "add", key="cart", value=number)
        if number == 150:
            b.do("set", "remove", key="cart", value=7)
            b.do("list", "delete", key="todo", index=1)
    assert len(look_at_all(a)) == 2
    return pair


@pytest.mark.parametrize("one_commit", [1_000, 50])
def test_however_much_has_been_missed(
    far_behind: Pair, one_commit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crdtdb.replication.repair.ONE_COMMIT_RECORDS", one_commit)
    monkeypatch.setattr("crdtdb.replication.staging.SHORT_PART_RECORDS", 16)
    a, b = far_behind.replicas["a"], far_behind.replicas["b"]
    was_partial = False
    for number in range(100):
        if number < 20:
            b.do("set", "add", key="cart", value=200 + number)  # it goes on writing
        far_behind.tick()
        was_partial |= far_behind.machines["a"].is_partial
    assert was_partial is (one_commit < 100)
    assert far_behind.machines["a"].mending.mended == 2
    far_behind.run(3_000)
    assert a.value("list", "todo") == b.value("list", "todo")
    assert_sound(a, b)


def test_a_kill_at_any_time_of_it(far_behind: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come is not asked for again, and what is begun is finished."""
    monkeypatch.setattr("crdtdb.replication.repair.ONE_COMMIT_RECORDS", 50)
    monkeypatch.setattr("crdtdb.replication.staging.SHORT_PART_RECORDS", 16)
    a, b = far_behind.replicas["a"], far_behind.replicas["b"]
    for _ in range(60):
        far_behind.run(200)
        a.reopen()
        far_behind = Pair(a, b)
    far_behind.run(3_000)
    assert_sound(a, b)
    assert not a.rows()[Table.STAGED]


def test_a_donor_that_says_nothing_is_not_waited_for(far_behind: Pair) -> None:
    a, b = far_behind.replicas["a"], far_behind.replicas["b"]
    machine, said = far_behind.machines["b"], far_behind.machines["b"].step

    def silent(sender: Sender, frame: bytes, now_ms: int, via: str = "") -> list[Send]:
        return [] if isinstance(read_frame(frame), Mend) else said(sender, frame, now_ms, via)

    machine.step = silent  # type: ignore[method-assign]
    far_behind.run(20_000)
    assert a.engine.damaged
    machine.step = said  # type: ignore[method-assign]
    far_behind.run(90_000)
    assert_sound(a, b)
