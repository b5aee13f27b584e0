"""Schedules that chance hardly ever finds, told step by step with the same machines and judge.

Here each message is delivered by hand. What can be told without that is a script in `scenarios`.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext
from random import Random
from unittest.mock import patch

import msgspec
import pytest

from crdtdb import replication
from crdtdb.address import ObjectName, key_prefix
from crdtdb.causal import format_incarnation
from crdtdb.epochs import Epochs
from crdtdb.operations import read_operation
from crdtdb.reading import Reading
from crdtdb.replication import Send, Sender
from crdtdb.replication.members import adding, member_object
from crdtdb.replication.messages import News, Pull, Refused, Summary, read_frame, write_frame
from crdtdb.transaction import Transaction, Update
from oracle.checks import Violation
from simulation.broken import (
    late_frames_displace,
    rejoin_without_giving,
    session_that_moves_on,
)
from simulation.checks import shown
from simulation.clock import Clock
from simulation.disk import Disk
from simulation.judge import Judge
from simulation.network import Letter, kind_of
from simulation.replica import Machine
from simulation.scheduler import Scheduler
from simulation.trace import Trace


class Stage:
    """Machines whose messages lie on the table until the story delivers them."""

    def __init__(self, *names: str) -> None:
        self.letters: list[Letter] = []
        #: The last letter that somebody waited for.
        self.delivered: Letter | None = None
        self.machines: dict[str, Machine] = {}
        self._scheduler = Scheduler()
        self._judge = Judge(self.machines, Counter(), Trace())
        for name in names:
            self.join(name, names)
        while not all(len(m.replication.members) == len(names) for m in self.machines.values()):
            self.deliver(*names)
            self.pass_time(*names)
        self.deliver(*names)

    def join(self, name: str, peers: tuple[str, ...], *, reachable: bool = True) -> None:
        """Start a machine that knows these others."""
        self.machines[name] = Machine(
            name,
            reachable=reachable,
            peers=peers,
            clock=Clock(self._scheduler, 0, 1.0),
            random=Random(name),
            watcher=self._judge,
            send=self._send,
        )
        self.machines[name].power_on(self._scheduler.now_ms)

    def _send(self, origin: str, sender: Sender, send: Send) -> None:
        target = send.endpoint
        if target.startswith("~"):
            up = {m.replication.incarnation: m.name for m in self.machines.values() if m.is_up}
            target = up.get(int(target[1:], 16), target)
        self.letters.append(Letter(origin, target, sender, send.frame, kind_of(send.frame)))

    def pass_time(self, *names: str) -> None:
        """Let some machines feel the next tenth of a second."""
        self._scheduler.run_until(self._scheduler.now_ms + 100)
        for name in names:
            self.machines[name].tick(self._scheduler.now_ms)

    def lose(self, *between: str) -> None:
        """Lose what lies between these machines."""
        self.letters = [
            x for x in self.letters if x.origin not in between or x.target not in between
        ]

    def restart(self, name: str, *, rolled_back: bool = False) -> None:
        """Take a machine's power and give it back; perhaps with its disk as it was backed up."""
        machine = self.machines[name]
        machine.power_off()
        if rolled_back:
            machine.disk.roll_back()
        self._judge.restarted(machine)
        machine.power_on(self._scheduler.now_ms)

    def lose_disk(self, name: str) -> None:
        """A machine goes on with an empty disk."""
        self.machines[name].power_off()
        self.machines[name].disk.wipe()
        self._judge.restarted(self.machines[name])
        self.machines[name].power_on(self._scheduler.now_ms)

    def pull(self, puller: str, donor: str) -> Pull:
        """Let one machine find out that another has more, and fetch it; returns the request."""
        while not self.deliver(puller, donor, until="Pull"):
            self.pass_time(puller, donor)
        self.deliver(puller, donor)
        assert self.delivered is not None
        request = read_frame(self.delivered.frame)
        assert isinstance(request, Pull)
        return request

    def deliver(self, *between: str, until: str = "") -> bool:
        """Deliver what lies between these machines, in order; stop after a kind of message."""
        while found := [x for x in self.letters if x.origin in between and x.target in between]:
            letter = found[0]
            self.letters.remove(letter)
            machine = self.machines[letter.target]
            machine.receive(letter.sender, letter.frame, self._scheduler.now_ms)
            if kind_of(letter.frame) == until:
                self.delivered = letter
                return True
        return False

    def look_at_all(self, name: str) -> None:
        """Compare all that a machine shows with what it must show."""
        self._judge.look_at_all(self.machines[name])

    def report(self, origin: str, target: str) -> None:
        """One machine tells another what it has seen, which is level with it."""
        while not self.deliver(origin, target, until="Digest"):
            self.pass_time(origin)
        self.deliver(origin, target)

    def write(self, name: str, type_name: str, key: str, **operation: object) -> None:
        """One operation at a machine."""
        update = Update(ObjectName("shop", type_name, key), read_operation(type_name, operation))
        self.machines[name].write([Transaction((update,))])


@pytest.mark.parametrize("broken", [False, True])
def test_a_record_that_changes_during_a_pull(broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newer state comes by a push while the older one is staged; the newer one must win.

    `puller` has a page with x = 1, when the pushes of x = 1 and x = 2 reach it late. The donor's
    claim covers x = 2. So x has to come again with a later page, although the puller has it.
    """
    monkeypatch.setattr(replication.donor, "PAGE_RECORDS", 2)
    with session_that_moves_on() if broken else nullcontext():
        stage = Stage("donor", "puller", "writer")
        stage.write("writer", "register", "x", op="set", value=1)
        for n in range(6):
            stage.write("writer", "register", f"other {n}", op="set", value=n)
        stage.deliver("donor", "writer")
        while not stage.deliver("donor", "puller", until="Page"):
            stage.pass_time("donor", "puller")
        stage.write("writer", "register", "x", op="set", value=2)
        stage.deliver("donor", "writer")
        stage.deliver("puller", "writer")
        with (
            pytest.raises(Violation, match="value: shop/register/x shows null, must be 2")
            if (broken)
            else nullcontext()
        ):
            stage.deliver("donor", "puller")
    seen = {name: machine.seen for name, machine in stage.machines.items()}
    assert seen["puller"] == seen["writer"]


@pytest.mark.parametrize("far", range(10))
def test_more_becomes_stable_during_a_round_of_folding(
    far: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far the round is, operations are folded in the order in which they came.

    A round that has passed the first step, and then folds the second because both are stable by
    now, makes a base that claims to hold both. Whoever starts from it never gets the first.
    """
    monkeypatch.setattr(replication.reclaiming, "RECLAIM_ENTRIES", 1)
    monkeypatch.setattr(replication.reclaiming, "FEED_MS", 0)
    stage = Stage("folder", "writer")
    stage.write("writer", "register", "x", op="set", value=1)
    stage.deliver("folder", "writer")
    stage.report("writer", "folder")
    stage.write("writer", "opcounter", "k", op="increment", by=1)
    stage.write("writer", "opcounter", "k", op="increment", by=2)
    stage.deliver("folder", "writer")
    for _ in range(far):
        stage.pass_time("folder")
    stage.report("writer", "folder")
    for _ in range(10 - far):
        stage.pass_time("folder")
    stage.join("newcomer", ("folder",))
    while not stage.machines["newcomer"].serves:
        stage.deliver("folder", "newcomer")
        stage.pass_time("newcomer")


def test_a_puller_that_restarts_reads_on_where_it_stood() -> None:
    """What it has read of a donor's sequence is on its disk, with what it read."""
    stage = Stage("donor", "puller")
    for n in range(6):
        stage.write("donor", "register", f"x {n}", op="set", value=n)
    stage.lose("donor", "puller")
    stage.pull("puller", "donor")
    read = stage.machines["donor"].engine.state.sequence
    stage.restart("puller")
    stage.restart("donor")
    stage.deliver("donor", "puller")
    stage.write("donor", "register", "y", op="set", value=1)
    stage.lose("donor", "puller")
    assert stage.pull("puller", "donor").since == read
    assert stage.machines["puller"].seen == stage.machines["donor"].seen


@pytest.mark.parametrize("broken", [False, True])
def test_a_donor_that_was_put_back_gives_its_places_out_again(broken: bool) -> None:
    """Its sequence grows past the place up to which the puller had read it, with other records.

    The donor goes on under another incarnation, of which the puller believes that it has read as
    much. What it has in the places that the puller has read is new to the puller, and must come all
    the same.
    """
    names = ("donor", "puller", "writer", "late")
    stage = Stage(*names)
    stage.machines["donor"].disk.back_up()
    for n in range(6):
        stage.write("writer", "register", f"x {n}", op="set", value=n)
    stage.deliver("donor", "writer")
    stage.lose(*names)
    stage.pull("puller", "donor")
    stage.restart("donor", rolled_back=True)
    stage.lose(*names)
    incarnation = stage.machines["donor"].replication.incarnation
    for n in range(12):
        stage.write("late", "register", f"y {n}", op="set", value=n)
    stage.deliver("donor", "late")
    stage.lose(*names)
    counts_on = patch.object(Epochs, "resume", lambda self, epoch, place, head: place)
    wrong = pytest.raises(Violation, match=r"value: shop/register/y .* shows null")
    with counts_on if broken else nullcontext(), wrong if broken else nullcontext():
        stage.pull("puller", "donor")
        stage.look_at_all("puller")
    assert stage.machines["donor"].replication.incarnation != incarnation


def test_who_can_only_ask_meets_whoever_joins() -> None:
    """Seed 1132 once: nobody could go on as who it was before the silent one had spoken to it."""
    stage = Stage("known")
    names = ("known", "silent", "late")
    stage.join("silent", ("known",), reachable=False)
    for _ in range(20):
        stage.pass_time("known", "silent")
        stage.deliver("known", "silent")
    stage.join("late", ("known",))
    for _ in range(20):
        stage.pass_time(*names)
        stage.deliver(*names)
    late = stage.machines["late"]
    incarnation = late.replication.incarnation
    stage.restart("late")
    for _ in range(20):
        stage.pass_time(*names)
        stage.deliver(*names)
    stage.write("late", "register", "x", op="set", value=1)
    assert late.replication.incarnation == incarnation


@pytest.mark.parametrize("broken", [False, True])
def test_a_late_frame_of_an_earlier_incarnation(broken: bool) -> None:
    """It reaches a machine that never knew that one: the one that is alive is heard all the same.

    Frames do not say when they were sent. Whoever believed that the earlier incarnation has taken
    the endpoint over, and that the later one is an impostor, would refuse the one that is alive.
    """
    names = ("witness", "reborn", "keeper")
    stage = Stage(*names)
    stage.machines["reborn"].disk.back_up()
    stage.write("reborn", "register", "x", op="set", value=1)
    stage.deliver("reborn", "keeper")
    late = [letter for letter in stage.letters if letter.target == "witness"]
    stage.lose(*names)
    earlier = stage.machines["reborn"].replication.incarnation
    stage.restart("reborn", rolled_back=True)
    stage.restart("witness")
    stage.deliver("reborn", "keeper")
    stage.write("reborn", "register", "y", op="set", value=2)
    assert stage.machines["reborn"].replication.incarnation != earlier
    stage.letters = [letter for letter in stage.letters if letter.sender.incarnation != earlier]
    stage.deliver("reborn", "witness")
    stage.letters += late
    wrong = pytest.raises(Violation, match="refusal: a frame of reborn")
    with late_frames_displace() if broken else nullcontext(), wrong if broken else nullcontext():
        stage.deliver("reborn", "witness")
        stage.write("reborn", "register", "z", op="set", value=3)
        stage.deliver("reborn", "witness")
        assert stage.machines["witness"].seen == stage.machines["reborn"].seen


def test_replicas_that_wait_for_each_others_earlier_incarnations() -> None:
    """Seed 634 once: nobody speaks for those, so nobody could take its own out of the members.

    A replica does that once its identity is confirmed by all members, and the two waited for ever.
    """
    names = ("a", "b", "c")
    stage = Stage(*names)
    stage.restart("a")
    stage.restart("b")
    for number, name in enumerate(("a", "b"), 1):
        earlier = msgspec.structs.replace(stage.machines[name].replication.me, incarnation=number)
        stage.machines["c"].write([adding(earlier)])
    stage.deliver("a", "c")
    stage.deliver("b", "c")
    assert all(len(machine.replication.members) == 5 for machine in stage.machines.values())
    for _ in range(30):
        stage.deliver(*names)
        stage.pass_time(*names)
    assert all(len(machine.replication.members) == 3 for machine in stage.machines.values())


def _evicted_story(*names: str) -> Stage:
    """Machines that all hold a list; the last of them is cut off from the others after that."""
    stage = Stage(*names)
    stage.write(names[0], "set", "cart", op="add", values=["sold out", "stays"])
    stage.deliver(*names)
    return stage


def _let_talk(stage: Stage, *names: str, tenths: int = 40) -> None:
    """Let some machines exchange all that they want for some time."""
    for _ in range(tenths):
        stage.pass_time(*names)
        stage.deliver(*names)


def _shows(stage: Stage, name: str) -> list[str]:
    """What a machine shows of the list."""
    with stage.machines[name].disk.snapshot() as snapshot:
        members: list[str] = json.loads(shown(Reading(snapshot), ("shop", "set", "cart")).text)
    return sorted(members)


@pytest.mark.parametrize("broken", [False, True])
def test_who_rejoins_takes_before_it_gives(broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks it for its own news is refused, until it has pulled all that the others have.

    What was deleted in between does not come back with it, and what only it has is not lost.
    """
    monkeypatch.setattr(replication.reclaiming, "FEED_MS", 0)
    home, everybody = ("a", "b"), ("a", "b", "away")
    stage = _evicted_story(*everybody)
    away = stage.machines["away"]
    stage.write("away", "set", "cart", op="add", value="only there")
    stage.lose(*everybody)
    stage.write("a", "set", "cart", op="remove", value="sold out")
    _let_talk(stage, *home)
    assert [stage.machines[name].engine.reclaimed.records for name in home] == [0, 0]
    stage.machines["a"].evict("away")
    _let_talk(stage, *home)
    assert all(stage.machines[name].engine.reclaimed.records for name in home)
    assert not away.is_evicted, "nobody has told it"
    stage.write("away", "set", "cart", op="add", value="there, too")
    stage.lose(*everybody)

    _let_talk(stage, *everybody)
    assert away.is_evicted
    assert not away.serves
    assert _shows(stage, "a") == ["stays"], "it is fenced"
    stage.restart("away")
    assert away.is_evicted, "it remembers"
    wrong = pytest.raises(Violation, match="shop/set/cart shows")
    asked = write_frame(Pull(1, 0, 0, stage.machines["a"].seen.flat(), []))
    with rejoin_without_giving() if broken else nullcontext(), wrong if broken else nullcontext():
        away.rejoin()
        stage.letters = [x for x in stage.letters if x.kind != "Push"]
        stage.write("away", "set", "cart", op="add", value="before it has pulled")
        assert not [x for x in stage.letters if x.kind == "Push"]
        while not away.seen.includes(stage.machines["a"].seen):
            stage.pass_time(*everybody)
            away.receive(stage.machines["a"].replication.me, asked, stage._scheduler.now_ms)
            answers = [x.frame for x in stage.letters if x.kind in ("Page", "Refused")]
            assert write_frame(Refused("rejoining")) in answers
            stage.deliver(*everybody, until="Summary")
        _let_talk(stage, *everybody, tenths=80)
        for name in everybody:
            stage.look_at_all(name)
        for name in everybody:
            there = ["before it has pulled", "only there", "stays", "there, too"]
            assert _shows(stage, name) == there
            assert len(stage.machines[name].replication.members) == 3


def test_who_cannot_say_what_it_is_called_now_still_talks() -> None:
    """Its disk is full just when a new identity has to be written down."""
    stage = Stage("a", "b")
    a, b = stage.machines["a"], stage.machines["b"]
    a.power_off()
    a.disk = Disk(b"elsewhere", a.disk.copy(b"elsewhere", backup=False))
    stage.restart("a")
    a.disk.is_full = True
    for _ in range(30):
        stage.pass_time("a")
        asked = [x for x in stage.letters if x.origin == "a" and x.kind == "Digest"]
        stage.deliver("a", "b")
        if asked and a.replication.refusals["tick-failed"]:
            break
    else:
        raise AssertionError("it has fallen silent")
    a.disk.is_full = False
    for _ in range(30):
        stage.pass_time("a", "b")
        stage.deliver("a", "b")
    assert a.replication.incarnation in b.replication.members


def _object_at(stage: Stage, whose: str, evicts: bool) -> bytes:
    """Where it is written that a machine is a member, or that it was one."""
    incarnation = stage.machines[whose].replication.incarnation
    if not evicts:
        return member_object(incarnation).prefix
    stage.machines["a"].evict(whose)
    return key_prefix("_system", "register", f"evicted/{format_incarnation(incarnation)}")


@pytest.mark.parametrize(
    ("whose", "evicts"), [("a", False), ("b", False), ("c", False), ("c", True)]
)
def test_who_cannot_read_who_is_a_member_starts_and_counts_it_nevertheless(
    whose: str, evicts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the record says whom it is about; what else it says, a peer knows.

    It did not start any more, so that nobody could mend it. Had it left that member out, it would
    have reclaimed what the member has yet to see, and gone on under an identity of which the
    member may know more.
    """
    monkeypatch.setattr(replication.mending, "FIRST_MS", 2_000)
    everybody = ("a", "b", "c")
    stage = Stage(*everybody)
    a = stage.machines["a"]
    at = _object_at(stage, whose, evicts)
    home = ("a", "b") if evicts else everybody
    _let_talk(stage, *home)
    members, evictions = dict(a.replication.members), dict(a.replication.evictions)
    assert bool(evictions) is evicts
    a.power_off()
    assert a.disk.flip(Random(1), at, twice=True)
    stage.restart("a")
    assert a.is_up
    assert a.replication.members.keys() == members.keys()
    assert a.replication.evictions.keys() == evictions.keys()
    assert not a.replication.settled, "it has yet to ask them all"
    _let_talk(stage, *home, tenths=3)
    stage.write("b", "set", "cart", op="add", value="from b")
    stage.deliver(*home)
    stage.write("a", "set", "cart", op="add", value="from a")
    assert a.disk.flipped, "it serves before it is mended"
    assert not a.replication.refusals["tick-failed"], "it leaves alone what is damaged"
    _let_talk(stage, *home, tenths=60)
    assert not a.disk.flipped
    assert a.replication.evictions == evictions
    names = {member.name for member in a.replication.members.values()}
    assert names == {member.name for member in members.values()}
    assert len(a.replication.members) == len(members), "nobody is in it twice"
    for name in home:
        stage.look_at_all(name)
        assert _shows(stage, name) == ["from a", "from b"]


@pytest.mark.parametrize("kind", ["News", "Pull"])
def test_who_starts_again_is_told_whole_vectors(kind: str) -> None:
    """It knows nothing of what was said before, against which the others still tell.

    Nobody can understand what was on its way to it then, so it asks for all of it.
    """
    stage = Stage("writer", "reader", "other")
    for number in range(4):
        _miss(stage, f"before {number}")
    told = _miss(stage, "now", until=kind)
    assert min(told[-1].seen) < 0
    asker, asked = stage.letters[0].origin, stage.letters[0].target
    stage.restart(asked)
    stage.letters = [x for x in stage.letters if x.origin == asker]
    stage.deliver(asker, asked, until=kind)
    answer = next(x for x in stage.letters if x.target == asker and x.kind != "Hello")
    assert answer.kind == ("Refused" if kind == "Pull" else "Summary")
    stage.deliver(asker, asked, until=answer.kind)
    again = [read_frame(x.frame) for x in stage.letters if x.origin == asker]
    assert [min(x.seen) >= 0 for x in again if isinstance(x, Pull | Summary)] == [True]
    for number in range(3):
        told = _miss(stage, f"later {number}")
    assert all(min(x.seen) < 0 for x in told if not isinstance(x, Summary))


def _miss(stage: Stage, key: str, until: str = "") -> list[News | Summary | Pull]:
    """A write whose pushes are lost reaches the reader; the vectors that are told meanwhile.

    Up to one in a message of some kind, which lies on the table then.
    """
    told: list[News | Summary | Pull] = []
    between = ("writer", "reader")
    stage.write("writer", "register", key, op="set", value=1)
    stage.letters = [x for x in stage.letters if x.kind != "Push"]
    while stage.machines["reader"].seen != stage.machines["writer"].seen:
        stage.pass_time(*between)
        while found := [x for x in stage.letters if {x.origin, x.target} == {*between}]:
            message = read_frame(found[0].frame)
            if isinstance(message, News | Summary | Pull):
                told.append(message)
            if found[0].kind == until:
                stage.letters = found
                return told
            stage.deliver(*between, until=found[0].kind)
    return told


def test_late_answers_to_who_it_was_before_make_nobody_of_it_again() -> None:
    """Seed 9117 once: for each of them it took another identity, for it knew less of that."""
    stage = Stage("a", "b", "c")
    a = stage.machines["a"]
    a.disk.back_up()
    for number in range(3):
        stage.write("a", "set", "cart", op="add", value=number)
    stage.deliver("a", "b", "c")
    stage.restart("a", rolled_back=True)
    while len([x for x in stage.letters if x.kind == "Hello" and x.origin == "a"]) < 4:
        stage.pass_time("a")
    for _ in range(4):
        stage.deliver("a", "b", "c", until="Hello")
    late = [x for x in stage.letters if x.target == "a" and x.kind in ("Welcome", "Remembered")]
    assert len(late) > 1
    before = stage._judge._tally["incarnations"]
    for letter in late:
        a.receive(letter.sender, letter.frame, stage._scheduler.now_ms)
    assert stage._judge._tally["incarnations"] == before + 1
