"""`crdtdb repair`: what waits to be mended, and accepting the loss of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from commands import Run
from crdtdb import Database, address
from crdtdb.address import ObjectName
from crdtdb.store.base import Table
from crdtdb_server import serve_in_thread

CART = ObjectName("shop", "set", "cart")


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A replica whose only member of a set, and whose text, are damaged."""
    with Database.in_memory(replica="eu-1") as database:
        database.set("shop", "cart").add("milk", "bread")
        database.text("shop", "note").insert(0, "x")
        engine = database.engine
        with serve_in_thread(database, listen="127.0.0.1:0") as server:
            monkeypatch.setenv("CRDTDB_URL", server.url)
            note = ObjectName("shop", "text", "note").prefix
            with engine.store.snapshot() as snapshot:
                (text, _) = next(iter(snapshot.scan(Table.RECORDS, note, address.after(note))))
                rows = {
                    at: snapshot.get(Table.RECORDS, at) or b""
                    for at in (address.member(CART, "milk"), text)
                }
            engine.store.commit({Table.RECORDS: {at: row[:-1] + b"?" for at, row in rows.items()}})
            yield


@pytest.mark.usefixtures("damaged")
def test_named_and_given_up(run: Run) -> None:
    assert run("repair").out == "nothing waits\n", "no walk has come here"
    dry = run("repair", "--accept-loss", "shop/set/cart", "--dry-run")
    assert dry.code == 0
    assert dry.out.splitlines() == [
        "shop/set/cart: 1 damaged records; nothing else of it goes",
        '  member "milk"',
        dry.out.splitlines()[2],
        "1 damaged records of 1 objects would be given up",
    ]
    assert "no other member has reported operations 1 to " in dry.out
    listed = run("repair")
    assert listed.code == 1
    assert listed.out.endswith("1 objects wait to be mended, 1 records\n")
    status = run("status")
    assert "damaged: shop/set/cart; see: crdtdb repair" in status.out + status.err
    assert run("repair", "--json").json[0]["objects"] == 1

    done = run("repair", "--accept-loss", "shop/set/cart")
    assert (done.code, done.out.splitlines()[-1]) == (
        0,
        "1 damaged records of 1 objects were given up",
    )
    assert run("get", "shop/set/cart").out == '"bread"\n'
    assert run("repair").out == "nothing waits\n"


@pytest.mark.usefixtures("damaged")
def test_what_cannot_be_given_up_by_itself(run: Run) -> None:
    refused = run("repair", "--accept-loss", "shop/text/note")
    assert refused.code == 1
    assert "empty directory" in refused.err
    every = run("repair", "--accept-loss", "everything")
    assert every.code == 1
    assert "shop/text/note stays: " in every.out + every.err
    shown = run("repair")
    assert "shop/text/note: 1 damaged records; it cannot be given up by itself\n" in shown.out
    assert "  operations\n" in shown.out


@pytest.mark.usefixtures("damaged")
def test_wrong_usage(run: Run) -> None:
    assert run("repair", "--accept-loss", "cart").code == 2
    sound = run("repair", "--accept-loss", "shop/set/other")
    assert sound.code == 1
    assert "nothing of this object is damaged" in sound.err
