"""The journal of conflicts: each value that loses, once, with the commit that made it lose."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import pytest

from crdtdb import Database, address, conflicts
from crdtdb.address import ObjectName
from crdtdb.causal import NOTHING, Dot
from crdtdb.errors import NoSpace, StorageFailed
from crdtdb.limits import LIMITS, Limits
from crdtdb.store.base import Batch, Table
from crdtdb.store.memory import MemorySnapshot, MemoryStore
from crdtdb.transaction import Erase
from oracle.checks import check_books
from replicas import START_MS, Replica, Staged, exchange, missing, update


def journal(replica: Replica, key: str | None = None) -> list[tuple[str, list[str]]]:
    """What was noted, the first first: the text that was kept, the texts that were lost to it."""

    def admits(name: ObjectName) -> bool:
        return key in (None, name.key)

    with replica.reading() as reading:
        page = reading.losses(admits, None, 1_000_000)
    assert page.position is None
    return [
        (_text(noted.loss.kept), [_text(entry) for entry in noted.loss.lost])
        for noted in reversed(page.items)
    ]


def _text(entry: tuple[Dot, Any]) -> str:
    _, (_, text) = entry
    return bytes(text).decode().strip('"')


def rivals(count: int, key: str = "k", value: str = "") -> list[Replica]:
    """Replicas that wrote one register without seeing each other; each beats those before it."""
    replicas = [Replica(number + 1, now_ms=START_MS + number) for number in range(count)]
    for replica in replicas:
        replica.do("register", "set", key=key, value=f"{replica.number}{value}")
    return replicas


# When a value is noted ----------------------------------------------------------------------------


def test_a_concurrent_write_that_loses_is_noted_with_what_it_lost_to() -> None:
    one, two = rivals(2)
    one.pull(two)
    two.pull(one)
    assert journal(one) == journal(two) == [("2", ["1"])]


def test_a_write_that_saw_the_other_takes_nothing_from_anybody() -> None:
    one, two = Replica(1), Replica(2)
    one.do("register", "set", value="first")
    two.pull(one)
    two.do("register", "set", value="second")
    exchange(one, two)
    one.do("register", "set", value="third")
    exchange(one, two)
    assert journal(one) == journal(two) == []


def test_what_comes_again_or_by_another_way_is_not_noted_again() -> None:
    one, two, three = [*rivals(2), Replica(3)]
    staged = one.stage(two)
    one.claim(staged)
    one.claim(staged)
    three.pull(one)
    three.pull(two)
    one.pull(three)
    one.merge(missing(three.store, NOTHING), three.seen, three.engine.state.time)
    assert journal(one) == journal(three) == [("2", ["1"])]


def test_a_write_that_has_seen_both_notes_nothing() -> None:
    one, two = rivals(2)
    one.pull(two)
    one.do("register", "set", value="settled")
    exchange(one, two)
    assert two.value("register") == "settled"
    assert journal(one) == [("2", ["1"])]
    # This one heard of the conflict and of its end at the same time: it never showed either.
    assert journal(two) == []


def test_a_winner_that_is_replaced_again_and_again_notes_its_loser_once() -> None:
    """A peer behind a slow link goes on writing; nobody needs a thousand rows about that."""
    one, two = rivals(2)
    for number in range(5):
        one.pull(two)
        two.do("register", "set", value=f"later {number}")
    assert journal(one) == [("2", ["1"])]


def test_a_loser_stays_noted_when_somebody_beats_its_winner_too() -> None:
    one, two, three = rivals(3)
    one.pull(two)
    one.pull(three)
    assert journal(one) == [("2", ["1"]), ("3", ["2"])]
    three.pull(one)
    assert journal(three) == [("3", ["1", "2"])]


def test_a_value_that_came_back_and_lost_again_is_noted_again() -> None:
    one, two, three = rivals(3)
    one.pull(two)
    two.do("register", "delete")
    assert journal(one) == [("2", ["1"])]
    one.pull(two)
    assert one.value("register") == "1"
    one.pull(three)
    assert journal(one) == [("2", ["1"]), ("3", ["1"])]


def test_what_a_delete_has_seen_does_not_lose() -> None:
    one, two = rivals(2)
    two.commit(Erase(address.bucket_prefix("shop")))
    one.pull(two)
    assert one.value("register") == "1"
    assert journal(one) == []


def test_more_losers_than_one_row_holds_are_in_several() -> None:
    first, *others = rivals(10)
    last = others.pop()
    for other in others:
        last.pull(other)
    staged = Staged(
        missing(last.store, first.seen), last.seen.join(first.seen), last.engine.state.time
    )
    fresh = Replica(20)
    fresh.claim(staged)
    rows = journal(fresh)
    assert [kept for kept, _ in rows] == ["10", "10"]
    assert [text for _, lost in rows for text in lost] == [str(n) for n in range(2, 10)]


@pytest.mark.parametrize(
    ("type_name", "operations"),
    [
        ("counter", [{"op": "increment"}, {"op": "decrement"}]),
        ("mvregister", [{"op": "set", "value": 1}, {"op": "set", "value": 2}]),
        ("flag", [{"op": "enable"}, {"op": "enable"}]),
        ("dwflag", [{"op": "enable"}, {"op": "disable"}]),
        ("set", [{"op": "add", "value": 1}, {"op": "add", "value": 1}]),
        ("opcounter", [{"op": "increment"}, {"op": "increment"}]),
    ],
)
def test_types_that_lose_no_value_note_nothing(
    type_name: str, operations: list[dict[str, Any]]
) -> None:
    one, two = Replica(1), Replica(2)
    for replica, operation in zip((one, two), operations, strict=True):
        replica.do(type_name, **operation)
    exchange(one, two)
    assert one.rows()[Table.CONFLICTS] == two.rows()[Table.CONFLICTS] == {}


def test_what_the_system_writes_is_nobodys_conflict() -> None:
    name = ObjectName("_system", "register", "k")
    one, two = Replica(1), Replica(2)
    for replica in (one, two):
        replica.commit(update(name, {"op": "set", "value": replica.number}))
    exchange(one, two)
    assert one.rows()[Table.CONFLICTS] == {}


# Against a plain oracle ---------------------------------------------------------------------------


class _Written(NamedTuple):
    """A write (or, without a text, a delete) and all that its writer had seen."""

    text: str | None
    past: frozenset[_Written]
    #: What decides between concurrent writes.
    rank: tuple[int, Dot]


def _losers(known: frozenset[_Written]) -> tuple[str | None, set[str]]:
    """Who is read and who loses, of all the writes somebody knows: from what each had seen."""
    replaced = {seen for one in known for seen in one.past}
    standing = [one for one in known - replaced if one.text is not None]
    if not standing:
        return None, set()
    winner = max(standing, key=lambda one: one.rank)
    return winner.text, {str(one.text) for one in standing if one is not winner}


class _Model:
    """What a replica knows, and what its journal has to say."""

    def __init__(self) -> None:
        self.known: dict[str, frozenset[_Written]] = {"k": frozenset(), "l": frozenset()}
        self.noted: dict[str, list[tuple[str, set[str]]]] = {"k": [], "l": []}

    def learn(self, key: str, more: frozenset[_Written]) -> None:
        _, before = _losers(self.known[key])
        self.known[key] |= more
        kept, now = _losers(self.known[key])
        if now - before:
            self.noted[key].append((str(kept), now - before))


_REPLICAS: Final = 3
_STEPS: Final = 40
#: Clocks differ by more than is believed.
_SKEW_MS: Final = 20_000
_KINDS: Final = ("write",) * 6 + ("pull",) * 6 + ("stage", "claim", "claim", "delete", "reopen")


def test_the_journal_is_what_the_causal_history_says(seed: int) -> None:
    random = Random(seed)
    replicas = [Replica(number + 1) for number in range(_REPLICAS)]
    models = [_Model() for _ in replicas]
    staged: list[tuple[int, Staged, dict[str, frozenset[_Written]]]] = []

    def write(number: int, key: str, now_ms: int, text: str | None) -> None:
        replica, model = replicas[number], models[number]
        replica.now_ms = now_ms
        operation = {"op": "delete"} if text is None else {"op": "set", "value": text}
        committed = replica.commit(update(ObjectName("shop", "register", key), operation))
        stamp = committed.outcomes[0].results[0].stamp
        if stamp is not None:
            written = _Written(text, model.known[key], (stamp.time, stamp.dot))
            model.learn(key, frozenset({written}))

    def stage(number: int, donor: int) -> None:
        pages = replicas[number].stage(replicas[donor])
        staged.append((number, pages, dict(models[donor].known)))

    def claim(at: int) -> None:
        """Late or twice: others may have come meanwhile, and the replica may have written."""
        number, pages, known = staged[at]
        replicas[number].claim(pages)
        for key, writes in known.items():
            models[number].learn(key, writes)

    for count in range(_STEPS):
        number, donor = random.sample(range(_REPLICAS), 2)
        key = random.choice("kkkl")
        now_ms = START_MS + random.randint(-_SKEW_MS, _SKEW_MS)
        match random.choice(_KINDS):
            case "write":
                write(number, key, now_ms, str(count))
            case "delete":
                write(number, key, now_ms, None)
            case "pull":
                stage(number, donor)
                claim(-1)
            case "stage":
                stage(number, donor)
            case "claim" if staged:
                claim(random.randrange(len(staged)))
            case "reopen":
                replicas[number].reopen()
        for replica, model in zip(replicas, models, strict=True):
            for key in ("k", "l"):
                rows = [(kept, set(lost)) for kept, lost in journal(replica, key)]
                assert rows == model.noted[key]
                pairs = [(kept, text) for kept, lost in rows for text in lost]
                assert len(set(pairs)) == len(pairs)
                assert replica.value("register", key) == _losers(model.known[key])[0]


# In one commit ------------------------------------------------------------------------------------


def test_a_merge_that_the_store_refuses_leaves_neither_the_value_nor_the_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = rivals(2)
    rows = one.rows()
    batches: list[Batch] = []

    def refuse(batch: Batch) -> None:
        batches.append(batch)
        raise NoSpace("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(one.store, "commit", refuse)
        with pytest.raises(NoSpace):
            one.pull(two)
    # There was but one commit to refuse, and it held both.
    (batch,) = batches
    assert batch[Table.RECORDS]
    assert batch[Table.CONFLICTS]
    assert one.rows() == rows
    one.reopen()
    assert (one.value("register"), journal(one)) == ("1", [])
    one.pull(two)
    assert (one.value("register"), journal(one)) == ("2", [("2", ["1"])])


def test_who_has_no_conflict_does_not_touch_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    touched: set[Table] = set()

    def watch(owner: type, method: str) -> None:
        plain = getattr(owner, method)

        def watched(self: object, first: Any, *more: Any, **options: Any) -> Any:
            touched.update([first] if isinstance(first, Table) else first)
            return plain(self, first, *more, **options)

        monkeypatch.setattr(owner, method, watched)

    watch(MemorySnapshot, "get")
    watch(MemorySnapshot, "scan")
    watch(MemoryStore, "commit")
    one, two = Replica(1), Replica(2)
    for replica in (one, two):
        replica.do("counter", "increment")
        replica.do("set", "add", value=1)
    two.do("register", "set", value=1)
    exchange(one, two)
    one.do("register", "set", value=2)
    two.pull(one)
    assert Table.RECORDS in touched
    assert Table.CONFLICTS not in touched
    one.do("register", "set", value=3)
    two.do("register", "set", value=4)
    one.pull(two)
    assert Table.CONFLICTS in touched


# What it holds ------------------------------------------------------------------------------------


def lose(replica: Replica, numbers: range, value: str = "") -> None:
    """Let the replica see as many conflicts, one after the other."""
    for number in numbers:
        rival = Replica(1_000 + number)
        for writer in (replica, rival):
            writer.do("register", "set", key=f"{number}", value=f"{number}{value}")
        replica.pull(rival)


def bounded(monkeypatch: pytest.MonkeyPatch, **limits: int) -> None:
    monkeypatch.setattr(conflicts, "LIMITS", Limits(**limits))


def keys(replica: Replica) -> list[int]:
    with replica.reading() as reading:
        page = reading.losses(lambda name: True, None, 1_000_000)
    prefixes = [address.split_object(noted.loss.at)[0] for noted in reversed(page.items)]
    return [int(address.name_of(prefix).key) for prefix in prefixes]


def test_the_oldest_rows_give_way_to_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    bounded(monkeypatch, conflict_rows=3)
    replica = Replica(1)
    lose(replica, range(3))
    assert keys(replica) == [0, 1, 2]
    lose(replica, range(3, 5))
    assert keys(replica) == [2, 3, 4]
    replica.reopen()
    lose(replica, range(5, 6))
    assert keys(replica) == [3, 4, 5]
    check_books(replica.store)


def test_the_oldest_rows_give_way_to_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 4_096
    bounded(monkeypatch, conflict_bytes=most)
    replica = Replica(1)
    lose(replica, range(4))
    assert keys(replica) == [0, 1, 2, 3]
    lose(replica, range(4, 20), value="x" * 500)
    held = replica.rows()[Table.CONFLICTS].values()
    assert sum(map(len, held)) <= most < sum(map(len, held)) + max(map(len, held))
    assert keys(replica) == [17, 18, 19]


def test_of_more_than_fits_one_commit_writes_only_what_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounded(monkeypatch, conflict_rows=4)
    here, there = Replica(1), Replica(2)
    lose(here, range(2))
    for replica in (here, there):
        for number in range(10, 30):
            replica.do("register", "set", key=f"{number}", value="v")
    here.pull(there)
    assert keys(here) == [26, 27, 28, 29]


def test_values_of_any_size_fit() -> None:
    """However many and large: a row is far below what the journal may hold."""
    row_bytes = (conflicts._ROW_LOSERS + 1) * LIMITS.value_bytes + 2 * LIMITS.key_bytes
    assert row_bytes < LIMITS.conflict_bytes
    one, two = Replica(1), Replica(2)
    text = "x" * (LIMITS.value_bytes - 2)
    for replica in (one, two):
        replica.do("register", "set", value=text)
    exchange(one, two)
    ((kept, lost),) = journal(one)
    assert kept == lost[0] == text


def test_it_outlives_the_process(tmp_path: Path) -> None:
    rival = Replica(1, now_ms=START_MS)
    rival.do("register", "set", key="title", value="theirs")
    with Database.open(tmp_path, replica="eu-1") as database:
        database.register("shop", "title").set("ours")
        staged = Staged(missing(rival.store, NOTHING), rival.seen, rival.engine.state.time)
        database.engine.merge(*staged)
        (conflict,) = database.conflicts()
    assert (conflict.kept, conflict.lost[0].value) == ("ours", "theirs")
    with Database.open(tmp_path) as database:
        assert list(database.conflicts()) == [conflict]


# Reading it ---------------------------------------------------------------------------------------


def test_pages_go_on_where_the_last_ended_whatever_is_noted_meanwhile() -> None:
    replica = Replica(1)
    lose(replica, range(5))

    def page(position: bytes | None) -> tuple[list[int], bytes | None]:
        with replica.reading() as reading:
            found = reading.losses(lambda name: name.key != "3", position, 2)
        texts = [noted.loss.kept[1][1] for noted in found.items]
        return [int(bytes(text).decode().strip('"')) for text in texts], found.position

    first, position = page(None)
    assert first == [4, 2]
    lose(replica, range(5, 7))
    assert position is not None
    assert page(position) == ([1, 0], None)
    # A position is only bytes: whatever they are, they are some place.
    for made_up in (b"", b"\xff" * 40):
        page(made_up)


def test_a_page_ends_before_it_grows_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(1)
    lose(replica, range(6), value="x" * 100)
    bounded(monkeypatch, body_bytes=500)
    with replica.reading() as reading:
        first = reading.losses(lambda name: True, None, 1_000)
        pages = [first]
        while pages[-1].position is not None:
            pages.append(reading.losses(lambda name: True, pages[-1].position, 1_000))
    sizes = [len(page.items) for page in pages]
    assert sum(sizes) == 6
    assert 1 < sizes[0] < 6


def test_a_page_has_one_conflict_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(1)
    lose(replica, range(2))
    bounded(monkeypatch, body_bytes=1)
    with replica.reading() as reading:
        assert len(reading.losses(lambda name: True, None, 1_000).items) == 1


def test_a_damaged_row_is_an_error_with_a_message() -> None:
    replica = Replica(1)
    lose(replica, range(1))
    ((key, row),) = replica.rows()[Table.CONFLICTS].items()
    for position in range(len(row)):
        bad = row[:position] + bytes((row[position] ^ 0x40,)) + row[position + 1 :]
        replica.store.commit({Table.CONFLICTS: {key: bad}})
        with replica.reading() as reading, pytest.raises(StorageFailed, match="journal"):
            reading.losses(lambda name: True, None, 1)
    # It is no reason to refuse a write.
    lose(replica, range(1, 2))
    assert len(replica.rows()[Table.CONFLICTS]) == 2
