"""Rankings: pages by score and rank are what sorting all members would give, at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Event
from typing import Any
from unittest.mock import patch

import pytest

from crdtdb import jsonbytes
from crdtdb.address import ObjectName
from crdtdb.answers import Order, Standing
from crdtdb.causal import NOTHING
from crdtdb.errors import TooLarge
from crdtdb.query import Query
from crdtdb.rankings import Rankings
from crdtdb.reading import Reading
from crdtdb.transaction import Erase
from operations import random_operation
from replicas import Replica, missing, update

NAME = ObjectName("shop", "zset", "k")


class Ranked:
    """A replica whose sorted set is read by score and rank."""

    def __init__(self, replica: Replica, most_bytes: int = 1 << 20) -> None:
        self.replica = replica
        self.rankings = Rankings(most_bytes)

    def page(
        self, query: Query, position: bytes | None = None, name: ObjectName = NAME
    ) -> tuple[list[Any], bytes | None]:
        with self.replica.reading() as reading:
            head = reading.head(name.prefix)
            return self.rankings.page(reading, name, head, query, position)

    def listing(self, query: Query) -> Iterator[Any]:
        """Page after page; whoever iterates may write between two of them."""
        items, position = self.page(query)
        yield from items
        while position is not None:
            items, position = self.page(query, position)
            yield from items

    def standing(self, member: Any) -> Any:
        with self.replica.reading() as reading:
            return self.rankings.standing(reading, NAME, member)

    def check(self) -> None:
        """All of it, both ways, is what a look at all members says."""
        expected = ranked(self.replica)
        assert list(self.listing(by("rank", limit=3))) == expected
        assert list(self.listing(by("rank", limit=3, reverse=True))) == expected[::-1]
        plain = [{name: one[name] for name in ("member", "score")} for one in expected]
        assert list(self.listing(by("score", limit=3))) == plain
        for one in expected:
            assert self.standing(one["member"]) == Standing(one["score"], one["rank"])


def ranked(replica: Replica) -> list[dict[str, Any]]:
    def place(entry: dict[str, Any]) -> tuple[Any, bytes]:
        return entry["score"], jsonbytes.encode(entry["member"])

    entries = sorted(replica.value("zset"), key=place)
    return [{**entry, "rank": rank} for rank, entry in enumerate(entries)]


def by(order: Order, *, start: Any = None, end: Any = None, **rest: Any) -> Query:
    """A query with bounds of its order."""
    return Query(
        start=None if start is None else jsonbytes.encode(start),
        end=None if end is None else jsonbytes.encode(end),
        order=order,
        **rest,
    )


def board(*scores: Any) -> Ranked:
    """Members m00, m01, … with these scores."""
    replica = Replica(1)
    plain = [
        {"op": "add", "member": f"m{number:02}", "score": score}
        for number, score in enumerate(scores)
    ]
    replica.commit(*(update(NAME, one) for one in plain))
    return Ranked(replica)


def members(entries: Any) -> list[Any]:
    return [entry["member"] for entry in entries]


def test_equal_scores_stand_in_the_order_of_members() -> None:
    ranked = board(2, -0.5, 2, 1e300, 2)
    assert members(ranked.listing(by("score"))) == ["m01", "m00", "m02", "m04", "m03"]
    assert ranked.standing("m02") == Standing(2, 2)
    assert ranked.standing("m99") is None


def test_a_page_is_bounded_by_scores() -> None:
    ranked = board(*range(10))
    assert members(ranked.listing(by("score", start=3, end=5.5, limit=2))) == ["m03", "m04", "m05"]
    back = by("score", start=2.5, end=6, limit=2, reverse=True)
    assert members(ranked.listing(back)) == ["m05", "m04", "m03"]
    assert members(ranked.listing(by("score", start=5, end=2))) == []


def test_a_page_is_bounded_by_ranks() -> None:
    ranked = board(*(10 - number for number in range(10)))
    assert members(ranked.listing(by("rank", start=2, end=5, limit=2))) == ["m07", "m06", "m05"]
    back = by("rank", start=6, limit=3, reverse=True)
    assert members(ranked.listing(back)) == ["m00", "m01", "m02", "m03"]
    assert members(ranked.listing(by("rank", start=8, end=99))) == ["m01", "m00"]
    assert members(ranked.listing(by("rank", start=99))) == []
    assert members(ranked.listing(by("rank", start=4, end=2))) == []


@pytest.mark.parametrize("reverse", [False, True])
def test_who_keeps_a_score_is_listed_once_whatever_happens_around_it(reverse: bool) -> None:
    ranked, random = board(*range(30)), Random(1)
    for order in ("score", "rank"):
        listed: list[str] = []
        for entry in ranked.listing(by(order, limit=2, reverse=reverse)):
            listed.append(entry["member"])
            number = random.randrange(0, 30, 3)
            ranked.replica.do(
                "zset", "increment", member=f"m{number:02}", by=random.choice((-9, 9))
            )
            ranked.replica.do("zset", "add", member=f"n{random.random()}", score=number)
        steady = [f"m{number:02}" for number in range(30) if number % 3]
        found = [member for member in listed if member in steady]
        assert found == (steady[::-1] if reverse else steady)


def test_a_listing_by_rank_has_as_many_entries_as_were_asked_for() -> None:
    ranked = board(*range(20))
    listed: list[str] = []
    for entry in ranked.listing(by("rank", start=5, end=15, limit=2)):
        listed.append(entry["member"])
        ranked.replica.do("zset", "add", member=f"n{len(listed)}", score=-1)
    assert listed == [f"m{number:02}" for number in range(5, 15)]


# Following ----------------------------------------------------------------------------------------


def test_writes_do_not_cost_a_load() -> None:
    ranked = board(1, 2, 3)
    ranked.check()
    for number in range(50):
        ranked.replica.do("zset", "increment", member=f"m{number % 5:02}", by=number)
        ranked.replica.do("set", "add", value=number)
        ranked.check()
    ranked.replica.do("zset", "remove", member="m01")
    ranked.check()
    assert ranked.rankings.loads == 1


@pytest.mark.parametrize("run", range(8))
def test_it_is_right_after_whatever_happens(run: int) -> None:
    random = Random(run)
    a, b = Replica(1), Replica(2)
    ranked = Ranked(a)
    for _ in range(60):
        match random.randrange(8):
            case 0:
                a.pull(b)
            case 1:
                b.pull(a)
            case 2:
                a.reclaim(a.seen.meet(b.seen))
            case 3 if random.random() < 0.2:
                a.commit(Erase(b"\x10shop\0"))
            case _:
                writer = random.choice((a, b))
                writer.commit(update(NAME, random_operation("zset", random)))
        if random.random() < 0.5:
            ranked.check()
    ranked.check()


def test_a_member_that_was_reclaimed_before_it_was_missed_is_missed() -> None:
    ranked = board(*range(3))
    ranked.check()
    ranked.replica.do("zset", "remove", member="m01")
    ranked.replica.do("zset", "add", member="new", score=9)
    assert ranked.replica.reclaim() == 1
    ranked.check()
    assert ranked.rankings.loads == 2


def test_everything_taken_over_whole_is_taken_over() -> None:
    """Who may have missed reclaimed deletes gets all there is, and drops the rest."""
    ranked, donor = board(1, 2, 3), Replica(2)
    donor.pull(ranked.replica)
    ranked.check()
    donor.do("zset", "remove", member="m00")
    donor.do("zset", "add", member="m09", score=0)
    donor.reclaim()
    time = donor.engine.state.time
    ranked.replica.engine.merge(missing(donor.store, NOTHING), donor.seen, time, whole=donor.seen)
    assert members(ranked.replica.value("zset")) == ["m01", "m02", "m09"]
    ranked.check()


def test_a_reading_of_an_earlier_state_shows_that_state() -> None:
    ranked = board(1, 2)
    with ranked.replica.store.snapshot() as snapshot:
        earlier = Reading(snapshot)
        ranked.replica.do("zset", "increment", member="m00", by=9)
        ranked.check()
        head = earlier.head(NAME.prefix)
        page = ranked.rankings.page(earlier, NAME, head, by("score"), None)
        assert members(page.items) == ["m00", "m01"]
    ranked.check()


def test_nobody_waits_while_another_is_loaded() -> None:
    replica = board(*range(5)).replica
    other = ObjectName("shop", "zset", "other")
    replica.commit(update(other, {"op": "add", "member": 1, "score": 1}))
    ranked = Ranked(replica)
    ranked.page(by("rank"))
    loading, asked = Event(), Event()
    load = ranked.rankings._load

    def slow(*arguments: Any) -> Any:
        loading.set()
        assert asked.wait(30)
        return load(*arguments)

    with patch.object(ranked.rankings, "_load", slow), ThreadPoolExecutor(1) as threads:
        loaded = threads.submit(ranked.page, by("rank"), None, other)
        assert loading.wait(30)
        replica.do("zset", "add", member="m09", score=-1)
        assert ranked.page(by("rank", limit=1))[0][0]["member"] == "m09"
        asked.set()
        assert loaded.result()[0] == [{"member": 1, "score": 1, "rank": 0}]
    ranked.check()
    assert ranked.rankings.loads == 2


def test_of_two_that_were_loaded_at_once_either_goes_on() -> None:
    ranked = board(1, 2)
    with ranked.replica.store.snapshot() as snapshot:
        earlier = Reading(snapshot)
        head = earlier.head(NAME.prefix)
        load = ranked.rankings._load

        def overtaken(*arguments: Any) -> Any:
            found = load(*arguments)
            with patch.object(ranked.rankings, "_load", load):
                ranked.replica.do("zset", "add", member="m02", score=0)
                ranked.check()
            return found

        with patch.object(ranked.rankings, "_load", overtaken):
            page = ranked.rankings.page(earlier, NAME, head, by("score"), None)
        assert members(page.items) == ["m00", "m01"]
    ranked.check()
    assert ranked.rankings.loads == 2


def test_it_is_near_while_little_has_changed() -> None:
    ranked = board(1, 2)
    assert not ranked.rankings.are_near(NAME, ranked.replica.engine.state.sequence)
    ranked.check()
    sequence = ranked.replica.engine.state.sequence
    assert ranked.rankings.are_near(NAME, sequence + 1_000)
    assert not ranked.rankings.are_near(NAME, sequence + 1_001)


# Bounds -------------------------------------------------------------------------------------------


def test_what_was_not_asked_for_longest_gives_way() -> None:
    replica = Replica(1)
    names = [ObjectName("shop", "zset", f"k{number}") for number in range(3)]
    for name in names:
        for member in range(10):
            replica.commit(update(name, {"op": "add", "member": member, "score": 1}))
    ranked = Ranked(replica, most_bytes=5_500)
    for name in (names[0], names[1], names[0], names[2], names[0]):
        ranked.page(by("rank"), name=name)
    assert ranked.rankings.loads == 3
    assert 0 < ranked.rankings.size_bytes <= 5_500
    ranked.page(by("rank"), name=names[1])
    assert ranked.rankings.loads == 4


def test_what_takes_too_much_is_refused_and_nothing_of_it_is_kept() -> None:
    ranked = Ranked(board(*range(20)).replica, most_bytes=4_000)
    with pytest.raises(TooLarge) as refused:
        ranked.standing("m01")
    assert refused.value.fields[0].limit == 4_000
    ranked.rankings._most_bytes = 4_100  # the least that so many entries could take
    with pytest.raises(TooLarge):
        ranked.standing("m01")
    assert ranked.rankings.size_bytes == 0
