"""What backends on a disk share: names that last, and what a failed write means."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from crdtdb.errors import NoSpace, StorageFailed
from crdtdb.store.base import Batch

__all__ = ["mostly_deletes", "sync_names", "write_problem"]

#: What the system says when there is no room: device, quota, greatest file.
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def sync_names(directory: Path) -> None:
    """Put the names in a directory on the disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_problem(code: int | None, error: Exception, *, is_full: bool) -> NoSpace | StorageFailed:
    """What callers hear of a write that failed with `code`; `is_full`: there is plainly no room."""
    if is_full or code in _NO_ROOM:
        return NoSpace(
            f"no space left for the data directory ({error}); "
            "make room for it, by other means than deleting in here (what is deleted leaves a mark "
            "at first), and writes go on by themselves"
        )
    return StorageFailed(f"the data directory cannot be written: {error}")


def mostly_deletes(batch: Batch) -> bool:
    """Does a batch delete at least as many entries as it puts? It may have to make the space."""
    values = [value for changes in batch.values() for value in changes.values()]
    return 2 * values.count(None) >= len(values) > 0
