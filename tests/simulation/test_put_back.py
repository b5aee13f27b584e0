"""Disks that went back while what they held was on its way, and what of it still counts."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Final
from unittest.mock import patch

import pytest

from crdtdb import replication
from crdtdb.causal import NOTHING
from crdtdb.epochs import Epochs
from crdtdb.replication.cluster import Cluster
from crdtdb.replication.copying import Copying
from crdtdb.replication.greeting import Greeting
from oracle.checks import Violation
from simulation.test_stories import Stage

_NAMES: Final = ("writer", "donor", "puller")


def _staged(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Machines that pull small pages, and join them in small parts."""
    monkeypatch.setattr(replication.donor, "PAGE_RECORDS", 4)
    monkeypatch.setattr(replication.repair, "ONE_COMMIT_RECORDS", 4)
    monkeypatch.setattr(replication.staging, "PART_RECORDS", 2)
    return Stage(*_NAMES)


def _write(stage: Stage, key: str, where: str = "writer") -> None:
    """Some registers are written; of the others only the donor hears of it."""
    for n in range(9):
        stage.write(where, "register", f"{key} {n}", op="set", value=n)
    stage.deliver(where, "donor")
    stage.letters.clear()


def _join_in_part(stage: Stage) -> None:
    """Let the puller fetch all that the donor has, and join the first of it."""
    stage.lose(*_NAMES)
    while not stage.machines["puller"].replication.is_partial:
        stage.pass_time("puller", "donor")
        stage.deliver("puller", "donor")
    stage.lose(*_NAMES)


@pytest.mark.parametrize("is_dead", [False, True])
@pytest.mark.parametrize("broken", [False, True])
def test_who_was_put_back_while_a_pull_is_joined(
    broken: bool, is_dead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the puller knows of the latest dots, and has not seen them: the donor is gone.

    It joins them in parts, and would not be kept from that by anything that is written meanwhile.
    So whoever is greeted says what it has fetched, too, from whomever (`Cluster.fetched`); also of
    operations that are dead, which are in no record any more.
    """
    stage = _staged(monkeypatch)
    writer, puller = stage.machines["writer"], stage.machines["puller"]
    writer.disk.back_up()
    _write(stage, "x")
    if is_dead:
        writer.disk.back_up()
    for n in range(5):
        stage.write("writer", "register", "x 0", op="set", value=f"{n}, which nobody will read")
    stage.deliver("writer", "donor")
    stage.write("donor", "register", "x 0", op="set", value="in its place")
    _join_in_part(stage)
    incarnation = writer.replication.incarnation
    forgets = patch.object(Cluster, "fetched", lambda self: self.seen)
    wrong = pytest.raises(Violation, match=r"causality: .* had seen|value: shop/register/y")
    with forgets if broken else nullcontext(), wrong if broken else nullcontext():
        stage.lose_disk("donor")
        stage.restart("writer", rolled_back=True)
        for _ in range(60):
            stage.pass_time("writer", "donor")
            stage.deliver(*_NAMES)
        assert puller.replication.is_partial
        _write(stage, "y")
        assert (writer.replication.incarnation == incarnation) is broken
        for _ in range(60):
            stage.pass_time(*_NAMES)
            stage.deliver(*_NAMES)
        for name in _NAMES:
            stage.look_at_all(name)
            assert stage.machines[name].seen == writer.seen


@pytest.mark.parametrize("is_given", [False, True])
@pytest.mark.parametrize("broken", [False, True])
def test_who_was_put_back_counts_as_having_seen(
    broken: bool, is_given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has lost nothing of its own, but what it said, or gave, would count for it later.

    As soon as the puller has it that is stable, and what it reset is let go. Whoever then counts on
    under the same name counts again what was reset. So who is greeted says what the other has said
    to have seen, be it counted yet or not, and what it gave (`Cluster.remembered`).
    """
    stage = _staged(monkeypatch)
    donor, puller = stage.machines["donor"], stage.machines["puller"]
    donor.disk.back_up()
    _write(stage, "x")
    if is_given:
        _join_in_part(stage)
        puller.power_off()
        puller.power_on(stage._scheduler.now_ms)  # what it was told is not on its disk
    else:
        while not stage.deliver("puller", "donor", until="Summary"):
            stage.pass_time("puller", "donor")
    stage.lose(*_NAMES)
    incarnation = donor.replication.incarnation
    forgets = patch.object(Cluster, "remembered", lambda self, i: self.counting.reports.counted(i))
    with forgets if broken else nullcontext():
        stage.restart("donor", rolled_back=True)
        stage.deliver("donor", "writer", until="Remembered")
        stage.lose("donor", "writer")
        stage.deliver("donor", "puller")
        stage.lose("donor", "puller")
        for _ in range(60):
            stage.pass_time("puller", "writer")
            stage.deliver("puller", "writer")
    assert puller.seen.includes(stage.machines["writer"].seen)
    assert (donor.replication.incarnation == incarnation) is broken
    if broken:
        assert not donor.seen.includes(puller.replication.stable())


@pytest.mark.parametrize("broken", [False, True])
def test_a_donor_was_put_back_while_it_was_copied(broken: bool) -> None:
    """Seed 122 once: only the newcomer knows of the latest dots, and has seen nothing yet.

    The donor would give them out again, while its claim to the earlier ones is on its way.
    """
    stage = Stage("donor", "other")
    donor = stage.machines["donor"]
    donor.peers = ("other", "newcomer")
    donor.disk.back_up()
    _write(stage, "x", "donor")
    stage.join("newcomer", ("donor",))
    stage.deliver("donor", "newcomer", until="Pull")
    late = [letter for letter in stage.letters if letter.kind == "Page"]
    assert late
    stage.letters.clear()
    incarnation = donor.replication.incarnation
    forgets = patch.object(Copying, "needs", NOTHING)
    wrong = pytest.raises(Violation, match="value: shop/register/")
    with forgets if broken else nullcontext(), wrong if broken else nullcontext():
        stage.restart("donor", rolled_back=True)
        stage.deliver("donor", "other")
        stage.deliver("donor", "newcomer", until="Welcome" if broken else "Remembered")
        _write(stage, "y", "donor")
        assert (donor.replication.incarnation == incarnation) is broken
        stage.letters += late
        for _ in range(60):
            stage.deliver("donor", "newcomer", "other")
            stage.pass_time("donor", "newcomer", "other")
        stage.look_at_all("newcomer")
        assert stage.machines["newcomer"].seen == stage.machines["other"].seen


@pytest.mark.parametrize("broken", [False, True])
def test_a_donor_was_put_back_before_it_knew_whom_it_gave_to(broken: bool) -> None:
    """It asks everybody it knows, and nobody knows of the dots that it gives out again.

    The newcomer has some of the operations that had them before. What it was given is of a past
    that is not the donor's any more, which the donor knows by its epochs: so all of that goes.
    """
    stage = Stage("donor", "other")
    donor = stage.machines["donor"]
    donor.disk.back_up()
    with patch.object(replication.donor, "COPY_ROWS", 7):
        _write(stage, "x", "donor")
        stage.join("newcomer", ("donor",))
        stage.deliver("donor", "newcomer", until="Copied")
        stage.letters.clear()
        incarnation = donor.replication.incarnation
        stage.restart("donor", rolled_back=True)
        stage.deliver("donor", "other")
        _write(stage, "y", "donor")
        assert donor.replication.incarnation == incarnation
        counts_on = patch.object(Epochs, "resume", lambda self, epoch, place, head: place)
        wrong = pytest.raises(Violation, match="value: shop/register/")
        with counts_on if broken else nullcontext(), wrong if broken else nullcontext():
            for _ in range(100):
                stage.pass_time("donor", "newcomer", "other")
                stage.deliver("donor", "newcomer", "other")
            stage.look_at_all("newcomer")
            assert stage.machines["newcomer"].seen == donor.seen


def test_who_was_put_back_to_when_it_was_alone_listens_for_whoever_knows_it() -> None:
    """It knows nobody to ask. Who joined since speaks to it within that time, and knows more."""
    stage = Stage("first")
    first = stage.machines["first"]
    first.disk.back_up()
    _write(stage, "x", "first")
    stage.join("second", ("first",))
    while not stage.machines["second"].serves:
        stage.deliver("first", "second")
        stage.pass_time("first", "second")
    stage.letters.clear()
    incarnation = first.replication.incarnation
    stage.restart("first", rolled_back=True)
    assert first.replication.listens
    assert not first.replication.settled
    while first.replication.listens:
        stage.pass_time("first", "second")
        stage.deliver("first", "second")
    assert first.replication.settled
    assert first.replication.incarnation != incarnation


def test_who_is_alone_goes_on_as_who_it_was() -> None:
    """Nobody has spoken to it in that time, as nobody ever did."""
    stage = Stage("only")
    only = stage.machines["only"]
    _write(stage, "x", "only")
    incarnation = only.replication.incarnation
    stage.restart("only")
    assert only.replication.listens
    while only.replication.listens:
        assert not only.replication.settled
        stage.pass_time("only")
    assert only.replication.settled
    assert only.replication.incarnation == incarnation


@pytest.mark.parametrize("broken", [False, True])
def test_who_was_put_back_before_a_member_joined_asks_that_one_too(broken: bool) -> None:
    """The member joined through the other one, and is cut off: nobody who is asked has its dots.

    The donor, which did not know it any more, heard from the other that nothing is missing, and
    gave out again the dots of what only the member holds. So who is greeted names the members of
    whom the other may not have heard (`Acquainted`), and without their word it goes on as another.
    """
    stage = Stage("donor", "other")
    donor, other = stage.machines.values()
    donor.disk.back_up()
    stage.join("member", ("other",))
    member = stage.machines["member"]
    _talk(stage, "member", "other")
    stage.write("member", "flag", "hello", op="enable")
    _talk(stage, "member", "donor")
    assert all(len(machine.replication.members) == 3 for machine in stage.machines.values())
    for n in range(9):
        stage.write("donor", "register", f"x {n}", op="set", value=n)
    stage.deliver("donor", "member")
    stage.letters.clear()
    incarnation = donor.replication.incarnation
    assert member.seen.get(incarnation) > other.seen.get(incarnation)
    forgets = patch.object(Greeting, "_unheard_of", lambda self, peer, remembered: list[int]())
    with forgets if broken else nullcontext():
        stage.restart("donor", rolled_back=True)
        for _ in range(20):
            stage.deliver("donor", "other")
            stage.lose("donor", "other", "member")
            stage.pass_time("donor", "other")
        assert donor.replication.settled is broken
        with pytest.raises(Violation, match="dot-reuse") if broken else nullcontext():
            for n in range(9):
                stage.write("donor", "register", f"y {n}", op="set", value=n)
            assert donor.replication.incarnation != incarnation
            for _ in range(60):
                stage.pass_time(*stage.machines)
                stage.deliver(*stage.machines)
            for name, machine in stage.machines.items():
                stage.look_at_all(name)
                assert machine.seen == donor.seen


def test_who_is_named_and_has_gone_keeps_nobody_from_going_on() -> None:
    """As soon as all is here that who named it has seen, it is known who is a member."""
    stage = Stage("donor", "other")
    donor = stage.machines["donor"]
    incarnation = donor.replication.incarnation
    donor.power_off()
    stage.join("member", ("other",))
    _talk(stage, "member", "other")
    stage.lose_disk("member")
    _talk(stage, "member", "other")
    stage.letters.clear()
    donor.power_on(stage._scheduler.now_ms)
    for _ in range(20):
        stage.deliver("donor", "other")
        stage.deliver("donor", "member")
        stage.pass_time("donor", "other", "member")
    assert donor.replication.settled
    assert donor.replication.incarnation == incarnation


def _talk(stage: Stage, *names: str) -> None:
    """Let some machines talk for two seconds, and lose whatever lies elsewhere."""
    for _ in range(20):
        stage.deliver(*names)
        stage.pass_time(*names)
    stage.letters.clear()
