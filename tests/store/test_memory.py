"""What is special to the memory store: a copy is what a crash would leave."""

from __future__ import annotations

from crdtdb.store.base import Table
from crdtdb.store.memory import MemoryStore


def test_a_copy_goes_its_own_way() -> None:
    store = MemoryStore(b"here")
    store.commit({Table.META: {b"k": b"before"}})
    with store.snapshot() as snapshot:
        twin = store.copy()
        store.commit({Table.META: {b"k": b"original"}})
        twin.commit({Table.META: {b"k": b"twin"}})
        assert snapshot.get(Table.META, b"k") == b"before"
    for made, value in ((store, b"original"), (twin, b"twin")):
        with made.snapshot() as snapshot:
            assert snapshot.get(Table.META, b"k") == value
    assert twin.location == store.location == b"here"
    assert store.copy(location=b"there").location == b"there"


def test_a_closed_store_can_be_copied() -> None:
    """The crash of a replica closes its store; the copy is what it starts from."""
    store = MemoryStore()
    store.commit({Table.META: {b"k": b"v"}})
    store.close()
    with store.copy().snapshot() as snapshot:
        assert snapshot.get(Table.META, b"k") == b"v"
