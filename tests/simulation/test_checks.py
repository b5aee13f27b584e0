"""The checks themselves: each must reject states that are wrong.

A checker that cannot fail is a defect: it passes whatever the implementation does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import pytest

from checkers.dots import Minted, dots
from crdtdb.address import OWN, ObjectName, base, leaf, member, operation, own
from crdtdb.causal import NOTHING, VersionVector
from crdtdb.datatype import Stamp
from crdtdb.operations import read_operation
from crdtdb.reading import Digest
from crdtdb.replication.staging import COPY_ROW
from crdtdb.store.base import Batch, Table
from crdtdb.store.memory import MemoryStore
from crdtdb.transaction import (
    CleanUp,
    Committed,
    Erase,
    Outcome,
    Result,
    Transaction,
    Update,
)
from oracle.checks import Violation
from oracle.events import Shown
from replicas import Replica
from simulation import notes
from simulation.checks import (
    check_disk,
    check_equal,
    check_fenced,
    check_folded,
    check_growth,
    check_held,
    check_let_go,
    check_news,
    check_reclaimed,
    check_shown,
    check_stable,
)
from simulation.cluster import run
from simulation.disk import Disk, Moment
from simulation.ledger import Issued, Ledger, issued_by
from simulation.network import halves, isolated, one_way, ring

A, B, C = 1, 2, 3
NAME = ObjectName("shop", "set", "k")


def vv(**counters: int) -> VersionVector:
    """A version vector: `vv(a=2, b=1)`."""
    names = {"a": A, "b": B, "c": C}
    return VersionVector({names[name]: counter for name, counter in counters.items()})


def does(op: str, seen: VersionVector | None = None) -> Update:
    plain = {"op": op} if op == "clear" else {"op": op, "value": 1}
    return Update(NAME, read_operation("set", plain), seen)


def issued(
    origin: int, first: int, past: VersionVector, *updates: Update | Erase, time: int = 0
) -> Issued:
    """A transaction in which each operation minted one dot, all at one time."""
    operations = [(update, (origin, first + n), time + first) for n, update in enumerate(updates)]
    return Issued(origin, first, first + len(updates) - 1, past, operations)


@pytest.fixture
def ledger() -> Ledger:
    """A adds twice in one transaction; B, who saw that, removes."""
    ledger = Ledger()
    ledger.issue(issued(A, 1, NOTHING, does("add"), does("add")))
    ledger.issue(issued(B, 1, vv(a=2), does("remove")))
    return ledger


# -- what is read ---------------------------------------------------------------------------------


def _leaf(kind: str, **do: object) -> dict[str, object]:
    return {"op": "update", "field": ["f"], "do": {"type": kind, **do}}


_FLAG = ObjectName("shop", "dwflag", "k")
_SET = ObjectName("shop", "rwset", "k")
_MAP = ObjectName("shop", "map", "k")
_ADD: dict[str, object] = {"op": "add", "values": ["x", "y"]}
_REMOVE: dict[str, object] = {"op": "remove", "values": ["x", "y"]}
_OFF, _ON = {"op": "disable"}, {"op": "enable"}
_MEMBER = member(_SET, "x").removeprefix(_SET.prefix)


@pytest.mark.parametrize("members", [{A, B}, {A}], ids=["of a member", "of who is none"])
@pytest.mark.parametrize(
    ("name", "tail", "against", "asserts", "hidden", "shown"),
    [
        (_FLAG, OWN, _OFF, _ON, "false", "true"),
        (_SET, _MEMBER, _REMOVE, _ADD, "[]", '["x"]'),
        (
            _MAP,
            leaf(["f"], "rwset", _MEMBER),
            _leaf("rwset", **_REMOVE),
            _leaf("rwset", **_ADD),
            "{}",
            '{"f": ["x"]}',
        ),
        (
            _MAP,
            leaf(["f"], "dwflag", OWN),
            _leaf("dwflag", **_OFF),
            _leaf("dwflag", **_ON),
            "{}",
            '{"f": true}',
        ),
    ],
    ids=["dwflag", "rwset", "rwset in a map", "dwflag in a map"],
)
def test_a_mark_that_is_taken_out_counts_against_what_members_wrote(
    members: set[int],
    name: ObjectName,
    tail: bytes,
    against: dict[str, object],
    asserts: dict[str, object],
    hidden: str,
    shown: str,
) -> None:
    """Seeds 364 and 1167 once: but not against what somebody wrote who was no member then.

    That counts as written after the mark; at the very place only where the mark was taken out.
    """
    ledger = Ledger()
    for origin, done in ((A, against), (B, asserts)):
        update = Update(name, read_operation(name.type, done))
        ledger.issue(issued(origin, 1, NOTHING, update))
    clean_up = Transaction((CleanUp(name.prefix + tail, ((A, 1),)),))
    outcome = Outcome((Result(False, stamp=Stamp((A, 2), 2)),), None, 2, 3)
    (one,) = issued_by(A, vv(a=1), [clean_up], Committed((outcome,), None, vv(a=2)), members)
    ledger.issue(one)
    assert ledger.expected(name, vv(a=1, b=1)).text == hidden
    assert ledger.expected(name, vv(a=2, b=1)).text == (hidden if B in members else shown)


ONE = Shown("[1]", True, 1)


@pytest.mark.parametrize(
    ("check", "actual"),
    [
        ("value", Shown("[]", True, 1)),
        ("value", Shown("[true]", True, 1)),
        ("value", Shown("[1.0]", True, 1)),
        ("existence", Shown("[1]", False, 1)),
        ("size", Shown("[1]", True, 2)),
        ("size", Shown("[1]", True, None)),
    ],
)
def test_a_wrong_read_is_rejected(check: str, actual: Shown) -> None:
    check_shown(NAME, ONE, ONE)
    with pytest.raises(Violation) as found:
        check_shown(NAME, ONE, actual)
    assert found.value.check == check


@pytest.mark.parametrize(
    ("visible", "text"),
    [
        (NOTHING, "[]"),
        (vv(a=2), "[1]"),
        (vv(a=2, b=1), "[]"),
        (vv(a=2, b=1, c=1), "[1]"),
    ],
)
def test_the_ledger_knows_what_must_be_read(
    ledger: Ledger, visible: VersionVector, text: str
) -> None:
    """C adds at the same time as B removes."""
    ledger.issue(issued(C, 1, vv(a=2), does("add")))
    assert ledger.expected(NAME, visible).text == text


def test_a_read_context_shows_what_may_be_removed(ledger: Ledger) -> None:
    ledger.issue(issued(C, 1, vv(a=2), does("clear", seen=vv(a=1))))
    assert ledger.expected(NAME, vv(a=2, c=1)).text == "[1]"
    ledger.issue(issued(C, 2, vv(a=2, c=1), does("clear", seen=vv(a=2))))
    assert ledger.expected(NAME, vv(a=2, c=2)).text == "[]"


def test_an_erase_takes_what_it_saw_of_every_object_below(ledger: Ledger) -> None:
    ledger.issue(issued(C, 1, vv(a=2), Erase(b"\x10shop\0set\0k")))
    ledger.issue(issued(A, 3, vv(a=2), does("add")))
    assert ledger.expected(NAME, vv(a=2, c=1)).text == "[]"
    assert ledger.expected(NAME, vv(a=3, c=1)).text == "[1]"


# -- what becomes visible -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "before", "after"),
    [
        ("thin-air", vv(a=2), vv(a=3)),
        ("thin-air", NOTHING, vv(c=1)),
        ("thin-air", vv(a=2, b=1), vv(a=2, b=1, c=7)),
        ("atomicity", NOTHING, vv(a=1)),
        ("atomicity", vv(b=1), vv(a=1, b=1)),
        ("atomicity", NOTHING, vv(a=1, b=1)),
        ("causality", NOTHING, vv(b=1)),
        ("causality", vv(c=0), vv(b=1)),
        ("causality", vv(a=1), vv(a=1, b=1)),
    ],
)
def test_wrong_news_is_rejected(
    ledger: Ledger, check: str, before: VersionVector, after: VersionVector
) -> None:
    check_news(ledger, NOTHING, vv(a=2))
    check_news(ledger, vv(a=2), vv(a=2, b=1))
    with pytest.raises(Violation) as found:
        check_news(ledger, before, after)
    assert found.value.check == check


@pytest.mark.parametrize(
    ("before", "after"),
    [(vv(a=2), vv(a=1)), (vv(a=2, b=1), vv(a=2)), (vv(a=2, b=1), vv(a=3, c=4))],
)
def test_a_vector_that_goes_back_is_rejected(before: VersionVector, after: VersionVector) -> None:
    check_growth(before, before)
    with pytest.raises(Violation, match="growth"):
        check_growth(before, after)
    with pytest.raises(Violation, match="durability"):
        check_disk(before, after)


@pytest.mark.parametrize(
    "again",
    [
        issued(A, 1, NOTHING, does("add")),
        issued(A, 2, vv(a=1), does("clear"), does("add")),
        issued(B, 1, NOTHING, does("remove")),
    ],
)
def test_a_dot_issued_twice_is_rejected(ledger: Ledger, again: Issued) -> None:
    with pytest.raises(Violation, match="dot-reuse"):
        ledger.issue(again)


def test_a_dot_that_no_disk_holds_may_be_issued_again(ledger: Ledger) -> None:
    """B's disk was put back before anybody heard of its remove."""
    assert ledger.forget(vv(a=2)) == 1
    assert ledger.latest() == vv(a=2)
    ledger.issue(issued(B, 1, vv(a=2), does("clear")))
    assert ledger.expected(NAME, vv(a=2, b=1)).text == "[]"
    with pytest.raises(Violation, match="dot-reuse"):
        ledger.issue(issued(B, 1, vv(a=2), does("remove")))


def test_an_operation_that_turns_up_after_all_counts_again(ledger: Ledger) -> None:
    """B's push was waiting somewhere when B's disk was put back."""
    ledger.forget(vv(a=2))
    check_news(ledger, vv(a=2), vv(a=2, b=1))
    assert ledger.latest() == vv(a=2, b=1)
    assert ledger.expected(NAME, vv(a=2, b=1)).text == "[]"


# -- what replicas believe, hold and leave --------------------------------------------------------


@pytest.mark.parametrize(
    ("stable", "members"),
    [(vv(a=2), [vv(a=1)]), (vv(a=1), [vv(a=1), NOTHING]), (vv(a=1, b=1), [vv(a=1), vv(b=1)])],
)
def test_what_a_member_lacks_is_not_stable(
    stable: VersionVector, members: list[VersionVector]
) -> None:
    check_stable(stable, [stable, vv(a=9, b=9)])
    with pytest.raises(Violation, match="stability"):
        check_stable(stable, members)


@pytest.mark.parametrize(("held", "most"), [(1, 0), (257, 256), (10_000, 256)])
def test_a_queue_beyond_its_bound_is_rejected(held: int, most: int) -> None:
    check_held(most, most)
    with pytest.raises(Violation, match="bounds"):
        check_held(held, most)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (NOTHING, vv(a=1)),
        (vv(b=3), vv(b=4)),
        (vv(a=1), vv(a=2)),
        (vv(a=1), vv(a=1, c=1)),
        (vv(a=2, b=1), vv(a=1, b=1)),
    ],
)
def test_what_the_evicted_sent_is_not_taken_in(before: VersionVector, after: VersionVector) -> None:
    check_fenced("b", before, before)
    with pytest.raises(Violation, match="fencing"):
        check_fenced("b", before, after)


ALL = vv(a=2, b=1)


@pytest.mark.parametrize(
    ("check", "states"),
    [
        ("convergence", {"a": (vv(a=2), Digest(7, 1)), "b": (ALL, Digest(7, 1))}),
        ("convergence", {"a": (vv(a=2), Digest(7, 1)), "b": (vv(a=2), Digest(7, 1))}),
        ("convergence", {"a": (vv(a=3, b=1), Digest(7, 1)), "b": (ALL, Digest(7, 1))}),
        ("digest", {"a": (ALL, Digest(7, 1)), "b": (ALL, Digest(8, 1))}),
        ("digest", {"a": (ALL, Digest(7, 1)), "b": (ALL, Digest(7, 2))}),
        ("digest", {"a": (ALL, Digest(7, 1)), "b": (ALL, Digest(7, 1)), "c": (ALL, Digest(0, 0))}),
    ],
)
def test_unequal_replicas_are_rejected(
    check: str, states: dict[str, tuple[VersionVector, Digest]]
) -> None:
    check_equal({"a": (ALL, Digest(7, 1)), "b": (ALL, Digest(7, 1))}, ALL)
    with pytest.raises(Violation) as found:
        check_equal(states, ALL)
    assert found.value.check == check


LOG = ObjectName("shop", "opcounter", "k")


@pytest.mark.parametrize(
    ("addresses", "blocking"),
    [
        ([operation(LOG, (A, 1))], {}),
        ([base(LOG), operation(LOG, (B, 3))], {}),
        ([base(LOG)], {C: 4}),
    ],
)
def test_operations_that_are_left_are_rejected(
    addresses: list[bytes], blocking: dict[int, int]
) -> None:
    check_folded(_sequence([base(LOG), own(NAME)]), {})
    with pytest.raises(Violation, match="folding"):
        check_folded(_sequence(addresses), blocking)


def test_what_says_nothing_any_more_must_have_gone() -> None:
    a, b = Replica(1), Replica(2)
    a.do("rwset", "add", value=1)
    check_reclaimed(a.store)
    a.do("rwset", "remove", value=2)
    with pytest.raises(Violation, match="reclaiming"):
        check_reclaimed(a.store)
    b.do("register", "set", value=1)
    check_reclaimed(b.store)
    a.do("register", "set", value=2)
    b.pull(a)
    b.do("rwset", "add", value=2)
    with pytest.raises(Violation, match="reclaiming"):
        check_reclaimed(b.store)


@pytest.mark.parametrize("left", [{Table.STAGED: {b"k": b"v"}}, {Table.META: {COPY_ROW: b"v"}}])
def test_the_checker_sees_what_a_pull_or_a_copy_has_left(left: Batch) -> None:
    store = MemoryStore()
    check_let_go(store)
    store.commit(left)
    with pytest.raises(Violation, match="staging"):
        check_let_go(store)


def _sequence(addresses: list[bytes]) -> MemoryStore:
    store = MemoryStore()
    rows: dict[bytes, bytes | None] = {bytes([n]): at for n, at in enumerate(addresses, 1)}
    store.commit({Table.SEQUENCE: rows})
    return store


# -- what is judged at the end of a run ------------------------------------------------------------

CHECKERS = (
    "atomicity",
    "convergence",
    "dots",
    "durability",
    "invariants",
    "resurrection",
    "sessions",
)


def test_every_run_is_judged_by_every_checker(monkeypatch: pytest.MonkeyPatch) -> None:
    """And each has something to judge; `bounds` alone is told of nothing where all is well."""
    judged: Counter[str] = Counter()

    def counting(name: str) -> Callable[..., list[Violation]]:
        checker = getattr(notes, name)

        def count(history: Sequence[object], *more: object) -> list[Violation]:
            judged[name] += len(history)
            found: list[Violation] = checker(history, *more)
            return found

        return count

    for name in (*CHECKERS, "causality", "convergent_causality", "bounds"):
        monkeypatch.setattr(notes, name, counting(name))
    tally = run(1).tally + run(3).tally
    assert tally["runs"] == 2
    assert all(judged[name] for name in CHECKERS), judged
    assert judged["causality"] + judged["convergent_causality"] > 100
    assert "bounds" in judged


def test_what_a_checker_finds_makes_a_run_red(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = [Minted("a", A, 1, 1), Minted("a", A, 1, 1)]
    monkeypatch.setattr(notes, "dots", lambda history: dots([*history, *bad]))
    with pytest.raises(Violation, match="dot-reuse") as found:
        run(1)
    assert "--seed 1" in found.value.__notes__[-1]


def test_more_held_than_may_be_is_noted(ledger: Ledger) -> None:
    noted = notes.Notes(ledger)
    noted.sampled("a", "held pushes", 256, 256)
    noted.sampled("a", "held pushes", 257, 256)
    state = {"a": (ledger.latest(), Digest(7, 1))}
    assert [violation.check for violation in noted.judge(state)] == ["bounds"]


# -- the world itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(("moment", "survives"), [(Moment.BEFORE, False), (Moment.AFTER, True)])
def test_a_crash_in_a_commit_keeps_all_of_it_or_nothing(moment: Moment, survives: bool) -> None:
    disk = Disk(b"here")
    disk.commit({Table.META: {b"first": b"1"}})
    disk.fail_at_next_commit(moment)
    disk.commit({Table.META: {b"second": b"2"}, Table.HEADS: {b"third": b"3"}})
    assert disk.crashed
    disk.commit({Table.META: {b"by a ghost": b"4"}})
    disk.remount()
    with disk.snapshot() as snapshot:
        assert snapshot.get(Table.META, b"first") == b"1"
        assert (snapshot.get(Table.META, b"second") is not None) == survives
        assert (snapshot.get(Table.HEADS, b"third") is not None) == survives
        assert snapshot.get(Table.META, b"by a ghost") is None


def test_a_disk_that_is_put_back_shows_its_back_up() -> None:
    disk = Disk(b"here")
    disk.commit({Table.META: {b"key": b"old"}})
    disk.back_up()
    disk.commit({Table.META: {b"key": b"new"}})
    disk.roll_back()
    with disk.snapshot() as snapshot:
        assert snapshot.get(Table.META, b"key") == b"old"


def test_ways_to_cut() -> None:
    """What a cut leaves open is what its name says."""
    names = ("a", "b", "c", "d")
    links = {(a, b) for a in names for b in names if a != b}
    for seed in range(20):
        random = Random(seed)
        assert len(isolated(names, random)) == 2 * (len(names) - 1)
        assert len(links - ring(names, random)) == 2 * len(names)
        both = halves(names, random)
        assert both == {(b, a) for a, b in both}
        assert not any((b, a) in one for one in [one_way(names, random)] for a, b in one)
