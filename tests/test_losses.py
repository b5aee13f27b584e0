"""What is damaged and nobody else has keeps others waiting, until its loss is accepted."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Final

import pytest

from crdtdb import address
from crdtdb.address import ObjectName
from crdtdb.errors import InvalidOperation, StorageFailed
from crdtdb.replication import Replication, mending
from crdtdb.store.base import Table
from pairs import Pair
from replicas import Replica
from test_mending import scrub
from test_mending_by_pull import flip

CART: Final = ObjectName("shop", "set", "cart")
MILK: Final = address.member(CART, "milk")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "ASK_MS", 100)


def waiting_pair() -> Pair:
    """Of two replicas, a has written milk, which nobody has heard of, and cannot read it."""
    cluster = Pair()
    cluster.run(2_000)
    cluster.write("a", "set", "add", key="cart", values=["bread", "gone"])
    cluster.write("a", "set", "remove", key="cart", value="gone")
    cluster.run(2_000)
    a = cluster.replicas["a"]
    a.do("set", "add", key="cart", value="milk")
    flip(a, MILK)
    scrub(a)
    a.do("counter", "increment", key="views")
    cluster.run(20_000)
    return cluster


def test_without_that_everybody_waits() -> None:
    cluster = waiting_pair()
    a, b = cluster.replicas.values()
    assert b.value("counter", "views") == 0
    assert not b.seen.includes(a.seen)
    machine = cluster.machines["a"]
    assert machine.blocking() == {b.engine.state.incarnation: 2}
    (wait,) = machine.losses.waiting()
    own = a.engine.state.incarnation
    last = a.seen.get(own) - 1
    assert wait.owner == CART.prefix
    assert wait.damaged == [MILK]
    assert (wait.whole, wait.refusal, wait.known_to) == (False, None, [])
    assert wait.unreported == {own: (last, last)}


def test_when_it_is_accepted_nobody_waits_any_more() -> None:
    cluster = waiting_pair()
    a, b = cluster.replicas.values()
    machine, before = cluster.machines["a"], a.seen
    cluster.deliver("a", machine.losses.accept([CART.prefix]))
    cluster.run(5_000)
    assert machine.losses.waiting() == []
    assert machine.losses.accepted == 1
    assert a.seen == b.seen
    assert before.missing(a.seen) == 1
    assert a.digest() == b.digest()
    assert b.value("set", "cart") == ["bread"]
    assert b.value("counter", "views") == 1
    assert machine.blocking() == {}
    cluster.run(1_200_000)
    for replica in (a, b):
        assert not any(at.startswith(MILK) for at in replica.rows()[Table.RECORDS])


def test_who_was_not_sure_of_its_identity_takes_another() -> None:
    """The operation has a dot, and nobody has said that the next one was never given out."""
    cluster = waiting_pair()
    a = cluster.replicas["a"]
    a.reopen()
    machine = Replication(a.engine, name="a", endpoint="a", peers=("b",), random=Random(1))
    machine.start(0)
    incarnation = a.engine.state.incarnation
    assert not machine.settled
    machine.losses.accept([CART.prefix])
    assert a.engine.state.incarnation != incarnation
    assert a.seen.get(a.engine.state.incarnation) > 0


def test_who_can_mend_it_is_named() -> None:
    cluster = Pair()
    cluster.run(2_000)
    cluster.write("a", "set", "add", key="cart", value="milk")
    cluster.run(5_000)
    for replica in cluster.replicas.values():
        flip(replica, MILK)
        scrub(replica)
    (wait,) = cluster.machines["a"].losses.waiting()
    b = cluster.replicas["b"]
    assert (wait.known_to, wait.unreported) == ([b.engine.state.incarnation], {})


def test_what_is_damaged_everywhere_is_given_up_at_one() -> None:
    """The others have that mended by it, since it has seen all that they held."""
    cluster = Pair()
    cluster.run(2_000)
    cluster.write("a", "set", "add", key="cart", value="milk")
    cluster.write("a", "list", "insert", key="cart", index=0, value="x")
    cluster.run(5_000)
    insert = next(at for at in cluster.replicas["a"].rows()[Table.RECORDS] if b"list" in at)
    for replica in cluster.replicas.values():
        for at in (MILK, insert):
            flip(replica, at)
        scrub(replica)
    machine = cluster.machines["a"]
    owners = [wait.owner for wait in machine.losses.waiting()]
    with suppress(StorageFailed):  # as it was pushed it cannot be taken in
        cluster.deliver("a", machine.losses.accept(owners))
    cluster.run(5_000)
    a, b = cluster.replicas.values()
    assert a.engine.damaged == b.engine.damaged == {}
    assert a.seen == b.seen
    assert a.digest() == b.digest()
    assert a.value("set", "cart") == a.value("list", "cart") == []


def test_what_else_is_damaged_of_the_object_is_found_first() -> None:
    cluster = waiting_pair()
    a = cluster.replicas["a"]
    flip(a, address.member(CART, "bread"))
    losses = cluster.machines["a"].losses
    losses.look(CART.prefix)
    (wait,) = losses.waiting([CART.prefix])
    assert wait.damaged == [address.member(CART, "bread"), MILK]
    assert losses.waiting([b"something else"]) == []


def test_what_cannot_be_given_up_says_so() -> None:
    a = Replica(1)
    cluster = Pair(a)
    cluster.run(2_000)
    cluster.write("a", "text", "insert", key="note", index=0, text="milk")
    name = ObjectName("shop", "text", "note")
    flip(a, next(at for at in a.rows()[Table.RECORDS] if at.startswith(name.prefix)))
    scrub(a)
    losses = cluster.machines["a"].losses
    (wait,) = losses.waiting()
    assert wait.whole is None
    assert "empty directory" in str(wait.refusal)
    with pytest.raises(InvalidOperation):
        losses.accept([name.prefix])
