"""The backends, as the conformance suite sees them: a name and a way to make a fresh store.

A new backend is one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from crdtdb.store.base import Store
from crdtdb.store.lmdb import LmdbStore
from crdtdb.store.logged import LoggedStore, Pace
from crdtdb.store.memory import MemoryStore

__all__ = ["BACKENDS", "HASTY", "Fresh"]

Fresh = Callable[[], AbstractContextManager[Store]]


@contextmanager
def _memory() -> Iterator[Store]:
    store = MemoryStore()
    yield store
    store.close()


@contextmanager
def _lmdb() -> Iterator[Store]:
    with TemporaryDirectory() as directory:
        store = LmdbStore.open(Path(directory, "data"), map_bytes=2**20)
        yield store
        store.close()


@contextmanager
def _logged(pace: Pace) -> Iterator[Store]:
    with TemporaryDirectory() as directory:
        store = LoggedStore.open(Path(directory, "data"), map_bytes=2**26, pace=pace)
        yield store
        store.close()


#: Folds all the time, so that what is read is in all three places.
HASTY = Pace(
    layer_entries=6,
    layer_bytes=2**18,
    log_bytes=2**18,
    direct_bytes=2**15,
    chunk_entries=3,
    calm_entries=2,
    rest_s=0.0,
    idle_s=0.001,
    retry_s=0.001,
    least_gone=1,
)

BACKENDS: dict[str, Fresh] = {
    "memory": _memory,
    "lmdb": _lmdb,
    "logged": partial(_logged, Pace()),
    "logged, folding": partial(_logged, HASTY),
}
