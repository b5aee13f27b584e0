"""The room that is left of what was added and removed again: none.

Two stores on disk hold the same; one of them has also held very many set members that were removed
and reclaimed since. It packs itself, as it does when nobody writes. Then both are stopped, and
compacted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from time import sleep
from typing import Final, NamedTuple

from crdtdb.limits import LIMITS
from crdtdb.store.base import Table
from crdtdb.store.lmdb import LmdbStore
from crdtdb.store.lmdb.compacting import compact
from crdtdb.store.logged import LoggedStore, Pace
from figures import Figure, Round, at_most
from updates import members, update
from virtual_network import Network, Replica

__all__ = ["space"]

#: The set of members that stay, and how many they are: a tree of three levels, in which a page or
#: two at the edge of what is gone weigh nothing.
_STAYING: Final = "staying"
_STAYING_MEMBERS: Final = 20_000
_PAGE_BYTES: Final = 4_096
#: How often to look whether all is reclaimed, and how long it may take.
_LOOK_EVERY_MS: Final = 10_000
_RECLAIM_MS: Final = 3_600_000
#: Who waits for a store to pack itself need not wait half a minute before it begins.
_PACE: Final = Pace(idle_s=0.5)
_SETTLE_S: Final = 0.1


class _Size(NamedTuple):
    """How large a stopped store is."""

    records: int
    used_bytes: int
    file_bytes: int
    compacted_bytes: int


def space(directory: Path, number: int, seed: int, *, scattered: bool) -> Iterator[Figure]:
    """So many members added, removed and reclaimed: in a set of their own, or among others.

    In a set of their own whole pages get free. Among others, at random places, they leave pages
    that are a quarter full.
    """
    never = _size(directory / "never", number, seed, None)
    after = _size(directory / "after", number, seed, _STAYING if scattered else "passing")
    assert after.records == never.records, "something was not reclaimed"
    among = f" among {_STAYING_MEMBERS:,} that stay" if scattered else ""
    title = f"{number:,} members came and went{among}"
    measured = {
        "used pages": after.used_bytes / _PAGE_BYTES,
        "used pages of the other": never.used_bytes / _PAGE_BYTES,
    }
    ratio = after.used_bytes / never.used_bytes
    yield Figure(f"{title}: used pages", at_most(1.05), [Round(ratio, measured)])
    measured = {
        "file kB": after.compacted_bytes / 1e3,
        "file kB of the other": never.compacted_bytes / 1e3,
        "before kB": after.file_bytes / 1e3,
    }
    ratio = after.compacted_bytes / never.compacted_bytes
    yield Figure(f"{title}: file, compacted", at_most(1.05), [Round(ratio, measured)])


def _size(path: Path, number: int, seed: int, churned: str | None) -> _Size:
    """A store with members that stay, in which others came to a set and went from it, or none."""
    random = Random(f"{seed} space")
    with _served(path, seed) as (_, replica):
        _put("add", _STAYING, replica, random, _STAYING_MEMBERS)
    if churned is not None:
        # Stopped in between, a store has all of it in its tables.
        goes = random.getrandbits(64)
        with _served(path, seed) as (_, replica):
            _put("add", churned, replica, Random(goes), number)
        with _served(path, seed) as (_, replica):
            _put("remove", churned, replica, Random(goes), number)
        with _served(path, seed) as (network, replica):
            network.run_until(2 * LIMITS.feed_ms)
            waits = partial(_has_unreclaimed, replica, number)
            network.run_while(waits, _RECLAIM_MS, _LOOK_EVERY_MS)
            store = replica.engine.store
            assert isinstance(store, LoggedStore)
            while not store.is_settled:
                sleep(_SETTLE_S)
    with closing(LmdbStore.open(path)) as store:
        stats = store.stats()
    compacted = compact(path)
    return _Size(
        stats.entries[Table.RECORDS], stats.used_bytes, stats.file_bytes, compacted.after_bytes
    )


@contextmanager
def _served(path: Path, seed: int) -> Iterator[tuple[Network, Replica]]:
    """The replica of a directory, running; the only one of its cluster."""
    with closing(LoggedStore.open(path, pace=_PACE)) as store:
        network = Network(Random(f"{seed} network"))
        replica = network.add("r0", store, ())
        network.run_until(_LOOK_EVERY_MS)
        yield network, replica


def _put(op: str, key: str, replica: Replica, random: Random, number: int) -> None:
    for values in members(random, number):
        replica.write(update("set", key, op, values=values))


def _has_unreclaimed(replica: Replica, number: int) -> bool:
    return replica.engine.reclaimed.records < number
