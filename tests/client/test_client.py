"""What only the client has: listings, the replica's own affairs, and how little it imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from crdtdb import __version__
from crdtdb.address import ObjectName
from crdtdb.errors import BadRequest
from crdtdb_client import Client

#: Keys that a careless URL would mix up.
KEYS = ["a/b", "a%2Fb", "a?b", "a#b", "a+b", "a b", "ü", "u\u0308", "..%2F", "{a}", "a\nb", "'\""]


def test_keys_are_exact(db: Client) -> None:
    for number, key in enumerate(KEYS, start=1):
        db.counter("shop", key).increment(number)
    for number, key in enumerate(KEYS, start=1):
        assert db.counter("shop", key).get().value == number
    shown = {name.key: read.value for name, read in db.objects("shop", "counter")}
    assert shown == {key: number for number, key in enumerate(KEYS, start=1)}


def test_members_are_exact(db: Client) -> None:
    members = db.set("shop", "members")
    members.add("a+b", "a b", "a&b", "%41", "ü")
    assert "a+b" in members
    assert "a%2Bb" not in members
    assert "A" not in members


def test_listings_go_page_by_page(db: Client) -> None:
    for start in range(0, 250, 125):
        with db.transaction() as tx:
            for number in range(start, start + 125):
                tx.counter(f"b{number:03}", f"k{number:03}").increment()
                tx.flag("flags", f"k{number:03}").enable()
    assert list(db.buckets()) == [*(f"b{number:03}" for number in range(250)), "flags"]
    assert db.types("flags") == ["flag"]
    assert len(list(db.objects("flags", "flag"))) == 250
    assert [name.key for name, _ in db.objects("flags", "flag", "k12")] == [
        f"k12{digit}" for digit in range(10)
    ]
    assert list(db.objects("flags", "counter")) == []


def test_objects_are_read_together(db: Client) -> None:
    db.counter("shop", "sold").increment(3)
    db.set("shop", "buyers").add("ann")
    names = [ObjectName("shop", "counter", "sold"), ObjectName("shop", "set", "buyers")]
    sold, buyers = db.read_together(names)
    assert (sold.value, buyers.value, buyers.size) == (3, ["ann"], 1)
    with pytest.raises(BadRequest):
        db.read_together([])


def test_a_replica_tells_about_itself(db: Client) -> None:
    about = db.about()
    assert (about["version"], about["replica"]) == (__version__, "eu-1")
    assert db.readiness() == "serving"
    assert db.cluster()["self"]["replica"] == "eu-1"


def test_links_can_be_broken_and_mended(db: Client) -> None:
    db.put_fault("us-1", drop=True, latency_ms=1.5)
    db.mend("us-1")
    with pytest.raises(BadRequest):
        db.put_fault("us-1", loss=2)
    with pytest.raises(BadRequest):
        db.put_fault("eu-1", drop=True)


def test_the_client_needs_no_server_code() -> None:
    code = (
        "import sys, crdtdb_client; "
        "print([m for m in sys.modules if m.split('.')[0] in ('crdtdb_server', 'aiohttp', 'lmdb')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
