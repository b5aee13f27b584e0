"""The backends, as the conformance suite sees them: a name and a way to make a fresh store.

A new backend is one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from crdtdb.store.base import Store
from crdtdb.store.lmdb import LmdbStore
from crdtdb.store.memory import MemoryStore

__all__ = ["BACKENDS", "Fresh"]

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


BACKENDS: dict[str, Fresh] = {"memory": _memory, "lmdb": _lmdb}
