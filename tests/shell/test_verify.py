"""`crdtdb verify`: damage, and differences from another replica."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib import import_module

import pytest

from commands import Run
from crdtdb import Database
from crdtdb.address import ObjectName, member
from crdtdb.rows import read_record
from crdtdb.scrub import Scrub
from crdtdb.store.base import Table
from crdtdb_server import serve_in_thread
from processes import DEADLINE_S

CART = ObjectName("shop", "set", "cart")


@pytest.fixture
def here() -> Iterator[Database]:
    with Database.in_memory(replica="eu-1") as database:
        yield database


@pytest.fixture
def there() -> Iterator[Database]:
    with Database.in_memory(replica="us-1") as database:
        yield database


@pytest.fixture
def urls(here: Database, there: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Two replicas of one cluster that hold the same; the first one is asked."""
    fill(here)
    with (
        serve_in_thread(here, listen="127.0.0.1:0") as one,
        serve_in_thread(there, listen="127.0.0.1:0", peers=[one.url]) as other,
    ):
        monkeypatch.setenv("CRDTDB_URL", one.url)
        end = time.monotonic() + DEADLINE_S
        while not there.digest().objects or here.engine.state.seen != there.engine.state.seen:
            assert time.monotonic() < end, "never level"
        yield other.url


def fill(database: Database) -> None:
    cart = database.set("shop", "cart")
    cart.add(*(f"{number:03}" for number in range(200)))
    for number in range(100):
        database.counter("shop", f"{number:03}").increment()


def lose(database: Database, at: bytes) -> None:
    """Take a record out behind the replica's back, as a bug would: all else agrees with that."""
    engine = database.engine
    with engine.store.snapshot() as snapshot:
        _, place = read_record(snapshot, at)
    number = place.to_bytes(8, "big")
    engine.store.commit({Table.RECORDS: {at: None}, Table.SEQUENCE: {number: None}})
    walk = Scrub()
    while not walk.done:
        engine.scrub(walk, 10_000)  # which counts the object again


def test_a_sound_store(run: Run, urls: str) -> None:
    ran = run("verify")
    assert ran.code == 0
    assert "rows are sound\n" in ran.out
    assert '"damage":[]' in run("verify", "--json").out


def test_a_damaged_store(run: Run, here: Database, urls: str) -> None:
    at = member(CART, "042")
    with here.engine.store.snapshot() as snapshot:
        row = snapshot.get(Table.RECORDS, at)
    assert row is not None
    here.engine.store.commit({Table.RECORDS: {at: row[:-1] + b"?"}})
    ran = run("verify")
    assert ran.code == 1
    assert "damaged: record " in ran.out
    assert "shop\\x00set\\x00cart" in ran.out
    assert "checksum" in ran.out
    assert run("verify", "--json").code == 1


def test_equal_replicas(run: Run, urls: str) -> None:
    ran = run("verify", "--against", urls)
    assert (ran.code, f"equal: {urls} shows the same\n" in ran.out) == (0, True)
    assert '"verdict":"equal"' in run("verify", "--against", urls, "--json").out


def test_the_first_difference_is_named(run: Run, there: Database, urls: str) -> None:
    lose(there, member(CART, "117"))
    ran = run("verify", "--against", urls)
    assert ran.code == 1
    assert "first difference: shop/set/cart\n" in ran.out
    assert "here:  size 200" in ran.out
    assert "there: size 199" in ran.out
    assert 'first difference in it: {"member": "117"}\n' in ran.out
    assert ran.out.endswith("there: does not exist\n")
    assert '"verdict":"different"' in run("verify", "--against", urls, "--json").out


def test_who_is_behind_does_not_differ(
    run: Run, there: Database, urls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("crdtdb_server.shell.verify"), "_PAUSE_S", 0)
    with Database.in_memory(replica="mars-1") as alone:
        alone.set("shop", "cart").add("x")
        with serve_in_thread(alone, listen="127.0.0.1:0") as server:
            ran = run("verify", "--against", server.url)
            said = run("verify", "--against", server.url, "--json")
    assert ran.code == 1
    assert "this replica lacks " in ran.out
    assert f"{server.url} lacks " in ran.out
    assert '"verdict":"unsettled"' in said.out
