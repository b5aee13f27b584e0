"""The log: commits in a row, each on the disk before anybody hears of it.

Two files take turns, so that one can be written while what the other holds is being moved into
the tables. A file is filled with zeros ahead of the writing, in growing steps, and used again from
its beginning: a commit is one write (a large one three) and one `fdatasync` that has no metadata to
wait for.

A frame is a whole number of 8-byte words:

    magic "CRL1" | length of the body, u32 | number, u64 | xxh3-64 of the body, u64 | body | zeros

Numbers count commits from 1, over both files. The checksum is seeded with the number and with the
log's *salt*, a secret random number: a value that a user stored can never pass for a frame.

**What a crash leaves.** At most the last frame is torn, since each was synced before the next was
written. So the first frame that is not whole ends the log; but if a later one is whole, or a
number is missing, something else has happened, and the log is damaged.

**After a failure** the kernel takes pages for clean that are not on the disk, and may have written
a frame that was refused. So the place is overwritten with zeros and synced before it is used again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

import xxhash

from crdtdb.store.disk import sync_names

__all__ = ["DamagedLog", "Frame", "Log"]

_FILE_NAMES: Final = ("log.0", "log.1")

_MAGIC: Final = b"CRL1"
_HEAD: Final = Struct("<4sIQQ")
_WORD: Final = 8
#: The zeros ahead of the writing: at first, then as much again as there is, up to the greatest.
_FIRST_STEP, _GREATEST_STEP = 2**18, 2**22
_MASK: Final = 2**64 - 1
#: A shorter frame is put together, for one write; a longer one is not copied for that.
_COPIED_BYTES: Final = 2**18


class DamagedLog(Exception):
    """The log is not what was written."""


class Frame(NamedTuple):
    """One commit."""

    number: int
    body: bytes


class Log:
    """The two files of one store. One call at a time."""

    def __init__(self, directory: Path, salt: int) -> None:
        """Open the log in `directory`. Raises OSError."""
        self._salt = salt
        self._files = [_File(directory / name) for name in _FILE_NAMES]
        self._writing = 0
        self._last = 0

    @classmethod
    def create(cls, directory: Path, salt: int) -> Log:
        """Begin an empty log, in place of what is there. Raises OSError."""
        for name in _FILE_NAMES:
            os.close(os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
        sync_names(directory)
        return cls(directory, salt)

    @property
    def last(self) -> int:
        """The number of the last frame."""
        return self._last

    @property
    def file_bytes(self) -> int:
        """Bytes of both files, used or not."""
        return sum(file.size_bytes for file in self._files)

    @property
    def written_bytes(self) -> int:
        """How far the file that is being written is filled."""
        return self._files[self._writing].end

    def recover(self, folded: int) -> tuple[list[Frame], list[Frame]]:
        """The frames after number `folded`: those of the older file, those of the newer one.

        Further frames go after them. Raises DamagedLog or OSError.
        """
        runs = [self._run(file, folded) for file in self._files]
        newer = int(runs[1].last > runs[0].last)
        self._writing = newer
        self._last = max(folded, runs[newer].last)
        self._files[newer].end = runs[newer].end
        kept = tuple(
            [frame for frame in runs[which].frames if frame.number > folded]
            for which in (1 - newer, newer)
        )
        numbers = [frame.number for frames in kept for frame in frames]
        if numbers != list(range(folded + 1, self._last + 1)):
            raise DamagedLog(
                f"commits are missing: there are {len(numbers)} of those from {folded + 1} to "
                f"{self._last}"
            )
        return kept[0], kept[1]

    def append(self, body: bytes) -> None:
        """Write a commit; durable on return. Raises OSError with nothing written."""
        number = self._last + 1
        head = _HEAD.pack(_MAGIC, len(body), number, _checksum(body, number, self._salt))
        frame: tuple[bytes, ...] = head, body, bytes(-len(body) % _WORD)
        if len(body) < _COPIED_BYTES:
            frame = (b"".join(frame),)
        self._files[self._writing].append(frame)
        self._last = number

    def settle(self) -> None:
        """Make sure that no refused commit can come back. Raises OSError."""
        self._files[self._writing].settle()

    def turn(self) -> None:
        """Go on in the other file, from its beginning: nothing in it is needed any more.

        Raises OSError, with nothing changed.
        """
        self.settle()
        self._writing = 1 - self._writing
        self._files[self._writing].end = 0

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _run(self, file: _File, folded: int) -> _Run:
        data = file.read()
        frames = list(_frames(data, self._salt))
        end = sum(_frame_bytes(len(frame.body)) for frame in frames)
        last = frames[-1].number if frames else 0
        later = max(last, folded)
        place = data.find(_MAGIC, end)
        while place >= 0:
            frame = _frame_at(data, place, self._salt)
            if frame is not None and frame.number > later:
                raise DamagedLog(f"commit {later + 1} is damaged, commit {frame.number} is whole")
            place = data.find(_MAGIC, place + 1)
        return _Run(frames, last, end)


class _Run(NamedTuple):
    frames: list[Frame]
    last: int
    end: int


def _frame_bytes(body_bytes: int) -> int:
    return _HEAD.size + body_bytes + -body_bytes % _WORD


def _checksum(body: bytes, number: int, salt: int) -> int:
    return xxhash.xxh3_64_intdigest(body, salt + number & _MASK)


def _frame_at(data: bytes, place: int, salt: int) -> Frame | None:
    """The frame that begins at `place`, if it is whole."""
    if place + _HEAD.size > len(data):
        return None
    magic, body_bytes, number, checksum = _HEAD.unpack_from(data, place)
    start = place + _HEAD.size
    if magic != _MAGIC or start + body_bytes > len(data):
        return None
    body = data[start : start + body_bytes]
    return Frame(number, body) if _checksum(body, number, salt) == checksum else None


def _frames(data: bytes, salt: int) -> Iterator[Frame]:
    """The frames from the beginning, as long as they are whole and their numbers go on."""
    place, number = 0, None
    while (frame := _frame_at(data, place, salt)) and number in (None, frame.number - 1):
        yield frame
        number = frame.number
        place += _frame_bytes(len(frame.body))


class _File:
    """One of the two files."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR)
        self.size_bytes = os.fstat(self._descriptor).st_size
        #: Where the next frame goes.
        self.end = 0
        #: Bytes from there on that a failed write may have left.
        self._unsettled_bytes = 0

    def read(self) -> bytes:
        data = b""
        while part := os.pread(self._descriptor, 2**26, len(data)):
            data += part
        return data

    def append(self, frame: Sequence[bytes]) -> None:
        self.settle()
        place, end = self.end, self.end + sum(map(len, frame))
        if end > self.size_bytes:
            self._extend(end)
        try:
            for part in frame:
                self._write(part, place)
                place += len(part)
            os.fdatasync(self._descriptor)
        except OSError:
            self._unsettled_bytes = end - self.end
            raise
        self.end = end

    def settle(self) -> None:
        if self._unsettled_bytes:
            self._write(bytes(self._unsettled_bytes), self.end)
            os.fdatasync(self._descriptor)
            self._unsettled_bytes = 0

    def close(self) -> None:
        os.close(self._descriptor)

    def _extend(self, least_bytes: int) -> None:
        """Fill more of the file with zeros, so that frames overwrite and never lengthen it."""
        step = min(max(self.size_bytes, _FIRST_STEP), _GREATEST_STEP)
        size = max(self.size_bytes + step, least_bytes)
        self._write(bytes(size - self.size_bytes), self.size_bytes)
        os.fsync(self._descriptor)
        self.size_bytes = size

    def _write(self, data: bytes, place: int) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self._descriptor, view, place)
            view, place = view[done:], place + done
