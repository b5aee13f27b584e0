"""Commits written to a live replica are what the tally says, and the audit sees when not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from crdtdb_client import Client
from crdtdb_server.demo.audit import differences
from crdtdb_server.demo.replay import write_commit
from crdtdb_server.demo.tally import BUCKET, Tally
from crdtdb_server.demo.trace import Changed, Commit
from liveserver import live_server

COMMITS = [
    Commit(1, 1, "eu", [Changed(f"src/{number}.c", number, 1) for number in range(2_100)]),
    Commit(2, 2, "eu", [Changed("src/1.c", 0, 7), Changed("src/1.c", 3, 0)]),
    Commit(3, "ann", "eu", [Changed("image.png", 0, 0)]),
]


@pytest.fixture
def tally() -> Tally:
    tally = Tally()
    for commit in COMMITS:
        tally.add(commit, 0)
    return tally


@pytest.fixture
def db() -> Iterator[Client]:
    with live_server() as url, Client(url) as db:
        for commit in COMMITS:
            write_commit(db, commit)
        yield db


def test_commits_of_any_size_are_written_whole(db: Client, tally: Tally) -> None:
    assert list(differences(db, tally)) == []


def forget_a_counter(db: Client) -> None:
    db.counter(BUCKET, "lines/2").delete()


def count_twice(db: Client) -> None:
    db.gcounter(BUCKET, "added").increment()


def lose_a_member(db: Client) -> None:
    db.set(BUCKET, "paths/1").remove("src/2000.c")


def keep_an_old_commit(db: Client) -> None:
    db.register(BUCKET, "src/1.c").set({"t": 1, "who": 1})


def add_an_object(db: Client) -> None:
    db.opcounter(BUCKET, "pushes").increment()


@pytest.mark.parametrize(
    ("tamper", "difference"),
    [
        (forget_a_counter, "counter lines/2 is missing"),
        (count_twice, "gcounter added shows 2203954, the plain loop says 2203953"),
        (lose_a_member, "set paths/1 shows "),
        (keep_an_old_commit, "register src/1.c shows {'t': 1, 'who': 1}, the plain loop says "),
        (add_an_object, "opcounter pushes should not be there"),
    ],
)
def test_every_kind_of_difference_is_seen(
    db: Client, tally: Tally, tamper: Callable[[Client], None], difference: str
) -> None:
    tamper(db)
    (found,) = differences(db, tally)
    assert found.startswith(difference)
