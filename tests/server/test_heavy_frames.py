"""What takes long to take in keeps no event loop busy, however few bytes it is."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from random import Random
from typing import Any

import pytest

from crdtdb import address
from crdtdb.replication import Replication
from crdtdb.replication.messages import Digest, Message, Page, Pull, Push, Received, write_frame
from crdtdb.transaction import Erase, Transaction
from livecluster import LiveWire, eventually, live_cluster
from replicas import Replica

WIDE = address.cut(address.bucket_prefix("shop"))
OBJECT = address.cut(b"\x10shop\0set\0k\0")
MEMBER = b"\x10shop\0set\0k\0\2"


def push(*addresses: bytes) -> Push:
    return Push(1, 1, 1, [], 0, [(at, b"") for at in addresses])


@pytest.mark.parametrize(
    ("message", "heavy"),
    [
        (push(MEMBER), False),
        (push(MEMBER, WIDE), True),
        (push(OBJECT), True),
        (Pull(1, 0, 0, [], []), True),
        (Page(1, 0, 0, 0, [], None), True),
        (Digest(1, 1, 1), False),
        (Received(1, 1), False),
    ],
)
def test_what_is_heavy(message: Message, heavy: bool) -> None:
    replication = Replication(Replica(1).engine, name="a", random=Random(0))
    assert replication.is_heavy(write_frame(message)) == heavy


def test_what_cannot_be_read_is_refused_at_once() -> None:
    assert not Replication(Replica(1).engine, name="a", random=Random(0)).is_heavy(b"noise")


def threads_of_merges(replica: LiveWire, at: bytes) -> list[str]:
    """In which threads a replica takes in a record at that address, from now on."""
    threads: list[str] = []
    engine: Any = replica.service.database.engine
    merge = engine.merge

    def watched(records: Iterable[tuple[bytes, bytes]], *args: Any, **options: Any) -> Any:
        records = list(records)
        if at in dict(records):
            threads.append(threading.current_thread().name)
        return merge(records, *args, **options)

    engine.merge = watched
    return threads


async def test_a_wide_erase_once_held_the_event_loop_of_each_peer() -> None:
    """Its push is a hundred bytes; what it does is in proportion to the objects erased."""
    async with live_cluster("eu-1", "us-1") as (eu, us):
        for n in range(20):
            await eu.post(f"/v1/buckets/shop/set/k{n}", {"op": "add", "value": n})
        threads = threads_of_merges(us, WIDE)
        await eu.service.writer.commit(Transaction((Erase(address.bucket_prefix("shop")),)))
        await eventually("erased there, too", lambda: bool(threads))
    assert all(name.startswith("commit") for name in threads)
