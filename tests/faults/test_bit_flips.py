"""Bits of stored records flip on a real disk: found, not taken for absence, put right."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from crdtdb import Database
from crdtdb.address import ObjectName, member
from crdtdb.errors import StorageFailed
from crdtdb.replication import mending
from crdtdb.store.base import Table
from crdtdb_client import Client
from crdtdb_server import serve_in_thread
from processes import DEADLINE_S

CART = ObjectName("shop", "set", "cart")
HIT = [member(CART, f"{number:04}") for number in (7, 400, 999)]


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < end, "never"
        time.sleep(0.02)


def flip_on_disk(directory: Path, rows: list[bytes], bits: int) -> None:
    """Flip bits in the last byte of each row of a stopped replica."""
    file = directory / "data.mdb"
    data = bytearray(file.read_bytes())
    for row in rows:
        assert row in data
        while (at := data.find(row)) >= 0:
            data[at + len(row) - 1] ^= bits
    file.write_bytes(data)


@pytest.mark.parametrize("bits", [0x01, 0x41], ids=["one", "two"])
def test_flipped_bits_are_mended(
    bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in a row the replica puts right itself, two a peer."""
    monkeypatch.setattr(mending, "FIRST_MS", 0)
    with (
        Database.open(tmp_path / "us", replica="us-1") as there,
        serve_in_thread(there, listen="127.0.0.1:0") as other,
    ):
        with (
            Database.open(tmp_path / "eu", replica="eu-1") as here,
            serve_in_thread(here, listen="127.0.0.1:0", peers=[other.url]),
        ):
            here.set("shop", "cart").add(*(f"{number:04}" for number in range(1_000)))
            until(lambda: here.digest() == there.digest())
            until(lambda: here.engine.state.seen == there.engine.state.seen)
            with here.engine.store.snapshot() as snapshot:
                rows = [row for at in HIT if (row := snapshot.get(Table.RECORDS, at))]
            assert len(rows) == len(HIT)
        flip_on_disk(tmp_path / "eu", rows, bits)
        with Database.open(tmp_path / "eu", replica="eu-1") as here:
            with (
                serve_in_thread(here, listen="127.0.0.1:0", peers=[other.url]) as server,
                Client(server.url) as client,
            ):
                until(lambda: client.cluster()["integrity"]["mended"] == len(HIT))
                until(lambda: here.engine.state.seen == there.engine.state.seen)
                assert client.cluster()["integrity"]["damaged"] == 0
                assert client.readiness() in ("serving", "catching_up")
                assert client.digest() == there.digest()
            assert here.set("shop", "cart").size() == 1_000
            assert here.engine.damaged == {}


def test_while_a_record_is_damaged_the_replica_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mending, "FIRST_MS", 0)
    monkeypatch.setattr(mending, "REST_MS", 0)
    with (
        Database.open(tmp_path / "eu", replica="eu-1") as here,
        serve_in_thread(here, listen="127.0.0.1:0") as server,
        Client(server.url) as client,
    ):
        client.set("shop", "cart").add("0007")
        with here.engine.store.snapshot() as snapshot:
            row = snapshot.get(Table.RECORDS, HIT[0])
        assert row is not None
        here.engine.store.commit({Table.RECORDS: {HIT[0]: row[:-1] + b"?"}})
        until(lambda: client.readiness() == "damaged")
        assert client.cluster()["integrity"]["damaged"] == 1
        with urlopen(f"{server.url}/metrics") as answer:
            assert b"crdtdb_damaged_records 1.0\n" in answer.read()
        with pytest.raises(StorageFailed, match="damaged"):
            client.set("shop", "cart").get()
