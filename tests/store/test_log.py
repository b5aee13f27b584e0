"""The log: what was appended is there again, a torn end is cut off, and damage is called damage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtdb.store.logged.log import DamagedLog, Log

SALT = 7

bodies = st.binary(max_size=40)


@contextmanager
def fresh_log() -> Iterator[tuple[Path, Log]]:
    with TemporaryDirectory() as name:
        log = Log.create(Path(name), SALT)
        yield Path(name), log
        log.close()


def recovered(directory: Path, folded: int = 0, salt: int = SALT) -> list[bytes]:
    """The bodies that a log opened now holds, in order."""
    log = Log(directory, salt)
    try:
        older, newer = log.recover(folded)
        return [frame.body for frame in (*older, *newer)]
    finally:
        log.close()


def used(directory: Path, name: str = "log.0") -> bytearray:
    return bytearray((directory / name).read_bytes())


@settings(max_examples=60, deadline=None)
@given(lives=st.lists(st.lists(bodies, max_size=6), min_size=1, max_size=6))
def test_what_was_appended_is_there_after_any_number_of_turns(lives: list[list[bytes]]) -> None:
    """Each turn comes after everything in the older file has been folded."""
    with fresh_log() as (directory, log):
        turned_at = folded = 0
        written: list[bytes] = []
        for life in lives:
            for body in life:
                log.append(body)
                written.append(body)
                assert recovered(directory, folded) == written[folded:]
            folded, turned_at = turned_at, log.last
            assert recovered(directory, folded) == written[folded:]
            folded = turned_at
            log.turn()
            assert recovered(directory, folded) == written[folded:]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_log_that_is_opened_again_goes_on(seed: int) -> None:
    random = Random(seed)
    with fresh_log() as (directory, log):
        written: list[bytes] = []
        current = log
        for _ in range(random.randrange(1, 12)):
            written.append(random.randbytes(random.randrange(30)))
            current.append(written[-1])
            if random.random() < 0.4:
                again = Log(directory, SALT)
                again.recover(0)
                current = again
        assert recovered(directory) == written


def test_cut_anywhere_it_holds_what_was_whole() -> None:
    with fresh_log() as (directory, log):
        ends = []
        for body in (b"first", b"", b"third" * 9):
            log.append(body)
            ends.append(log.written_bytes - -len(body) % 8)
        data = used(directory)
        for length in range(ends[-1]):
            (directory / "log.0").write_bytes(data[:length])
            assert len(recovered(directory)) == sum(end <= length for end in ends)


def test_a_flipped_bit_is_damage_unless_it_is_at_the_end() -> None:
    """What cannot be told from a torn write is the very last frame alone."""
    with fresh_log() as (directory, log):
        for body in (b"first", b"second"):
            log.append(body)
            end = log.written_bytes
        first_end = end - 32
        data = used(directory)
        for bit in range(8 * end):
            flipped = data.copy()
            flipped[bit // 8] ^= 1 << bit % 8
            (directory / "log.0").write_bytes(flipped)
            if bit // 8 < 24 + len(b"first"):
                with pytest.raises(DamagedLog, match="commit 1 is damaged"):
                    recovered(directory)
            elif bit // 8 < first_end or bit // 8 >= first_end + 24 + len(b"second"):
                assert recovered(directory) == [b"first", b"second"]  # padding
            else:
                assert recovered(directory) == [b"first"]


def test_missing_commits_are_damage() -> None:
    with fresh_log() as (directory, log):
        for number in range(4):
            log.append(b"%d" % number)
        log.turn()
        log.append(b"4")
        assert recovered(directory, 2) == [b"2", b"3", b"4"]
        (directory / "log.0").write_bytes(b"")
        with pytest.raises(DamagedLog, match="commits are missing"):
            recovered(directory, 2)
        assert recovered(directory, 4) == [b"4"]


def test_what_a_user_stored_never_passes_for_a_commit() -> None:
    """A value holds a frame with the right number; the commit around it is torn off."""
    with fresh_log() as (directory, log), fresh_log() as (elsewhere, other):
        for _ in range(2):
            other.append(b"planted")
        frame = bytes(used(elsewhere)[32:64])
        log.append(b"first")
        log.append(b"x" * 8 + frame)
        data = used(directory)
        start = data.index(frame)
        data[32 : 32 + len(frame)] = frame  # as a write would leave it that began with the value
        (directory / "log.0").write_bytes(data[:start])
        assert recovered(directory) == [b"first", b"planted"], "the same salt: it would pass"

    with TemporaryDirectory() as name:
        log = Log.create(Path(name), SALT + 1)
        log.append(b"first")
        log.close()
        data = used(Path(name))
        data[32 : 32 + len(frame)] = frame
        (Path(name) / "log.0").write_bytes(data)
        assert recovered(Path(name), salt=SALT + 1) == [b"first"]


@pytest.mark.parametrize("reaches", [False, True])
def test_a_refused_commit_does_not_come_back(reaches: bool) -> None:
    """The sync fails after the write; the file is left, or another is begun."""
    with fresh_log() as (directory, log):
        log.append(b"first")
        with (
            patch.object(os, "fdatasync" if reaches else "pwrite", side_effect=OSError(5, "EIO")),
            pytest.raises(OSError, match="EIO"),
        ):
            log.append(b"refused")
        assert log.last == 1
        log.turn()
        assert recovered(directory) == [b"first"]
        log.append(b"second")
        assert recovered(directory) == [b"first", b"second"]


def test_a_commit_costs_one_write_and_one_sync() -> None:
    with fresh_log() as (_, log):
        log.append(b"makes the file longer")
        with (
            patch.object(os, "pwrite", wraps=os.pwrite) as writes,
            patch.object(os, "fdatasync", wraps=os.fdatasync) as syncs,
            patch.object(os, "fsync", wraps=os.fsync) as full_syncs,
        ):
            for _ in range(10):
                log.append(b"x" * 100)
        assert (writes.call_count, syncs.call_count, full_syncs.call_count) == (10, 10, 0)
