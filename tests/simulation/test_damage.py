"""Damage on a machine's disk, told step by step: seeds meet it at the wrong moment too seldom."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from crdtdb import address, replication
from crdtdb.address import ObjectName
from crdtdb.store.base import Table
from oracle.checks import Violation
from simulation.broken import damage_counts_for_nothing
from simulation.test_stories import Stage

MILK = address.member(ObjectName("shop", "set", "cart"), "milk")


@pytest.mark.parametrize("broken", [False, True])
def test_nothing_is_claimed_over_a_record_that_only_a_third_has(
    broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its push reached one machine, and was lost on the way to the other, which then pulls.

    Two bits have flipped, so that the record cannot tell itself how it was.
    """
    monkeypatch.setattr(replication.mending, "FIRST_MS", 0)
    everybody = ("a", "there", "behind")
    stage = Stage(*everybody)
    stage.write("a", "set", "cart", op="add", value="milk")
    stage.write("a", "set", "cart", op="add", value="bread")
    stage.lose("a", "behind")
    stage.deliver("a", "there")
    damaged = stage.machines["a"]
    with damaged.disk.snapshot() as snapshot:
        row = snapshot.get(Table.RECORDS, MILK)
    assert row is not None
    damaged.disk.damage(Table.RECORDS, MILK, row[:-1] + bytes((row[-1] ^ 0x41,)))
    wrong = pytest.raises(Violation, match="shop/set/cart shows")
    with damage_counts_for_nothing() if broken else nullcontext():
        while not damaged.engine.damaged:
            stage.pass_time("a")
        stage.lose(*everybody)
        with wrong if broken else nullcontext():
            for _ in range(30):
                stage.pass_time("a", "behind")
                stage.deliver("a", "behind")
            stage.look_at_all("behind")
    if broken:
        return
    assert not stage.machines["behind"].seen.includes(damaged.seen)
    for _ in range(60):
        stage.pass_time(*everybody)
        stage.deliver(*everybody)
    assert not damaged.disk.flipped
    for name in everybody:
        assert stage.machines[name].seen == damaged.seen
        stage.look_at_all(name)
