"""One open LMDB environment: default flags only, so that a commit is on the disk when it returns.

`sync=False`, `metasync=False` and `writemap=True` each lose acknowledged commits or kill the
process when the disk is full. None of them is an option here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import lmdb

from crdtdb.store.base import Batch, StoreStats, Table
from crdtdb.store.lmdb import longkeys
from crdtdb.store.lmdb.longkeys import Databases

__all__ = ["DATA_FILE", "FIRST_TABLE_NAMES", "LOCK_FILE", "TABLE_NAMES", "Environment"]

#: The names are LMDB's.
DATA_FILE, LOCK_FILE = "data.mdb", "lock.mdb"
#: Snapshots open at one time, in all threads.
_MAX_READERS = 512


def _names(table: Table) -> tuple[bytes, bytes]:
    """What the short and the long database of a table are called."""
    name = table.value.encode()
    return name, name + b".long"


#: The tables that every store of this format was made with. What came later is made when an older
#: store is opened.
_FIRST = frozenset({Table.RECORDS, Table.SEQUENCE, Table.HEADS, Table.FOLDED, Table.META})

TABLE_NAMES = frozenset(name for table in Table for name in _names(table))
#: Those without which a store is not whole.
FIRST_TABLE_NAMES = frozenset(name for table in _FIRST for name in _names(table))


class Environment(NamedTuple):
    """An environment and its tables."""

    handle: lmdb.Environment
    tables: Mapping[Table, Databases]
    page_bytes: int

    @classmethod
    def open(cls, directory: Path, map_bytes: int, *, create: bool) -> Environment:
        """Open `directory`, whose first tables are there, or with `create` make a new store."""
        handle = lmdb.open(
            os.fspath(directory),
            map_size=map_bytes,
            mode=0o600,
            create=create,
            max_dbs=len(TABLE_NAMES),
            max_readers=_MAX_READERS,
            max_spare_txns=1,
        )
        try:
            handle.reader_check()
            # py-lmdb keeps the tables that were opened in a write transaction only.
            with handle.begin(write=True) as transaction:
                tables = {
                    table: Databases(
                        *(
                            handle.open_db(name, transaction, create=create or table not in _FIRST)
                            for name in _names(table)
                        )
                    )
                    for table in Table
                }
            return cls(handle, tables, handle.stat()["psize"])
        except BaseException:
            handle.close()
            raise

    @property
    def map_bytes(self) -> int:
        """The size of the map: no page can lie beyond it."""
        return self.handle.info()["map_size"]

    @property
    def reached_bytes(self) -> int:
        """Up to where pages were ever taken; some of them may be free again."""
        return (self.handle.info()["last_pgno"] + 1) * self.page_bytes

    @property
    def last_commit(self) -> int:
        """LMDB's number of the last commit."""
        return self.handle.info()["last_txnid"]

    def change(self, transaction: lmdb.Transaction[bytes], batch: Batch) -> None:
        """Make the changes of a batch, as part of a write transaction."""
        for table, changes in batch.items():
            longkeys.apply(transaction, self.tables[table], changes)

    def rewrite_meta_pages(self) -> None:
        """Put the meta pages on the disk as they are seen now.

        A sync alone is not enough: after one that failed, the kernel takes the pages for written.
        """
        file = os.open(Path(self.handle.path(), DATA_FILE), os.O_RDWR)
        try:
            pages = os.pread(file, 2 * self.page_bytes, 0)
            os.pwrite(file, pages, 0)
            os.fsync(file)
        finally:
            os.close(file)

    def stats(self) -> StoreStats:
        pages = 0
        entries = dict.fromkeys(Table, 0)
        with self.handle.begin() as transaction:
            for table, databases in self.tables.items():
                for database in databases:
                    stat = transaction.stat(database)
                    pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
                    entries[table] += stat["entries"]
        return StoreStats(
            used_bytes=pages * self.page_bytes,
            file_bytes=os.stat(Path(self.handle.path(), DATA_FILE)).st_size,
            map_bytes=self.map_bytes,
            entries=entries,
        )
