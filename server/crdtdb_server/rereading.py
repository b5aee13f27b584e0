"""Files that a running server reads again when they have changed: tokens, certificates.

They are looked at every second, which is cheap, works on every file system, and needs no signal to
reach a process in a container. What cannot be used is reported once, and what was read before
stays in force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import structlog

from crdtdb.errors import StartError

__all__ = ["Reread"]

_log = structlog.get_logger("crdtdb")

_INTERVAL_S: Final = 1.0
#: Tells a file from the one of before: inode, size, time of the last change, be it of who may
#: read it.
_Mark: TypeAlias = tuple[int, int, int] | None


class Reread:
    """Some files that are read together, and what reads them."""

    def __init__(self, what: str, files: Sequence[Path], read: Callable[[], None]) -> None:
        """`read` raises StartError for what cannot be used, with everything as it was."""
        self._what = what
        self._files = tuple(files)
        self._read = read
        self._marks = self._look()

    def look(self) -> None:
        """Read the files again if one of them has changed."""
        marks = self._look()
        if marks == self._marks:
            return
        self._marks = marks
        names = [str(file) for file in self._files]
        try:
            self._read()
        except StartError as error:
            _log.error("not read again; what was read before stays", files=names, why=str(error))
        else:
            _log.info("read again", what=self._what, files=names)

    async def keep_looking(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            try:
                self.look()
            except Exception:  # a bug here must not keep the next change from being seen
                _log.exception("a bug in reading again; what was read before stays")

    def _look(self) -> tuple[_Mark, ...]:
        return tuple(_mark(file) for file in self._files)


def _mark(file: Path) -> _Mark:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_ctime_ns
