"""`crdtdb conflicts`: what lost to concurrent writes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from commands import Run
from crdtdb_server.shell.printing import moment
from liveserver import live_server
from replicas import START_MS, Replica, exchange


@pytest.fixture
def url() -> Iterator[str]:
    """A replica that has seen two conflicts."""
    here, there = Replica(1), Replica(2, now_ms=START_MS + 7)
    for key in ("title", "a/b"):
        here.do("register", "set", key=key, value={"by": 1})
        there.do("register", "set", key=key, value="\x1b[2J")
        exchange(here, there)
    with live_server("eu-1", here.store) as url:
        yield url


def test_a_line_for_each_value_that_lost(crdtdb: Run) -> None:
    ran = crdtdb("conflicts", "shop/register/title")
    seen, name, lost, writer, written, kept = ran.out.rstrip("\n").split("\t")
    assert (seen, name) == (moment(START_MS), "shop/register/title")
    # Nothing that a terminal would obey.
    assert (lost, writer, written, kept) == (
        '{"by": 1}',
        "eu-1",
        moment(START_MS),
        '"\\u001b[2J"',
    )
    assert (ran.code, ran.err) == (0, "")


def test_the_latest_first_and_no_more_than_asked_for(crdtdb: Run) -> None:
    names = [line.split("\t")[1] for line in crdtdb("conflicts").out.splitlines()]
    assert names == ["shop/register/a/b", "shop/register/title"]
    one = crdtdb("conflicts", "shop", "--limit", "1")
    assert one.out.count("\n") == 1
    assert one.err == "(the latest 1; there are more, --limit says how many to show)\n"
    assert crdtdb("conflicts", "shop", "--limit", "2").err == ""


def test_documents_for_programs(crdtdb: Run) -> None:
    (document,) = crdtdb("conflicts", "shop/register/a/b", "--json").json
    assert document == {
        "object": {"bucket": "shop", "type": "register", "key": "a/b"},
        "at_ms": START_MS,
        "kept": "\x1b[2J",
        "lost": [{"value": {"by": 1}, "replica": "eu-1", "at_ms": START_MS + 7}],
    }


def test_nothing_lost_and_wrong_names_are_told_apart(crdtdb: Run) -> None:
    nothing = crdtdb("conflicts", "other")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "(nothing was seen to lose)\n")
    unknown = crdtdb("conflicts", "shop/nonsense")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err.startswith("unknown-type: ")
    assert crdtdb("conflicts", "--limit", "0").code == 2


def test_times_that_no_calendar_has_are_shown_as_they_are() -> None:
    assert moment(START_MS + 5) == "2023-11-14 22:13:20.005"
    assert moment(1 << 48) == f"{1 << 48} ms"
