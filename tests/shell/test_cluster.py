"""`crdtdb cluster` and `crdtdb compact`: what an operator does, in words and for programs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commands import Run
from crdtdb import Database, replication
from crdtdb_client import Client
from crdtdb_server.shell.status import _described, _notes
from liveserver import live_server
from processes import DEADLINE_S


@pytest.fixture
def other() -> Iterator[str]:
    """Another replica, which knows nobody."""
    with live_server("us-1") as url:
        yield url


def _await(check: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def _await_state(url: str, state: str, members: int = 0) -> None:
    end = time.monotonic() + DEADLINE_S
    with Client(url) as client:
        while client.readiness() != state or len(client.cluster()["members"]) < members:
            assert time.monotonic() < end, f"never {state} with {members} members"


def test_added_evicted_and_back(crdtdb: Run, url: str, other: str) -> None:
    added = crdtdb("cluster", "add", other)
    # (What the servers of this process log is among what the command prints.)
    assert added.code == 0
    assert f"{other} is asked\n" in added.out
    _await_state(url, "serving", members=2)
    assert "us-1 is a member\n" in crdtdb("cluster", "add", other).out

    dry = crdtdb("cluster", "evict", "us-1", "--dry-run")
    assert dry.code == 0
    assert "us-1 would be evicted\n" in dry.out
    assert "it runs, and will take no writes" in dry.err
    assert "not known to be elsewhere: 0 operations" in dry.err
    assert (
        '"dry_run":true,"reachable":true'
        in crdtdb("cluster", "evict", "us-1", "--dry-run", "--json").out
    )

    assert "us-1 is evicted\n" in crdtdb("cluster", "evict", "us-1").out
    assert "evicted: us-1" in crdtdb("status").err
    _await_state(other, "evicted")
    refused = crdtdb("update", "shop/counter/views", "increment", "--url", other)
    assert refused.code == 1
    assert "crdtdb cluster rejoin" in refused.err
    assert "takes no writes" in crdtdb("status", "--url", other).err

    back = crdtdb("cluster", "rejoin", "--url", other)
    assert back.code == 0
    assert "rejoins as " in back.out
    _await_state(url, "serving", members=2)
    assert crdtdb("update", "shop/counter/views", "increment", "--url", other).code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("evict", "mars-1"), "is no member"),
        (("evict", "eu-1"), "does not evict itself"),
        (("rejoin",), "was not evicted"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], said: str, crdtdb: Run) -> None:
    ran = crdtdb("cluster", *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err
    assert "  : " not in ran.err, "no field is named where none is wrong"


def test_who_shall_be_added_is_not_the_server_that_is_asked(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable that names the server was taken for the member, too: it was to add itself."""
    monkeypatch.setenv("CRDTDB_URL", url)
    ran = run("cluster", "add")
    assert ran.code == 2
    assert "MEMBER" in ran.err


def test_what_programs_read(crdtdb: Run, url: str, other: str) -> None:
    asked = crdtdb("cluster", "add", other, "--json")
    assert f'{{"url":"{other}","replica":null}}\n' in asked.out
    _await_state(url, "serving", members=2)
    assert (
        f'{{"url":"{other}","replica":"us-1"}}\n' in crdtdb("cluster", "add", other, "--json").out
    )
    assert crdtdb("cluster", "evict", "us-1").code == 0
    _await_state(other, "evicted")
    back = crdtdb("cluster", "rejoin", "--url", other, "--json")
    assert re.search(r'\{"incarnation":"[0-9a-f]{16}"\}\n', back.out)


def test_no_url_of_a_replica(crdtdb: Run) -> None:
    assert crdtdb("cluster", "add", "ftp://x").code == 2


def test_compact(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "data"
    with Database.open(path) as database:
        database.set("shop", "cart").add("apple")
        in_use = run("compact", "--data-dir", str(path))
        assert in_use.code == 1
        assert "in use by process" in in_use.err
    (sizes,) = run("compact", "--data-dir", str(path), "--json").json
    assert sizes["before_bytes"] >= sizes["after_bytes"] > 0
    after = sizes["after_bytes"]
    assert run("compact", "--data-dir", str(path)).out == f"{after} bytes before, {after} after\n"
    with Database.open(path) as database:
        assert database.set("shop", "cart").get().value == ["apple"]


def test_status_waits_until_all_is_fetched(crdtdb: Run, url: str) -> None:
    """Nothing is: it shows the cluster at once."""
    shown = crdtdb("status", "--watch")
    assert shown.code == 0
    assert shown.out == crdtdb("status").out


def test_what_status_says_of_a_pull() -> None:
    fetching = {"donor": "us-1", "records": 30, "bytes": 900, "place": 50, "head": 200}
    assert _described({**fetching, "complete": False, "joined": 0}) == (
        "fetching from us-1: 25 %, 30 records, 900 bytes"
    )
    assert _described({**fetching, "complete": True, "joined": 15}) == (
        "joining: 50 %, 30 records, 900 bytes"
    )


def test_what_keeps_deletes_from_going_is_said(
    crdtdb: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who, since when, and how much; and nothing any more once it is evicted."""
    monkeypatch.setattr(replication.reclaiming, "FEED_MS", 0)
    with live_server("us-1") as other:
        crdtdb("cluster", "add", other)
        _await_state(url, "serving", members=2)
        assert crdtdb("update", "shop/set/cart", "add", "value=apple").code == 0
        with Client(url) as client:
            _await(lambda: all(m["lag_events"] == 0 for m in client.cluster()["members"]))
    assert crdtdb("update", "shop/set/cart", "remove", "value=apple").code == 0
    with Client(url) as client:
        _await(lambda: client.cluster()["stability"]["waiting"]["records"] == 1)
        stability = client.cluster()["stability"]
    (blocker,) = stability["blocked_by"]
    assert (blocker["replica"], blocker["events"] >= 1) == ("us-1", True)
    said = crdtdb("status").err
    assert f"deletes wait for us-1: it has not reported {blocker['events']} operation" in said
    assert re.search(r"; it last reported more \d+ (ms|s) ago\n", said)
    assert f"not reclaimed for that: 1 records, {stability['waiting']['bytes']} bytes\n" in said
    assert crdtdb("cluster", "evict", "us-1").code == 0
    with Client(url) as client:
        _await(lambda: client.cluster()["stability"]["waiting"]["records"] == 0)
    assert "deletes wait" not in crdtdb("status").err


def test_what_is_wrong_with_a_peer_that_answers_is_said() -> None:
    """Of one that does not, the table says it."""
    cluster = {
        "self": {"state": "serving", "failing": ["sharing"]},
        "members": [
            {"self": True, "reachable": True, "url": "http://eu:1"},
            {"self": False, "reachable": True, "url": "http://us:1"},
            {"self": False, "reachable": False, "url": "http://ap:1"},
        ],
        "evicted": [{"replica": "af-1", "url": "http://af:1", "by": "eu-1", "at_ms": 0}],
        "troubles": {
            "http://us:1": "two of one name",
            "http://ap:1": "cannot connect",
            "http://af:1": "cannot connect",
        },
        "stability": {
            "unmet_peers": [],
            "blocked_by": [{"replica": "ap-1", "events": 7, "reported_ms": None}],
            "waiting": {"records": 0, "bytes": 0},
        },
        "integrity": {"damaged": 2, "found": 5, "mended": 3},
    }
    assert list(_notes(cluster)) == [
        "evicted: af-1 http://af:1 by eu-1, 1970-01-01 00:00:00.000",
        "a bug keeps this replica from sharing; it is tried again, and the server's log says why",
        "trouble with http://us:1: two of one name",
        "deletes wait for ap-1: it has not reported 7 operations; "
        "it has reported nothing since this replica started",
        "damage: 5 rows were found since the start, 3 records were put right",
        "damaged: 2 records wait for a peer that has seen all they held to mend them",
    ]
