"""Build and use `power_cut.c`: a disk that remembers what it promised, and that can break."""

from __future__ import annotations

import ctypes
import errno
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from struct import Struct
from typing import NamedTuple

import pytest

__all__ = [
    "DATA_WRITE",
    "FILES",
    "META_RESTORE",
    "META_WRITE",
    "SYNC",
    "Disk",
    "Event",
    "build",
    "fail",
    "mark",
    "mend",
    "preload",
]

#: What can fail: writing pages, syncing them, writing a meta page, taking that back.
DATA_WRITE, SYNC, META_WRITE, META_RESTORE = b"w", b"s", b"d", b"r"

#: The files on that disk.
FILES = ("data.mdb", "log.0", "log.1")

_HEAD = Struct("=QQQQ")
#: What a disk writes whole or not at all.
_SECTOR = 512


def build(directory: Path) -> Path:
    """The shared library, or a skipped test where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build power_cut.c with")
    source, library = Path(__file__).with_name("power_cut.c"), directory / "power_cut.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
    command += ["-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return library


def preload(library: Path, log: Path) -> dict[str, str]:
    """The environment of a process whose store lies on such a disk."""
    return {
        "LD_PRELOAD": str(library),
        "POWER_CUT_FILES": ":".join(f"/{name}" for name in FILES),
        "POWER_CUT_LOG": str(log),
    }


def mark(text: str) -> None:
    """In the child: put a mark into the log."""
    ctypes.CDLL(None).power_cut_mark(text.encode())


def fail(what: bytes, *, error: int = errno.EIO, calls: int = 1, reaches: bool = False) -> None:
    """In the child: the next `calls` calls of a kind fail (-1: all).

    With `reaches`, a failing write is in the page cache nevertheless.
    """
    ctypes.CDLL(None).power_cut_fail(ctypes.c_char(what), calls, error, int(reaches))


def mend() -> None:
    """In the child: nothing fails any more."""
    for what in (DATA_WRITE, SYNC, META_WRITE, META_RESTORE):
        fail(what, calls=0)


class Event(NamedTuple):
    """One entry of the log."""

    kind: str
    #: Its place in `FILES`.
    file: int
    offset: int
    data: bytes

    @classmethod
    def read(cls, log: Path) -> Iterator[Event]:
        with log.open("rb") as file:
            while head := file.read(_HEAD.size):
                kind, number, offset, length = _HEAD.unpack(head)
                yield cls(chr(kind), number, offset, file.read(length))


class Disk:
    """What a power cut leaves of a file, as the events go by."""

    def __init__(self) -> None:
        self._promised = bytearray()
        self._pending: list[Event] = []

    def happen(self, event: Event) -> None:
        match event.kind:
            case "w":
                self._pending.append(event)
            case "d":
                self._flush(event)
            case "s":
                for write in self._pending:
                    self._flush(write)
                self._pending.clear()
            case "x":
                # The kernel gives up on these pages and calls them clean: they may or may not be
                # on the disk, and no later sync writes them.
                self._settle_by_luck(Random(len(self._promised)))

    def image(self, luck: Random | None, running: Event | None) -> bytes:
        """The file after a cut now.

        Without luck all that was not promised is gone. With it, any sectors of it may be there,
        and some of the write that was `running`, too.
        """
        image = bytearray(self._promised)
        if luck is not None:
            chance = luck.choice([0.1, 0.5, 0.9])
            writes = [*self._pending, running] if running else self._pending
            for write in writes:
                if write.kind in "wd":
                    _write_some(image, write, luck, chance)
        return bytes(image)

    def killed(self) -> bytes:
        """The file after the process was killed now: all that it has written is there."""
        image = bytearray(self._promised)
        for write in self._pending:
            _write(image, write.offset, write.data)
        return bytes(image)

    def _flush(self, write: Event) -> None:
        _write(self._promised, write.offset, write.data)

    def _settle_by_luck(self, luck: Random) -> None:
        for write in self._pending:
            _write_some(self._promised, write, luck, 0.5)
        self._pending.clear()


def _write(image: bytearray, offset: int, data: bytes) -> None:
    image.extend(bytes(max(0, offset - len(image))))
    image[offset : offset + len(data)] = data


def _write_some(image: bytearray, write: Event, luck: Random, chance: float) -> None:
    end = write.offset + len(write.data)
    for start in range(write.offset // _SECTOR * _SECTOR, end, _SECTOR):
        if luck.random() < chance:
            low, high = max(start, write.offset), min(start + _SECTOR, end)
            _write(image, low, write.data[low - write.offset : high - write.offset])
